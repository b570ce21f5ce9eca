"""An open WebSocket connection without any I/O: feed it bytes and the time, take messages and buffers.

Strategy: `receive` returns messages and never raises for what the peer did. A Close frame or a broken rule that
follows messages must not overtake the answers of the application, so it waits in ``unsettled`` until the adapter calls
`settle`: when the application has taken the messages in front of it and comes back for more, at once when there were
none, and after `SETTLE_TIME` seconds in any case (`tick` sees to that).

Time is a number that the adapter brings to `tick`, which does what is due and returns when to call next. Whatever
changes a deadline sets ``wants_tick``.
"""

from __future__ import annotations

import codecs
import enum
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from ..exceptions import CloseCause, ConcurrencyError, ConnectionClosed, ProtocolError
from ..spec import MAX_CONTROL, CloseCode, Opcode
from ..typing import Buffer, Data
from .accelerate import Decoder, encode
from .closing import Close, close_for, parse_close, serialize_close
from .codec import SHORT, Fragment
from .ending import Ending
from .extensions import Pipeline, Transform, bits_of, encode_through
from .keepalive import Keepalive, Stall
from .limits import Limits
from .options import Options

__all__ = ["Protocol", "State"]

_TEXT, _BINARY, _CONT = int(Opcode.TEXT), int(Opcode.BINARY), int(Opcode.CONT)

SETTLE_TIME: Final = 1.0  # seconds that a Close or a failure waits for an application that does not read
LINGER_TIME: Final = 1.0  # seconds that we go on reading after we failed a connection, so that our Close is not lost
MAX_PONGS: Final = 16  # Pongs that wait to be written; then only the last one counts (RFC 6455 section 5.5.3)


class State(enum.IntEnum):
    """States of a connection. ``CONNECTING`` is a handshake's: a `Protocol` begins ``OPEN``."""

    CONNECTING = 0
    OPEN = 1
    CLOSE_SENT = 2
    CLOSE_RECEIVED = 3
    ENDING = 4
    CLOSED = 5


_OPEN = State.OPEN  # looked up for every message

# What is one message, not an iterable of parts. A tuple: ``str | bytes`` would be put together for every message.
WHOLE: Final = (str, bytes, bytearray, memoryview)


_DEFAULTS: Final = Limits()


class _Step(enum.Enum):
    SEND_CLOSE = enum.auto()
    RECV_CLOSE = enum.auto()
    FAIL = enum.auto()
    EOF = enum.auto()
    TIMEOUT = enum.auto()


# What is not here is refused.
_NEXT: Final = {
    (State.OPEN, _Step.SEND_CLOSE): State.CLOSE_SENT,
    (State.OPEN, _Step.RECV_CLOSE): State.CLOSE_RECEIVED,
    (State.CLOSE_SENT, _Step.RECV_CLOSE): State.ENDING,
    (State.CLOSE_RECEIVED, _Step.SEND_CLOSE): State.ENDING,
    (State.OPEN, _Step.FAIL): State.ENDING,
    (State.CLOSE_SENT, _Step.FAIL): State.ENDING,
    (State.CLOSE_RECEIVED, _Step.FAIL): State.ENDING,
    (State.CLOSE_SENT, _Step.TIMEOUT): State.CLOSED,
    (State.ENDING, _Step.TIMEOUT): State.CLOSED,
    **{(state, _Step.EOF): State.CLOSED for state in State},
}


class Leaving(NamedTuple):
    """A Close of ours that waits until the application has nothing under way."""

    close: Close
    patience: float


class _Whole(NamedTuple):
    """A message that waits for its turn: what an extension makes of it depends on what goes before it."""

    opcode: int
    payload: Buffer
    compress: bool | None


class Protocol:
    """An open connection (RFC 6455 sections 5 to 7).

    Args:
        server: our role. A server's peer masks, and a server closes the TCP connection first (section 7.1.1).
        options: limits and timeouts.
        subprotocol: what the opening handshake agreed on.
        pipeline: the extensions that the opening handshake agreed on.
        limits: of a server; those on fragments and rates count here.

    Attributes:
        meter: how fast the peer sends, for `measure`; None when there is no limit on that.
        state: where the connection is.
        close_sent: our Close frame, once it is queued.
        close_received: the peer's Close frame, once it is settled.
        unsettled: a Close, or a broken rule, that waits for `settle`.
        wants_tick: a deadline has changed: call `tick`.
        wants_eof: after writing `outgoing`, shut down our direction and go on reading; `tick` ends that.
        wants_close: after writing `outgoing`, close the transport.
        masks: whether we mask what we send: we are a client.
        timed_out: the time for closing is over: do not wait for what is not written.
        latency: seconds that the last keepalive ping took, 0.0 before the first.
        queued: bytes in `outgoing`, or a few more.
        writing_paused: the adapter sets it while the peer does not take what we write: then one Pong waits, no more.
        ending: what is known of the end; adapters add when the last octet came, and what was never sent.
        pipeline: the extensions that are in use, or None.
    """

    __slots__ = (
        "_answered", "_close_due", "_decoder", "_eof", "_heard", "_held", "_keepalive", "_keepalive_ping", "_last_pong",
        "_out", "_part_opcode", "_part_transforms", "_part_utf8", "_pings", "_pong_of", "_pongs", "_server",
        "_settle_due", "close_received", "close_sent", "ending", "latency", "masks", "meter", "options", "pipeline",
        "queued", "state", "subprotocol", "timed_out", "unsettled", "wants_close", "wants_eof", "wants_tick",
        "writing_paused",
    )  # fmt: skip

    def __init__(
        self,
        *,
        server: bool,
        options: Options | None = None,
        subprotocol: str | None = None,
        pipeline: Pipeline | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or _DEFAULTS
        self.meter = limits.meter()
        self.options = options or Options()
        self.pipeline = pipeline
        self.subprotocol = subprotocol
        self.state = State.OPEN
        self.close_sent: Close | None = None
        self.close_received: Close | None = None
        self.unsettled: Close | ProtocolError | Leaving | None = None
        self.wants_tick = True
        self.wants_eof = False
        self.wants_close = False
        self.timed_out = False
        self.latency = 0.0
        self.queued = 0
        self.writing_paused = False
        self.ending = Ending()
        self._server = server
        self.masks = not server
        self._decoder = Decoder(
            self._on_control,
            masked=server,
            max_size=self.options.max_size,
            pipeline=pipeline,
            max_fragments=limits.max_fragments,
        )
        self._out: list[Buffer] = []
        self._held: list[_Whole | tuple[Buffer, ...]] = []  # messages, or encoded ones, behind one in parts
        self._part_opcode = 0  # opcode of the fragmented message that we are sending, 0 without one
        self._part_transforms: tuple[Transform, ...] = ()  # the extensions that change it
        self._part_utf8: codecs.IncrementalDecoder | None = None  # checks bytes that the caller calls text
        self._pongs = 0  # Pongs in _out
        self._last_pong = 0  # where in _out the last one stands
        self._pings: dict[bytes, Callable[[], None] | float | None] = {}
        self._answered: list[Callable[[], None]] = []  # what to call for the Pongs of this read
        self._eof = False
        self._heard = False  # something came since the last keepalive ping
        interval = self.options.ping_interval
        self._keepalive = None if interval is None else Keepalive(interval, self.options.ping_timeout)
        self._keepalive_ping = b""  # payload of the last keepalive ping
        self._pong_of: float | None = None  # when the ping was sent whose Pong has come
        self._settle_due: float | None = None
        self._close_due: float | None = None

    # What the peer sends.

    def receive(self, data: Buffer) -> list[Data]:
        """Take bytes from the peer, return the messages that they complete. Never raises for what the peer did.

        After a Close frame or a broken rule nothing more is decoded, and ``unsettled`` is set. When ``behind`` is set,
        there is more in it: call with no bytes to go on, once there is room for more messages.
        """
        self._heard = True
        decoder = self._decoder
        messages = decoder.decode(data)
        if self._answered or decoder.failure is not None or self._eof:
            self._decoded()
        return messages

    def _decoded(self) -> None:
        """What there is to do after something was decoded; the native half of a connection decodes by itself."""
        if self._answered:
            self._tell_answered()
        failure = self._decoder.failure
        if failure is not None and self.state < State.ENDING and (self.unsettled is None or self.leaving):
            self._unsettle(failure)
        if self._eof and self.unsettled is None and not self._decoder.behind and self.state is not State.CLOSED:
            self._closed(_Step.EOF)

    @property
    def behind(self) -> bool:
        """Whether `receive` has left some of what it got for the next call, since there was so much in it."""
        return self._decoder.behind

    @property
    def at_eof(self) -> bool:
        """Whether the peer's direction has ended, and what came before that waits for the application: read no more."""
        return self._eof and not self._decoder.behind

    @property
    def expanded(self) -> int:
        """How many octets extensions have made of what the last `receive` got."""
        return self._decoder.expanded

    def measure(self, octets: int, messages: int, now: float) -> None:
        """What came, beyond what the ``meter`` has counted: too much ends the connection with 1008."""
        if self.meter is not None and (failure := self.meter.add(octets, messages, now)) is not None:
            self._over_limit(failure)

    def _over_limit(self, failure: ProtocolError) -> None:
        """A limit of ours ends the connection."""
        close = close_for(failure)
        self.fail(close.code, close.reason, failure)

    def stream(self, on: bool) -> Fragment | None:
        """Let the next message come in parts: see `Decoder.stream`."""
        return self._decoder.stream(on)

    def receive_eof(self) -> None:
        """The peer ended its direction of the transport."""
        self._stay()
        if self.unsettled is not None or self._decoder.behind:
            self._eof = True  # the application may still answer the messages before it
        elif self.state is not State.CLOSED:
            self._closed(_Step.EOF)

    def lost(self, cause: BaseException | None = None, *, by_us: bool = False) -> None:
        """The transport is gone in both directions; `cause` is the error, if it was one.

        `by_us`: without an error it was us who ended it, if the peer had not done so before.
        """
        self._stay()
        if cause is not None:
            self.ending.report(cause)
        if self.state is not State.CLOSED:
            by_us = by_us and not self._eof
            self.settle()
        if self.state is not State.CLOSED:
            if cause is not None:
                self._closed(_Step.EOF, CloseCause.CONNECTION_LOST, cause)
            elif by_us:
                aborted = EOFError("we ended the connection without a close frame")
                self._closed(_Step.EOF, CloseCause.WE_CLOSED, aborted)
            else:
                self._closed(_Step.EOF)

    def settle(self) -> None:
        """The application has taken every message before a Close or a broken rule, or will not in time: act on it.

        Nothing unsettled: nothing happens.
        """
        unsettled = self.unsettled
        if isinstance(unsettled, Leaving):
            return
        self.unsettled = None
        if isinstance(unsettled, Close):
            self._enter(_Step.RECV_CLOSE)
            self.close_received = unsettled
            self.ending.begin(CloseCause.PEER_CLOSED, by_peer=True)
            if self.state is State.CLOSE_RECEIVED:
                self._queue_close(unsettled)  # RFC 6455 section 5.5.1: typically echoing the code
            self.wants_close = self._server
        elif unsettled is not None:
            self._fail(close_for(unsettled), unsettled)
        if self._eof and self.state is not State.CLOSED:
            self._closed(_Step.EOF)

    def leave(self, code: int, reason: str = "", patience: float = SETTLE_TIME) -> None:
        """Start the closing handshake when the application has nothing under way: what came is answered first.

        The adapter calls `left` as soon as that is so; `tick` does after `patience` seconds in any case. What the peer
        does meanwhile, and `close` and `fail`, overtake it. Not open: nothing happens.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        close = Close(code, reason)
        serialize_close(close)
        if self.state is State.OPEN and self.unsettled is None:
            self.unsettled = Leaving(close, patience)
            self.wants_tick = True

    @property
    def leaving(self) -> bool:
        """Whether `leave` waits for `left`."""
        return type(self.unsettled) is Leaving

    def left(self) -> None:
        """The application has nothing under way, and wants more: close now, if `leave` was called."""
        leaving = self.unsettled
        if isinstance(leaving, Leaving):
            self.unsettled = self._settle_due = None
            self.ending.begin(CloseCause.DRAINED, by_peer=False)
            self._queue_close(leaving.close)
            self.settle()  # the peer may have ended its direction before: then no answer comes

    def _stay(self) -> None:
        """Something overtakes `leave`."""
        if self.leaving:
            self.unsettled = self._settle_due = None

    def _unsettle(self, what: Close | ProtocolError) -> None:
        self._stay()
        self.unsettled = what
        self.wants_tick = True
        if self.state is State.CLOSE_SENT:
            self.settle()  # we send nothing more, so there is no answer to wait for

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            if self.state is State.OPEN:
                self._queue_pong(payload)
        elif opcode == Opcode.PONG:
            self._match_pong(payload)
        else:
            self._unsettle(parse_close(payload))

    def _queue_pong(self, payload: bytes) -> None:
        frame = b"".join(encode(Opcode.PONG, payload, masked=self.masks))
        if self._pongs < (1 if self.writing_paused else MAX_PONGS):
            self._pongs += 1
            self._last_pong = len(self._out)
            self._out.append(frame)
            self.queued += len(frame)
        else:
            self.queued += len(frame) - len(self._out[self._last_pong])
            self._out[self._last_pong] = frame

    def _match_pong(self, payload: bytes) -> None:
        """A Pong answers its Ping and all before it (RFC 6455 section 5.5.3)."""
        if payload not in self._pings:
            return  # unsolicited: section 5.5.3 allows it
        for sent in list(self._pings):
            waiting = self._pings.pop(sent)
            if isinstance(waiting, float):
                self._pong_of = waiting
                self.wants_tick = True
            elif waiting is not None:
                self._answered.append(waiting)  # called when the read is decoded: what it raises must not tear that
            if sent == payload:
                return

    def _tell_answered(self) -> None:
        answered, self._answered = self._answered, []
        for on_pong in answered:
            on_pong()

    # What we send.

    def send(self, message: str | Buffer, *, text: bool | None = None, compress: bool | None = None) -> None:
        """Queue one message: ``str`` as text, bytes as binary, or as `text` says (RFC 6455 section 5.6).

        While a message is being sent in parts, whole ones wait behind it (section 5.4 forbids mixing). `compress` is a
        wish: where compression was agreed on, None leaves it to its settings.

        Raises:
            ConnectionClosed: the connection is not open for sending.
            TypeError: neither text nor bytes.
            ValueError: `text` is true for bytes that are not UTF-8, or a ``str`` cannot be encoded.
        """
        if self.state is not _OPEN:
            raise self.closed()
        if type(message) is str and text is not False:
            opcode = _TEXT
            payload: Buffer = message.encode()
        else:
            opcode, payload = payload_of(message, text)
            if opcode == _TEXT and not isinstance(message, str):
                str(payload, "utf-8")
        if self._part_opcode or self.pipeline is not None:
            self.send_payload(opcode, payload, compress)
            return
        size = len(payload)
        if size < 126 and not self.masks:  # as encode, without the call
            self._out.append(SHORT[opcode][size] + payload)
        else:
            self._out += encode(opcode, payload, masked=self.masks)
        self.queued += size + 14

    def send_payload(self, opcode: int, payload: Buffer, compress: bool | None) -> None:
        """Queue one message of which all is known to be right; what extensions make of it, they make now.

        Raises:
            ConnectionClosed: the connection is not open for sending.
        """
        if self.state is not _OPEN:
            raise self.closed()
        if self._part_opcode:
            self._held.append(_Whole(opcode, payload, compress))
            return
        rsv = 0
        if self.pipeline is not None:
            transforms = self.pipeline.sending(len(payload), compress)
            rsv = bits_of(transforms)
            payload = self._transformed(transforms, payload, True)
        self._out += encode(opcode, payload, masked=self.masks, rsv=rsv)
        self.queued += len(payload) + 14

    def send_encoded(self, buffers: tuple[Buffer, ...]) -> None:
        """Queue a whole message that `encode` made for this role: a broadcast encodes once.

        Raises:
            ConnectionClosed: the connection is not open for sending.
        """
        if self.state is not State.OPEN:
            raise self.closed()
        if self._part_opcode:
            self._held.append(buffers)
            return
        self._out += buffers
        self.queued += sum(map(len, buffers))

    def send_part(
        self, part: str | Buffer, *, last: bool, text: bool | None = None, compress: bool | None = None
    ) -> None:
        """Queue one fragment of a message (RFC 6455 section 5.4).

        The first one decides between text and binary, and on compression.

        Raises:
            ConnectionClosed: the connection is not open for sending.
            TypeError: neither text nor bytes, or not what the first part was.
            ValueError: bytes that are to be text are not UTF-8 (checked over the whole message).
        """
        if self.state is not State.OPEN:
            raise self.closed()
        opcode, payload = payload_of(part, text)
        if self._part_opcode and opcode != self._part_opcode:
            raise TypeError("all parts of a message must be of one type: text or bytes")
        utf8 = self._part_utf8
        if opcode == _TEXT and (utf8 is not None or not isinstance(part, str)):
            utf8 = utf8 or codecs.getincrementaldecoder("utf-8")()
            utf8.decode(bytes(payload), last)
        rsv = 0
        if self.pipeline is not None:
            if not self._part_opcode:
                self._part_transforms = self.pipeline.sending(None, compress)
                rsv = bits_of(self._part_transforms)
            payload = self._transformed(self._part_transforms, payload, last)
        buffers = encode(_CONT if self._part_opcode else opcode, payload, masked=self.masks, fin=last, rsv=rsv)
        self._out += buffers
        self.queued += len(payload) + 14
        self._part_opcode = opcode
        self._part_utf8 = utf8
        if last:
            self._part_opcode = 0
            self._part_utf8 = None
            held, self._held = self._held, []
            for waiting in held:
                if isinstance(waiting, _Whole):
                    self.send_payload(*waiting)
                else:
                    self.send_encoded(waiting)

    def _transformed(self, transforms: tuple[Transform, ...], payload: Buffer, last: bool) -> Buffer:
        """What extensions make of a part. One that raises may have taken some of it in: nothing can follow."""
        try:
            return encode_through(transforms, payload, last)
        except Exception as error:
            self._fail(Close(CloseCode.INTERNAL_ERROR, "an extension failed"), error, CloseCause.HANDLER_FAILED)
            raise

    @property
    def sending_parts(self) -> bool:
        """Whether a message that was begun with `send_part` has not ended."""
        return self._part_opcode != 0

    def ping(self, payload: str | Buffer | None = None, on_pong: Callable[[], None] | None = None) -> None:
        """Queue a Ping (RFC 6455 section 5.5.2); `on_pong` is called when it, or a later one, is answered.

        `on_pong` is called inside `receive`, and must not raise.

        Raises:
            ConnectionClosed: the connection is not open for sending.
            ConcurrencyError: a Ping with this payload waits for its Pong already.
            ValueError: more than 125 octets.
        """
        if self.state is not State.OPEN:
            raise self.closed()
        octets = os.urandom(4) if payload is None else _control_payload(payload)
        while octets in self._pings:
            if payload is not None:
                raise ConcurrencyError("a ping with the same payload waits for its pong")
            octets = os.urandom(4)
        self._pings[octets] = on_pong
        self._queue_control(Opcode.PING, octets)

    def pong(self, payload: str | Buffer = b"") -> None:
        """Queue an unsolicited Pong (RFC 6455 section 5.5.3).

        Raises:
            ConnectionClosed: the connection is not open for sending.
            ValueError: more than 125 octets.
        """
        if self.state is not State.OPEN:
            raise self.closed()
        self._queue_control(Opcode.PONG, _control_payload(payload))

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "", *, why: CloseCause | None = None) -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2). Called again, or too late: nothing happens.

        Args:
            why: what `ConnectionClosed.cause` is to be; default `CloseCause.WE_CLOSED`.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        close = Close(code, reason)
        serialize_close(close)
        self._stay()
        self.settle()
        if self.state is State.OPEN:
            self.ending.begin(why or CloseCause.WE_CLOSED, by_peer=False)
            self._queue_close(close)

    def fail(
        self,
        code: int,
        reason: str = "",
        cause: BaseException | None = None,
        *,
        why: CloseCause | None = None,
    ) -> None:
        """Give the connection up (RFC 6455 section 7.1.7): send a Close and do not wait for the peer's.

        Args:
            cause: what goes to ``__cause__``.
            why: what `ConnectionClosed.cause` is to be; default that of a `ProtocolError`, else `CloseCause.WE_CLOSED`.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        close = Close(code, reason)
        serialize_close(close)
        self._stay()
        self.settle()
        if self.state < State.ENDING:
            self._fail(close, cause, why)

    def _fail(self, close: Close, cause: BaseException | None, why: CloseCause | None = None) -> None:
        self.ending.failed(cause, why)
        self._decoder.stop()
        if self.state is State.OPEN:
            self.ending.received_first = False
            self._queue_close(close, _Step.FAIL)
        else:
            self._enter(_Step.FAIL)
        self.wants_eof = True

    def _queue_close(self, close: Close, step: _Step = _Step.SEND_CLOSE) -> None:
        self.close_sent = close
        self._enter(step)
        self._queue_control(Opcode.CLOSE, serialize_close(close))
        self._held = []  # they would have followed a message that now never ends

    def _queue_control(self, opcode: int, payload: bytes) -> None:
        frame = b"".join(encode(opcode, payload, masked=self.masks))
        self._out.append(frame)
        self.queued += len(frame)

    def outgoing(self) -> list[Buffer]:
        """Take the buffers to write, in this order; empty when there is nothing."""
        buffers = self._out
        if not buffers:
            return []  # not the list itself: what is queued later would get into it
        self._out = []
        self.queued = 0
        self._pongs = 0
        return buffers

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing` would return something."""
        return bool(self._out)

    @property
    def unsent(self) -> int:
        """Octets that `outgoing` would return."""
        return sum(map(len, self._out))

    # Time.

    def tick(
        self,
        now: float,
        *,
        waiting: int | None = None,
        taken: int | None = None,
        moved: float | None = None,
        heard_at: float | None = None,
    ) -> float | None:
        """Tell the time, in seconds of a clock that never goes back; do what is due.

        Returns when to call next, or None when no deadline runs. Call it once at the beginning, at that time, and
        whenever ``wants_tick`` is set. Called much later than that, it takes it that the program was busy, and moves a
        deadline of the peer once, so that what has come can be read: see `take_stall`.

        Args:
            waiting: octets that `outgoing` has handed out and that the system has not taken. Without it a keepalive
                ping counts as sent when it is queued.
            taken: octets that the system has taken late, of those that waited, in all; default: as `waiting` shows.
            moved: when it last took some, or something began to wait; default: as `waiting` shows.
            heard_at: when the last octet came from the peer; default: as the calls of `receive` show, roughly.
        """
        self.wants_tick = False
        ending = self.ending
        if heard_at is not None:
            ending.heard_at = heard_at
        elif self._heard:
            ending.heard_at = now
        if self._pong_of is not None:
            self.latency = now - self._pong_of
            self._pong_of = None
        keepalive = self._keepalive
        if keepalive is not None and waiting is not None:
            late = keepalive.wrote(now, waiting, taken, moved)
            if late and self._keepalive_ping in self._pings:
                self._pings[self._keepalive_ping] = float(now if moved is None else moved)  # it left only then
        due = self._due(now, waiting is not None, heard_at)
        if keepalive is not None:
            keepalive.asked = due
        if self.state is State.CLOSED and ending.ended_at is None:
            ending.ended_at = now
        return due

    def _due(self, now: float, told: bool, heard_at: float | None) -> float | None:
        if self.unsettled is not None:
            if self._settle_due is None:
                waiting = self.unsettled
                self._settle_due = now + (waiting.patience if isinstance(waiting, Leaving) else SETTLE_TIME)
            if now < self._settle_due:
                return self._settle_due
            self.left()
            self.settle()
        if self.state is not State.OPEN:
            return self._close_timer(now)
        keepalive = self._keepalive
        if keepalive is None:
            return None
        failure = keepalive.judge(now, self._heard, heard_at)
        if failure is not None:
            # There is nobody to wait for: what the system takes now of our Close it takes, and that is all.
            self._fail(Close(CloseCode.INTERNAL_ERROR, failure.text), failure)
            self.timed_out = True
            self._closed(_Step.TIMEOUT)
            return None
        if keepalive.wants_ping(now):
            self._heard = False
            if not keepalive.ping_waits:
                self._queue_keepalive_ping(now)
                if told:
                    keepalive.pinged(now, self.queued)
                    self.wants_tick = True  # to learn whether it has left at once
        return keepalive.due(now)

    def _queue_keepalive_ping(self, now: float) -> None:
        payload = os.urandom(4)
        self._pings.pop(self._keepalive_ping, None)  # a peer that never answers must not fill our memory
        self._keepalive_ping = payload
        self._pings[payload] = float(now)
        self._queue_control(Opcode.PING, payload)

    def take_stall(self) -> Stall | None:
        """What the last calls found out about ourselves: that we stalled. Each stall is told once."""
        keepalive = self._keepalive
        if keepalive is None or keepalive.stall is None:
            return None
        stall, keepalive.stall = keepalive.stall, None
        return stall

    def pause(self, now: float) -> None:
        """The adapter stops reading: from `now` on, silence is ours."""
        if self._keepalive is not None:
            self._keepalive.pause(now)
        if self.meter is not None:
            self.meter.pause(now)

    def resume(self, now: float, *, least: float = 0.0) -> None:
        """The adapter reads again: the peer's time to answer a ping is longer by the pause.

        A pause of `least` seconds and more, in which that time would have been over, is a stall of ours.
        """
        if self.meter is not None:
            self.meter.resume(now)
        if self._keepalive is not None and self._keepalive.resume(now, least):
            self.wants_tick = True

    def _close_timer(self, now: float) -> float | None:
        if self.state is State.CLOSED:
            return None
        allowed = self.options.close_timeout
        if self.wants_eof:
            allowed = LINGER_TIME if allowed is None else min(LINGER_TIME, allowed)
        if allowed is None:
            return None
        if self._close_due is None:
            self._close_due = now + allowed
        elif self.wants_eof:
            self._close_due = min(self._close_due, now + allowed)
        if now < self._close_due:
            return self._close_due
        self.timed_out = True
        late = TimeoutError(f"no close frame received within {allowed} s")
        self._closed(_Step.TIMEOUT, CloseCause.CLOSE_TIMEOUT, late)
        return None

    # How it ends.

    def _enter(self, step: _Step) -> None:
        self.state = _NEXT[self.state, step]
        self.wants_tick = True

    def _closed(
        self,
        step: _Step,
        cause: CloseCause = CloseCause.ENDED_WITHOUT_CLOSE,
        error: BaseException | None = None,
    ) -> None:
        """The end; `cause` and `error` count when no closing handshake and no failure of ours came before it."""
        if self.close_received is None and self.state < State.ENDING:
            self.ending.cut(cause, error or EOFError("the connection ended without a close frame"))
        self._enter(step)
        self._decoder.end()
        self._held = []
        self.wants_close = True

    def note_end(self, now: float, heard_at: float | None) -> None:
        """Tell when the last octet came, if that is known, and the time: if the connection has ended, it did by now."""
        self.ending.heard_at = heard_at
        if self.ending.ended_at is None and self.state >= State.ENDING:
            self.ending.ended_at = now

    def closed(self) -> ConnectionClosed:
        """How the connection ended or is ending, as the exception to raise; ``__cause__`` says why if that is known."""
        return self.ending.exception(self.close_received, self.close_sent)


def payload_of(message: str | Buffer, text: bool | None) -> tuple[int, Buffer]:
    """The opcode and the octets of what a caller wants to send."""
    if isinstance(message, str):
        return _BINARY if text is False else _TEXT, message.encode()
    if not isinstance(message, bytes):
        if not isinstance(message, bytearray | memoryview):
            raise TypeError(f"a message is str or bytes-like, not {type(message).__name__}")
        message = bytes(message)  # what is queued must not change when the caller goes on with its buffer
    return _TEXT if text else _BINARY, message


def _control_payload(payload: str | Buffer) -> bytes:
    octets = bytes(payload_of(payload, None)[1])
    if len(octets) > MAX_CONTROL:
        raise ValueError(f"a control frame carries at most {MAX_CONTROL} octets, not {len(octets)}")
    return octets
