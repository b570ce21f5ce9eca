"""What a server lets its peers take: `Limits`, and the meters that count it. Time is a number, as everywhere here."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from ..exceptions import RateExceeded
from ..spec import MAX_FRAGMENTS, MAX_HEADERS

__all__ = ["Bucket", "Limits", "Meter"]


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a server lets its peers take, given as ``serve(..., limits=Limits(...))``. None is no limit.

    Each server, and so each process of several that share a port, counts for itself.

    Before a connection is open what is too much is refused with an HTTP status and Retry-After, as far as possible
    before it has cost a thread, a TLS handshake or an object; afterwards the connection is closed with the code named
    here. Both are counted in one log line for each limit and minute.

    What concerns one connection of either role are fields of `Options`, and keywords of ``serve`` and ``connect``:
    ``max_size`` (octets of a message after inflating it: 1009), ``max_queue`` and ``write_limit`` (what waits to be
    taken, by the program or by the peer), ``max_header_size`` (octets of the HTTP head: 431) and ``open_timeout``
    (seconds for everything before the connection is open, from its acceptance on: 408). Fixed are: 16 Pongs that wait
    to be written, of which the last one is replaced then; 4,096 frames, or 1 MiB out of extensions, that are decoded
    before others have their turn.

    Attributes:
        connections: that are open at a time, in all; 503. Opening handshakes count for `half_open` instead, so that
            these keep nobody out.
        per_client: connections of one client's address at a time, opening handshakes included; 429. An IPv6 address
            counts with its /64 network, an IPv4-mapped one as IPv4. Unix sockets have no address, and are not counted.
            Behind ``trusted_proxies`` it is the address that they report.
        handshakes_per_second: connections that are accepted, with one second's worth at once; 429.
        half_open: opening handshakes whose request is not complete, TLS included, counted from acceptance. When there
            are so many, nothing is accepted while all of them are younger than half a second: clients that come all at
            once wait in the kernel. Then one more ends the oldest, as a SYN cache does; it gets 503 if it has sent
            something and there is no TLS handshake under way. Those whose octets wait for us, unread, are passed over,
            as long as there are not four times as many.
        messages_per_second: of one connection, with one second's worth at once; 1008. Control frames don't count, but
            their octets do.
        bytes_per_second: octets that are received on one connection, with one second's worth at once; 1008. A message
            that is longer than that is too much, however slow. While we ourselves don't read, the peer saves up, a
            minute's worth at most.
        max_fragments: frames of one message; 1008.
        max_headers: fields of the HTTP head; 431.
        retry_after: seconds, for the header Retry-After.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a value out of its range.
    """

    connections: int | None = None
    per_client: int | None = None
    handshakes_per_second: float | None = None
    half_open: int | None = 512
    messages_per_second: float | None = None
    bytes_per_second: float | None = None
    max_fragments: int = MAX_FRAGMENTS
    max_headers: int = MAX_HEADERS
    retry_after: int = 10

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            optional, rate = field.name not in _NEEDED, field.name.endswith("_per_second")
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, float | int if rate else int):
                kind = "a number" if rate else "an int"
                raise TypeError(f"{field.name} must be {kind}{' or None' if optional else ''}, not {value!r}")
            if rate and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} must be more than 0, not {value!r}; None is no limit")
            if not rate and not _LEAST.get(field.name, 1) <= value <= _MOST:
                raise ValueError(f"{field.name} must be from {_LEAST.get(field.name, 1)} to {_MOST}, not {value!r}")

    def meter(self) -> Meter | None:
        """A new meter for one connection; None when it needs none."""
        if self.messages_per_second is None and self.bytes_per_second is None:
            return None
        return Meter(self.messages_per_second, self.bytes_per_second)


_NEEDED: Final = ("max_fragments", "max_headers", "retry_after")
_LEAST: Final = {"retry_after": 0}
_MOST: Final = 2**31 - 1
SAVED: Final = 60  # seconds


class Bucket:
    """A token bucket: `rate` a second come, and one second's worth, at least one, can be there, and `more`.

    It is full when it is first asked.
    """

    __slots__ = ("_level", "_most", "_rate", "_since")

    def __init__(self, rate: float, more: int = 0) -> None:
        self._rate = rate
        self._most = self._level = max(1.0, rate) + more
        self._since: float | None = None

    def take(self, count: float, now: float) -> bool:
        """Take `count`; False, and nothing is taken, when that is more than there is."""
        if self._since is None:
            self._since = now
        elif now > self._since:
            level = self._level + (now - self._since) * self._rate
            self._level = min(level, max(self._most, self._level))  # it is more when something was saved up
            self._since = now
        if self._level < count:
            return False
        self._level -= count
        return True

    def save(self, seconds: float) -> None:
        """What comes in so many seconds is there beyond the most that can be: they were lost by our own doing.

        That is a minute's worth at most: so much the system may hold back for us.
        """
        if self._since is not None:
            self._since += seconds
            self._level = min(self._level + seconds * self._rate, max(self._level, SAVED * self._most))


class Meter:
    """How fast the peer of one connection sends.

    Strategy: looking at buckets for every read would take a tenth of a server's time. So what comes is added up, and
    looked at when it is a sixteenth of a second's worth; the buckets have room for as much more, so that nobody gets
    less than the limit.

    Attributes:
        step_messages, step_octets: what is added up until `add` is called.
    """

    __slots__ = (
        "_messages", "_messages_left", "_messages_rate", "_octets", "_octets_left", "_octets_rate", "_paused_at",
        "_saved", "step_messages", "step_octets",
    )  # fmt: skip

    def __init__(self, messages_per_second: float | None, bytes_per_second: float | None) -> None:
        self._saved = 0.0  # seconds in which we did not read: what the peer sent meanwhile comes at once then
        self._messages_rate = messages_per_second
        self._octets_rate = bytes_per_second
        self.step_messages, self._messages = _stepwise(messages_per_second)
        self.step_octets, self._octets = _stepwise(bytes_per_second)
        self._messages_left = self.step_messages
        self._octets_left = self.step_octets
        self._paused_at: float | None = None

    def count(self, octets: int, messages: int) -> bool:
        """Add up what a read brought; whether it is time for `add`."""
        self._octets_left -= octets
        self._messages_left -= messages
        return self._octets_left <= 0 or self._messages_left <= 0

    def add(self, octets: int, messages: int, now: float) -> RateExceeded | None:
        """Look at what came, beyond what `count` knows of; what is to be said to the peer when it was too much."""
        octets += self.step_octets - self._octets_left
        messages += self.step_messages - self._messages_left
        self._octets_left, self._messages_left = self.step_octets, self.step_messages
        if self._saved:
            for bucket in (self._messages, self._octets):
                if bucket is not None:
                    bucket.save(self._saved)
            self._saved = 0.0
        if self._messages is not None and not self._messages.take(messages, now):
            return RateExceeded(f"more than {self._messages_rate:g} messages per second")
        if self._octets is not None and not self._octets.take(octets, now):
            return RateExceeded(f"more than {self._octets_rate:g} bytes per second")
        return None

    def pause(self, now: float) -> None:
        """We stop reading."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """We read again: what the peer sent meanwhile comes at once now."""
        if self._paused_at is not None:
            self._saved += now - self._paused_at
            self._paused_at = None


def _stepwise(rate: float | None) -> tuple[int, Bucket | None]:
    if rate is None:
        return _MOST, None
    step = min(_MOST, max(1, int(rate / 16)))
    return step, Bucket(rate, step - 1)
