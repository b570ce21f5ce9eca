"""What a broker and its clients say to each other.

A message is a line of JSON, and behind it records as `Record.to_bytes` writes them, a line each::

    ["open", call, topic, history, after]            ["opened", call, floor, last, made, positions, more]
    ["add", call, topic, history, above, floor]      ["added", call, answers]; to all: ["new", topic, positions]
    ["forget", topic]  ["listen", topic]  ["unlisten", topic]

or a cast: a NUL, the octets of the topic (2, big-endian), the topic, the data. ``history`` is count, octets, seconds; a
position is its text. A log is opened in parts: while there is ``more``, again behind what has come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from ..typing import Data
from .backplane import LARGEST
from .history import History
from .positions import Position, Record

__all__ = ["MAX_MESSAGE", "PROTOCOL", "cast_frame", "chunks", "frame", "positions_of", "uncast", "unframe", "written"]

PROTOCOL: Final = "websock-broker-2"
"""The subprotocol: processes with another version of it don't meet."""
MAX_MESSAGE: Final = 2 * LARGEST
"""Octets of one message between a process and the broker."""
CHUNK: Final = 2**20
"""Octets of records that are sent in one message, where that can be chosen."""


def frame(head: Sequence[Any], records: Iterable[Record] = ()) -> bytes:
    """A message: what is asked or said, and records."""
    return b"\n".join([json.dumps(head, separators=(",", ":")).encode(), *(one.to_bytes() for one in records)])


def unframe(message: Data) -> tuple[list[Any], list[Record]]:
    """What a message says, and its records.

    Raises:
        ValueError: it is none.
    """
    head, *raws = (message.encode() if isinstance(message, str) else message).split(b"\n")
    return json.loads(head), [Record.from_bytes(one) for one in raws]


def cast_frame(topic: str, data: bytes) -> bytes:
    """A cast."""
    name = topic.encode()
    return b"\0%b%b%b" % (len(name).to_bytes(2, "big"), name, data)


def uncast(message: Data) -> tuple[str, int] | None:
    """The topic of a cast, and where its data begin; None of another message.

    Raises:
        ValueError: it is cut off.
    """
    if not isinstance(message, bytes) or not message.startswith(b"\0"):
        return None
    start = 3 + int.from_bytes(message[1:3], "big")
    if len(message) < start:
        raise ValueError("a cast is cut off")
    return message[3:start].decode(), start


def chunks(records: Iterable[Any], size: Callable[[Any], int]) -> list[list[Any]]:
    """In their order, as many in a list as fit into `CHUNK`; at least one list."""
    found: list[list[Any]] = [[]]
    octets = 0
    for one in records:
        if found[-1] and octets + size(one) > CHUNK:
            found.append([])
            octets = 0
        found[-1].append(one)
        octets += size(one)
    return found


def written(history: History) -> list[float]:
    """A history, as it stands in a message."""
    return [history.count, history.octets, history.seconds]


def positions_of(texts: Iterable[str]) -> list[Position]:
    """Raises:
    ValueError: one of them is no position.
    """
    return [Position.parse(one) for one in texts]
