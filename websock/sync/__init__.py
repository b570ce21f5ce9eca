"""The blocking adapter."""

from .broadcasting import broadcast
from .client import ClientConnection, connect, unix_connect
from .connection import Connection, Pong
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
