"""A network in memory: what listens and what connects there, octets on their way, and what goes wrong with them.

It behaves as TCP does where that matters to a WebSocket: order is kept; a buffer that is full stops the writer; who
closes with octets unread resets the connection; what comes for one that is closed is answered by a reset; a reset is
told once, then the stream has ended.
"""

from __future__ import annotations

import collections
import errno
import os
import random
import socket
import zlib
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from ..net.errors import ClosedError
from ..net.memory import SCHEME, MemorySocket
from ..typing import Buffer
from .faults import Faults, drawn
from .scheduler import Scheduler

__all__ = ["Connection", "Listener", "MemoryNetwork", "Socket"]

_FIRST: Final = 2**30  # of our descriptors: the system never has so many
_NEVER: Final = float("inf")


class MemoryNetwork:
    """All that listens and all that is connected.

    Args:
        scheduler: whose time it is.
        chance: of which every connection gets its own.
        fail_at: the number of the operation that fails, counted from 1; 0: none.
        kinds: which operations count: ``connect``, ``accept``, ``send``, ``recv``.

    Attributes:
        faults: of the connections that are made from now on.
        operations: how many there were.
        failed: what failed, in words; empty: nothing has.
        open: the sockets that are open.
        connections: all that there ever were.
        fingerprint: a number that depends on everything that has happened, on its order and its time.
    """

    def __init__(
        self, scheduler: Scheduler, chance: random.Random, faults: Faults, fail_at: int, kinds: frozenset[str]
    ) -> None:
        self.scheduler = scheduler
        self.faults = faults
        self.operations = 0
        self.failed = ""
        self.open: dict[int, Socket] = {}
        self.connections: list[Connection] = []
        self.fingerprint = 0
        self._chance = chance
        self._fail_at = fail_at
        self._kinds = kinds
        self._listening: dict[str, Socket] = {}
        self._count = 0

    def socket(self) -> Socket:
        return Socket(self)

    def listen(self, name: str) -> Socket:
        if name in self._listening:
            raise OSError(errno.EADDRINUSE, f"cannot listen at {SCHEME}{name}: somebody does already")
        sock = self._listening[name] = Socket(self)
        sock.listens = collections.deque()
        sock.name = f"{SCHEME}{name}"
        return sock

    def listener(self, sockets: Sequence[Any]) -> Listener:
        return Listener(sockets)

    def forget(self, sock: Socket) -> None:
        self.open.pop(sock.number, None)
        for name, one in list(self._listening.items()):
            if one is sock:
                del self._listening[name]

    def fresh_number(self) -> int:
        self._count += 1
        return _FIRST + self._count

    def connect(self, sock: Socket, name: str) -> None:
        """Begin to connect: after a while it has come to pass, or has not."""
        faults = self.faults
        chance = random.Random(self._chance.random())  # noqa: S311 - it is to be repeated
        there, back = faults.seconds(chance), faults.seconds(chance)
        now = self.scheduler.now
        sock.connected_at = now + there + back
        self.scheduler.alarm(sock.connected_at)
        listener = self._listening.get(name.lower())
        why = self.operate("connect", sock, 0)
        if why is None and listener is not None and not chance.random() < faults.refuse:
            connection = Connection(self, faults, chance, name, sock, listener)
            self.connections.append(connection)
            assert listener.listens is not None  # noqa: S101 - for the type checker
            listener.listens.append((now + there, connection))
            self.scheduler.alarm(now + there)
        else:
            sock.error = errno.ECONNREFUSED

    def operate(self, kind: str, sock: Socket, size: int) -> OSError | None:
        """Count an operation; the error that it is to fail with."""
        self.note(kind, sock, size)
        if kind not in self._kinds:
            return None
        self.operations += 1
        if self.operations != self._fail_at:
            return None
        self.failed = f"operation {self.operations}: {kind} of {sock.name or 'a client'}"
        number = errno.ECONNREFUSED if kind == "connect" else errno.ECONNRESET
        return OSError(number, f"{os.strerror(number)} ({self.failed})")

    def note(self, kind: str, sock: Socket, size: int) -> None:
        """What happens, in what order and when: all of it is in one number."""
        happened = (self.fingerprint, kind, sock.name, size, self.scheduler.now)
        self.fingerprint = zlib.crc32(repr(happened).encode())


class _Pipe:
    """One direction of a connection.

    Attributes:
        size: octets that are on their way or wait to be read.
        ended_at: when the receiver finds the end of the stream; None: it is not ended.
        reader_gone: the receiver has closed its socket.
    """

    __slots__ = ("chunks", "ended", "ended_at", "half_close", "last", "reader_gone", "sent", "size", "stall", "stalled")

    def __init__(self, half_close: int | None, stall: tuple[int, float] | None) -> None:
        self.chunks: collections.deque[tuple[float, memoryview]] = collections.deque()
        self.size = 0
        self.sent = 0
        self.last = 0.0  # when the last octet arrives
        self.stalled = 0.0  # until when nothing arrives
        self.ended = False  # the writer has ended it
        self.ended_at: float | None = None
        self.reader_gone = False
        self.half_close = half_close
        self.stall = stall

    def arrival(self, now: float, latency: float) -> float:
        self.last = max(self.last, now + latency, self.stalled)
        return self.last


class Connection:
    """Two sockets, and what is on its way between them."""

    def __init__(
        self, network: MemoryNetwork, faults: Faults, chance: random.Random, name: str, client: Socket, listener: Socket
    ) -> None:
        self.network = network
        self.faults = faults
        self.chance = chance
        self.name = name
        self.client = client
        self.listener = listener
        self.server: Socket | None = None
        self.sent = 0
        self.reset_at = None if faults.reset_at is None else drawn(faults.reset_at, chance)
        self.destroy = chance.random() < 0.5 if faults.destroy is None else faults.destroy
        direction = faults.direction or chance.choice(("to_server", "to_client"))
        half = None if faults.half_close is None else drawn(faults.half_close, chance)
        stall = None if faults.stall is None else (drawn(faults.stall[0], chance), faults.stall[1])
        at_fault, sound = _Pipe(half, stall), _Pipe(None, None)
        to_server, to_client = (at_fault, sound) if direction == "to_server" else (sound, at_fault)
        number = len(network.connections) + 1
        client.name, client.peer_name = f"{SCHEME}{name}#{number}", f"{SCHEME}{name}"
        client.attach(self, to_client, to_server)
        self._ways = to_server, to_client

    def accept(self) -> Socket:
        to_server, to_client = self._ways
        server = self.server = Socket(self.network)
        server.name, server.peer_name = self.client.peer_name, self.client.name
        server.connected_at = 0.0
        server.attach(self, to_server, to_client)
        server.reset_at = self._reset_early
        return server

    _reset_early: float | None = None  # before it was accepted

    def other(self, sock: Socket) -> Socket | None:
        return self.server if sock is self.client else self.client

    def latency(self) -> float:
        return self.faults.seconds(self.chance)

    def reset(self) -> None:
        """Break it: both ends learn of that after a while."""
        self.tell_reset(self.client)
        if self.server is not None:
            self.tell_reset(self.server)
        elif self._reset_early is None:
            self._reset_early = self.network.scheduler.now

    def tell_reset(self, sock: Socket, more: float = 0.0) -> None:
        """A reset is on its way to one end."""
        if sock.reset_at is None and sock.incoming is not None:
            scheduler = self.network.scheduler
            sock.reset_at = sock.incoming.arrival(scheduler.now + more, self.latency())
            scheduler.alarm(sock.reset_at)

    def stall(self, seconds: float) -> None:
        """Nothing that is sent from now on arrives before so many seconds are over, in either direction."""
        for pipe in self._ways:
            pipe.stalled = max(pipe.stalled, self.network.scheduler.now + seconds)


class Socket(MemorySocket):
    """An end of a connection, or what listens. All of its methods behave as those of a socket that does not block."""

    family = socket.AF_UNSPEC
    type = socket.SOCK_STREAM
    proto = 0

    __slots__ = (
        "__weakref__", "_read_shut", "_told", "connected_at", "connection", "error", "incoming", "listens", "name",
        "network", "number", "outgoing", "peer_name", "reset_at",
    )  # fmt: skip

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.number = network.fresh_number()
        network.open[self.number] = self
        self.name = self.peer_name = ""
        self.listens: collections.deque[tuple[float, Connection]] | None = None
        self.connection: Connection | None = None
        self.incoming: _Pipe | None = None
        self.outgoing: _Pipe | None = None
        self.connected_at = _NEVER  # it is not connecting
        self.error = 0  # what came of connecting
        self.reset_at: float | None = None
        self._told = False  # of the reset
        self._read_shut = False

    def __repr__(self) -> str:
        state = "closed" if self.number < 0 else "listens" if self.listens is not None else "open"
        return f"<socket in memory: {state} {self.name}>"

    def attach(self, connection: Connection, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.connection, self.incoming, self.outgoing = connection, incoming, outgoing

    # What it is.

    def fileno(self) -> int:
        return self.number

    def setblocking(self, flag: bool) -> None:
        if flag:
            raise ValueError("a socket in memory does not block")

    def gettimeout(self) -> float:
        return 0.0

    def setsockopt(self, *option: Any) -> None:
        """There is nothing to set."""

    def getsockopt(self, level: int, option: int) -> int:
        return self.error if option == socket.SO_ERROR else 0

    def getsockname(self) -> str:
        self._check()
        return self.name

    def getpeername(self) -> str:
        self._check()
        if self.connection is None or self._is_reset():
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.peer_name

    def _check(self) -> None:
        if self.number < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    # Waiting.

    def readable(self) -> bool:
        now = self.network.scheduler.now
        if self.listens is not None:
            return bool(self.listens) and self.listens[0][0] <= now
        pipe = self.incoming
        if pipe is None:
            return False
        return (
            bool(pipe.chunks and pipe.chunks[0][0] <= now)
            or (pipe.ended_at is not None and pipe.ended_at <= now)
            or self._read_shut
            or self._is_reset()
        )

    def writable(self) -> bool:
        if self.connected_at > self.network.scheduler.now:
            return False
        pipe = self.outgoing
        if pipe is None or self.connection is None:
            return True  # connecting has failed
        return pipe.ended or pipe.size < self.connection.faults.capacity or self._is_reset()

    def _is_reset(self) -> bool:
        return self.reset_at is not None and self.reset_at <= self.network.scheduler.now

    def wait(self, *, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        def ready() -> bool:
            return self.number < 0 or (read and self.readable()) or (write and self.writable())

        self.network.scheduler.wait(ready, timeout)
        if self.number < 0:
            return read, write
        return read and self.readable(), write and self.writable()

    # Connecting.

    def connect(self, address: str) -> None:
        self._check()
        self.network.connect(self, address)
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def accept(self) -> tuple[Socket, str]:
        self.network.scheduler.preempt()
        self._check()
        assert self.listens is not None  # noqa: S101 - for the type checker: it listens
        if not self.readable():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        _, connection = self.listens.popleft()
        if self.network.operate("accept", self, 0) is not None:
            connection.reset()
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        return connection.accept(), connection.client.name

    # Reading.

    def recv(self, size: int, flags: int = 0) -> bytes:
        return b"".join(bytes(part) for part in self._take(size))

    def recv_into(self, buffer: Buffer, size: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer)
        done = 0
        for part in self._take(size or len(view)):
            view[done : done + len(part)] = part
            done += len(part)
        return done

    def _take(self, size: int) -> list[memoryview]:
        """Octets that have come; none at the end of the stream."""
        self.network.scheduler.preempt()
        self._check()
        pipe, connection = self.incoming, self.connection
        if pipe is None or connection is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if not self.readable():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        error = self.network.operate("recv", self, size)
        if error is not None:
            connection.reset()
            self._told = True
            self.reset_at = self.network.scheduler.now
            raise error
        if self._is_reset() and connection.destroy:
            self._drop()
        now = self.network.scheduler.now
        here = 0
        for arrival, data in pipe.chunks:
            if arrival > now or here >= size:
                break
            here += len(data)
        if not here:
            if self._is_reset():
                self._tell_reset()
            return []
        return self._cut(pipe, self._part(min(here, size)))

    def _cut(self, pipe: _Pipe, size: int) -> list[memoryview]:
        taken: list[memoryview] = []
        pipe.size -= size
        while size:
            arrival, data = pipe.chunks.popleft()
            if len(data) > size:
                pipe.chunks.appendleft((arrival, data[size:]))
                data = data[:size]
            taken.append(data)
            size -= len(data)
        return taken

    def _part(self, size: int) -> int:
        """How many of the octets a call gets."""
        assert self.connection is not None  # noqa: S101 - for the type checker
        if self.connection.faults.chop and size > 1:
            chance = self.connection.chance
            return chance.randint(1, chance.choice((min(size, 20), size)))
        return size

    def _drop(self) -> None:
        assert self.incoming is not None  # noqa: S101 - for the type checker
        self.incoming.chunks.clear()
        self.incoming.size = 0

    def _tell_reset(self, afterwards: int = 0) -> None:
        """A reset is told once."""
        number = afterwards if self._told else errno.ECONNRESET
        self._told = True
        if number:
            raise OSError(number, os.strerror(number))

    # Writing.

    def send(self, data: Buffer, flags: int = 0) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: Sequence[Buffer], *rest: Any) -> int:
        self.network.scheduler.preempt()
        self._check()
        pipe, connection = self.outgoing, self.connection
        if pipe is None or connection is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if self._is_reset():
            self._tell_reset(errno.EPIPE)
        if pipe.ended:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        size = min(sum(map(len, buffers)), connection.faults.capacity - pipe.size)
        if size <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        error = self.network.operate("send", self, size)
        if error is not None:
            connection.reset()
            self._told = True
            self.reset_at = self.network.scheduler.now
            raise error
        size = self._part(size)
        if connection.reset_at is not None and connection.sent + size > connection.reset_at:
            size = max(1, connection.reset_at - connection.sent)
        data = memoryview(b"".join(bytes(one) for one in _first(buffers, size)))
        connection.sent += size
        self._carry(pipe, connection, data)
        if connection.reset_at is not None and connection.sent >= connection.reset_at:
            connection.reset_at = None
            connection.reset()
        return size

    def _carry(self, pipe: _Pipe, connection: Connection, data: memoryview) -> None:
        """Octets are on their way."""
        scheduler = self.network.scheduler
        start, pipe.sent = pipe.sent, pipe.sent + len(data)
        if pipe.half_close is not None:
            if start < pipe.half_close:
                self._put(pipe, data[: pipe.half_close - start], connection.latency())
            if pipe.sent >= pipe.half_close and pipe.ended_at is None:
                pipe.ended_at = pipe.arrival(scheduler.now, connection.latency())
                scheduler.alarm(pipe.ended_at)
            return
        if pipe.stall is not None and pipe.sent > pipe.stall[0]:
            before = data[: max(0, pipe.stall[0] - start)]
            self._put(pipe, before, connection.latency())
            data = data[len(before) :]
            pipe.stalled = scheduler.now + pipe.stall[1]
            pipe.stall = None
        self._put(pipe, data, connection.latency())

    def _put(self, pipe: _Pipe, data: memoryview, latency: float) -> None:
        if not data:
            return
        scheduler = self.network.scheduler
        arrival = pipe.arrival(scheduler.now, latency)
        if pipe.reader_gone:  # nobody is there: the answer is a reset
            assert self.connection is not None  # noqa: S101 - for the type checker
            self.connection.tell_reset(self, arrival - scheduler.now)
            return
        pipe.chunks.append((arrival, data))
        pipe.size += len(data)
        scheduler.alarm(arrival)

    # Ending.

    def shutdown(self, how: int) -> None:
        self.network.scheduler.preempt()
        self._check()
        if self.incoming is None or self.outgoing is None or (self._is_reset() and self._told):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self.network.note("shutdown", self, how)
        if how != socket.SHUT_RD:
            self._end(self.outgoing)
        if how != socket.SHUT_WR:
            self._read_shut = True

    def _end(self, pipe: _Pipe) -> None:
        if not pipe.ended:
            pipe.ended = True
            if pipe.ended_at is None:
                assert self.connection is not None  # noqa: S101 - for the type checker
                pipe.ended_at = pipe.arrival(self.network.scheduler.now, self.connection.latency())
                self.network.scheduler.alarm(pipe.ended_at)

    def close(self) -> None:
        if self.number < 0:
            return
        self.network.note("close", self, 0)
        self.network.forget(self)
        self.number = -1
        while self.listens:
            self.listens.popleft()[1].reset()
        incoming, outgoing, connection = self.incoming, self.outgoing, self.connection
        if incoming is None or outgoing is None or connection is None:
            return
        other = connection.other(self)
        unread = bool(incoming.chunks)
        incoming.reader_gone = True
        self._drop()
        if unread and other is not None:
            connection.tell_reset(other)
        elif unread:
            connection.reset()
        else:
            self._end(outgoing)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _first(buffers: Sequence[Buffer], size: int) -> list[memoryview]:
    """The first octets of several buffers."""
    parts = []
    for buffer in buffers:
        if size <= 0:
            break
        parts.append(memoryview(buffer)[:size])
        size -= len(buffer)
    return parts


class Listener:
    """What a blocking server accepts with: as `net.listener.Listener`, in virtual time."""

    def __init__(self, sockets: Sequence[Socket]) -> None:
        self.sockets = tuple(sockets)
        self.closed = False
        self._scheduler = sockets[0].network.scheduler

    def accept_socket(self, timeout: float | None = None) -> tuple[Socket, str]:
        def ready() -> bool:
            return self.closed or any(sock.readable() for sock in self.sockets)

        while True:
            if not self._scheduler.wait(ready, timeout):
                raise TimeoutError(errno.ETIMEDOUT, "nobody came in time")
            if self.closed:
                self._refuse()
            for sock in self.sockets:
                try:
                    return sock.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    pass
                except OSError:
                    if not self.closed:
                        raise
                    self._refuse()  # another thread has closed it in this moment

    def watch(self, file: object, callback: object) -> NoReturn:
        """There are no descriptors here."""
        raise NotImplementedError("a simulation runs threads, and no processes or other files")

    def unwatch(self, file: object) -> None:
        """Nothing is watched."""

    def forget(self) -> None:
        """There are no other processes here."""

    def _refuse(self) -> NoReturn:
        raise ClosedError(f"the listener on {', '.join(sock.name for sock in self.sockets)}")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            for sock in self.sockets:
                sock.close()
