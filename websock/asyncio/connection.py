"""The asyncio adapter of an open connection: a pump between a transport and the sans-IO `Protocol`.

What happens for every message is in ``pump.py``, or in its native twin; here is what happens now and then: opening and
closing, pausing, timers, messages in parts, pings.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import inspect
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable, Iterable
from typing import Any, Self

from ..core.broadcast import Broadcast, place, tell_dropped, to_all
from ..core.endpoint import NOT_OPEN, Endpoint, code_for, converted, log_end, log_stall
from ..core.inbox import Inbox
from ..core.protocol import LINGER_TIME, Protocol, State
from ..exceptions import CloseCause, ConcurrencyError, ConnectionClosed
from ..net.asyncio import SocketTransport
from ..spec import CloseCode
from ..typing import Buffer, Data, LoggerLike
from .pump import Pump
from .sending import Sending
from .shared import READ_SIZE, SENT, shared_of
from .side import SideReads

__all__ = ["Connection", "broadcast"]

_OPEN, _ENDING = State.OPEN, State.ENDING  # looked up for every message

_NOTHING: Any = object()


class Connection(Pump, Endpoint, asyncio.BufferedProtocol):
    """An open WebSocket connection.

    ``async for message in connection`` ends when the connection is closed normally and raises
    `ConnectionClosedError` otherwise. All methods belong to the event loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, logger: LoggerLike) -> None:
        super().__init__(loop, logger, shared_of(loop), Inbox(None), NOT_OPEN)

    def open(
        self,
        transport: asyncio.Transport,
        protocol: Protocol,
        leftover: bytes,
        on_message: Callable[[Any, Data], object] | None = None,
    ) -> None:
        """Take over the transport after the opening handshake, with the bytes that came behind it."""
        options = protocol.options
        self.transport = transport
        self._protocol = protocol
        self._inbox = Inbox(options.max_queue)
        self._on_message = on_message
        self._fd = transport.fileno() if isinstance(transport, SocketTransport) else -1
        transport.set_write_buffer_limits(high=options.write_limit)
        transport.set_protocol(self)
        self._heard_at = time.monotonic()
        self._tick()
        # It waits in the one read buffer, as what comes from the transport does.
        for start in range(0, len(leftover), READ_SIZE):
            part = leftover[start : start + READ_SIZE]
            self._shared.view[: len(part)] = part
            self.buffer_updated(len(part))

    # What came.

    def _catch_up(self) -> None:
        """What came is not all decoded: read no more before it is, and go on when others have had their turn."""
        self._pause_reading()
        if self._protocol.state is not _OPEN or not self._inbox.full:  # else when the application has taken some
            self._read_on()

    def _decode_on(self) -> None:
        self._decoding = None
        protocol = self._protocol
        messages = protocol.receive(b"")
        if protocol.meter is not None:
            self._measure(0, len(messages))
        if self._lost and not protocol.behind:
            self._tell_lost()
        if messages:
            self._received(messages, 0)
        elif protocol.unsettled is not None and not self._inbox:
            protocol.settle()
        if protocol.behind:
            self._catch_up()
        else:
            self._read_on_if_low()
        self._flush()
        if protocol.state >= _ENDING:
            self._waiter.wake()

    def _measure(self, octets: int, messages: int) -> None:
        """What a read brought, where there is a limit on that."""
        self._protocol.measure(octets, messages, time.monotonic())

    def _read_on(self) -> None:
        """Go on with what the peer has sent: what is here and not decoded, then what comes."""
        if self._protocol.behind:
            self._decoding = self._decoding or self._loop.call_soon(self._decode_on)
        elif self._reading_paused:
            self._resume_reading()

    def _ask_turn(self) -> None:
        """Go on with the inbox when the loop has had its turn."""
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def _callback_failed(self, error: Exception) -> None:
        """As for a handler that raises: one traceback, and the connection is closed with 1011."""
        self.logger.error("on_message failed", exc_info=error)
        self._start_close(CloseCode.INTERNAL_ERROR, "", CloseCause.HANDLER_FAILED)

    def _take_turn(self) -> None:
        self._resume()
        if not self._lost:
            self._flush()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._flush()
        self._waiter.wake()
        # TLS has no half-closed state in asyncio's own transports.
        return self.transport.can_write_eof() and not self._protocol.wants_close

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_unsent()
        self._lost = True
        self._shared.last = None
        self._lost_by = exc
        if not self._protocol.behind or self._protocol.state is not _OPEN:
            self._tell_lost()  # else when all is decoded, which is when the application has room for it
        if self._side is not None:
            self._side.cancel()
            self._side = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing_paused = False
        self._backlog = None
        self._wake_drained()
        if self._on_message is not None and self._inbox:
            self._ask_turn()
        if self._pongs:
            for waiter in self._pongs:
                if not waiter.done():
                    waiter.set_exception(self._why_closed())
                    waiter.exception()  # a ping that nobody awaits is no error to report
            self._pongs = None
        self._waiter.wake()
        for ended in self._closed or ():
            if not ended.done():
                ended.set_result(None)
        self._closed = None
        self._note_end()
        log_end(self)

    def _tell_lost(self) -> None:
        # Without an error it is us who ended it: the peer's end is told before.
        self._protocol.lost(self._lost_by, by_us=self._lost_by is None)

    def _note_unsent(self) -> None:
        """What the system has not taken now, it never will."""
        transport = self.transport
        left = transport.unsent if isinstance(transport, SocketTransport) else 0
        left = (left or transport.get_write_buffer_size()) + self._protocol.unsent
        if self._backlog is not None:
            left += self._backlog.octets
        self._protocol.ending.unsent = max(self._protocol.ending.unsent, left)

    def _note_end(self) -> None:
        self._protocol.note_end(time.monotonic(), self._heard_at or None)

    def _why_closed(self) -> ConnectionClosed:
        self._note_end()
        if self._protocol.state is State.CLOSED and not self._lost:
            self._note_unsent()
        error = self._protocol.closed()
        if self._lost and error.__cause__ is None and error.rcvd is None:
            error.__cause__ = self._lost_by
        return error

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._protocol.writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._protocol.writing_paused = False
        self._flush()
        while self._backlog and not self._writing_paused and self._protocol.state is _OPEN:
            self._backlog.take().queue(self._protocol)
            self._flush()
        if not self._writing_paused:
            self._wake_drained()
            if self._on_message is not None and self._inbox:
                self._ask_turn()

    # The pump.

    def _flush_rest(self) -> None:
        protocol = self._protocol
        if self._lost:
            protocol.outgoing()  # nobody takes it
            return
        # While the transport is full all waits in the protocol, where Pongs are merged; what ends it goes out anyhow.
        if not self._writing_paused or protocol.state >= _ENDING:
            buffers = protocol.outgoing()
            if len(buffers) == 1:
                self.transport.write(buffers[0])
            elif buffers and self._fd >= 0:
                self.transport.writelines(buffers)
            elif buffers:  # in some versions asyncio's writelines does not tell that it is full (CVE-2024-12254)
                self.transport.write(b"".join(buffers))
        if protocol.wants_tick:
            self._tick()
        if self._reading_paused and protocol.state is not _OPEN:
            self._read_on()  # what ends the connection is behind what we did not read
        if protocol.wants_eof or protocol.wants_close:
            self._end()

    def _end(self) -> None:
        protocol, transport = self._protocol, self.transport
        if protocol.wants_close or not transport.can_write_eof():
            if not transport.is_closing():
                transport.close()
            if protocol.state is State.CLOSED and transport.get_write_buffer_size():
                self._abort_later(protocol.timed_out)
        elif not transport.is_closing():
            # Closing with octets unread would reset the connection, and the peer would never see why.
            end_writing(transport)

    def _abort_later(self, now: bool) -> None:
        """Closing waits for what is not written; a peer that does not read must not hold it for ever."""
        if now:
            self._note_unsent()
            self.transport.abort()
        elif self._timer is None:
            self._timer = self._loop.call_later(LINGER_TIME, self.transport.abort)

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = time.monotonic()  # the loop's own clock may count milliseconds
        protocol, transport = self._protocol, self.transport
        waiting, heard_at = transport.get_write_buffer_size(), self._heard_at or None
        if isinstance(transport, SocketTransport):
            due = protocol.tick(now, waiting=waiting, taken=transport.taken, moved=transport.moved, heard_at=heard_at)
        else:
            due = protocol.tick(now, waiting=waiting, heard_at=heard_at)
        if (stall := protocol.take_stall()) is not None:
            log_stall(self, stall, "event loop busy")
        self._timer = None if due is None else self._loop.call_later(max(0.0, due - now), self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        self._tick()
        self._flush()
        if self._protocol.state >= _ENDING:
            self._waiter.wake()

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            now = time.monotonic()
            self._protocol.pause(now)
            if not self._lost:
                self.transport.pause_reading()
                if self._fd >= 0:
                    if self._side is None:
                        self._side = SideReads(self, self._loop)
                    self._side.paused(now)

    def _resume_reading(self) -> None:
        self._reading_paused = False
        self._protocol.resume(time.monotonic())
        if not self._lost:
            self.transport.resume_reading()
            if self._protocol.wants_tick:
                self._tick()

    def _read_aside(self, limit: int) -> int:
        """Read `limit` octets at most although reading is paused, see `SideReads`; how many came."""
        protocol, transport = self._protocol, self.transport
        if protocol.behind or protocol.unsettled is not None or not self._inbox.takes_aside:
            return 0
        assert isinstance(transport, SocketTransport)  # noqa: S101 - for the type checker
        size = transport.read_aside(limit)
        if size and not self._lost:
            self._tick()
            self._flush()
        return size

    # Receiving.

    def _read_on_if_low(self) -> None:
        if self._inbox.low and self._protocol.unsettled is None:
            self._read_on()

    def _refuse_receiver(self) -> None:
        if self._on_message is not None:
            raise ConcurrencyError("the messages of this connection go to on_message")
        raise ConcurrencyError("another task is receiving from this connection")

    def _come_back(self) -> None:
        """The application has taken all messages and wants more: what was unsettled acts now."""
        protocol = self._protocol
        if protocol.unsettled is not None:
            if protocol.leaving:
                self._leave_if_quiet()
            else:
                protocol.settle()
            if not self._corked:
                self._flush()
        if protocol.state >= _ENDING:
            raise self._why_closed()

    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]:
        """The next message in parts, as they come: an asynchronous iterator of ``str`` or ``bytes``.

        A part is what one read brought, whatever the frames were; text is never cut inside a character. When the
        iteration is left early or cancelled, the rest of the message is dropped; a message of which no part was taken
        stays.

        Raises:
            ConnectionClosed, ConcurrencyError: as `recv`.
        """
        return _Parts(self, decode)

    # Sending.

    async def _closed_error(self) -> None:
        raise self._why_closed()

    async def _drain(self) -> None:
        while (self._writing_paused or self._parts) and not self._lost:
            await self._writable()
        if self._lost:
            raise self._why_closed()

    def _wake_drained(self) -> None:
        if self._drained:
            for waiter in self._drained:
                if not waiter.done():
                    waiter.set_result(None)
            self._drained = None

    async def _send_parts(
        self, parts: AsyncIterable[str | Buffer] | Iterable[str | Buffer], text: bool | None, compress: bool | None
    ) -> None:
        while self._parts:
            await self._drain()
        protocol = self._protocol
        if protocol.state is not _OPEN or self._lost:
            raise self._why_closed()
        self._parts = True
        begun = False
        try:
            held: Any = _NOTHING  # one part is kept back, since the last one must say so
            async for part in parts if isinstance(parts, AsyncIterable) else _asynchronously(parts):
                if held is not _NOTHING:
                    protocol.send_part(held, last=False, text=text, compress=compress)
                    begun = True
                    self._flush()
                    while self._writing_paused:
                        await self._writable()
                held = part
            if held is not _NOTHING:
                protocol.send_part(held, last=True, text=text, compress=compress)
            begun = False
            self._flush()
        except ConnectionClosed:
            raise
        except BaseException as error:
            if begun and protocol.state is _OPEN:  # behind a Close nothing follows, and its answer is worth waiting for
                why = CloseCause.HANDLER_FAILED
                protocol.fail(CloseCode.INTERNAL_ERROR, "error in fragmented message", error, why=why)
                self._flush()
            raise
        finally:
            self._parts = False
            if not self._writing_paused:
                self._wake_drained()
        if self._writing_paused:
            await self._drain()

    def _has_room(self, encoded: Broadcast) -> bool:
        """Whether a broadcast is to be queued, though the peer does not take what was sent before."""
        room = place(self, encoded, self._protocol.queued + self.transport.get_write_buffer_size())
        tell_dropped(self, encoded)
        return room

    def _too_slow(self) -> None:
        self._protocol.outgoing()  # none of it was begun: what was, has the transport
        self._protocol.fail(CloseCode.TRY_AGAIN_LATER, "too slow", why=CloseCause.SLOW_CONSUMER)
        self._flush()
        self._waiter_if_ended()

    async def _writable(self) -> None:
        if self._drained is None:
            self._drained = collections.deque()
        waiter = self._loop.create_future()
        self._drained.append(waiter)
        await waiter

    async def ping(self, data: str | Buffer | None = None) -> Awaitable[float]:
        """Send a Ping (RFC 6455 section 5.5.2). Await the result for the Pong: the seconds that it took.

        Raises:
            ConnectionClosed: the connection is closed; also when awaiting the Pong.
            ConcurrencyError: a Ping with the same payload waits for its Pong already.
            ValueError: more than 125 octets.
        """
        waiter: asyncio.Future[float] = self._loop.create_future()
        started = time.perf_counter()

        def answered() -> None:
            if self._pongs is not None:
                self._pongs.discard(waiter)
            self._protocol.latency = time.perf_counter() - started
            if not waiter.done():
                waiter.set_result(self._protocol.latency)

        self._protocol.ping(data, answered)
        if self._pongs is None:
            self._pongs = set()
        self._pongs.add(waiter)
        self._flush()
        return waiter

    async def pong(self, data: str | Buffer = b"") -> None:
        """Send an unsolicited Pong (RFC 6455 section 5.5.3).

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: more than 125 octets.
        """
        self._protocol.pong(data)
        self._flush()

    # Ending.

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection and wait until it is closed, for ``close_timeout`` at most (RFC 6455 section 7.1.2).

        Messages that have come can still be received. Closing again, or from several tasks, is no error.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        self._start_close(code, reason)
        await self.wait_closed()

    def _start_close(self, code: int, reason: str, why: CloseCause | None = None) -> None:
        self._protocol.close(code, reason, why=why)
        if self._lost:
            self._tell_lost()  # the rest of what came is not wanted
        self._flush()
        self._waiter_if_ended()

    def _leave(self, code: int, reason: str, patience: float) -> None:
        """Close when the application has nothing under way, after `patience` seconds in any case."""
        self._protocol.leave(code, reason, patience)
        self._tick()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        """`_leave` was called: close, if the application waits for messages, or never took one."""
        if self._protocol.leaving and (self._waiter.waiting or self._on_message is not None or not self._burst):
            self._leave_if_quiet()
            self._flush()

    def _leave_if_quiet(self) -> None:
        """The application has nothing under way: close, if there is nothing for it either."""
        inbox = self._inbox
        if inbox or inbox.amid or self._parts or self._protocol.behind or self._backlog:
            return
        if self._has_unread():
            self._read_on()
        else:
            self._protocol.left()
            inbox.shut()

    def _has_unread(self) -> bool:
        """Whether the system has something that we did not read yet."""
        sock = self.transport.get_extra_info("socket")
        if self._lost or not isinstance(sock, socket.socket):
            return False
        try:
            return bool(sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _waiter_if_ended(self) -> None:
        if self._protocol.state >= _ENDING:
            self._waiter.wake_soon()

    def fail(self, code: int, reason: str = "") -> None:
        """Give up the connection (RFC 6455 section 7.1.7): send a Close and do not wait for the peer's.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        self._protocol.fail(code, reason)
        self._flush()
        self._waiter_if_ended()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        if self._lost:
            return
        ended = self._loop.create_future()
        if self._closed is None:
            self._closed = []
        self._closed.append(ended)
        try:
            await ended
        finally:
            if self._closed is not None:  # cancelled: who waits with a timeout may do so again and again
                self._closed.remove(ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        code = code_for(kind)
        if code == CloseCode.INTERNAL_ERROR:
            self._start_close(code, "", CloseCause.HANDLER_FAILED)
        await self.close(code)

    @property
    def local_address(self) -> Any:
        """Our end's address, as ``socket.getsockname()`` gives it."""
        return self.transport.get_extra_info("sockname")

    @property
    def remote_address(self) -> Any:
        """The peer's address, as ``socket.getpeername()`` gives it."""
        return self.transport.get_extra_info("peername")


def check_callback(on_message: object) -> None:
    """Refuse what cannot be `on_message`.

    Raises:
        TypeError: not a function, or a coroutine function: nobody would await it.
    """
    if on_message is not None and (not callable(on_message) or inspect.iscoroutinefunction(on_message)):
        raise TypeError(f"on_message must be an ordinary function, not {on_message!r}")


def end_writing(transport: asyncio.Transport) -> None:
    """``write_eof`` that takes it lightly when the peer has reset the connection."""
    try:
        transport.write_eof()
    except OSError:
        transport.abort()


class _Parts(AsyncIterator[Data]):
    """The parts of one message. A class, since a generator that is left early learns of it too late."""

    def __init__(self, connection: Connection, decode: bool | None) -> None:
        self._connection = connection
        self._decode = decode
        self._state = "new"

    async def __anext__(self) -> Data:
        connection = self._connection
        if self._state == "ended":
            raise StopAsyncIteration
        if connection._waiter.waiting:
            connection._refuse_receiver()
        if self._state == "new":
            connection._inbox.start_stream(connection._protocol)
            self._state = "running"
        try:
            await connection._arrival(True)
        except BaseException:
            self._stop()
            raise
        part, last = connection._inbox.part_of(connection._pop())
        if last:
            self._state = "ended"
        return converted(part, self._decode)

    async def aclose(self) -> None:
        """Leave the rest of the message."""
        self._stop()

    def __del__(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._state == "running":
            self._connection._inbox.stop_stream(self._connection._protocol)
        self._state = "ended"


async def _asynchronously(parts: Iterable[str | Buffer]) -> AsyncIterator[str | Buffer]:
    for part in parts:
        yield part


def broadcast(
    connections: Iterable[Connection],
    message: str | Buffer,
    *,
    text: bool | None = None,
    compress: bool | None = None,
    key: Hashable = None,
    raise_exceptions: bool = False,
) -> Awaitable[None]:
    """Send one message to many connections, and wait for no slow peer.

    It is encoded and compressed once for all connections of servers with the same settings. What is done with a peer
    that does not keep up is its connection's ``slow_consumers``; `key` says of what the message is the news, for
    those who keep only the latest. All is queued by the call itself: awaiting the result waits for those connections
    whose policy is to wait.

    Connections that are not open are passed over.

    Raises:
        TypeError: neither text nor bytes.
        ValueError: `text` is true and the bytes are not UTF-8.
        ExceptionGroup: with `raise_exceptions`, of what went wrong with single connections, after all had their turn;
            else that is logged.
    """
    encoded = Broadcast(message, text, compress, key)
    to_all(connections, lambda connection: connection._broadcast(encoded), raise_exceptions=raise_exceptions)
    waiting: list[Connection] = encoded.waiting
    return Sending(functools.partial(_wait_for, waiting)) if waiting else SENT


async def _wait_for(connections: list[Connection]) -> None:
    """Wait until each of them takes more, or is closed."""
    for connection in connections:
        with contextlib.suppress(ConnectionClosed):
            await connection._drain()
