"""The blocking adapter of an open connection: the caller's own thread is the pump.

Strategy: whoever waits, in ``recv``, in ``close`` or in a ``send`` that the peer does not take, moves octets in both
directions meanwhile. There is no thread for a connection. Three locks, always taken in this order:

- ``_reading``: held by the one thread that reads from the socket now, also while it waits for it;
- ``_writing``: held while buffers are handed to the socket, never while waiting for it;
- ``_state``: guards protocol, inbox and TLS; never held across I/O.

So a thread that reads never waits for one that writes: what it cannot write at once stays for the writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self, overload

from ..core.endpoint import Endpoint, code_for, converted, log_end, log_stall
from ..core.inbox import Inbox
from ..core.protocol import LINGER_TIME, WHOLE, Protocol, State
from ..exceptions import CloseCause, ConcurrencyError, ConnectionClosed, ConnectionClosedOK
from ..net.channel import Channel
from ..net.tls import TLS
from ..spec import CloseCode
from ..typing import Buffer, Data, LoggerLike
from .pong import Pong
from .tending import tending

__all__ = ["Connection", "Pong"]

_NOTHING: Any = object()
_GLANCE = 0.1  # seconds after which who waits to write looks whether somebody still reads
_LOOK = 1.0  # seconds after which a program that only sends looks at what the peer has to say
_GAP = 0.05  # seconds between two looks that count as a pause of reading
_AWAY = 3.0  # seconds of pause that are told as a stall: within less, `tending` takes over


class Connection(Endpoint):
    """An open WebSocket connection.

    ``for message in connection`` ends when the connection is closed normally and raises `ConnectionClosedError`
    otherwise. Any thread may send, ping and close; one at a time may receive.

    The peer's pings and Close are answered while the program is in a call of the connection, such as ``recv``; when it
    leaves the connection alone for a second or two, a helper thread does that, one for all connections of the process
    (see `tending`). Keepalive works in both cases. Messages wait for ``recv``, ``max_queue`` of them.

    Attributes:
        local_address: our end's address, as ``socket.getsockname()`` gives it.
        remote_address: the peer's address, as ``socket.getpeername()`` gives it; None when it is gone already.
    """

    __slots__ = (
        "_away", "_busy", "_changed", "_dropped", "_due", "_eof", "_fetching", "_heard_at", "_id", "_inbox",
        "_left", "_looked", "_moved", "_parts", "_parts_owner", "_protocol", "_reading", "_receiving", "_shut",
        "_state", "_stream", "_taken", "_tls", "_turns", "_unsent", "_watched", "_watchers", "_write_error",
        "_writing", "local_address", "logger", "remote_address", "request", "response",
    )  # fmt: skip

    def __init__(self, logger: LoggerLike, stream: Channel, tls: TLS | None = None) -> None:
        super().__init__(logger)
        self._stream = stream
        self._tls = tls
        self._inbox = Inbox(None)
        self._busy = False  # the program has a message, and has not come back for another
        self._fetching = False  # somebody takes something out of the system, and has not put it into the inbox yet
        self._state = threading.Lock()
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._receiving = threading.Lock()  # held by the one caller of recv
        self._parts = threading.Lock()  # held by the one caller that sends a message in parts
        self._parts_owner: int | None = None
        self._changed = threading.Condition(self._state)  # someone stopped reading, or made room in the inbox
        self._watchers = 0  # how many wait for that
        self._turns = 0  # how often someone stopped reading
        self._unsent: list[Buffer] = []  # handed out by the protocol, not taken by the socket
        self._left = 0  # octets of that, when the socket did not take them at once
        self._taken = 0  # octets that it took later, in all
        self._moved = 0.0  # when it last took some, or some began to wait
        self._dropped = 0  # octets that it never took
        self._write_error: OSError | None = None
        self._eof = False  # our direction of the socket is shut down
        self._shut = False
        self._looked = 0.0  # when the socket was last looked at for input
        self._heard_at = 0.0  # when the last octet came
        self._away = False  # the protocol knows that nobody reads since then
        self._watched = False  # nobody does, and `tending` would see if something came
        self._due: float | None = None  # when the protocol asked to be told the time
        self.local_address: Any = stream.sock.getsockname()
        try:
            self.remote_address: Any = stream.sock.getpeername()
        except OSError:
            self.remote_address = None

    def open(self, protocol: Protocol, leftover: bytes) -> None:
        """Begin after the opening handshake, with the bytes that came behind it."""
        self._inbox = Inbox(protocol.options.max_queue)
        self._protocol = protocol
        self._looked = self._heard_at = time.monotonic()
        self._tick(self._looked)
        if leftover:
            self._put(leftover)
        tending.add(self)

    # Receiving.

    @overload
    def recv(self, timeout: float | None = None, *, decode: Literal[True]) -> str: ...
    @overload
    def recv(self, timeout: float | None = None, *, decode: Literal[False]) -> bytes: ...
    @overload
    def recv(self, timeout: float | None = None, decode: bool | None = None) -> Data: ...
    def recv(self, timeout: float | None = None, decode: bool | None = None) -> Data:
        """The next message: ``str`` for text, ``bytes`` for binary (RFC 6455 section 5.6).

        With `decode` True or False it is ``str`` or ``bytes`` whatever it was.

        Raises:
            TimeoutError: no message within `timeout` seconds; nothing is lost.
            ConnectionClosed: the connection is closed, and every message before that was returned.
            ConcurrencyError: another thread is in ``recv`` or ``recv_streaming``.
            UnicodeDecodeError: `decode` is True for bytes that are not UTF-8; the message is lost.
        """
        self._start_receiving()
        try:
            self._available(None if timeout is None else time.monotonic() + timeout)
            message = self._take_item()
        finally:
            self._receiving.release()
        return message if decode is None else converted(message, decode)

    def __iter__(self) -> Iterator[Data]:
        try:
            while True:
                yield self.recv()
        except ConnectionClosedOK:
            return

    def recv_streaming(self, decode: bool | None = None) -> Iterator[Data]:
        """The next message in parts, as they come: an iterator of ``str`` or ``bytes``.

        A part is what one read brought, whatever the frames were; text is never cut inside a character. When the
        iteration is left early, the rest of the message is dropped.

        Raises:
            ConnectionClosed, ConcurrencyError: as `recv`.
        """
        self._start_receiving()
        try:
            with self._state:
                self._inbox.start_stream(self._protocol)
            last = False
            while not last:
                self._available(None)
                part, last = self._inbox.part_of(self._take_item())
                yield converted(part, decode)
        finally:
            with self._state:
                self._inbox.stop_stream(self._protocol)
            self._receiving.release()

    def _take_item(self) -> Any:
        with self._state:
            self._busy = True
            item = self._inbox.take()
            if self._watchers:
                self._changed.notify_all()
        return item

    def _start_receiving(self) -> None:
        if not self._receiving.acquire(blocking=False):
            raise ConcurrencyError("another thread is receiving from this connection")

    def _available(self, deadline: float | None) -> None:
        """Pump until the inbox has something; the application is back, so what was unsettled acts now."""
        self._busy = self._inbox.amid
        turns = self._turns
        while not self._inbox:
            protocol = self._protocol
            if protocol.unsettled is not None:
                with self._state:
                    protocol.settle()
                self._flush()
                self._leave_if_idle()
            if protocol.state >= State.ENDING:
                raise self._why_closed()
            self._pump(deadline, turns)
            turns = self._turns
            if deadline is not None and not self._inbox and time.monotonic() >= deadline:
                raise TimeoutError("no message within the time given")

    # Sending.

    def send(
        self, message: str | Buffer | Iterable[str | Buffer], *, text: bool | None = None, compress: bool | None = None
    ) -> None:
        """Send a message: ``str`` as text, bytes as binary, an iterable of one of them in fragments.

        Returns when the system has taken it. While it does not, what the peer sends is read, up to ``max_queue``
        messages, so two peers that both send first do not wait for each other. When the iterable raises, the
        connection is failed with 1011, since half a message must not look like a whole one. With `text`, bytes are
        sent as text or ``str`` as binary. Where compression was agreed on (RFC 7692), `compress` overrules its settings
        for this message; elsewhere it is nothing.

        Raises:
            ConnectionClosed: the connection is closed or closing.
            TypeError: not something that can be sent.
            ValueError: `text` is true and the bytes are not UTF-8.
        """
        if isinstance(message, WHOLE):
            try:
                with self._state:
                    self._protocol.send(message, text=text, compress=compress)
            except ConnectionClosed:
                raise
            except Exception:
                if self._protocol.state is not State.OPEN:
                    self._give_up()  # an extension that fails ends the connection
                raise
            if self._parts_owner not in (None, threading.get_ident()):
                with self._parts:
                    pass  # it goes out behind the message that another thread sends in parts: wait for that
            self._written()
        elif isinstance(message, Iterable) and not hasattr(message, "keys"):
            with self._parts:
                self._parts_owner = threading.get_ident()
                try:
                    self._send_parts(message, text, compress)
                finally:
                    self._parts_owner = None
        else:
            raise TypeError(f"a message is str, bytes-like or an iterable of them, not {type(message).__name__}")

    def _send_parts(self, parts: Iterable[str | Buffer], text: bool | None, compress: bool | None) -> None:
        protocol = self._protocol
        if protocol.state is not State.OPEN:
            raise self._why_closed()
        begun = False
        held: Any = _NOTHING  # one part is kept back, since the last one must say so
        try:
            for part in parts:
                if held is not _NOTHING:
                    with self._state:
                        protocol.send_part(held, last=False, text=text, compress=compress)
                    begun = True
                    self._written()
                held = part
            if held is not _NOTHING:
                with self._state:
                    protocol.send_part(held, last=True, text=text, compress=compress)
                    begun = False
                self._written()
        except ConnectionClosed:
            raise
        except BaseException as error:
            with self._state:
                half = begun and protocol.state is State.OPEN  # behind a Close nothing follows anyway
                if half:
                    why = CloseCause.HANDLER_FAILED
                    protocol.fail(CloseCode.INTERNAL_ERROR, "error in fragmented message", error, why=why)
            if half:
                self._give_up()
            raise

    def ping(self, data: str | Buffer | None = None) -> Pong:
        """Send a Ping (RFC 6455 section 5.5.2); ``wait()`` on the result for the Pong.

        Raises:
            ConnectionClosed: the connection is closed.
            ConcurrencyError: a Ping with the same payload waits for its Pong already.
            ValueError: more than 125 octets.
        """
        pong = Pong(self)
        with self._state:
            self._protocol.ping(data, pong._answered)
        self._written()
        return pong

    def pong(self, data: str | Buffer = b"") -> None:
        """Send an unsolicited Pong (RFC 6455 section 5.5.3).

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: more than 125 octets.
        """
        with self._state:
            self._protocol.pong(data)
        self._written()

    def _written(self) -> None:
        """Return when what is queued has been taken by the system; raise when it never will."""
        protocol = self._protocol
        while self._flush() and protocol.state < State.ENDING:
            if (
                self._receiving.locked()
                or self._inbox.full
                or protocol.at_eof
                or not self._reading.acquire(blocking=False)
            ):
                # Someone else reads, or must first: here only room for writing counts.
                with self._state:
                    timeout = self._until(None)
                self._stream.wait(read=False, write=True, timeout=timeout)
            else:
                try:
                    self._step(None, sending=True)
                finally:
                    self._stop_reading()
        if self._write_error is not None:
            self._learn_why(self._write_error)
        if protocol.state is State.CLOSED:
            raise self._why_closed()
        now = time.monotonic()
        if now - self._looked > _LOOK and not self._receiving.locked():
            self._pump(now)

    def _learn_why(self, error: OSError) -> None:
        """Writing failed: what the peer said before that is there to read, and tells more than the error."""
        deadline = time.monotonic() + LINGER_TIME
        while self._protocol.state is not State.CLOSED and time.monotonic() < deadline and not self._inbox.full:
            self._pump(deadline)
        with self._state:
            self._protocol.lost(error)
        self._flush()

    # Ending.

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection and wait until it is closed, for ``close_timeout`` at most (RFC 6455 section 7.1.2).

        Any thread may call it, also while another receives or sends; they get `ConnectionClosed`. Messages that have
        come can still be received. Closing again is no error.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        self._start_close(code, reason)
        self.wait_closed()

    def _start_close(self, code: int, reason: str, why: CloseCause | None = None) -> None:
        """Queue a Close and start its timer; does not wait."""
        with self._state:
            self._protocol.close(code, reason, why=why)
            self._tick(time.monotonic())
        self._flush()

    def _leave(self, code: int, reason: str, patience: float) -> None:
        """Close when the program has nothing under way, after `patience` seconds in any case."""
        if self.state is not State.OPEN:
            return
        with self._state:
            self._protocol.leave(code, reason, patience)
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        """`_leave` was called: close, if the program has nothing under way and there is nothing for it either."""
        protocol, inbox = self._protocol, self._inbox
        if protocol.state is not State.OPEN or not protocol.leaving:
            return
        with self._state:
            self._tick(time.monotonic())
            busy = self._busy or inbox or self._parts_owner is not None or protocol.behind or self._backlog
            # In this order: what is not in the system any more was fetched by somebody who has said so before.
            if not busy and not self._has_unread() and not self._fetching:
                protocol.left()
                inbox.shut()
        self._flush()

    def _has_unread(self) -> bool:
        """Whether the system has something that nobody read yet."""
        return not self._shut and self._stream.wait(read=True, write=False, timeout=0)[0]

    def _cut(self) -> None:
        """End it now, without any Close; whoever is in a call gets `ConnectionClosed`."""
        with self._writing, self._state:
            self._protocol.lost(by_us=True)
            self._dropped += sum(map(len, [*self._unsent, *self._protocol.outgoing()]))
            self._unsent = []
        self._flush()

    def fail(self, code: int, reason: str = "") -> None:
        """Give up the connection (RFC 6455 section 7.1.7): send a Close and do not wait for the peer's.

        Takes a second at most, in which the peer can read the Close.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        with self._state:
            self._protocol.fail(code, reason)
        self._give_up()

    def _give_up(self) -> None:
        """After a failure: write the Close, and see the end, which a thread that waits to read can't time."""
        with self._state:
            self._tick(time.monotonic())
        self._flush()
        self.wait_closed()

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is closed, for `timeout` seconds at most; whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._shut:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._pump(deadline)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        code = code_for(kind)
        if code == CloseCode.INTERNAL_ERROR:
            self._start_close(code, "", CloseCause.HANDLER_FAILED)
        self.close(code)

    def _note_end(self) -> None:
        self._protocol.note_end(time.monotonic(), self._heard_at or None)

    def _why_closed(self) -> ConnectionClosed:
        self._note_end()
        if self._protocol.state is State.CLOSED:
            ending, backlog = self._protocol.ending, self._backlog
            ending.unsent = self._dropped + sum(map(len, self._unsent)) + self._protocol.unsent
            ending.unsent += 0 if backlog is None else backlog.octets
        return self._protocol.closed()

    # The pump.

    def _pump(self, deadline: float | None, turns: int | None = None) -> bool:
        """Read once, or wait until `deadline` or the protocol's own; whether something was read.

        When another thread reads, or reading has to pause, wait for that to change; not if others have read since
        there were so many `turns`: what they read may be what the caller waits for.
        """
        paused = self._paused()
        if paused or not self._reading.acquire(blocking=False):
            if not paused and self._flush():
                self._write_on(deadline)
                return False
            with self._changed:
                missed = turns is not None and turns != self._turns
                if not self._shut and not missed and (self._paused() if paused else self._reading.locked()):
                    self._watchers += 1
                    self._changed.wait(self._until(deadline))
                    self._watchers -= 1
                self._until(None)
            self._flush()
            return False
        try:
            return self._step(deadline)
        finally:
            self._stop_reading()

    def _write_on(self, deadline: float | None) -> None:
        """Wait until the socket takes what is left, since who reads now may not know of that; look who reads then."""
        with self._state:
            timeout = self._until(deadline)
        timeout = _GLANCE if timeout is None else min(timeout, _GLANCE)
        self._stream.wait(read=False, write=True, timeout=timeout)
        with self._state:
            self._tick(time.monotonic())
        self._flush()

    def _paused(self) -> bool:
        """Whether reading has to wait for the application: no room, or nothing more comes and that has to wait too."""
        protocol = self._protocol
        return (self._inbox.full and protocol.state is State.OPEN) or (protocol.at_eof and not protocol.wants_close)

    def _stop_reading(self) -> None:
        with self._changed:
            self._turns += 1
            self._reading.release()
            if self._watchers:
                self._changed.notify_all()
        if self._protocol.wants_close:
            self._flush()

    def _until(self, deadline: float | None) -> float | None:
        """Seconds until `deadline` or the protocol's next one, for one who does not read; ``_state`` is held."""
        now = time.monotonic()
        if not self._away and not self._watched and not self._reading.locked():
            self._protocol.pause(self._looked)
            self._away = True
        due = self._tick(now)
        if due is None or (deadline is not None and deadline < due):
            due = deadline
        return None if due is None else max(0.0, due - now)

    def _come_back(self, now: float) -> None:
        """Someone reads again. ``_state`` and ``_reading`` are held."""
        if not self._watched:
            self._protocol.pause(self._looked)
            self._protocol.resume(now, least=_AWAY)
        self._away = self._watched = False

    def _tick(self, now: float) -> float | None:
        """Do what is due; when the next is. ``_state`` is held."""
        due = self._due = self._protocol.tick(
            now,
            waiting=self._left,
            taken=self._taken,
            moved=self._moved,
            heard_at=self._heard_at or None,
        )
        if (stall := self._protocol.take_stall()) is not None:
            log_stall(self, stall, "program or machine busy")
        return due

    def _step(self, deadline: float | None, *, sending: bool = False) -> bool:
        """Wait for the socket and read once; ``_reading`` is held. With `sending`, only while something is left."""
        protocol = self._protocol
        now = time.monotonic()
        with self._state:
            if self._away or self._watched or now - self._looked > _GAP:
                self._come_back(now)
            due = self._due
            if protocol.wants_tick or (due is not None and now >= due):  # this runs for every message
                due = self._tick(now)
        if due is None or (deadline is not None and deadline < due):
            due = deadline
        timeout = None if due is None else max(0.0, due - now)
        left = self._flush()
        ending = protocol.wants_close
        if self._shut or (not left and (ending or sending)):
            return False
        if protocol.behind:  # what came is not all decoded: read no more before it is
            with self._state:
                self._put(b"")
                self._settle_if_idle()
            self._flush()
            return True
        readable, writable = self._stream.wait(read=not ending, write=left, timeout=timeout)
        self._looked = time.monotonic()
        if writable:
            self._flush()
        if not readable:
            return False
        self._fetching = True
        try:
            try:
                data = self._stream.receive()
            except OSError as error:
                with self._state:
                    protocol.lost(self._write_error or error)
                return True
            if data is None:
                return False
            with self._state:
                self._take(data)
        finally:
            self._fetching = False
        self._stream.release()
        self._flush()
        return True

    def _take(self, data: Buffer) -> None:
        """What one read brought; ``_state`` is held."""
        protocol = self._protocol
        eof = not len(data)
        if not eof:
            self._heard_at = self._looked
        if self._tls is not None and not eof:
            try:
                data = self._tls.receive(data)
            except OSError as error:  # ssl.SSLError is one
                protocol.lost(error)
                return
            eof = self._tls.eof or self._tls.error is not None
        if len(data):
            self._put(data)
        if eof:
            broken = self._write_error or (self._tls and self._tls.error)
            if broken and not protocol.behind:
                protocol.lost(broken)
            protocol.receive_eof()
        self._settle_if_idle()

    def _read_aside(self, limit: int) -> int:
        """Read `limit` octets at most although the inbox is full; how many came. ``_reading`` is held."""
        protocol = self._protocol
        if self._shut or protocol.behind or protocol.unsettled is not None or not self._inbox.takes_aside:
            return 0
        self._fetching = True
        try:
            try:
                data = self._stream.receive(limit)
            except OSError:
                return 0  # when the program comes back it finds that too
            if not data:
                return 0  # nor is the end of the stream lost
            with self._state:
                self._heard_at = time.monotonic()
                self._take(data)
        finally:
            self._fetching = False
        count = len(data)
        self._stream.release()
        return count

    def _settle_if_idle(self) -> None:
        if self._protocol.unsettled is not None and not self._inbox:
            self._protocol.settle()

    def _put(self, data: Buffer) -> None:
        """Decode, and put what that gives into the inbox; ``_state`` is held."""
        messages = self._protocol.receive(data)
        meter = self._protocol.meter
        if meter is not None and meter.count(len(data), len(messages)):
            self._protocol.measure(0, 0, self._looked)
        if self._protocol.state is State.OPEN or not self._inbox.overfull:  # else we are closing, and nobody reads
            self._inbox.add(messages, len(data) + self._protocol.expanded)

    def _flush(self) -> bool:
        """Hand what is queued to the socket, without waiting, and end the connection if it is to; whether
        something is left."""
        protocol = self._protocol
        while self._pending() or (protocol.wants_close and not self._shut) or (protocol.wants_eof and not self._eof):
            if not self._writing.acquire(blocking=False):
                return True  # the one who writes takes it along: it looks again after its release
            try:
                if not self._unsent:
                    with self._state:
                        self._unsent = self._outgoing()
                if self._unsent:
                    self._unsent = self._stream.send(self._unsent)
                    if self._unsent or self._left:
                        self._count_unsent()
                if not self._pending() and protocol.wants_eof and not self._eof:
                    # Closing with octets unread would reset the connection, and the peer would never see why.
                    self._eof = True
                    self._stream.shutdown_write()
            except OSError as error:
                self._dropped += sum(map(len, self._unsent))
                self._unsent, self._left = [], 0
                self._write_error = error.with_traceback(None)  # whose frames would keep the connection
            finally:
                self._writing.release()
            if self._unsent and protocol.state is not State.CLOSED:
                return True
            if protocol.wants_close and (protocol.state is State.CLOSED or not self._pending()):
                self._finish()
                return False
        return False

    def _catch_up(self) -> bool:
        """Write what broadcasts have left here, as far as the peer takes it; whether that is all."""
        while not self._shut and self.state is not State.CLOSED:
            if self.state is not State.OPEN:
                with self._state:
                    self._tick(time.monotonic())  # it may be that nobody else sees how the time goes
            if self._flush():
                return False
            with self._state:
                if self.state is not State.OPEN:
                    self._forget_backlog()
                if not self._backlog:
                    return True
                self._backlog.take().queue(self._protocol)
        with self._state:
            self._forget_backlog()
        return True

    def _forget_backlog(self) -> None:
        """Behind a Close nothing follows. ``_state`` is held."""
        if self._backlog is not None:
            self._dropped += self._backlog.octets
            self._backlog = None

    def _waiting(self) -> int:
        """Octets that wait to be written; ``_state`` is held."""
        return self._protocol.queued + sum(map(len, self._unsent))

    def _too_slow(self) -> None:
        """``_state`` is held; the one who broadcasts writes the Close, and does not wait for it."""
        self._protocol.outgoing()  # none of it was begun: what was is in _unsent
        self._protocol.fail(CloseCode.TRY_AGAIN_LATER, "too slow", why=CloseCause.SLOW_CONSUMER)
        self._tick(time.monotonic())

    def _count_unsent(self) -> None:
        """The socket did not take all at once: how far it is. ``_writing`` is held."""
        before, self._left = self._left, sum(map(len, self._unsent))
        if not before or self._left < before:
            self._moved = time.monotonic()
            self._taken += max(0, before - self._left)
        self._protocol.writing_paused = self._left > 0

    def _pending(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent) or self._protocol.has_outgoing or (self._tls is not None and self._tls.has_outgoing)

    def _outgoing(self) -> list[Buffer]:
        """What to write, encrypted if it is to be; ``_state`` is held."""
        buffers = self._protocol.outgoing()
        if self._write_error is not None:
            self._dropped += sum(map(len, buffers))
            return []
        if self._tls is not None:
            self._tls.send(buffers)
            if self._protocol.wants_close or self._protocol.wants_eof:
                self._tls.close()
            buffers = self._tls.outgoing()
        return buffers

    def _finish(self) -> None:
        """Close the socket, since all is written. Whoever reads is woken, and does it in our place."""
        if self._shut:
            return
        self._stream.shutdown()
        if not self._reading.acquire(blocking=False):
            return
        try:
            with self._writing, self._changed:
                if not self._shut:
                    self._protocol.lost(by_us=True)
                    tending.remove(self)
                    self._stream.close()
                    try:
                        self._closed()
                    finally:
                        self._shut = True  # last: who waits for the end looks at it without a lock
                        self._changed.notify_all()
        finally:
            self._reading.release()

    def _closed(self) -> None:
        """It is over."""
        self._note_end()
        log_end(self)
