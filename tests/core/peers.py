"""One protocol by hand: what it wants to write, and what its peer sends."""

from __future__ import annotations

from typing import Any

import pytest

from websock.core.protocol import Protocol

from .frames import CODECS, frame, outcome

KEY = b"\x01\x02\x03\x04"
ROLES = pytest.mark.parametrize("server", [True, False], ids=["server", "client"])


def take(protocol: Protocol) -> bytes:
    return b"".join(protocol.outgoing())


def sent(protocol: Protocol) -> tuple[list[Any], list[tuple[int, bytes]]]:
    """Messages and control frames in what a protocol wants to write."""
    result = outcome(CODECS[0], [take(protocol)], masked=protocol.masks, judge_close=False)
    assert result.failure is None
    return result.messages, result.controls


def from_peer(protocol: Protocol, opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return frame(opcode, payload, fin=fin, key=None if protocol.masks else KEY)
