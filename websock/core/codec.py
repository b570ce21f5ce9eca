"""Bytes to messages and messages to bytes (RFC 6455 section 5), in pure Python: the twin of ``_native/codec.c``.

Strategy: one call for each read, which returns a list of what the user asked for, ``str`` and ``bytes``, and makes no
other object. Nearly every frame is a whole message of at most 125 octets and takes the short way in `Decoder.decode`.
All others go through `_frame`, which judges the header as soon as it is complete and then takes the payload as it
comes, chunk by chunk: so invalid UTF-8 fails in the chunk that has it, and neither chunks nor fragments are kept as
objects. What waits between two calls is part of a header or of a control frame, never more than 130 octets, beside
the message that is being put together.
"""

from __future__ import annotations

import codecs
import io
import itertools
import struct
from collections.abc import Callable, Iterable, Sequence

from ..exceptions import InvalidUTF8, PayloadTooBig, ProtocolError, TooManyFragments
from ..spec import MAX_FRAGMENTS, MAX_LENGTH, CloseCode, Opcode
from ..typing import Buffer, Data
from .extensions import Pipeline, Transform, decode_through
from .header import FIN, MASK, RSV, judge
from .masking import CROSSING, apply_mask, new_key, octets_of

__all__ = ["Decoder", "Fragment", "encode"]

_TEXT, _BINARY, _CLOSE = int(Opcode.TEXT), int(Opcode.BINARY), int(Opcode.CLOSE)

# By the first octet of a frame that is a whole message, the extensions that have changed it: here none.
_PLAIN: dict[int, Sequence[Transform]] = {FIN | _TEXT: (), FIN | _BINARY: ()}

_pack16 = struct.Struct("!BBH").pack
_pack64 = struct.Struct("!BBQ").pack

# An unmasked payload from this size on is passed through beside its header; below it, copying is cheaper.
_PASS_THROUGH = 4096

# Octets of a large payload that are unmasked at a time, and that go through extensions at a time.
_STEP = 2**16
SMALL_STEP = 2**12

# Octets that extensions may make of what one call brought: compressed data can inflate a thousand times.
AT_ONCE = 2**20

# Frames that one call takes in: a read of 256 KiB can have 131,072 empty ones, which would keep all others waiting.
# The Python twin needs up to 4 us for one. Reads of frames with 58 octets and more are never divided.
FRAMES_AT_ONCE = 2**12

# The first two octets of a whole unmasked message of up to 125 octets, by opcode and size.
SHORT = {opcode: [bytes((FIN | opcode, size)) for size in range(126)] for opcode in (_TEXT, _BINARY)}

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Fragment:
    """A part of a message, made only after `Decoder.stream`. ``last`` ends the message."""

    __slots__ = ("data", "last")

    def __init__(self, data: Data, last: bool) -> None:
        self.data = data
        self.last = last


class Assembly:
    """The message that is being received: a growing byte string, never a list of pieces.

    Args:
        text: whether it is text.
        max_size: octets that it may have, or None for no limit.
        transforms: the extensions that have changed it, the last one first.
    """

    __slots__ = ("_bytes", "_max_size", "_utf8", "fragments", "received", "size", "transforms")

    def __init__(self, text: bool, max_size: int | None, transforms: Sequence[Transform]) -> None:
        self._utf8 = _Utf8Decoder() if text else None  # only to check: small strings in numbers take much memory
        self._bytes = io.BytesIO()
        self._max_size = max_size
        self.transforms = transforms
        self.size = 0
        self.received = 0  # octets of payload, before the extensions
        self.fragments = 1

    def room(self) -> int | None:
        """The octets of payload that may still come, or None without a limit."""
        return _room(self._max_size, self.transforms, self.received)

    def add(self, chunk: bytes, final: bool) -> None:
        """Take the next part of the payload; ``final`` with the last one.

        Raises:
            ProtocolError: too long, not UTF-8, or not what the extensions make; what came before it is in `take`.
        """
        self.received += len(chunk)
        if self.transforms:
            self.extend(decode_through(self.transforms, chunk, final), final)
        else:
            self._append(chunk, final)

    def extend(self, pieces: Iterable[bytes], final: bool) -> None:
        """Take what the extensions have made of a part; as `add`."""
        for piece in pieces:
            self._append(piece, False)
        if final:
            self._append(b"", True)

    def _append(self, chunk: bytes, final: bool) -> None:
        self.size += len(chunk)
        if self._max_size is not None and self.size > self._max_size:
            raise too_big(self._max_size)
        self._bytes.write(chunk)
        if self._utf8 is None:
            return
        try:
            self._utf8.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise invalid_text(error.reason) from None
        begun = self._utf8.getstate()[0]
        if len(begun) == 2 and begun[0] == 0xED and begun[1] > 0x9F:  # a surrogate, which CPython sees one octet later
            raise invalid_text("invalid continuation byte")

    def take_bytes(self) -> bytes:
        """What has come since the last take."""
        data = self._bytes.getvalue()
        self._bytes = io.BytesIO()
        return data

    def take(self) -> Data:
        """What has come since the last take; text never ends inside a character."""
        data = self.take_bytes()
        if self._utf8 is None:
            return data
        begun = len(self._utf8.getstate()[0])
        if begun:
            self._bytes.write(data[-begun:])
            data = data[:-begun]
        return data.decode()


def invalid_text(reason: str) -> InvalidUTF8:
    return InvalidUTF8(f"invalid UTF-8 in a text message: {reason}")


def too_big(max_size: int) -> PayloadTooBig:
    return PayloadTooBig(f"message of more than {max_size} bytes")


def too_many_fragments(limit: int) -> TooManyFragments:
    return TooManyFragments(f"more than {limit} fragments")


def extension_failed(error: Exception) -> ProtocolError:
    failure = ProtocolError("an extension failed", code=CloseCode.INTERNAL_ERROR)
    failure.__cause__ = error
    return failure


def _room(max_size: int | None, transforms: Sequence[Transform], received: int) -> int | None:
    """The octets of payload that a message may still have, which says how long its next frame can be at most.

    The limit is one of what the application gets. Compressed data may be longer than that: flushed after each octet,
    it takes seven octets for one. This bounds only how much of nothing a peer can send.
    """
    if max_size is None:
        return None
    return (8 * max_size + 1024 if transforms else max_size) - received


def _kinds(pipeline: Pipeline) -> dict[int, Sequence[Transform]]:
    """As `_PLAIN`, with the extensions of `pipeline`."""
    return {
        first | rsv: pipeline.receiving(rsv)
        for first in _PLAIN
        for rsv in range(0, 0x80, 0x10)
        if not rsv & ~pipeline.rsv
    }


class Decoder:
    """Received bytes to messages; the twin of the native decoder.

    Args:
        on_control: called with opcode and payload of each control frame, in its place between the messages. It may
            raise ProtocolError. Nothing behind a Close frame is looked at (RFC 6455 section 5.5.1).
        masked: whether the peer masks its frames: True in a server, False in a client (RFC 6455 section 5.1).
        max_size: octets that a message may have, or None for no limit; those that the application gets, where an
            extension changes them.
        pipeline: the extensions that were agreed on.
        max_fragments: frames that a message may have.

    Attributes:
        behind: there was so much in what came that some of it waits: call `decode` with no bytes to go on. So a call
            takes in at most `FRAMES_AT_ONCE` frames, and extensions make little more than `AT_ONCE` octets in it.
        expanded: octets that extensions made in the last call.
        failure: the rule that the peer broke; what came before it has been returned, nothing more is decoded.
        stopped: nothing more is decoded, because of a failure or of a Close frame.
    """

    __slots__ = (
        "_assembly", "_fin", "_key", "_kinds", "_limit", "_masked", "_max_fragments", "_max_size", "_on_control",
        "_pipeline", "_remaining", "_streaming", "_tail", "behind", "expanded", "failure", "stopped",
    )  # fmt: skip

    def __init__(
        self,
        on_control: Callable[[int, bytes], None],
        *,
        masked: bool,
        max_size: int | None,
        pipeline: Pipeline | None = None,
        max_fragments: int = MAX_FRAGMENTS,
    ) -> None:
        self._on_control = on_control
        self._max_fragments = max_fragments
        self._masked = masked
        self._max_size = max_size
        self._limit = MAX_LENGTH if max_size is None else max_size
        self._pipeline = pipeline
        self._kinds = _PLAIN if pipeline is None else _kinds(pipeline)
        self._tail = b""
        self._assembly: Assembly | None = None
        self._remaining = 0  # octets of the present data frame that have not come
        self._fin = False  # whether the present data frame ends its message
        self._key = b""  # its masking key, turned to where its next octet is
        self._streaming = False
        self.behind = False
        self.expanded = 0
        self.failure: ProtocolError | None = None
        self.stopped = False

    def decode(self, data: Buffer) -> list[Data]:
        """Take bytes, return every message that they complete. Never raises for what the peer did: see ``failure``.

        After `stream` the list may also hold `Fragment` objects.
        """
        messages: list[Data] = []
        if self.stopped:
            self.expanded = 0
            return messages
        data = self._tail + data if self._tail else bytes(data)
        self._tail = b""
        try:
            append = messages.append
            from_bytes = int.from_bytes
            masked = self._masked
            mask_bit, header = (MASK, 6) if masked else (0, 2)
            limit = self._limit
            kinds = self._kinds
            end = len(data)
            position = 0
            last = end - 2  # where the last frame of two octets could begin
            self.behind = False
            if self._pipeline is not None:
                self.expanded = 0
            if self._remaining:
                position = self._payload(data, 0, end, messages)
                if self._remaining:
                    last = -1
            plain = self._assembly is None and not self._streaming
            spent = False
            for _ in itertools.repeat(None, FRAMES_AT_ONCE):  # the cheapest way to count
                if position > last:
                    break
                first = data[position]
                size = data[position + 1] ^ mask_bit
                transforms = kinds.get(first) if size <= 126 and plain else None
                if transforms is not None:
                    start = position + header
                    if size == 126 and end - position >= 4:
                        size = data[position + 2] << 8 | data[position + 3]
                        start += 2 if size >= 126 else end  # else: not minimal, and not here
                    stop = start + size
                    if stop <= end and size <= limit:
                        payload = data[start:stop]
                        if masked and size:
                            key = data[start - 4 : start]
                            if size < CROSSING:  # as apply_mask, without the call
                                pad = (key * ((size >> 2) + 1))[:size]
                                payload = (from_bytes(payload, "little") ^ from_bytes(pad, "little")).to_bytes(
                                    size, "little"
                                )
                            else:
                                payload = apply_mask(payload, key)
                        if transforms:
                            payload = self._expand(payload, transforms, first & 0x0F == _TEXT)
                        if first & 0x0F == _TEXT:
                            try:
                                append(payload.decode())
                            except UnicodeDecodeError as error:
                                raise invalid_text(error.reason) from None
                        else:
                            append(payload)
                        position = stop
                        if transforms and self.expanded > AT_ONCE:
                            break
                        continue
                after = self._frame(data, position, end, messages)
                if self.stopped:
                    return messages
                if after < 0:
                    break
                position = after
                if self._remaining or self.expanded > AT_ONCE:
                    break
                plain = self._assembly is None and not self._streaming
            else:
                spent = True
            if position < end:
                self._tail = data[position:]
                self.behind = spent or self.expanded > AT_ONCE
            if self._streaming and (part := self._part()) is not None:
                append(part)  # type: ignore[arg-type]  # only after stream(), whose caller expects it
        except ProtocolError as failure:
            self._failed(failure, messages)
        except Exception as error:
            if self._pipeline is None:
                raise
            # An extension's. It may have taken some of a message in, so nothing of the connection can be trusted.
            self._failed(extension_failed(error), messages)
        return messages

    def _failed(self, failure: ProtocolError, messages: list[Data]) -> None:
        self.failure = failure
        if self._streaming and not isinstance(failure, InvalidUTF8) and (part := self._part()) is not None:
            messages.append(part)  # type: ignore[arg-type]  # as above: it came before what is wrong
        self.stop()

    def stop(self) -> None:
        """Look at nothing more, and forget the message that is incomplete."""
        self.stopped = True
        self.behind = False
        self._tail = b""
        self._assembly = None
        self._remaining = 0

    def end(self) -> None:
        """As `stop`, and let go of `on_control`, so that who made the decoder is no part of a cycle."""
        self.stop()
        self._on_control = _nobody

    def stream(self, on: bool) -> Fragment | None:
        """Hand out the next message, or the rest of the present one, in parts as they come.

        Returns the part that is already here, if any. Each following `decode` puts what it got at the end of its list
        as a `Fragment`, until the one that is ``last``; then messages are whole again. `on` is False to take the wish
        back before a part was handed out.
        """
        self._streaming = on and not self.stopped
        return self._part() if self._streaming else None

    def _part(self) -> Fragment | None:
        data = None if self._assembly is None else self._assembly.take()
        return Fragment(data, False) if data else None

    def _expand(self, payload: bytes, transforms: Sequence[Transform], text: bool) -> bytes:
        """What the extensions make of a whole message; of several faults in it, the first one counts."""
        pieces = decode_through(transforms, payload, True)
        if isinstance(pieces, tuple) and len(pieces) == 1:
            (data,) = pieces
            if self._max_size is not None and len(data) > self._max_size:
                raise too_big(self._max_size)
        else:
            assembly = Assembly(text, self._max_size, transforms)
            assembly.extend(pieces, True)
            data = assembly.take_bytes()
        self.expanded += len(data)
        return data

    def _frame(self, data: bytes, position: int, end: int, messages: list[Data]) -> int:
        """Take the frame that begins at `position`, or what is here of it; where to go on, -1 for "need more"."""
        first, second = data[position], data[position + 1]
        length = second & 0x7F
        start = position + 2
        if length > 125:
            octets = 2 if length == 126 else 8
            if end < start + octets:
                # The rules that do not depend on the length hold already; 65536 breaks no rule of lengths.
                self._judge(first, second, 65536, None)
                return -1
            length = int.from_bytes(data[start : start + octets], "big")
            start += octets
        assembly = self._assembly
        opcode = first & 0x0F
        if assembly is not None:
            room = assembly.room()
        else:
            transforms = self._transforms(first)
            room = _room(self._max_size, transforms, 0)
        self._judge(first, second, length, room)
        if self._masked:
            start += 4
            if end < start:
                return -1
        key = data[start - 4 : start] if self._masked else b""
        if opcode >= _CLOSE:
            stop = start + length
            if end < stop:
                return -1
            payload = data[start:stop]
            self._on_control(opcode, apply_mask(payload, key) if self._masked else payload)
            if opcode == _CLOSE:
                self.stop()
            return stop
        if assembly is None:
            self._assembly = Assembly(opcode == _TEXT, self._max_size, transforms)
        else:
            assembly.fragments += 1
            if assembly.fragments > self._max_fragments:
                raise too_many_fragments(self._max_fragments)
        self._fin = bool(first & FIN)
        self._key = key
        self._remaining = length
        return self._payload(data, start, end, messages)

    def _transforms(self, first: int) -> Sequence[Transform]:
        """The extensions that have changed the message that begins with this octet."""
        return () if self._pipeline is None else self._pipeline.receiving(first & RSV)

    def _judge(self, first: int, second: int, length: int, room: int | None) -> None:
        failure = judge(
            first,
            second,
            length,
            masked=self._masked,
            fragmented=self._assembly is not None,
            allowed_rsv=0 if self._pipeline is None else self._pipeline.rsv,
            room=room,
        )
        if failure is not None:
            raise failure

    def _payload(self, data: bytes, start: int, end: int, messages: list[Data]) -> int:
        """Take what is here of the present frame's payload, and the message if that completes it; where it ended.

        It goes step by step, since masking makes copies, and ends early when extensions have made enough of it.
        """
        assembly = self._assembly
        assert assembly is not None  # noqa: S101 - for the type checker
        stop = min(end, start + self._remaining)
        step = SMALL_STEP if assembly.transforms else _STEP
        size = assembly.size
        while True:
            chunk = data[start : min(stop, start + step)]
            start += len(chunk)
            self._remaining -= len(chunk)
            if self._masked:
                chunk = apply_mask(chunk, self._key)
                turn = len(chunk) & 3
                if turn:
                    self._key = self._key[turn:] + self._key[:turn]
            assembly.add(chunk, self._fin and not self._remaining)
            if assembly.transforms:
                self.expanded += assembly.size - size
                size = assembly.size
            if start >= stop or self.expanded > AT_ONCE:
                break
        if self._remaining:
            return start
        if self._fin:
            message = assembly.take()
            if self._streaming:
                message = Fragment(message, True)  # type: ignore[assignment]  # only after stream()
                self._streaming = False
            messages.append(message)
            self._assembly = None
        return start


def encode(
    opcode: int, payload: Buffer, *, masked: bool, fin: bool = True, rsv: int = 0, key: bytes | None = None
) -> tuple[Buffer, ...]:
    """The buffers of one frame (RFC 6455 section 5.2), to be written in this order.

    A large unmasked payload is passed through, not copied. ``rsv`` are the reserved bits, in their place in the first
    octet: 0x40 is RSV1. A client masks (section 5.3) with a new key each time; give ``key`` only in a test.
    """
    if isinstance(payload, memoryview):
        payload = octets_of(payload)
    size = len(payload)
    if size < 126 and not masked and fin and opcode in SHORT and not rsv:
        return (SHORT[opcode][size] + payload,)
    first = opcode | rsv | (FIN if fin else 0)
    mask_bit = MASK if masked else 0
    if size < 126:
        header = bytes((first, mask_bit | size))
    elif size < 65536:
        header = _pack16(first, mask_bit | 126, size)
    else:
        header = _pack64(first, mask_bit | 127, size)
    if masked:
        if key is None:
            key = new_key()
        return (header + key + apply_mask(payload, key),)
    if size < _PASS_THROUGH:
        return (header + payload,)
    return (header, payload)


def _nobody(opcode: int, payload: bytes) -> None:
    """Stands for `on_control` when there will be no control frames any more."""
