"""One message to many connections of blocking code, and a thread for what they do not take at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterable

from ..core.broadcast import Broadcast, place, tell_dropped, to_all
from ..core.protocol import State
from ..exceptions import ConnectionClosed
from ..net.channel import wait_writable
from ..typing import Buffer
from .connection import Connection

__all__ = ["broadcast"]


class _Remainders:
    """What `broadcast` could not write at once: one thread writes it, for all connections, while there is some."""

    _LOOK = 0.1  # seconds after which connections that came meanwhile are looked at too

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._running = False

    def add(self, connection: Connection) -> None:
        with self._lock:
            self._connections.add(connection)
            if not self._running:
                # When the system has no room for a thread, the next one that does not keep up tries again.
                threading.Thread(target=self._run, name="websock-broadcast", daemon=True).start()
                self._running = True

    def _run(self) -> None:
        while True:
            with self._lock:
                connections = list(self._connections)
                if not connections:
                    self._running = False
                    return
            wait_writable([connection._stream for connection in connections], self._LOOK)
            for connection in connections:
                try:
                    over = connection._catch_up()
                except Exception as error:  # an extension of the user's, or a logger: the others need this thread
                    connection.logger.warning("broadcast to %r failed: %r", connection, error)
                    over = True
                if over:
                    with self._lock:
                        self._connections.discard(connection)


_remainders = _Remainders()


def broadcast(
    connections: Iterable[Connection],
    message: str | Buffer,
    *,
    text: bool | None = None,
    compress: bool | None = None,
    key: Hashable = None,
    raise_exceptions: bool = False,
) -> None:
    """Send one message to many connections, and wait for no slow peer.

    It is encoded and compressed once for all connections of servers with the same settings. What a peer does not take
    now is written in the background, as far as its connection's ``slow_consumers`` says; `key` says of what the message
    is the news, for those who keep only the latest. Connections whose policy is to wait are waited for when all others
    have it.

    Connections that are not open are passed over.

    Raises:
        TypeError: neither text nor bytes.
        ValueError: `text` is true and the bytes are not UTF-8.
        ExceptionGroup: with `raise_exceptions`, of what went wrong with single connections, after all had their turn;
            else that is logged.
    """
    encoded = Broadcast(message, text, compress, key)

    def deliver(connection: Connection) -> None:
        if connection.state is not State.OPEN:
            return
        with connection._state:
            waiting = connection._waiting()
            if not (waiting or connection._backlog) or place(connection, encoded, waiting):
                encoded.queue(connection._protocol)
        try:
            if connection._flush() or connection._backlog:
                _remainders.add(connection)
        finally:
            tell_dropped(connection, encoded)  # without a lock: the callback may close the connection

    to_all(connections, deliver, raise_exceptions=raise_exceptions)
    for connection in encoded.waiting:
        with contextlib.suppress(ConnectionClosed):
            connection._written()
