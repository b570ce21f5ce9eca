"""A TCP proxy that counts what passes: whether frames really are compressed shows on the wire only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from types import TracebackType

from ..adapters.drivers import BOUND


class Meter:
    """Forwards one connection to `port`.

    Attributes:
        port: where it listens.
        sent: octets that the client sent.
        received: octets that the client received.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(BOUND)
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        self.received = 0
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.join(BOUND)
        self._listener.close()
        assert not self._thread.is_alive()

    def shows_compression(self, messages: Iterable[str | bytes]) -> None:
        """These went both ways, in far fewer octets than they have."""
        octets = sum(len(one.encode() if isinstance(one, str) else one) for one in messages)
        assert 0 < self.sent < octets / 3
        assert 0 < self.received < octets / 3

    def shows_takeover(self, other: Meter) -> None:
        """The same messages, which are alike, went through `other` without context takeover."""
        assert 0 < self.sent < other.sent * 0.7
        assert 0 < self.received < other.received * 0.7

    def _run(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._target), timeout=BOUND) as server:
            client.settimeout(BOUND)
            back = threading.Thread(target=self._forward, args=(server, client, "received"), name="meter", daemon=True)
            back.start()
            self._forward(client, server, "sent")
            back.join(BOUND)

    def _forward(self, source: socket.socket, sink: socket.socket, counter: str) -> None:
        try:
            while data := source.recv(2**16):
                setattr(self, counter, getattr(self, counter) + len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one side is gone: so is what it would have said
