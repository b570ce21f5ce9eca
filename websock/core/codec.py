"""Bytes to messages and messages to bytes (RFC 6455 section 5), in pure Python.

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
import struct
from collections.abc import Callable

from ..exceptions import InvalidUTF8, PayloadTooBig, ProtocolError, TooManyFragments
from ..spec import MAX_FRAGMENTS, MAX_LENGTH, Opcode
from ..typing import Buffer, Data
from .header import FIN, MASK, judge
from .masking import CROSSING, apply_mask, new_key, octets_of

__all__ = ["Decoder", "Fragment", "encode"]

_TEXT, _BINARY, _CLOSE = int(Opcode.TEXT), int(Opcode.BINARY), int(Opcode.CLOSE)
_WHOLE_TEXT, _WHOLE_BINARY = FIN | _TEXT, FIN | _BINARY

_pack16 = struct.Struct("!BBH").pack
_pack64 = struct.Struct("!BBQ").pack

# An unmasked payload from this size on is passed through beside its header; below it, copying is cheaper.
_PASS_THROUGH = 4096

# The first two octets of a whole unmasked message of up to 125 octets, by opcode and size.
_SHORT = {opcode: [bytes((FIN | opcode, size)) for size in range(126)] for opcode in (_TEXT, _BINARY)}

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Fragment:
    """A part of a message, made only after `Decoder.stream`. ``last`` ends the message."""

    __slots__ = ("data", "last")

    def __init__(self, data: Data, last: bool) -> None:
        self.data = data
        self.last = last


class _Assembly:
    """The message that is being received: a growing byte string, never a list of pieces."""

    __slots__ = ("_bytes", "_utf8", "fragments", "size")

    def __init__(self, text: bool) -> None:
        self._utf8 = _Utf8Decoder() if text else None  # only to check: small strings in numbers take much memory
        self._bytes = io.BytesIO()
        self.size = 0
        self.fragments = 1

    def add(self, chunk: bytes, final: bool) -> None:
        """Take the next part of the payload; ``final`` with the last one."""
        self.size += len(chunk)
        self._bytes.write(chunk)
        if self._utf8 is None:
            return
        try:
            self._utf8.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise InvalidUTF8(f"invalid UTF-8 in a text message: {error.reason}") from None
        begun = self._utf8.getstate()[0]
        if len(begun) == 2 and begun[0] == 0xED and begun[1] > 0x9F:  # a surrogate, which CPython sees one octet later
            raise InvalidUTF8("invalid UTF-8 in a text message: surrogate")

    def take(self) -> Data:
        """What has come since the last take; text never ends inside a character."""
        data = self._bytes.getvalue()
        self._bytes = io.BytesIO()
        if self._utf8 is None:
            return data
        begun = len(self._utf8.getstate()[0])
        if begun:
            self._bytes.write(data[-begun:])
            data = data[:-begun]
        return data.decode()


class Decoder:
    """Received bytes to messages; the twin of the native decoder.

    Args:
        on_control: called with opcode and payload of each control frame, in its place between the messages. It may
            raise ProtocolError. Nothing behind a Close frame is looked at (RFC 6455 section 5.5.1).
        masked: whether the peer masks its frames: True in a server, False in a client (RFC 6455 section 5.1).
        max_size: octets that a message may have, or None for no limit.

    Attributes:
        failure: the rule that the peer broke; what came before it has been returned, nothing more is decoded.
        stopped: nothing more is decoded, because of a failure or of a Close frame.
    """

    __slots__ = (
        "_assembly", "_fin", "_key", "_limit", "_masked", "_max_size", "_on_control", "_remaining",
        "_streaming", "_tail", "failure", "stopped",
    )  # fmt: skip

    def __init__(self, on_control: Callable[[int, bytes], None], *, masked: bool, max_size: int | None) -> None:
        self._on_control = on_control
        self._masked = masked
        self._max_size = max_size
        self._limit = MAX_LENGTH if max_size is None else max_size
        self._tail = b""
        self._assembly: _Assembly | None = None
        self._remaining = 0  # octets of the present data frame that have not come
        self._fin = False  # whether the present data frame ends its message
        self._key = b""  # its masking key, turned to where its next octet is
        self._streaming = False
        self.failure: ProtocolError | None = None
        self.stopped = False

    def decode(self, data: Buffer) -> list[Data]:
        """Take bytes, return every message that they complete. Never raises for what the peer did: see ``failure``.

        After `stream` the list may also hold `Fragment` objects.
        """
        messages: list[Data] = []
        if self.stopped:
            return messages
        data = self._tail + data if self._tail else bytes(data)
        self._tail = b""
        try:
            append = messages.append
            from_bytes = int.from_bytes
            masked = self._masked
            mask_bit, header = (MASK, 6) if masked else (0, 2)
            limit = self._limit
            end = len(data)
            position = self._payload(data, 0, end, messages) if self._remaining else 0
            plain = self._assembly is None and not self._streaming
            while end - position >= 2:
                first = data[position]
                size = data[position + 1] ^ mask_bit
                if size <= 126 and plain and (first == _WHOLE_TEXT or first == _WHOLE_BINARY):
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
                        if first == _WHOLE_TEXT:
                            try:
                                append(payload.decode())
                            except UnicodeDecodeError as error:
                                raise InvalidUTF8(f"invalid UTF-8 in a text message: {error.reason}") from None
                        else:
                            append(payload)
                        position = stop
                        continue
                after = self._frame(data, position, end, messages)
                if self.stopped:
                    return messages
                if after < 0:
                    break
                position = after
                plain = self._assembly is None and not self._streaming
            if position < end:
                self._tail = data[position:]
            if self._streaming and (part := self._part()) is not None:
                append(part)  # type: ignore[arg-type]  # only after stream(), whose caller expects it
        except ProtocolError as failure:
            self.failure = failure
            if self._streaming and not isinstance(failure, InvalidUTF8) and (part := self._part()) is not None:
                append(part)  # type: ignore[arg-type]  # as above: it came before what is wrong
            self.stop()
        return messages

    def stop(self) -> None:
        """Look at nothing more, and forget the message that is incomplete."""
        self.stopped = True
        self._tail = b""
        self._assembly = None
        self._remaining = 0

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
        self._judge(
            first,
            second,
            length,
            self._max_size if assembly is None or self._max_size is None else self._max_size - assembly.size,
        )
        if self._masked:
            start += 4
            if end < start:
                return -1
        key = data[start - 4 : start] if self._masked else b""
        opcode = first & 0x0F
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
            self._assembly = _Assembly(opcode == _TEXT)
        else:
            assembly.fragments += 1
            if assembly.fragments > MAX_FRAGMENTS:
                raise TooManyFragments(f"more than {MAX_FRAGMENTS} fragments")
        self._fin = bool(first & FIN)
        self._key = key
        self._remaining = length
        return self._payload(data, start, end, messages)

    def _judge(self, first: int, second: int, length: int, room: int | None) -> None:
        failure = judge(
            first,
            second,
            length,
            masked=self._masked,
            fragmented=self._assembly is not None,
            allowed_rsv=0,
            room=room,
        )
        if failure is not None:
            raise failure

    def _payload(self, data: bytes, start: int, end: int, messages: list[Data]) -> int:
        """Take what is here of the present frame's payload, and the message if that completes it."""
        assembly = self._assembly
        assert assembly is not None  # noqa: S101 - for the type checker
        stop = min(end, start + self._remaining)
        chunk = data[start:stop]
        taken = stop - start
        self._remaining -= taken
        if self._masked:
            chunk = apply_mask(chunk, self._key)
            turn = taken & 3
            self._key = self._key[turn:] + self._key[:turn]
        if self._remaining:
            assembly.add(chunk, False)
            return stop
        assembly.add(chunk, self._fin)
        if self._max_size is not None and assembly.size > self._max_size:
            raise PayloadTooBig(f"message of more than {self._max_size} bytes")
        if self._fin:
            message = assembly.take()
            if self._streaming:
                message = Fragment(message, True)  # type: ignore[assignment]  # only after stream()
                self._streaming = False
            messages.append(message)
            self._assembly = None
        return stop


def encode(
    opcode: int, payload: Buffer, *, masked: bool, fin: bool = True, rsv1: bool = False, key: bytes | None = None
) -> tuple[Buffer, ...]:
    """The buffers of one frame (RFC 6455 section 5.2), to be written in this order.

    A large unmasked payload is passed through, not copied. A client masks (section 5.3) with a new key each time; give
    ``key`` only in a test.
    """
    if isinstance(payload, memoryview):
        payload = octets_of(payload)
    size = len(payload)
    if size < 126 and not masked and fin and opcode in _SHORT and not rsv1:
        return (_SHORT[opcode][size] + payload,)
    first = opcode | (FIN if fin else 0) | (0x40 if rsv1 else 0)
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
