"""The hot half of an asyncio connection: what happens for every read and every message.

`PurePump` is the Python twin of the one in ``_native/pump.c``; `Pump` is the one that is in use. All else that a
connection does is in ``connection.py``, whose methods both call by their names.

Strategy: the transport reads into one buffer for all connections of the event loop. What a read completes goes to the
inbox, and the task that waits in ``recv`` runs inside that same callback (see `Waiter`); all that it and the protocol
send meanwhile leaves in one write. ``send`` queues at once, so a cancelled send is sent wholly or not at all.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from ..accelerated import ACCELERATED
from ..core.broadcast import Broadcast
from ..core.endpoint import converted
from ..core.inbox import Inbox
from ..core.protocol import WHOLE, Protocol, State
from ..exceptions import ConnectionClosed, ConnectionClosedOK
from ..http11 import Request, Response
from ..net.asyncio import SocketTransport
from ..net.asyncio.waiter import Waiter
from ..typing import Buffer, Data, LoggerLike
from .sending import Sending
from .shared import SENT, Shared
from .side import SideReads

__all__ = ["Pump", "PurePump"]

_OPEN, _ENDING = State.OPEN, State.ENDING  # looked up for every message

_CORK = 2**16  # octets that may wait for the end of a read callback
_TURN = 64  # messages that a task gets before the loop has its turn


class PurePump:
    """See above. Its fields are those of the whole connection, since a C type must have them all."""

    __slots__ = (
        "_burst", "_closed", "_corked", "_decoding", "_drained", "_fd", "_heard_at", "_id", "_inbox", "_loop",
        "_lost", "_lost_by", "_on_message", "_parts", "_pongs", "_protocol", "_reading_paused", "_shared", "_side",
        "_timer", "_turn", "_waiter", "_writing_paused", "logger", "request", "response", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(
        self, loop: asyncio.AbstractEventLoop, logger: LoggerLike, shared: Shared, inbox: Inbox, protocol: Protocol
    ) -> None:
        self._id: Any = None
        self.logger = logger
        self.request: Request | None = None
        self.response: Response | None = None
        self._protocol = protocol
        self._loop = loop
        self._shared = shared
        self._inbox = inbox
        self._waiter = Waiter(loop)
        self._on_message: Callable[[Any, Data], object] | None = None
        self._burst = 0  # messages taken since the consumer last waited
        self._corked = False  # what is sent is collected
        self._reading_paused = False
        self._writing_paused = False
        self._parts = False  # a message is being sent in parts
        self._lost = False
        self._lost_by: Exception | None = None
        self._heard_at = 0.0  # when the last octet came
        self._fd = -1  # of the socket, if the transport is one of ours; the native twin reads and writes by itself
        self._turn: asyncio.Handle | None = None
        self._decoding: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._side: SideReads | None = None
        self._drained: collections.deque[asyncio.Future[None]] | None = None
        self._closed: list[asyncio.Future[None]] | None = None  # of those who wait for the end
        self._pongs: set[asyncio.Future[float]] | None = None

    if TYPE_CHECKING:  # what the other half has

        def _pause_reading(self) -> None: ...
        def _measure(self, octets: int, messages: int) -> None: ...
        def _catch_up(self) -> None: ...
        def _read_on_if_low(self) -> None: ...
        def _come_back(self) -> None: ...
        def _ask_turn(self) -> None: ...
        def _flush_rest(self) -> None: ...
        def _refuse_receiver(self) -> None: ...
        def _callback_failed(self, error: Exception) -> None: ...
        async def _closed_error(self) -> None: ...
        async def _drain(self) -> None: ...
        def _has_room(self, encoded: Broadcast) -> bool: ...
        async def _send_parts(
            self, parts: AsyncIterable[str | Buffer] | Iterable[str | Buffer], text: bool | None, compress: bool | None
        ) -> None: ...

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared.view

    def buffer_updated(self, nbytes: int) -> None:
        protocol = self._protocol
        shared = self._shared
        self._heard_at = time.monotonic()
        messages = protocol.receive(shared.view[:nbytes])
        if protocol.meter is not None and protocol.meter.count(nbytes, len(messages)):
            self._measure(0, 0)
        if messages:
            self._received(messages, nbytes)
        elif protocol.unsettled is not None and not self._inbox:
            protocol.settle()
        if protocol.behind:
            self._catch_up()
        if shared.last is self:
            self._flush()
        else:
            shared.last = self
            shared.flush_later(self)
        if protocol.state >= _ENDING:
            self._waiter.wake()

    def _received(self, messages: list[Data], octets: int) -> None:
        """Put messages in the inbox, and let the task that waits for them run."""
        inbox = self._inbox
        if self._protocol.state is _OPEN or not inbox.overfull:  # else we are closing, and nobody reads
            inbox.add(messages, octets + self._protocol.expanded)
        if self._on_message is not None or self._waiter.waiting:
            self._resume()
        if inbox and inbox.full and self._protocol.state is _OPEN:
            self._pause_reading()

    def _resume(self) -> None:
        """Let the waiting task run now, and collect what it sends into one write."""
        self._turn = None
        self._corked = True
        try:
            if self._on_message is not None:
                self._call_back(self._on_message)
            else:
                self._waiter.wake()
        finally:
            self._corked = False

    def _call_back(self, on_message: Callable[[Any, Data], object]) -> None:
        """Each message to the callback, for as long as the peer takes what that sends."""
        self._burst = 0
        inbox = self._inbox
        while inbox and not self._writing_paused and not inbox.streaming:
            if self._burst >= _TURN:
                self._ask_turn()
                return
            message = inbox.take()
            try:
                on_message(self, message)
            except Exception as error:
                self._callback_failed(error)
            self._burst += 1
            if self._reading_paused:
                self._read_on_if_low()
        if not inbox and self._protocol.unsettled is not None:
            self._protocol.settle()

    def _flush(self) -> None:
        """Write what is queued, as far as the transport takes it, and do what the protocol wants."""
        self._flush_rest()

    # Receiving.

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...
    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...
    @overload
    async def recv(self, decode: bool | None = None) -> Data: ...
    async def recv(self, decode: bool | None = None) -> Data:
        """The next message: ``str`` for text, ``bytes`` for binary (RFC 6455 section 5.6).

        Cancelling it loses nothing. With `decode` True or False it is ``str`` or ``bytes`` whatever it was.

        Raises:
            ConnectionClosed: the connection is closed, and every message before that was returned.
            ConcurrencyError: another task waits in ``recv`` or ``recv_streaming``.
            UnicodeDecodeError: `decode` is True for bytes that are not UTF-8; the message is lost.
        """
        if not self._ready():
            await self._arrival(False)
        message = self._pop()
        return message if decode is None else converted(message, decode)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Data:
        inbox = self._inbox
        # As _ready and _pop, without the calls: this runs for every message.
        if len(inbox) > 1 and self._burst < _TURN and not inbox.streaming and not self._reading_paused:
            self._burst += 1
            message: Data = inbox.popleft()
            return message
        if not self._ready():
            try:
                await self._arrival(False)
            except ConnectionClosedOK:
                raise StopAsyncIteration from None
        taken: Data = self._pop()
        return taken

    def _ready(self) -> bool:
        inbox = self._inbox
        return bool(inbox) and self._burst < _TURN and not inbox.streaming

    def _pop(self) -> Any:
        self._burst += 1
        message = self._inbox.take()
        if self._reading_paused:
            self._read_on_if_low()
        return message

    async def _arrival(self, streaming: bool) -> None:
        """Wait until the inbox has something, and it is this task's turn."""
        if self._waiter.waiting or self._inbox.streaming is not streaming or self._on_message is not None:
            self._refuse_receiver()
        while not self._inbox or self._burst >= _TURN:
            if self._inbox:
                # One task has had its share; without this a busy peer could keep all others from running.
                self._ask_turn()
            else:
                self._come_back()
            if self._waiter.scheduled:  # it still belongs to a task that was cancelled, and has not seen it
                self._waiter = Waiter(self._loop)
            await self._waiter
            self._burst = 0
            if self._waiter.waiting:
                self._refuse_receiver()

    # Sending.

    def send(
        self,
        message: str | Buffer | Iterable[str | Buffer] | AsyncIterable[str | Buffer],
        *,
        text: bool | None = None,
        compress: bool | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Send a message: ``str`` as text, bytes as binary, an (asynchronous) iterable of one of them in fragments.

        The message is queued by the call itself; awaiting the result waits until the connection takes more
        (``write_limit``) and tells whether the connection was open. A message in fragments is sent while it is
        awaited; when it is cancelled or the iterable raises, the connection is failed with 1011, since half a
        message must not look like a whole one. With `text`, bytes are sent as text or ``str`` as binary. Where
        compression was agreed on (RFC 7692), `compress` overrules its settings for this message.

        Raises:
            ConnectionClosed: when awaited: the connection is closed or closing.
            TypeError: not something that can be sent.
            ValueError: `text` is true and the bytes are not UTF-8.
        """
        if isinstance(message, WHOLE):
            protocol = self._protocol
            if self._lost:
                return Sending(self._closed_error)
            try:
                if text is None and compress is None:
                    protocol.send(message)  # without keywords it takes a tenth less
                else:
                    protocol.send(message, text=text, compress=compress)
            except ConnectionClosed:
                return Sending(self._closed_error)
            except Exception:
                self._flush()  # an extension that fails ends the connection
                raise
            if not self._corked or protocol.queued > _CORK:
                self._flush()
            return self._sending() if self._writing_paused or self._parts else SENT
        if isinstance(message, AsyncIterable) or (isinstance(message, Iterable) and not hasattr(message, "keys")):
            return self._send_parts(message, text, compress)
        raise TypeError(f"a message is str, bytes-like or an iterable of them, not {type(message).__name__}")

    def _sending(self) -> Coroutine[Any, Any, None]:
        return Sending(self._drain)

    def _broadcast(self, encoded: Broadcast) -> None:
        protocol = self._protocol
        if protocol.state is _OPEN and (not self._writing_paused or self._has_room(encoded)):
            encoded.queue(protocol)
            self._flush()

    _send_slow, _broadcast_slow = send, _broadcast  # the native twin calls them for what it does not do itself


Pump = PurePump
if ACCELERATED and not TYPE_CHECKING:
    from .._native import speedups

    speedups.bind_pump(Protocol, SocketTransport, State.OPEN, State.ENDING, State.CLOSED, converted, ConnectionClosedOK)

    class Pump(speedups.Pump):
        """The native twin, with what it leaves to Python."""

        __slots__ = ()

        _send_slow = PurePump.send
        _broadcast_slow = PurePump._broadcast
        _sending = PurePump._sending
