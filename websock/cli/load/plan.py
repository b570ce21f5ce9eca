"""What ``websock bench`` is to do, and when: numbers and names, checked once."""

from __future__ import annotations

import dataclasses
import math
import ssl
from typing import Any, Final, Literal

from ...core.uri import URI
from .messages import HEAD

__all__ = ["MOST_CONNECTIONS", "Plan"]

MOST_CONNECTIONS: Final = 2**24 - 1  # what fits into the head of a message


@dataclasses.dataclass(frozen=True)
class Plan:
    """The load, of all processes or of one.

    Attributes:
        uri: of the server.
        connections: how many.
        rate: new ones per second; ``math.inf``: all at once.
        messages: per second, over all connections in turn: an open loop. 0 with `in_flight` 0: none are sent.
        in_flight: a closed loop: on each connection so many messages wait for their answers at any time.
        sizes: octets of messages, in turn.
        binary: bytes, not text.
        answers: whether each message is to be answered by itself.
        duration: seconds of sending; ``math.inf``: until it is stopped.
        wait: seconds for answers after that.
        timeout: seconds for opening a connection, and for closing it.
        compression: offer permessage-deflate.
        headers, origin, subprotocols: of the requests.
        ca: a file of certificates (PEM) to trust instead of the system's.
        insecure: trust any.
        first: the number of the first connection, among those of all processes.
        offset: seconds that its messages come later than those of the first process.

    Raises:
        ValueError: something of it is out of range, or goes not with the rest.
    """

    uri: URI
    connections: int = 10
    rate: float = 100.0
    messages: float = 100.0
    in_flight: int = 0
    sizes: tuple[int, ...] = (128,)
    binary: bool = False
    answers: bool = True
    duration: float = 10.0
    wait: float = 5.0
    timeout: float = 10.0
    compression: Literal["deflate"] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    origin: str | None = None
    subprotocols: tuple[str, ...] = ()
    ca: str | None = None
    insecure: bool = False
    first: int = 0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.connections <= MOST_CONNECTIONS:
            raise ValueError(f"connections are from 1 to {MOST_CONNECTIONS:,}, not {self.connections:,}")
        if not self.rate > 0:
            raise ValueError("no connection ever opens at a rate of 0")
        if not 0 <= self.messages < float("inf"):
            raise ValueError("messages per second are a number; --in-flight sends as many as are answered")
        if self.messages and self.in_flight:
            raise ValueError(
                "messages are sent at a rate (--messages), or as they are answered (--in-flight): not both"
            )
        if self.in_flight and not self.answers:
            raise ValueError("--in-flight goes by answers, and --expect none says that there aren't any")
        if not self.duration > 0:
            raise ValueError("a duration is more than 0 s")
        if not self.sizes or min(self.sizes) < HEAD:
            raise ValueError(f"a message has {HEAD} octets at least: it carries a number")

    @property
    def largest(self) -> int:
        """Octets that an answer may have."""
        return max(2**20, *self.sizes)

    @property
    def total(self) -> float:
        """Messages of the whole duration, a whole number or infinite."""
        total = self.duration * self.messages
        return total if math.isinf(total) else float(math.ceil(total - 1e-9))

    @property
    def patience(self) -> float:
        """Seconds until those that are not sent by then are given up: the tool is too slow."""
        return self.duration + max(0.25, self.duration / 50)

    def due(self, number: int, place: int, places: int) -> float:
        """When a message is due, seconds after the beginning of sending.

        Args:
            number: of the message on its connection, from 0.
            place: of its connection among those that are open.
            places: how many are.
        """
        return self.offset + (number * places + place) / self.messages

    def split(self, processes: int) -> list[Plan]:
        """The plans of so many processes, fewer if there are not as many connections; together they do the same."""
        processes = min(processes, self.connections)
        plans, first = [], 0
        for index in range(processes):
            mine = self.connections // processes + (index < self.connections % processes)
            share = mine / self.connections
            offset = index / self.messages if self.messages else 0.0
            rate, messages = self.rate * share, self.messages * share
            plans.append(
                dataclasses.replace(self, connections=mine, rate=rate, messages=messages, first=first, offset=offset)
            )
            first += mine
        return plans

    def options(self, context: ssl.SSLContext | None) -> dict[str, Any]:
        """For `connect`."""
        return {
            "origin": self.origin,
            "additional_headers": list(self.headers) or None,
            "subprotocols": self.subprotocols or None,
            "ssl": context,
            "open_timeout": self.timeout,
            "close_timeout": self.timeout,
            "compression": self.compression,
            "max_size": self.largest,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` takes; infinity is text, which JSON has no other word for."""
        data = dataclasses.asdict(self)
        return {name: str(value) if value == float("inf") else value for name, value in data.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        data = dict(data)
        for name in ("rate", "duration", "wait", "timeout"):
            data[name] = float(data[name])
        uri = data["uri"]
        data["uri"] = URI(**{**uri, "user": uri["user"] and tuple(uri["user"])})
        data["headers"] = tuple((name, value) for name, value in data["headers"])
        data["sizes"], data["subprotocols"] = tuple(data["sizes"]), tuple(data["subprotocols"])
        return cls(**data)
