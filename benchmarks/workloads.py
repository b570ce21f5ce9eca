"""What is measured."""

from __future__ import annotations

from dataclasses import dataclass

from contenders import Contender

RATE, MEMORY = "/s", "KiB"


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        name: for ``--only``, and in the results.
        title: for people.
        kind: echo, storm, broadcast, deflate, client, sansio or hold: what `turns.Turns` does.
        arguments: for the load or the worker, without port and seconds.
        variant: of the servers.
        chart: it has a panel in the chart.
        slow: left out of the quick mode.
        rounds: at most so many, for what takes long and varies little.
        thousands: there are so many connections that a thread for each is no use.
        unit: of the value.
    """

    name: str
    title: str
    kind: str
    arguments: tuple[str, ...] = ()
    variant: str = "plain"
    chart: bool = False
    slow: bool = False
    rounds: int = 1000
    thousands: bool = False
    unit: str = RATE

    @property
    def lower_is_better(self) -> bool:
        return self.unit == MEMORY

    @property
    def serial(self) -> bool:
        """Whether one message is under way at a time."""
        return self.kind == "client" or (self.kind in ("echo", "storm", "deflate") and self.arguments[0] == "1")

    def fits(self, contender: Contender) -> bool:
        """Whether the contender can take part."""
        if self.kind == "client":
            return contender.client
        if self.kind == "sansio":
            return contender.sansio
        if contender.raw and self.kind != "echo":
            return False
        return self.variant in contender.variants and not (self.thousands and contender.threaded)


def _echo(
    name: str, title: str, connections: int, pipeline: int, size: int, variant: str = "plain", chart: bool = False
) -> Workload:
    return Workload(name, title, "echo", (str(connections), str(pipeline), str(size)), variant, chart)


def _held(count: int, rounds: int, slow: bool = False, thousands: bool = False) -> list[Workload]:
    """Two results from one turn: the memory of so many idle connections, and the rate when all are active."""
    idle = Workload(
        f"idle-{count}",
        f"memory of an idle connection, of {count:,}",
        "hold",
        (str(count), "256"),
        slow=slow,
        rounds=rounds,
        thousands=thousands,
        unit=MEMORY,
    )
    return [idle, Workload(f"active-{count}", f"echo, {count:,} connections, 256 B", "")]


def _sansio(what: str, size: int, title: str) -> Workload:
    kind = "masked text" if what == "decode" else "text, masked"
    return Workload(f"{what}-{size}", f"{what} {title} of {kind}, no sockets", "sansio", (what, str(size)))


WORKLOADS: list[Workload] = [
    _echo("echo-16", "echo, 1 connection, 16 B", 1, 1, 16),
    _echo("echo-256", "echo, 1 connection, 256 B", 1, 1, 256, chart=True),
    _echo("echo-8k", "echo, 1 connection, 8 KiB", 1, 1, 8192),
    _echo("echo-64k", "echo, 1 connection, 64 KiB", 1, 1, 65536, chart=True),
    _echo("echo-1m", "echo, 1 connection, 1 MiB", 1, 1, 2**20),
    _echo("echo-16x256", "echo, 16 connections, 256 B", 16, 1, 256, chart=True),
    _echo("pipelined", "echo, 64 connections, 16 pipelined, 64 B", 64, 16, 64, chart=True),
    Workload("client-256", "client of a C server, 256 B", "client", ("256",), chart=True),
    Workload("client-100k", "client of a C server, 100 KiB", "client", (str(100 * 1024),)),
    Workload("handshakes-1", "handshakes, 1 at a time", "storm", ("1",)),
    Workload("handshakes-64", "handshakes, 64 at a time", "storm", ("64",), chart=True),
    Workload("broadcast", "broadcast of 128 B to 500, deliveries", "broadcast", ("500", "128"), "broadcast"),
    Workload("deflate-1", "deflate echo, 1 connection, 1 KiB of JSON", "deflate", ("1",), "deflate"),
    Workload("deflate-16", "deflate echo, 16 connections, 1 KiB of JSON", "deflate", ("16",), "deflate"),
    _echo("tls-256", "TLS echo, 1 connection, 256 B", 1, 1, 256, variant="tls"),
    _echo("tls-64k", "TLS echo, 1 connection, 64 KiB", 1, 1, 65536, variant="tls"),
    *(
        _sansio(what, size, title)
        for what in ("decode", "encode")
        for size, title in ((64, "64 B"), (1024, "1 KiB"), (65536, "64 KiB"))
    ),
    *_held(2000, rounds=3),
    *_held(5000, rounds=1, slow=True, thousands=True),
    *_held(10000, rounds=1, slow=True, thousands=True),
]
BY_NAME = {workload.name: workload for workload in WORKLOADS}
RUNNABLE = [workload for workload in WORKLOADS if workload.kind]


def active(idle: Workload) -> Workload:
    """The second result of a turn that holds connections."""
    return BY_NAME[idle.name.replace("idle", "active")]
