"""The asyncio adapter."""

from .client import ClientConnection, connect, unix_connect
from .connection import Connection, broadcast
from .server import Server, ServerConnection, serve, unix_serve

__all__ = [
    "ClientConnection",
    "Connection",
    "Server",
    "ServerConnection",
    "broadcast",
    "connect",
    "serve",
    "unix_connect",
    "unix_serve",
]
