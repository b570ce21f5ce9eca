"""`Metrics`: counts what servers of this process do.

Strategy: connections count for themselves (`CountedProtocol`, and the native twin); a snapshot adds up those that live,
and the totals of those that are gone. So a message costs an addition or two, and what is added up costs only who asks.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import heapq
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..core.endpoint import Endpoint, default_logger
from ..core.observer import Observer
from ..core.protocol import Protocol, State
from ..exceptions import CloseCause, LimitExceeded
from ..http11 import Response
from ..spec import CloseCode
from ..typing import LoggerLike
from .counted import CountedProtocol
from .lag import LoopLag
from .snapshots import Backplane, Histogram, Peer, Snapshot
from .web import Web, place_of

if TYPE_CHECKING:
    from .prometheus import Collector

__all__ = ["Metrics"]

# Bounds of the histograms. Changing them breaks what people have built on them.
LIFETIMES: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
LATENCIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
MESSAGES: Final = (0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
OCTETS: Final = (0.0, 1024.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0)

_LONGEST: Final = 200  # characters of what a stranger has chosen

Counts = tuple[int, int, int, int, int]  # messages in and out, octets in and out, dropped


class Metrics(Observer):
    """Counts what happens in the servers that it is given to, all of one process.

    ::

        metrics = Metrics(prometheus="127.0.0.1:9100", page="127.0.0.1:9101")
        async with serve(handler, "localhost", 8765, metrics=metrics) as server:
            ...
            print(metrics.snapshot().open)

    It is the same for asyncio and for blocking servers. Both addresses are served by a thread of their own, while there
    is a server, and also when the program is busy. In a process that was forked after this was made, a worker of
    ``websock.serving``, a port that is taken is followed by the next one: N workers have N ports in a row.

    Args:
        prometheus: ``"host:port"``, or a port of 127.0.0.1, where ``/metrics`` is served for Prometheus. It needs
            prometheus-client, which ``pip install websock[metrics]`` brings.
        page: likewise, for people with a browser: what goes on now, and connections can be closed there. Whoever can
            connect to it may do that, so leave it on this machine, or behind a proxy that asks who comes.
        hub: an object whose ``state`` tells of a backplane: a ``websock.pubsub.Hub``.
        hosts: further names by which both may be asked. A page of another site must not read them through a name of its
            own that leads here (DNS rebinding), so a loopback address, and the page in any case, know their own alone.
        logger: default ``logging.getLogger("websock.metrics")``.

    Attributes:
        hub: as above; may be set later.

    Raises:
        ImportError: there is no prometheus-client.
        ValueError: no address of TCP; the page on every address, and no `hosts`.
    """

    def __init__(
        self,
        *,
        prometheus: str | int | None = None,
        page: str | int | None = None,
        hub: Any = None,
        hosts: Sequence[str] = (),
        logger: LoggerLike | None = None,
    ) -> None:
        self.hub = hub
        self._lock = threading.Lock()  # guards what is below; nothing waits while it is held
        self._servers: dict[Any, LoopLag | None] = {}
        self._live: dict[Any, float] = {}  # connections, and when they were opened
        self._gone: list[Any] = []  # of these, those whose transport is lost, and whose end is not known yet
        self._opened = 0
        self._closed: collections.Counter[CloseCause] = collections.Counter()
        self._handshakes: collections.Counter[str] = collections.Counter()
        self._totals: Counts = (0, 0, 0, 0, 0)  # of those that are gone
        self._lifetime = Histogram(LIFETIMES)
        self._latency = Histogram(LATENCIES)
        self._lag = Histogram(LAGS)
        self._errors = 0
        self._pid = os.getpid()
        places = [None if one is None else place_of(one) for one in (prometheus, page)]
        self._web = Web(self, places[0], places[1], hosts, logger or default_logger("metrics")) if any(places) else None

    @property
    def addresses(self) -> dict[str, str]:
        """Where the endpoints are now, by their names ``prometheus`` and ``page``: URLs. Empty without a server."""
        return {} if self._web is None else dict(self._web.addresses)

    @property
    def in_worker(self) -> bool:
        """Whether this is a worker of several: forked after this was made, and counting for itself alone."""
        return os.getpid() != self._pid

    @property
    def listening(self) -> list[str]:
        """Where the servers listen, in words."""
        with self._lock:
            servers = list(self._servers)
        return [_spelled(name) for server in servers for name in _names(server)]

    def collector(self) -> Collector:
        """For a registry of prometheus-client that the program has: ``REGISTRY.register(metrics.collector())``.

        Raises:
            ImportError: there is no prometheus-client.
        """
        from .prometheus import Collector

        return Collector(self)

    # What servers call: see `Observer`.

    def begin(self, server: Any) -> None:
        with self._lock:
            first = not self._servers
            self._servers[server] = None
        if first and self._web is not None:
            try:
                self._web.start(in_worker=self.in_worker)
            except BaseException:
                del self._servers[server]
                raise
        if (get_loop := getattr(server, "get_loop", None)) is not None:
            self._servers[server] = LoopLag(get_loop(), self._lagged)

    def end(self, server: Any) -> None:
        with self._lock:
            lag = self._servers.pop(server, None)
            last = not self._servers
        if lag is not None:
            lag.stop()
        if last and self._web is not None:
            self._web.stop()

    def protocol(self, **how: Any) -> Protocol:
        return CountedProtocol(self._answered, **how)

    def handshake(self, response: Response | None, failure: BaseException | None) -> None:
        if isinstance(failure, LimitExceeded):
            result = "limit"
        else:
            result = "ended" if response is None else str(response.status_code)
        with self._lock:
            self._handshakes[result] += 1

    def opened(self, connection: Endpoint) -> None:
        with self._lock:
            self._opened += 1
            self._live[connection] = time.monotonic()

    def left(self, connection: Endpoint) -> None:
        with self._lock:
            self._gone.append(connection)
            self._settle()

    def failed(self) -> None:
        with self._lock:
            self._errors += 1

    def _answered(self, seconds: float) -> None:
        with self._lock:
            self._latency.observe(seconds)

    def _lagged(self, seconds: float) -> None:
        with self._lock:
            self._lag.observe(seconds)

    def _settle(self) -> None:
        """Add those that are gone to the totals. Of one that has left messages undecoded the end is not known yet."""
        waiting = []
        for connection in self._gone:
            if connection._protocol.state is not State.CLOSED:
                waiting.append(connection)
            elif (since := self._live.pop(connection, None)) is not None:
                self._closed[connection._protocol.closed().cause] += 1
                self._lifetime.observe(time.monotonic() - since)
                self._totals = _added(self._totals, _counts(connection))
        self._gone = waiting

    # What it knows.

    def snapshot(self) -> Snapshot:
        """All numbers as they are now. From any thread; with very many connections it takes a moment."""
        with self._lock:
            self._settle()
            live = list(self._live)
            totals, opened, closed = self._totals, self._opened, dict(self._closed)
            handshakes, errors = dict(self._handshakes), self._errors
            lifetime, latency = self._lifetime.distribution(), self._latency.distribution()
            lag = self._lag.distribution()
            servers = list(self._servers)
            has_loop = lag.count > 0 or any(one is not None for one in self._servers.values())
        received, written = Histogram(MESSAGES), Histogram(OCTETS)
        open_now = 0
        for connection in live:
            totals = _added(totals, _counts(connection))
            open_now += connection._protocol.state is State.OPEN
            received.observe(len(connection._inbox))
            written.observe(_write_queue(connection))
        return Snapshot(
            at=time.time(),
            opening=sum(len(server._gate) for server in servers),
            open=open_now,
            closing=len(live) - open_now,
            opened=opened,
            closed=closed,
            lifetime=lifetime,
            handshakes=handshakes,
            messages_in=totals[0],
            messages_out=totals[1],
            octets_in=totals[2],
            octets_out=totals[3],
            receive_queue=received.distribution(),
            write_queue=written.distribution(),
            dropped=totals[4],
            latency=latency,
            lag=lag if has_loop else None,
            handler_errors=errors,
            backplane=self._backplane(),
        )

    def peers(self, most: int = 50, order: str = "slowest") -> list[Peer]:
        """Some connections, the first of an order.

        Args:
            most: how many.
            order: "slowest": those in which most octets wait to be taken, then by the latency of their pings; "behind":
                in which most messages wait for the program; "busiest": by messages, in and out; "newest".

        Raises:
            ValueError: another order.
        """
        key = _ORDERS.get(order)
        if key is None:
            raise ValueError(f"an order is one of {', '.join(_ORDERS)}, not {order!r}")
        with self._lock:
            live = dict(self._live)
        now = time.monotonic()
        found = heapq.nlargest(most, live, key=lambda one: key(one, live[one]))
        return [_peer(connection, now - live[connection]) for connection in found]

    def close_connection(self, connection_id: str) -> bool:
        """Begin to close the connection with this id, with 1008. From any thread; whether there is one."""
        with self._lock:
            live = list(self._live)
        for connection in live:
            if connection._id is not None and str(connection._id) == connection_id:  # who was listed has one
                close = functools.partial(connection._start_close, CloseCode.POLICY_VIOLATION, "closed by an operator")
                loop: asyncio.AbstractEventLoop | None = getattr(connection, "_loop", None)
                if loop is None:
                    close()
                else:
                    loop.call_soon_threadsafe(close)
                return True
        return False

    def _backplane(self) -> Backplane | None:
        if self.hub is None:
            return None
        state = self.hub.state
        since = getattr(state, "since", None)
        return Backplane(
            str(state.backplane),
            None if since is None else float(since),
            *(_number(getattr(state, name, 0)) for name in ("pending", "topics", "members", "not_spread")),
        )


def _names(server: Any) -> list[Any]:
    found = []
    for sock in server.sockets:
        try:
            found.append(sock.getsockname())
        except OSError:
            pass  # it is being closed
    return found


def _number(value: Any) -> int:
    """A number, or how many there are."""
    return value if isinstance(value, int) else len(value)


def _added(one: Counts, other: Counts) -> Counts:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3], one[4] + other[4])


def _counts(connection: Any) -> Counts:
    protocol = connection._protocol
    return (
        connection._messages_in + protocol.messages_in,
        connection._messages_out + protocol.messages_out,
        connection._octets_in + protocol.octets_in,
        connection._octets_out + protocol.octets_out,
        connection.dropped,
    )


def _write_queue(connection: Any) -> int:
    """Octets that the peer has not taken: encoded ones, and broadcasts that wait for their turn."""
    octets = 0 if connection._backlog is None else connection._backlog.octets
    transport = getattr(connection, "transport", None)
    if transport is None:
        return int(octets + connection._waiting())
    try:
        waiting = transport.get_write_buffer_size()
    except Exception:  # a transport of another library, which is being closed in its own thread
        waiting = 0
    return int(octets + connection._protocol.queued + waiting)


_ORDERS: dict[str, Callable[[Any, float], Any]] = {
    "slowest": lambda one, since: (_write_queue(one), one.latency),
    "behind": lambda one, since: len(one._inbox),
    "busiest": lambda one, since: sum(_counts(one)[:2]),
    "newest": lambda one, since: since,
}


def _peer(connection: Any, age: float) -> Peer:
    messages_in, messages_out, octets_in, octets_out, dropped = _counts(connection)
    request = connection.request
    return Peer(
        id=str(connection.id),
        address=_spelled(connection._ticket.address),
        path=_cut(request.path),
        agent=_cut(", ".join(request.headers.get_all("User-Agent"))),
        open=connection._protocol.state is State.OPEN,
        age=age,
        messages_in=messages_in,
        messages_out=messages_out,
        octets_in=octets_in,
        octets_out=octets_out,
        receive_queue=len(connection._inbox),
        write_queue=_write_queue(connection),
        dropped=dropped,
        latency=connection.latency or None,
    )


def _spelled(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
        return _cut(f"{host}:{address[1]}" if address[1] is not None else str(host))
    return _cut(str(address or "a Unix socket"))


def _cut(text: str) -> str:
    """For people to read: no control characters, nor those that turn the direction of what follows."""
    text = text[: _LONGEST + 1]
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
