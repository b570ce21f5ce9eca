"""Where a message stands: positions in a topic's log, the names of records, and what a client has seen.

Strategy: a position orders the messages of a topic and is given by its log. A record's own name is beside that:
(origin, n), the n-th that one hub has published to the topic. So a message that was delivered before it had a position,
or that was written to the log twice, is still recognised.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

__all__ = [
    "MAX_CURSOR",
    "MAX_EXTRAS",
    "ZERO",
    "Cursor",
    "Position",
    "Record",
    "Span",
    "check_origin",
    "milliseconds",
    "packed",
    "random_origin",
    "stood",
    "unpacked",
]

MAX_CURSOR: Final = 512
"""Characters that a cursor has at most."""
MAX_EXTRAS: Final = 16
"""Origins that it names at most."""
MAX_SPANS: Final = 4  # how often a record is remembered to have been lost by its log

_LARGEST = 2**63 - 1
_NUMBER = "(0|[1-9][0-9]{0,18})"
_POSITION = re.compile(f"{_NUMBER}-{_NUMBER}")
_ORIGIN = re.compile("[a-z0-9]{1,16}")
_EXTRA = re.compile("([a-z0-9]{1,16})[.]([1-9][0-9]{0,18})")


def _number(digits: str) -> int:
    number = int(digits)
    if number > _LARGEST:
        raise ValueError(f"{digits} is too large a number")
    return number


def milliseconds() -> int:
    """Since 1970."""
    return int(time.time() * 1000)


def check_origin(origin: str) -> str:
    """The name of a hub's life.

    Raises:
        ValueError: it is not 1 to 16 small letters and digits.
    """
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"an origin is 1 to 16 small letters and digits, not {origin!r}")
    return origin


def random_origin() -> str:
    """A name for a hub's life that no other has."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(8))


def packed(data: Any) -> dict[str, Any]:
    """Data for JSON: octets are told from text."""
    return {"x": base64.b64encode(data).decode()} if isinstance(data, bytes | bytearray | memoryview) else {"d": data}


def unpacked(fields: Mapping[str, Any]) -> Any:
    """The reverse.

    Raises:
        KeyError, TypeError, ValueError: there is none.
    """
    return base64.b64decode(fields["x"], validate=True) if "x" in fields else fields["d"]


class Position(NamedTuple):
    """Where a record stands in the log of its topic: milliseconds since 1970, and a number within them.

    As text it is ``"1700000000000-0"``, as the ids of Redis streams are.
    """

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises:
        ValueError: it is no position.
        """
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError(f"not a position: {text[:50]!r}")
        return cls(_number(found[1]), _number(found[2]))

    def following(self, ms: int) -> Position:
        """The first position that is behind this one, and not before the time `ms`."""
        return Position(ms, 0) if ms > self.ms else Position(self.ms, self.seq + 1)

    @property
    def preceding(self) -> Position:
        """The last position before this one."""
        return Position(self.ms, self.seq - 1) if self.seq else Position(max(0, self.ms - 1), _LARGEST)


ZERO: Final = Position(0, 0)
"""Before all others."""


class Span(NamedTuple):
    """Where a record stood in a log that has lost it, and the last position that was seen of that log."""

    position: Position
    till: Position


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A message of a topic, as it goes between hubs.

    Attributes:
        topic: its name.
        origin: the hub that has published it.
        n: how many that hub has published to the topic, with this one.
        data: what was published: ``str``, ``bytes`` or what JSON can say.
        by: the user who has published it.
        at: when, in seconds since 1970.
        uid: a name that the publisher has given it: a second one with it is no new message.
        kind: "message".
        was: where it stood in logs that have lost it, so that it was added again.
    """

    topic: str
    origin: str
    n: int
    data: Any
    by: str | None = None
    at: float = 0.0
    uid: str | None = None
    kind: str = "message"
    was: tuple[Span, ...] = ()
    _raw: bytes | None = dataclasses.field(default=None, compare=False, repr=False)

    def to_bytes(self) -> bytes:
        """The record as JSON in UTF-8: always the same object.

        Raises:
            TypeError, ValueError: `data` is neither ``str`` nor ``bytes`` nor anything for JSON.
        """
        if self._raw is None:
            object.__setattr__(self, "_raw", self._encoded())
        assert self._raw is not None  # noqa: S101 - for the type checker
        return self._raw

    def _encoded(self) -> bytes:
        fields: dict[str, Any] = {"t": self.topic, "o": self.origin, "n": self.n, "a": self.at, **packed(self.data)}
        for key, value in (("b", self.by), ("u", self.uid)):
            if value is not None:
                fields[key] = value
        if self.kind != "message":
            fields["k"] = self.kind
        if self.was:
            fields["w"] = [[str(one.position), str(one.till)] for one in self.was]
        try:
            return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
        except RecursionError:
            raise ValueError("data is nested too deep") from None

    @classmethod
    def from_bytes(cls, raw: bytes) -> Record:
        """Raises:
        ValueError: it is no record.
        """
        try:
            fields = json.loads(raw)
            data = unpacked(fields)
            was = tuple(Span(Position.parse(one), Position.parse(till)) for one, till in fields.get("w", ()))
            topic, origin, n = fields["t"], fields["o"], fields["n"]
            by, at, uid, kind = fields.get("b"), fields["a"], fields.get("u"), fields.get("k", "message")
            strings = [topic, origin, kind, *(one for one in (by, uid) if one is not None)]
            if not all(isinstance(one, str) for one in strings) or type(n) is not int or not 0 < n <= _LARGEST:
                raise ValueError("a field is of a wrong type")
            return cls(topic, check_origin(origin), n, data, by, float(at), uid, kind, was, bytes(raw))
        except (KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise ValueError(f"not a record: {error!r}") from error

    @property
    def octets(self) -> int:
        """Of its encoding."""
        return len(self.to_bytes())

    def stood_at(self, seen: Position) -> bool:
        """Whether who had seen all of a lost log up to `seen` has seen it there."""
        return any(one.position <= seen <= one.till for one in self.was)

    def lost(self, position: Position, till: Position) -> Record:
        """The record as it is added again after its log, which ended at `till`, has lost it."""
        was = (*(one for one in self.was if one.position != position), Span(position, till))[-MAX_SPANS:]
        return dataclasses.replace(self, was=was, _raw=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """What a client has seen of a topic: all up to `position`, and of some origins all up to a number beside it.

    As text it is ``"<position>"`` or ``"<position>+<origin>.<n>,<origin>.<n>"``.
    """

    position: Position
    extras: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        if not self.extras:
            return str(self.position)
        # Those that came last are the ones whose messages are on their way.
        named = list(self.extras.items())[-MAX_EXTRAS:]
        return f"{self.position}+{','.join(f'{origin}.{n}' for origin, n in named)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises:
        ValueError: it is no cursor.
        """
        if not isinstance(text, str) or len(text) > MAX_CURSOR:
            raise ValueError(f"a cursor is a text of at most {MAX_CURSOR} characters")
        position, plus, rest = text.partition("+")
        extras: dict[str, int] = {}
        for one in rest.split(",") if plus else ():
            found = _EXTRA.fullmatch(one)
            if found is None or found[1] in extras:
                raise ValueError(f"not a cursor: {text[:50]!r}")
            extras[found[1]] = _number(found[2])
        if len(extras) > MAX_EXTRAS:
            raise ValueError(f"a cursor names at most {MAX_EXTRAS} origins")
        return cls(Position.parse(position), extras)

    def covers(self, position: Position, record: Record) -> bool:
        """Whether a record that stands at `position` is among what was seen."""
        if position <= self.position or record.n <= self.extras.get(record.origin, 0):
            return True
        return record.stood_at(self.position)


def stood(position: Position, record: Record) -> Position:
    """Where a record stood first, as far as that is known."""
    return min((one.position for one in record.was), default=position)
