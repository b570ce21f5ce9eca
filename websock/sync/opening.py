"""Driving a phase (TLS, opening handshake) over a blocking socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from ..net.channel import Channel
from ..net.tls import TLS
from ..typing import Buffer

__all__ = ["Wire"]

READ_SIZE: Final = 2**12  # octets of one read: a request has less, and all clients may come at once


class Phase(Protocol):
    """What can be driven: it takes bytes and gives buffers."""

    def outgoing(self) -> list[Buffer]: ...

    def receive(self, data: Buffer) -> object: ...


class Header(Protocol):
    """What comes before the first phase: a `ProxyHeader`."""

    @property
    def done(self) -> bool: ...

    @property
    def wanted(self) -> int: ...

    def receive(self, data: bytes) -> bytes: ...


class Wire:
    """The way to the peer before the connection is open, with TLS where there is some, and one deadline for all.

    Args:
        stream: the socket.
        deadline: of ``time.monotonic()``; None for none.
    """

    def __init__(self, stream: Channel, deadline: float | None) -> None:
        self.stream = stream
        self.tls: TLS | None = None
        self._deadline = deadline
        self.heard = False  # whether the peer sent anything
        self._plain = b""  # came in the same read as the end of the TLS handshake

    def read_header(self, header: Header) -> None:
        """Read what comes before all else, TLS included, and not an octet more.

        Raises:
            OSError: TimeoutError; the connection is broken.
            EOFError: the peer closed the connection.
            InvalidHandshake: it is no such header.
        """
        while not header.done:
            self._wait()
            try:
                data = self.stream.sock.recv(header.wanted)
            except (BlockingIOError, InterruptedError):
                continue
            if not data:
                raise EOFError("the peer closed the connection")
            header.receive(data)

    def secure(self, tls: TLS) -> None:
        """Do the TLS handshake.

        Raises:
            OSError: ssl.SSLError when it fails; TimeoutError; the connection is broken.
            EOFError: the peer closed the connection.
        """
        self.write(tls.outgoing())
        while not tls.done:
            try:
                self._plain = tls.receive(self._read())
            finally:
                self.write(tls.outgoing())  # also the alert that says what was wrong
        self.tls = tls

    def drive(self, phase: Phase, ready: Callable[[], bool]) -> None:
        """Move bytes between `phase` and the peer until `ready`.

        Raises:
            OSError: TimeoutError; the connection is broken.
            EOFError: the peer closed the connection.
        """
        while True:
            self.send(phase.outgoing())
            if ready():
                return
            phase.receive(self.receive())

    def receive(self) -> Buffer:
        """What came, decrypted."""
        if self._plain:
            plain, self._plain = self._plain, b""
            return plain
        while True:
            data = self._read()
            if self.tls is None:
                return data
            if plain := self.tls.receive(data):
                return plain
            if self.tls.eof:
                raise EOFError("the peer closed the connection")

    def send(self, buffers: list[Buffer]) -> None:
        """Write, encrypted where there is TLS."""
        if self.tls is not None:
            self.tls.send(buffers)
            buffers = self.tls.outgoing()
        self.write(buffers)

    def write(self, buffers: list[Buffer]) -> None:
        """Write as it is, and wait until the system has taken it."""
        while buffers:
            buffers = self.stream.send(buffers)
            if buffers and not self.stream.wait(read=False, write=True, timeout=self._left())[1]:
                raise TimeoutError("timed out during the opening handshake")

    def drain(self, seconds: float) -> None:
        """Say that nothing more is sent, and read until the peer has closed too: an answer must not be lost.

        Closing with octets unread would reset the connection, and destroy what is on its way.
        """
        self._deadline = time.monotonic() + seconds
        self.stream.shutdown_write()
        try:
            while True:
                self._read()
        except (EOFError, OSError):
            pass

    def _read(self) -> bytes:
        while True:
            self._wait()
            data = self.stream.receive_some(READ_SIZE)
            if data is None:
                continue
            if not data:
                raise EOFError("the peer closed the connection")
            self.heard = True
            return data

    def _wait(self) -> None:
        if not self.stream.wait(read=True, write=False, timeout=self._left())[0]:
            raise TimeoutError("timed out during the opening handshake")

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
