"""What a Close frame says, and the numbers that frames are made of."""

from __future__ import annotations

import dataclasses

from .spec import CLOSE_CODE_TEXT, CloseCode, Opcode

__all__ = ["Close", "CloseCode", "Opcode"]


@dataclasses.dataclass(frozen=True, slots=True)
class Close:
    """Code and reason of a Close frame. An empty Close frame has the code 1005 (RFC 6455 section 7.1.5)."""

    code: int
    reason: str = ""

    def __str__(self) -> str:
        text = f"{int(self.code)} ({describe(self.code)})"
        return f"{text} {self.reason}" if self.reason else text


def describe(code: int) -> str:
    """A few words for a close code, known or by its range (RFC 6455 section 7.4.2)."""
    if code in CLOSE_CODE_TEXT:
        return CLOSE_CODE_TEXT[code]
    if 3000 <= code < 4000:
        return "registered"
    return "private use" if 4000 <= code < 5000 else "unknown"
