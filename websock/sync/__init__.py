"""The blocking adapter."""

from .client import ClientConnection, connect, unix_connect
from .connection import Connection, Pong, broadcast
from .server import Server, ServerConnection, serve, unix_serve

__all__ = [
    "ClientConnection",
    "Connection",
    "Pong",
    "Server",
    "ServerConnection",
    "broadcast",
    "connect",
    "serve",
    "unix_connect",
    "unix_serve",
]
