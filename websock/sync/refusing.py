"""Connections for which there is no room: they are told so, by one thread for all of them."""

from __future__ import annotations

import selectors
import socket
import ssl as ssl_module
import threading
import time
from collections import deque
from typing import Final

from ..core.handshake import ServerHandshake
from ..core.options import Options
from ..net.tls import TLS

__all__ = ["Refusals"]

_MOST: Final = 256  # at a time; when there are more, those who have waited longest are closed without a word
_PATIENCE: Final = 2.0  # seconds for a peer's request and for its reading of the answer
_IDLE: Final = 5.0  # seconds after which the thread ends when there is nothing to do
_TEXT: Final = "The server has no room for another connection now.\n"


class Refusals:
    """Answers with 503 (RFC 9110 section 15.6.4) and Retry-After, and closes.

    The answer follows the request, after TLS where there is some: who asks nothing gets none.

    Args:
        options: of the server.
        ssl: its TLS settings.
    """

    def __init__(self, options: Options, ssl: ssl_module.SSLContext | None) -> None:
        self._options = options
        self._ssl = ssl
        self._lock = threading.RLock()
        self._new: deque[socket.socket] = deque()
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._closed = False

    def add(self, sock: socket.socket) -> None:
        """Refuse a connection. The socket is ours from now on; does not wait."""
        with self._lock:
            if self._closed or len(self._new) >= _MOST or not self._running():
                sock.close()
                return
            self._new.append(sock)
            self._nudge()

    def close(self) -> None:
        """End, with all that is not answered."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._nudge()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1)  # not longer: in a signal handler we may hold the lock that it needs

    def _nudge(self) -> None:
        if self._wake is not None:
            try:
                self._wake.send(b"\0")
            except OSError:
                pass  # as many as fit are there already

    def _running(self) -> bool:
        if self._thread is None:
            try:
                self._wake, woken = socket.socketpair()
            except OSError:
                return False
            self._wake.setblocking(False)
            self._thread = threading.Thread(target=self._run, args=(woken,), name="websock-refusals", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no room for one more
                self._thread = None
                self._wake.close()
                woken.close()
                return False
        return True

    def _run(self, woken: socket.socket) -> None:
        waiting: dict[_Refusal, float] = {}  # with their deadlines, the first to end first
        with selectors.DefaultSelector() as selector, woken:
            selector.register(woken, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                ready = selector.select(max(0.0, next(iter(waiting.values()), now + _IDLE) - now))
                done = {key.data for key, _ in ready if key.data is not None and key.data.step()}
                if any(key.data is None for key, _ in ready):
                    woken.recv(4096)
                with self._lock:
                    fresh = [_Refusal(sock, self._options, self._ssl) for sock in self._new]
                    self._new.clear()
                now = time.monotonic()
                for one in fresh:
                    waiting[one] = now + _PATIENCE
                    selector.register(one.sock, selectors.EVENT_READ, one)
                done.update(one for one, deadline in waiting.items() if deadline <= now or self._closed)
                done.update(list(waiting)[: max(0, len(waiting) - _MOST)])
                for one in done:
                    selector.unregister(one.sock)
                    one.sock.close()
                    del waiting[one]
                with self._lock:
                    if not waiting and not self._new and (self._closed or not ready):
                        self._end()
                        return

    def _end(self) -> None:
        self._thread = None
        if self._wake is not None:
            self._wake.close()
            self._wake = None


class _Refusal:
    """One connection."""

    def __init__(self, sock: socket.socket, options: Options, ssl: ssl_module.SSLContext | None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._tls = None if ssl is None else TLS(ssl, server_side=True)
        self._handshake = ServerHandshake(options=options)

    def step(self) -> bool:
        """Something came; whether that was the end."""
        handshake, tls = self._handshake, self._tls
        try:
            data = self.sock.recv(65536)
            if not data or handshake.done:
                return not data  # what follows the answer is read only so that closing does not reset the connection
            if tls is not None:
                data = tls.receive(data)
            if data:
                handshake.receive(data)
                if handshake.request is not None and not handshake.done:
                    handshake.reject(503, _TEXT, headers={"Retry-After": "5"})
            buffers = handshake.outgoing()
            if tls is not None:
                tls.send(buffers)
                buffers = tls.outgoing()
            for buffer in buffers:
                self.sock.send(buffer)  # less than what every system takes at once
            if handshake.done:
                self.sock.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return False
