"""permessage-deflate (RFC 7692): what is negotiated, and compressing and inflating within bounds.

Strategy: nothing is made before a message needs it, so a connection that is idle costs a small object. Messages that
must not depend on earlier ones (no context takeover, broadcasts) go through compressors that all connections with the
same settings share; what such a compressor has seen is wiped by a full flush after each message. Inflated data comes
in pieces of at most 32 KiB, between which the codec enforces the limit of a message.

Two things that RFC 7692 allows are beyond Python's zlib: to refer back over a block with BFINAL, which no compressor
that is in use does, and is refused with 1007; and to notice that the data of a message were cut off inside a block.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

from ..exceptions import InvalidCompressedData, NegotiationError
from ..typing import Buffer
from .extensions import Extension, Parameters, Transform

__all__ = ["Deflate"]

PIECE: Final = 2**15  # octets that are inflated at a time
_FEED: Final = 2**14  # octets that zlib gets at a time: it copies what it leaves
_TAIL: Final = b"\x00\x00\xff\xff"  # ends what a flush has written, and does not travel (RFC 7692 section 7.2.1)
_MOST_POOLED: Final = 4  # compressors that wait in a pool: more are in use only with more threads than that

_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_BITS = ("server_max_window_bits", "client_max_window_bits")
_DEFAULT_BITS: Final = 12
_MOST_BITS: Final = 15
_IS_BITS = re.compile("[89]|1[0-5]").fullmatch  # RFC 7692 section 7.1.2: no leading zeros


class _Pool:
    """Compressors without a memory, which all connections with the same settings and window share."""

    __slots__ = ("_idle", "bits", "settings")

    def __init__(self, settings: Deflate, bits: int) -> None:
        self.settings = settings
        self.bits = bits
        self._idle: list[Any] = []  # `list.pop` hands one to one thread only, so this needs no lock

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {"settings": self.settings, "bits": self.bits, "_idle": []}  # they can be made anew

    def new(self) -> Any:
        """A compressor whose output refers back by at most ``2**bits`` octets."""
        settings = self.settings
        if self.bits == 8:
            # zlib has no window of 256 octets. With this strategy it refers back by one octet only, which fits.
            return zlib.compressobj(settings.level, zlib.DEFLATED, -9, settings.memory_level, zlib.Z_RLE)
        return zlib.compressobj(settings.level, zlib.DEFLATED, -self.bits, settings.memory_level)

    def compress(self, payload: Buffer) -> bytes:
        """A whole message, compressed without regard to any other."""
        try:
            compressor = self._idle.pop()
        except IndexError:
            compressor = self.new()
        compressed = compressor.compress(payload) + compressor.flush(zlib.Z_FULL_FLUSH)
        if len(self._idle) < _MOST_POOLED:
            self._idle.append(compressor)
        return _without_tail(compressed)


@dataclasses.dataclass(frozen=True)
class Deflate(Extension):
    """Settings of permessage-deflate, for both roles; the names are those of RFC 7692 section 7.1.

    "window" is how far back compressed data may refer, as a power of two: 12 is 4 KiB. "context takeover" is
    referring to earlier messages: it compresses better, and keeps compressor and window for each connection.

    Attributes:
        server_no_context_takeover: the server does not. In a client: it is asked not to.
        client_no_context_takeover: the client does not. In a server: it is told not to.
        server_max_window_bits: 8 to 15. In a server: what it compresses with, 12 if None. In a client: what the
            server is asked for, nothing if None.
        client_max_window_bits: 8 to 15. In a client: what it compresses with, 12 if None. In a server: what the
            client is told to use, 12 if None, provided that it understands that. Many clients can't do 8.
        level: how hard to try, 1 to 9, or -1 for zlib's default.
        memory_level: how much memory a compressor has beside the window, 1 to 9 (``memLevel`` of zlib).
        threshold: octets below which a message goes out as it is, unless ``send(..., compress=True)`` asks otherwise.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a value out of its range.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    level: int = zlib.Z_DEFAULT_COMPRESSION
    memory_level: int = 5
    threshold: int = 64

    name = "permessage-deflate"
    _pools: ClassVar[dict[int, _Pool]]  # of each object, by window; no field, since it is no setting

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pools", {})
        for name in _FLAGS:
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {value!r}")
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if value is None and name in _BITS:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be a whole number, not {value!r}")
            if value < least or (most is not None and value > most) or (name == "level" and value == 0):
                wanted = f"at least {least}" if most is None else f"{least} to {most}"
                raise ValueError(f"{name} must be {'-1 or 1 to 9' if name == 'level' else wanted}, not {value}")

    # Negotiation.

    def offer(self) -> Parameters:
        """RFC 7692 section 7.1: what we want the server to do, and that we understand client_max_window_bits."""
        offered: Parameters = [(name, None) for name in _FLAGS if getattr(self, name)]
        if self.server_max_window_bits is not None:
            offered.append(("server_max_window_bits", str(self.server_max_window_bits)))
        bits = self.client_max_window_bits
        offered.append(("client_max_window_bits", None if bits is None else str(bits)))
        return offered

    def accept(self, offered: Parameters) -> tuple[Parameters, Transform] | None:
        """Server: agree to an offer (RFC 7692 section 7.1), or decline one that is not right."""
        try:
            asked = _checked(offered, is_offer=True)
        except NegotiationError:
            return None
        answered: Parameters = [(name, None) for name in _FLAGS if getattr(self, name) or name in asked]
        our_bits = min(self.server_max_window_bits or _DEFAULT_BITS, asked.get("server_max_window_bits", _MOST_BITS))
        if our_bits < _MOST_BITS or "server_max_window_bits" in asked:
            answered.append(("server_max_window_bits", str(our_bits)))
        their_bits = _MOST_BITS
        if "client_max_window_bits" in asked:  # else it may not be answered
            their_bits = min(self.client_max_window_bits or _DEFAULT_BITS, asked["client_max_window_bits"])
            answered.append(("client_max_window_bits", str(their_bits)))
        ours_forgets, theirs_forgets = (getattr(self, name) or name in asked for name in _FLAGS)
        return answered, DeflateTransform(self, our_bits, ours_forgets, their_bits, theirs_forgets)

    def agree(self, answered: Parameters) -> Transform:
        """Client: take the server's answer (RFC 7692 section 7.1), or refuse one that is not an answer to our offer."""
        agreed = _checked(answered, is_offer=False)
        if self.server_no_context_takeover and "server_no_context_takeover" not in agreed:
            raise NegotiationError("permessage-deflate: server_no_context_takeover was asked for and is not agreed to")
        their_bits = agreed.get("server_max_window_bits", _MOST_BITS)
        if their_bits > (self.server_max_window_bits or _MOST_BITS):
            raise NegotiationError(
                f"permessage-deflate: server_max_window_bits={self.server_max_window_bits} was asked for "
                f"and is not agreed to"
            )
        # Whatever the server allows, less is always right; it may also leave out what we only offered.
        our_bits = min(self.client_max_window_bits or _DEFAULT_BITS, agreed.get("client_max_window_bits", _MOST_BITS))
        our_forgets = self.client_no_context_takeover or "client_no_context_takeover" in agreed
        return DeflateTransform(self, our_bits, our_forgets, their_bits, "server_no_context_takeover" in agreed)


_RANGES = (
    ("server_max_window_bits", 8, 15),
    ("client_max_window_bits", 8, 15),
    ("level", -1, 9),
    ("memory_level", 1, 9),
    ("threshold", 0, None),
)


def _checked(parameters: Parameters, *, is_offer: bool) -> dict[str, int]:
    """The parameters by name, 1 for a flag (RFC 7692 section 7.1).

    Raises:
        NegotiationError: unknown, there twice, out of range, or with a value where none belongs.
    """
    found: dict[str, int] = {}
    for name, value in parameters:
        if name in found:
            raise NegotiationError(f"permessage-deflate: {name} stands there twice")
        if name in _FLAGS and value is None:
            found[name] = 1
        elif name in _BITS and value is not None and _IS_BITS(value):
            found[name] = int(value)
        elif name == "client_max_window_bits" and value is None and is_offer:  # section 7.1.2.2
            found[name] = _MOST_BITS
        else:
            shown = name if value is None else f"{name}={value}"
            raise NegotiationError(f"permessage-deflate: {shown} is not a parameter of it")
    return found


def _without_tail(flushed: bytes) -> bytes:
    # An empty message is one octet: an empty block without its tail (RFC 7692 section 7.2.3.6).
    return flushed[:-4] or b"\x00"


class DeflateTransform(Transform):
    """permessage-deflate as it was agreed on for one connection.

    Args:
        settings: ours.
        bits: our window.
        forgets: we have no context takeover.
        peer_bits: the peer's window.
        peer_forgets: the peer has no context takeover.
    """

    __slots__ = (
        "_begun",
        "_compressor",
        "_inflater",
        "alone",
        "bits",
        "forgets",
        "peer_bits",
        "peer_forgets",
        "settings",
    )

    rsv = 0x40  # RFC 7692 section 6
    alone: _Pool

    def __init__(self, settings: Deflate, bits: int, forgets: bool, peer_bits: int, peer_forgets: bool) -> None:
        self.settings = settings
        self.bits = bits
        self.forgets = forgets
        self.peer_bits = peer_bits
        self.peer_forgets = peer_forgets
        self.alone = settings._pools.setdefault(bits, _Pool(settings, bits))
        self._compressor: Any = None
        self._inflater: Any = None
        self._begun = False  # octets of the present message have come

    def __repr__(self) -> str:
        ours = f"{self.bits} bits{', no context takeover' * self.forgets}"
        theirs = f"{self.peer_bits} bits{', no context takeover' * self.peer_forgets}"
        return f"<permessage-deflate: ours {ours}; the peer's {theirs}>"

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        """What to write down: a new compressor is as good as ours, but there is no way to write an inflater down."""
        if self._inflater is not None:
            raise TypeError("the peer's compression context can't be written down: agree on no context takeover for it")
        return None, {name: None if name == "_compressor" else getattr(self, name) for name in self.__slots__}

    def applies(self, size: int | None, compress: bool | None) -> bool:
        """Whether to compress: as the caller says, else from the threshold on."""
        return (size is None or size >= self.settings.threshold) if compress is None else compress

    def encode(self, payload: Buffer, last: bool) -> bytes:
        """RFC 7692 section 7.2.1."""
        # Taken out meanwhile: what is interrupted leaves it with half a message. A new one is always right.
        compressor, self._compressor = self._compressor, None
        if compressor is None:
            if self.forgets and last:
                return self.alone.compress(payload)
            compressor = self.alone.new()
        # Each part is flushed, so that it can be read when it comes; the tail is left out only at the end.
        flushed: bytes = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if not (last and self.forgets):
            self._compressor = compressor
        return _without_tail(flushed) if last else flushed

    def encode_alone(self, payload: bytes) -> bytes:
        """A message that refers to no other one."""
        return self.alone.compress(payload)

    def sent_alone(self) -> None:
        """Forget what was sent before: the peer's window has moved on, ours has not."""
        self._compressor = None

    def decode(self, data: bytes, last: bool) -> Iterable[bytes]:
        """RFC 7692 section 7.2.2, in pieces of at most 32 KiB.

        Raises:
            InvalidCompressedData: it is not what a compressor writes.
        """
        begun, self._begun = self._begun or bool(data), not last and (self._begun or bool(data))
        if last and not begun:
            return ()  # no octets at all: there is no block that our tail would end
        inflater = self._inflater
        if inflater is None and data:
            inflater = self._inflater = zlib.decompressobj(-self.peer_bits)
        if inflater is None or len(data) > _FEED:
            feeds = [data[start : start + _FEED] for start in range(0, len(data), _FEED)]
            feeds += [_TAIL] * last
            return self._pieces(feeds[::-1], last)
        try:
            piece = inflater.decompress(data + _TAIL if last else data, PIECE)
        except zlib.error as error:
            raise _invalid(error) from None
        if len(piece) == PIECE or inflater.eof or inflater.unconsumed_tail:
            return self._pieces([], last, piece)
        if last and self.peer_forgets:
            self._inflater = None
        return (piece,)

    def _pieces(self, feeds: list[bytes], last: bool, piece: bytes = b"") -> Iterator[bytes]:
        """Inflate `feeds`, the last one first, behind what the inflater has and `piece`, which it gave."""
        inflater = self._inflater
        try:
            while True:
                if piece:
                    yield piece
                if inflater is not None and inflater.eof:
                    # A block with BFINAL ends the compressed stream, not the message (RFC 7692 section 7.2.3.4).
                    if inflater.unused_data:
                        feeds.append(inflater.unused_data)
                    inflater = self._inflater = None
                elif inflater is not None and (inflater.unconsumed_tail or len(piece) == PIECE):
                    feeds.append(inflater.unconsumed_tail)
                if not feeds:
                    break
                feed = feeds.pop()
                if inflater is None:
                    if last and not feeds and feed == _TAIL:
                        break  # nothing has come since BFINAL: there is no block that our tail would end
                    inflater = self._inflater = zlib.decompressobj(-self.peer_bits)
                piece = inflater.decompress(feed, PIECE)
        except zlib.error as error:
            raise _invalid(error) from None
        if last and self.peer_forgets:
            self._inflater = None


def _invalid(error: zlib.error) -> InvalidCompressedData:
    return InvalidCompressedData(f"invalid compressed data: {str(error).rpartition(': ')[2]}")
