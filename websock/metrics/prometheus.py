"""What Prometheus asks for: names and types by its conventions. Needs prometheus-client: ``websock[metrics]``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

try:
    import prometheus_client
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeHistogramMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
except ImportError as missing:
    raise ImportError("metrics for Prometheus need prometheus-client: pip install 'websock[metrics]'") from missing

from ..datastructures import Headers
from ..exceptions import CloseCause
from ..http11 import Request, Response, make_response
from .snapshots import Distribution, Snapshot

if TYPE_CHECKING:
    from ..asyncio.server import ServerConnection
    from .recording import Metrics

__all__ = ["Collector", "exposition"]


class Collector(prometheus_client.registry.Collector):
    """Gives a registry of prometheus-client what `Metrics` counts, when it is asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """All families; each is always there, so that a graph has no holes."""
        return families(self._metrics.snapshot())

    def describe(self) -> Iterator[Metric]:
        """Their names, which do not depend on what is going on."""
        return self.collect()


def exposition(metrics: Metrics) -> Callable[[ServerConnection, Request], Response]:
    """What answers a request for ``/metrics``: these, and what prometheus-client knows of process and interpreter."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector(metrics))
    prometheus_client.ProcessCollector(registry=registry)
    prometheus_client.PlatformCollector(registry=registry)

    def answer(connection: ServerConnection, request: Request) -> Response:
        if request.path.partition("?")[0] != "/metrics":
            return make_response(404, "Metrics are at /metrics.\n")
        if request.method not in ("GET", "HEAD"):
            return make_response(405, "Metrics are read with GET.\n", {"Allow": "GET, HEAD"})
        encode, kind = choose_encoder(",".join(request.headers.get_all("Accept")))
        body = encode(registry)
        headers = Headers({"Content-Type": kind, "Cache-Control": "no-store"})
        return Response(200, "OK", headers, body)

    return answer


def families(now: Snapshot) -> Iterator[Metric]:
    """The metrics of one moment."""
    connections = GaugeMetricFamily("websock_connections", "Connections by what they do now.", labels=["state"])
    for name in ("opening", "open", "closing"):
        connections.add_metric([name], getattr(now, name))
    yield connections
    yield CounterMetricFamily("websock_connections_opened", "Connections that were opened.", now.opened)
    closed = CounterMetricFamily("websock_connections_closed", "Connections that ended, by cause.", labels=["cause"])
    for cause in CloseCause:
        closed.add_metric([cause.name.lower()], now.closed.get(cause, 0))
    yield closed
    yield _histogram("websock_connection_duration_seconds", "How long ended connections were open.", now.lifetime)
    handshakes = CounterMetricFamily(
        "websock_handshakes", "Opening handshakes by result: a status, limit, or ended.", labels=["result"]
    )
    for result in sorted({"101", "limit", "ended", *now.handshakes}):
        handshakes.add_metric([result], now.handshakes.get(result, 0))
    yield handshakes
    for name, text, came, went in (
        ("websock_messages", "Complete messages.", now.messages_in, now.messages_out),
        ("websock_bytes", "Octets of frames, with headers and control frames.", now.octets_in, now.octets_out),
    ):
        family = CounterMetricFamily(name, text, labels=["direction"])
        family.add_metric(["in"], came)
        family.add_metric(["out"], went)
        yield family
    for name, text, queue in (
        ("websock_receive_queue_messages", "Messages that wait for the program", now.receive_queue),
        ("websock_write_queue_bytes", "Octets that wait for the peer", now.write_queue),
    ):
        yield GaugeHistogramMetricFamily(name, f"{text}, by connection.", _buckets(queue), queue.sum)
        yield GaugeMetricFamily(f"{name}_max", f"{text}, in the fullest connection.", queue.most)
    yield CounterMetricFamily("websock_broadcasts_dropped", "Broadcasts not sent to a slow peer.", now.dropped)
    yield _histogram("websock_ping_latency_seconds", "From a ping to its answer.", now.latency)
    if now.lag is not None:
        yield _histogram("websock_event_loop_lag_seconds", "How late the event loop is.", now.lag)
    yield CounterMetricFamily("websock_handler_errors", "Exceptions of handlers and hooks.", now.handler_errors)
    if (backplane := now.backplane) is not None:
        up = {"up": 1.0, "down": 0.0}.get(backplane.state)
        if up is not None:
            yield GaugeMetricFamily("websock_backplane_up", "1 when it connects us with other processes.", up)
        for name, text, value in (
            ("pending", "Records that are not spread yet.", backplane.pending),
            ("topics", "Topics that are followed here.", backplane.topics),
            ("members", "Connections in the hub.", backplane.members),
        ):
            yield GaugeMetricFamily(f"websock_backplane_{name}", text, value)
        yield CounterMetricFamily(
            "websock_backplane_not_spread", "Records that others will never have.", backplane.not_spread
        )


def _buckets(values: Distribution) -> list[tuple[str, float]]:
    bounds = ["+Inf" if math.isinf(one) else str(float(one)) for one in (*values.bounds, math.inf)]
    return list(zip(bounds, map(float, itertools.accumulate(values.counts)), strict=True))


def _histogram(name: str, text: str, values: Distribution) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, _buckets(values), values.sum)
