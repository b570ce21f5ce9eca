"""The payload of a Close frame (RFC 6455 section 5.5.1), and which codes may travel in one (section 7.4)."""

from __future__ import annotations

from ..exceptions import InvalidClose, InvalidUTF8, ProtocolError
from ..frames import Close
from ..spec import MAX_CONTROL, CloseCode

__all__ = ["Close", "close_for", "may_travel", "parse_close", "serialize_close"]

# Registered codes below 3000 that an endpoint may send; 1004 is reserved, 1005, 1006 and 1015 only describe.
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def may_travel(code: int) -> bool:
    """Whether `code` may stand in a Close frame on the wire (RFC 6455 section 7.4)."""
    return code in _REGISTERED or 3000 <= code < 5000


def parse_close(payload: bytes) -> Close:
    """The Close in the payload of a received frame.

    Raises:
        InvalidClose: one octet only, or a code that may not travel.
        InvalidUTF8: the reason is not UTF-8.
    """
    if not payload:
        return Close(CloseCode.NO_STATUS_RCVD)
    if len(payload) == 1:
        raise InvalidClose("close frame with one octet")
    code = int.from_bytes(payload[:2], "big")
    if not may_travel(code):
        raise InvalidClose(f"close code {code} may not travel")
    try:
        return Close(code, str(payload[2:], "utf-8"))
    except UnicodeDecodeError:
        raise InvalidUTF8("close reason is not UTF-8") from None


def close_for(failure: ProtocolError) -> Close:
    """The Close that tells the peer of a failure: what cannot be sent of it is left out (RFC 6455 section 5.5)."""
    code = failure.code if may_travel(failure.code) else CloseCode.INTERNAL_ERROR
    reason = str(failure).encode("utf-8", "replace")[: MAX_CONTROL - 2]
    return Close(code, reason.decode("utf-8", "ignore"))


def serialize_close(close: Close) -> bytes:
    """The payload to send.

    Raises:
        TypeError: the code is not a number, or the reason not a string.
        ValueError: the code may not travel, or the reason takes more than 123 octets in UTF-8.
    """
    if not isinstance(close.code, int) or not isinstance(close.reason, str):
        raise TypeError(f"a close has a number and a string, not {close.code!r} and {close.reason!r}")
    if close.code == CloseCode.NO_STATUS_RCVD and not close.reason:
        return b""
    if not may_travel(close.code):
        raise ValueError(f"close code {close.code} may not be sent")
    payload = close.code.to_bytes(2, "big") + close.reason.encode()
    if len(payload) > MAX_CONTROL:
        raise ValueError(f"close reason takes {len(payload) - 2} octets in UTF-8, at most {MAX_CONTROL - 2} fit")
    return payload
