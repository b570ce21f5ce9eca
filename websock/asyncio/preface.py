"""Reading a PROXY header from an accepted socket, before there is a transport, and TLS, on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ..core.forwarding import ProxyHeader
from ..exceptions import InvalidMessage

__all__ = ["Preface", "read_header"]


class Preface:
    """Reads the header and not an octet more, then calls `ready`; or `failed` with an OSError, EOFError or
    InvalidMessage, when the socket is closed already."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        header: ProxyHeader,
        ready: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._header = header
        self._ready = ready
        self._failed = failed
        loop.add_reader(sock, self._readable)

    def stop(self) -> None:
        """Give it up."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        header = self._header
        try:
            while not header.done:
                data = self._sock.recv(header.wanted)
                if not data:
                    raise EOFError("closed")
                header.receive(data)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, EOFError, InvalidMessage) as error:
            self.stop()
            self._failed(error)
            return
        self._loop.remove_reader(self._sock)
        self._ready()


async def read_header(loop: asyncio.AbstractEventLoop, sock: socket.socket, header: ProxyHeader) -> None:
    """As `Preface`, for loops that cannot watch sockets.

    Raises:
        OSError, EOFError, InvalidMessage: there is no such header.
    """
    while not header.done:
        data = await loop.sock_recv(sock, header.wanted)
        if not data:
            raise EOFError("closed")
        header.receive(data)
