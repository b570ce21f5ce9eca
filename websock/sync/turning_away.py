"""Refusing a connection that was just accepted, without a thread for it."""

from __future__ import annotations

import selectors
import socket
import threading
import time

from ..core.gate import TURNED_AWAY_AT_ONCE, TURNED_AWAY_TIME

__all__ = ["TurningAway"]


class TurningAway:
    """Writes a ready answer, and reads and drops what comes for a second: closing a socket with octets unread would
    reset the connection and destroy the answer on its way. Beyond so many at a time it only closes.

    One thread reads for all of them, while there are some.
    """

    _LOOK = 0.05  # seconds after which sockets that came meanwhile are read too

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    def turn_away(self, sock: socket.socket, answer: bytes) -> None:
        """Take over `sock`; without an answer close it. Does not wait."""
        try:
            with self._lock:
                if not answer or self._closing or len(self._deadlines) >= TURNED_AWAY_AT_ONCE:
                    raise OSError
                sock.setblocking(False)
                sock.send(answer)  # it fits: nothing was sent before
                sock.shutdown(socket.SHUT_WR)
                self._deadlines[sock] = time.monotonic() + TURNED_AWAY_TIME
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="websock-turning-away", daemon=True)
                    try:
                        self._thread.start()
                    except RuntimeError as error:  # the system has no room for one more
                        self._thread = None
                        del self._deadlines[sock]
                        raise OSError from error
        except OSError:
            sock.close()

    def close(self) -> None:
        """Close all that are left, and wait for the thread."""
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            while True:
                with self._lock:
                    now = time.monotonic()
                    for sock, deadline in list(self._deadlines.items()):
                        if self._closing or deadline <= now:
                            if sock in selector.get_map():
                                selector.unregister(sock)
                            del self._deadlines[sock]
                            sock.close()
                        elif sock not in selector.get_map():
                            selector.register(sock, selectors.EVENT_READ)
                    if not self._deadlines:
                        self._thread = None
                        return
                for key, _ in selector.select(self._LOOK):
                    sock = key.fileobj  # type: ignore[assignment]  # we registered nothing else
                    try:
                        over = not sock.recv(65536)
                    except (BlockingIOError, InterruptedError):
                        continue
                    except OSError:
                        over = True
                    if over:
                        with self._lock:
                            self._deadlines[sock] = 0.0
