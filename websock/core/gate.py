"""Who may come in: the limits of a server on connections, before one is open. Without any I/O, and time is a number.

Strategy: every accepted socket gets a `Ticket`, before a thread, TLS or anything else exists for it, or is refused. Its
way goes from half-open (`Gate.enter`) to open (`Gate.opened`, when the request is complete) to left (`Gate.leave`).
An adapter that has threads calls all methods under one lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..exceptions import (
    CloseCause,
    InvalidHandshake,
    InvalidMessage,
    LimitExceeded,
    PayloadTooBig,
    RateExceeded,
    TooManyFragments,
)
from ..http11 import Request
from ..typing import LoggerLike
from .counting import CountedLog
from .forwarding import Networks, ProxyHeader, client_key, client_of
from .limits import Bucket, Limits
from .protocol import Protocol

__all__ = ["TURNED_AWAY_AT_ONCE", "TURNED_AWAY_TIME", "Gate", "Ticket"]

TURNED_AWAY_AT_ONCE = 64  # refused connections, and half-open ones given up, that are lingered on at a time
YOUNG = 0.5  # seconds in which a half-open one is not given up: all clients may come at once, and rightly so
STRETCHED = 4  # times half_open: so many there can be when what they sent waits for us
LOOKED_AT = 8  # half-open ones that are looked at for one that is given up
TURNED_AWAY_TIME = 1.0  # seconds for reading an answer that refuses


class Ticket:
    """One accepted connection.

    Attributes:
        address: the client's, as ``socket`` has it; what a proxy said, if it is trusted.
        proxy_address: the peer's own, where that is a proxy which told `address`; else None.
        forwarded_proto: what the client spoke with the proxy, if that was told.
        give_up: called with the failure when a newer connection needs the place of this half-open one.
        waits_for_us: tells whether it has sent what we have not read yet.
    """

    __slots__ = ("address", "forwarded_proto", "give_up", "key", "open", "proxy_address", "since", "waits_for_us")

    def __init__(self, address: Any, since: float = 0.0) -> None:
        self.address = address
        self.since = since  # when it was accepted
        self.proxy_address: Any = None
        self.forwarded_proto: str | None = None
        self.give_up: Callable[[LimitExceeded], object] = _nothing
        self.waits_for_us: Callable[[], bool] = _never
        self.key: object = None  # under which it is counted, None for not at all
        self.open = False

    def forget(self) -> None:
        """It is not half-open any more: let go of what was made for that."""
        self.give_up, self.waits_for_us = _nothing, _never


def _nothing(failure: LimitExceeded) -> None:
    """Stands for `give_up` until there is something to give up."""


def _nobody_waits() -> None:
    """Stands for `Gate.on_room`."""


def _never() -> bool:
    """Stands for `waits_for_us` where nobody knows."""
    return False


class Gate:
    """Counts the connections of one server.

    Args:
        limits: the server's.
        trusted: the proxies whose word counts, or None.
        proxy_protocol: every connection begins with a PROXY header.
        logger: gets a counted line for each limit that is reached.

    Attributes:
        log: those lines.
        on_room: called when the half-open ones are fewer than the limit again.
    """

    def __init__(
        self, limits: Limits, logger: LoggerLike, trusted: Networks | None = None, proxy_protocol: bool = False
    ) -> None:
        self.limits = limits
        self.log = CountedLog(logger)
        self._trusted = trusted
        self._proxy_protocol = proxy_protocol
        self._rate = None if limits.handshakes_per_second is None else Bucket(limits.handshakes_per_second)
        self._half_open: dict[Ticket, None] = {}  # the oldest first
        self.on_room: Callable[[], object] = _nobody_waits
        self._open = 0
        self._clients: dict[object, int] = {}

    def __len__(self) -> int:
        """How many are half-open."""
        return len(self._half_open)

    def enter(self, address: Any, now: float) -> Ticket | InvalidHandshake:
        """A connection was accepted: what to go on with, or why not. May give up the oldest half-open one."""
        limits = self.limits
        if self._proxy_protocol and self._trusted is not None and address not in self._trusted:
            return self._refused(InvalidMessage("a PROXY header from who is no trusted proxy"), address, now)
        if limits.connections is not None and self._open >= limits.connections:
            return self._refused(self._failure("too many connections", 503), address, now)
        if self._rate is not None and not self._rate.take(1, now):
            return self._refused(self._failure("too many handshakes per second", 429), address, now)
        ticket = Ticket(address, now)
        if limits.per_client is not None and not self._is_proxy(address) and not self._counted(ticket):
            return self._refused(self._too_many(), address, now)
        if limits.half_open is not None and len(self._half_open) >= limits.half_open and not self.wait(now):
            self._make_room(limits.half_open, now)
        self._half_open[ticket] = None
        return ticket

    def wait(self, now: float) -> float:
        """Seconds for which nothing more should be accepted: there are enough half-open ones, and all are young.

        Who comes meanwhile waits in the kernel. `on_room` is called when there is room earlier.
        """
        limit = self.limits.half_open
        if limit is None or len(self._half_open) < limit:
            return 0.0
        return max(0.0, next(iter(self._half_open)).since + YOUNG - now)

    def _no_more_half_open(self, ticket: Ticket) -> None:
        before = len(self._half_open)
        self._half_open.pop(ticket, None)
        if before == self.limits.half_open and len(self._half_open) < before:
            self.on_room()

    def _make_room(self, limit: int, now: float) -> None:
        """Give up the oldest half-open one. When it waits for us and not we for it, the next one; see `Limits`."""
        for _ in range(LOOKED_AT):
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
            if not oldest.waits_for_us():
                break
            self._half_open[oldest] = None  # as if it had come just now
        else:
            if len(self._half_open) < STRETCHED * limit:
                return
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
        failure = self._failure("too many half-open handshakes", 503)
        self._refused(failure, oldest.address, now)
        oldest.give_up(failure)

    def proxied(self, ticket: Ticket, header: ProxyHeader, now: float) -> InvalidHandshake | None:
        """The PROXY header is complete: why this connection is not wanted, or None."""
        if header.source is None:  # the proxy speaks for itself, or does not know
            source = ticket.address
        else:
            source, ticket.proxy_address = header.source, ticket.address
        ticket.address = source
        if self.limits.per_client is None or (self._trusted is not None and source in self._trusted):
            return None
        return None if self._counted(ticket) else self._refused(self._too_many(), source, now)

    def broken_header(self, ticket: Ticket, failure: InvalidHandshake, now: float) -> None:
        """There was no PROXY header, or a bad one."""
        # What it says may quote the peer, so it is no kind of its own.
        self.log.count("refused, a bad PROXY header", f"{_spelled(ticket.address)}, {failure!s:.200}", now)

    def opened(self, ticket: Ticket, request: Request, now: float) -> InvalidHandshake | None:
        """The request is complete: why it is refused, or None."""
        limits, trusted = self.limits, self._trusted
        self._no_more_half_open(ticket)
        if trusted is not None and ticket.address in trusted:
            try:
                client = client_of(request.headers, trusted)
            except InvalidHandshake as failure:
                return failure
            if client is not None:
                if ticket.proxy_address is None:
                    ticket.proxy_address = ticket.address
                ticket.address, ticket.forwarded_proto = client.address, client.proto
        if limits.per_client is not None and ticket.key is None and not self._counted(ticket):
            return self._refused(self._too_many(), ticket.address, now)
        if limits.connections is not None and self._open >= limits.connections:
            return self._refused(self._failure("too many connections", 503), ticket.address, now)
        ticket.open = True
        self._open += 1
        return None

    def handed_over(self, ticket: Ticket) -> None:
        """Another process has it: here it counts as open."""
        ticket.forget()
        self._no_more_half_open(ticket)
        if not ticket.open:
            ticket.open = True
            self._open += 1

    def answered(self, ticket: Ticket) -> None:
        """It will not be open, and is not half-open any more: it was refused, and reads its answer."""
        self._no_more_half_open(ticket)
        if ticket.open:
            ticket.open = False
            self._open -= 1

    def leave(self, ticket: Ticket) -> None:
        """The connection is gone. Again is no error."""
        self.answered(ticket)
        if ticket.key is not None:
            left = self._clients[ticket.key] - 1
            if left:
                self._clients[ticket.key] = left
            else:
                del self._clients[ticket.key]
            ticket.key = None

    def closed(self, ticket: Ticket, protocol: Protocol, now: float) -> None:
        """An open connection is closed: a line, if it was over a limit or too slow."""
        cause = protocol.ending.error if protocol.close_sent is not None else None
        if isinstance(cause, _LIMITS):
            what = cause if isinstance(cause, RateExceeded) else cause.text  # others name what the peer has chosen
            # One peer's affair, and no news for who has configured no logging; a refusal is.
            text = f"closed with {int(cause.code)} ({cause.cause.name}), {what}"
            self.log.count(text, _spelled(ticket.address), now, logging.INFO)
        elif protocol.ending.cause is CloseCause.SLOW_CONSUMER:
            self.warn(ticket, "closed with 1013 (SLOW_CONSUMER): it did not take what was broadcast", "", now)

    def warn(self, ticket: Ticket, what: str, details: str, now: float) -> None:
        """A counted line about an open connection: see ``Endpoint._warn``."""
        self.log.count(f"connection {what}", f"{_spelled(ticket.address)}{details and f', {details}'}", now)

    def _is_proxy(self, address: Any) -> bool:
        """Whether it speaks for clients, whom we don't know yet."""
        return self._proxy_protocol or (self._trusted is not None and address in self._trusted)

    def _counted(self, ticket: Ticket) -> bool:
        """Count the connection for its client; False when that has enough."""
        key = client_key(ticket.address)
        if key is None:
            return True
        count = self._clients.get(key, 0)
        if self.limits.per_client is not None and count >= self.limits.per_client:
            return False
        self._clients[key] = count + 1
        ticket.key = key
        return True

    def _too_many(self) -> LimitExceeded:
        return self._failure("too many connections from one address", 429)

    def _failure(self, what: str, status: int) -> LimitExceeded:
        return LimitExceeded(what, status, self.limits.retry_after)

    def _refused(self, failure: InvalidHandshake, address: Any, now: float) -> InvalidHandshake:
        self.log.count(f"refused with {failure.status}, {failure}", _spelled(address), now)
        return failure


_LIMITS = (RateExceeded, TooManyFragments, PayloadTooBig)


def _spelled(address: Any) -> str:
    """For a log: a client's address without the port, which is another one each time."""
    return str(address[0] if isinstance(address, tuple) else address or "a Unix socket")
