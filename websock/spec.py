"""The numbers of RFC 6455: opcodes, close codes, the handshake GUID, and this library's default limits."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["CloseCode", "GUID", "Opcode", "VERSION"]


class Opcode(enum.IntEnum):
    """What a frame carries (RFC 6455 section 5.2)."""

    CONT = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(enum.IntEnum):
    """Why a connection ended (RFC 6455 section 7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


# What people read in a log line; a code without an entry is named by its range (RFC 6455 section 7.4.2).
CLOSE_CODE_TEXT: Final[dict[int, str]] = {
    1000: "OK",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no status received",
    1006: "connection closed abnormally",
    1007: "invalid frame payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake failure",
}

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
VERSION: Final = "13"  # RFC 6455 section 4.1, item 9

MAX_CONTROL: Final = 125  # octets of payload in a control frame, RFC 6455 section 5.5
MAX_LENGTH: Final = 2**63 - 1  # RFC 6455 section 5.2: the most significant bit MUST be 0

# Limits that RFC 6455 section 10.4 leaves to the implementation.
MAX_FRAGMENTS: Final = 2**17  # Autobahn sends messages in 65,537 fragments, and they are legal
MAX_HEADERS: Final = 256  # fields in one HTTP head
MAX_REFUSAL_BODY: Final = 64 * 1024  # octets of a refused handshake's body that the client keeps
