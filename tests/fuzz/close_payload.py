"""The payload of a Close frame: taken as it will be written again, or refused with a code that may travel.

Input: the payload.
"""

from __future__ import annotations

from typing import Final

from websock.core.closing import close_for, may_travel, parse_close, serialize_close
from websock.exceptions import InvalidClose, InvalidUTF8

PERMITTED: Final = (InvalidClose, InvalidUTF8)


def check(data: bytes) -> None:
    payload = data[:125]  # what a control frame can have
    try:
        close = parse_close(payload)
    except PERMITTED as failure:
        answer = close_for(failure)
        assert may_travel(answer.code) and parse_close(serialize_close(answer)) == answer
        return
    assert serialize_close(close) == payload
    assert parse_close(payload) == close
    str(close)  # goes into log lines
