"""Connections that a program leaves alone: one thread for all of them answers pings, and sees when a peer is gone.

Strategy: a blocking connection has no thread, and is pumped by whoever is in one of its calls. Once a second the helper
looks which connections nobody has pumped for a second and nobody pumps now. Those it has watched by one selector, and
when something comes, or a deadline is due, it makes one step that does not wait, as ``recv`` would: read, answer,
keepalive. It goes no further than a full inbox; then only side reads are left, within their bounds (`core.inbox`).
A connection to which the program comes back is forgotten with the first event after that. So a connection that is in
use pays nothing: its calls do not know of the helper.

The thread begins with the first open connection and ends with the last. Locks: ``_lock`` guards what both sides change
and is never held while a connection's locks are taken; ``_serving`` is held for each step, so that no fork tears one.
"""

from __future__ import annotations

import math
import os
import selectors
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from ..core.inbox import SIDE_BUDGET, SIDE_READ, SIDE_TIME
from ..core.protocol import State

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Tending", "tending"]

_IDLE: Final = SIDE_TIME  # seconds after which a connection counts as left alone, and between two looks at all
_LINGER: Final = 0.02  # seconds that the thread stays for a program that opens one connection after the other


class _Tended:
    """One connection that is left alone."""

    __slots__ = ("due", "events", "fd", "left", "looked", "ref")

    def __init__(self, connection: Connection) -> None:
        self.ref = weakref.ref(connection)
        self.fd = connection._stream.sock.fileno()
        self.looked = connection._looked  # when it changes, the program is back
        self.events = 0  # what the selector watches it for
        self.due = 0.0
        self.left = SIDE_BUDGET  # octets of side reads in this pause


class Tending:
    """The helper and what it knows. There is one, `tending`."""

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector | None = None
        self._wake: socket.socket | None = None
        self._waker: socket.socket | None = None
        self._begin()

    @property
    def inner_sockets(self) -> tuple[socket.socket, ...]:
        """What the thread has to be woken with: see `LeakCheck`."""
        return () if self._wake is None or self._waker is None else (self._wake, self._waker)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._serving = threading.RLock()  # for a program whose log handler forks
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._tended: dict[int, _Tended] = {}  # by the connection's id
        self._thread: threading.Thread | None = None
        self._lingers = False  # it waits whether another connection is opened

    # What connections call.

    def add(self, connection: Connection) -> None:
        """A connection is open. Those of a simulation, which have no descriptor, are left to their program."""
        if not connection._stream.has_descriptor:
            return
        with self._lock:
            self._open.add(connection)
            if self._thread is None:
                self._start()

    def remove(self, connection: Connection) -> None:
        """Its socket is about to be closed: it must be out of the selector by then."""
        with self._lock:
            self._open.discard(connection)
            self._forget(id(connection))
            if not self._open and self._wake is not None and not self._lingers:
                self._wake.send(b"\0")

    def _start(self) -> None:
        waker, self._wake = socket.socketpair()
        self._waker = waker
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(waker, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, args=(self._selector, waker), name="websock-tending")
        self._thread.daemon = True
        try:
            self._thread.start()
        except RuntimeError:  # no room for a thread, or the interpreter ends: the next connection tries again
            self._stop(waker)

    def _stop(self, waker: socket.socket) -> None:
        for one in (self._selector, self._wake, waker):
            if one is not None:
                one.close()
        self._selector = self._wake = self._waker = self._thread = None

    # The thread.

    def _run(self, selector: selectors.BaseSelector, waker: socket.socket) -> None:
        look_at = time.monotonic() + _IDLE
        due = math.inf
        while True:
            happened = selector.select(max(0.0, min(look_at, due) - time.monotonic()))
            with self._lock:
                self._lingers = not self._open
            if self._lingers:
                time.sleep(_LINGER)
                with self._lock:
                    self._lingers = False
                    if not self._open:
                        self._stop(waker)
                        return
            for key, _ in happened:
                if key.data is None:
                    waker.recv(100)
                else:
                    due = min(due, self._serve(key.data))
            now = time.monotonic()
            if now >= look_at:
                look_at = now + _IDLE
                self._look(now)
                due = 0.0
            if now >= due:
                due = math.inf
                for one in list(self._tended.values()):
                    due = min(due, self._serve(one) if one.due <= now else one.due)

    def _look(self, now: float) -> None:
        """Which connections are left alone; those that are already get their side read."""
        with self._lock:
            connections = list(self._open)
            for number, one in list(self._tended.items()):
                if one.ref() is None:  # nobody has closed it
                    self._forget(number)
        for connection in connections:
            tended = self._tended.get(id(connection))
            if tended is not None:
                self._serve(tended, side=True)
            elif now - connection._looked >= _IDLE and not connection._reading.locked():
                tended = _Tended(connection)
                with self._lock:
                    if connection in self._open:
                        self._tended[id(connection)] = tended

    def _serve(self, one: _Tended, *, side: bool = False) -> float:
        """One step for a connection that is still left alone; when it is due again."""
        connection = one.ref()
        if connection is None:
            return math.inf
        try:
            return self._step(one, connection, side)
        except Exception:  # the others need this thread, and its program sees the same when it comes back
            connection.logger.exception("tending a connection failed")
            with self._lock:
                self._open.discard(connection)
                self._forget(id(connection))
            return math.inf

    def _step(self, one: _Tended, connection: Connection, side: bool) -> float:
        with self._serving:
            if connection._looked != one.looked or not connection._reading.acquire(blocking=False):
                with self._lock:
                    self._forget(id(connection))  # the program is back
                return math.inf
            try:
                paused = connection._inbox.full and connection._protocol.state is State.OPEN
                if not paused:
                    one.left = SIDE_BUDGET
                    connection._step(0.0)
                elif side and one.left > 0:
                    one.left -= connection._read_aside(min(SIDE_READ, one.left))
                one.looked = connection._looked
                now = time.monotonic()
                paused = connection._inbox.full and connection._protocol.state is State.OPEN
                with connection._state:
                    if paused and not connection._away:
                        connection._protocol.pause(now)
                    connection._away, connection._watched = paused, not paused
                    due = connection._tick(now)
                writes = connection._flush()
            finally:
                connection._stop_reading()
            protocol = connection._protocol
            one.due = now if protocol.behind and not paused else now + _IDLE if due is None else due
            # What ends the connection leaves nothing to read behind it that matters.
            reads = not (paused or protocol.wants_close or protocol.unsettled is not None)
            events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
            with self._lock:
                self._watch(one, events)
        return one.due

    def _watch(self, one: _Tended, events: int) -> None:
        """``_lock`` is held, so the socket is open as long as the connection is known."""
        connection = one.ref()
        selector = self._selector
        if connection is None or connection not in self._open or selector is None or events == one.events:
            return
        key = selector.get_map().get(one.fd)
        if key is not None and (not events or key.data is not one):
            selector.unregister(one.fd)  # another's: of a connection that nobody closed, whose socket is gone
            key = None
        if key is not None:
            selector.modify(one.fd, events, one)
        elif events:
            selector.register(one.fd, events, one)
        one.events = events

    def _forget(self, number: int) -> None:
        """``_lock`` is held."""
        one = self._tended.pop(number, None)
        if one is not None and self._selector is not None:
            key = self._selector.get_map().get(one.fd)
            if key is not None and key.data is one:
                self._selector.unregister(one.fd)

    # Forks.

    def before_fork(self) -> None:
        self._serving.acquire()
        self._lock.acquire()

    def after_fork(self) -> None:
        self._lock.release()
        self._serving.release()

    def in_child(self) -> None:
        """There is no thread here, and the connections are the parent's; those that are opened here begin anew."""
        if self._selector is not None and self._wake is not None:
            for key in list(self._selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            self._selector.close()  # our copy of its descriptor; the parent's watches on
            self._wake.close()
            self._selector = self._wake = None
        self._begin()


tending = Tending()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=tending.before_fork, after_in_parent=tending.after_fork, after_in_child=tending.in_child)
