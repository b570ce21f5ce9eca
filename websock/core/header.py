"""Judging a frame header (RFC 6455 section 5): one pure function, one named error for each rule."""

from __future__ import annotations

from ..exceptions import (
    ControlTooLong,
    ExpectedContinuation,
    FragmentedControl,
    LengthTooBig,
    MissingMask,
    NonMinimalLength,
    PayloadTooBig,
    ProtocolError,
    ReservedBits,
    ReservedOpcode,
    UnexpectedContinuation,
    UnexpectedMask,
)
from ..spec import MAX_CONTROL, MAX_LENGTH

__all__ = ["judge"]

FIN = 0x80
RSV = 0x70
MASK = 0x80

# The smallest length that needs the 16-bit form (126) and the 64-bit form (127).
_SMALLEST = {126: 126, 127: 65536}


def judge(
    first: int, second: int, length: int, *, masked: bool, fragmented: bool, allowed_rsv: int, room: int | None
) -> ProtocolError | None:
    """The rule that a frame header breaks, or None.

    Args:
        first: its first octet: FIN, RSV1-3 and the opcode.
        second: its second octet: MASK and the 7-bit length.
        length: the length of the payload, in octets, from whichever form it came in.
        masked: whether the peer must mask: it is a client (section 5.1).
        fragmented: whether a message has begun and its last frame has not come (section 5.4).
        allowed_rsv: the reserved bits that a negotiated extension defines (section 5.2).
        room: how many octets the message may still take, or None without a limit (section 10.4).
    """
    opcode = first & 0x0F
    control = opcode >= 0x8
    # An extension's bit marks a message, so it stands on the first frame only and never on a control frame.
    if first & RSV & ~(0 if control or opcode == 0 else allowed_rsv):
        return ReservedBits()
    if 0x3 <= opcode <= 0x7 or opcode >= 0xB:
        return ReservedOpcode(f"reserved opcode 0x{opcode:x}")
    if masked and not second & MASK:
        return MissingMask()
    if not masked and second & MASK:
        return UnexpectedMask()
    if control:
        if not first & FIN:
            return FragmentedControl()
        if second & 0x7F > MAX_CONTROL:
            return ControlTooLong()
        return None
    # First what two octets show: in whatever pieces a header comes, the same rule is the broken one.
    if opcode == 0 and not fragmented:
        return UnexpectedContinuation()
    if opcode != 0 and fragmented:
        return ExpectedContinuation()
    if length > MAX_LENGTH:
        return LengthTooBig()
    if length < _SMALLEST.get(second & 0x7F, 0):
        return NonMinimalLength()
    if room is not None and length > room:
        return PayloadTooBig(f"frame of {length} bytes, room for {room}")
    return None
