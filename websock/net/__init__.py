"""The socket layer: it knows nothing of WebSocket."""
