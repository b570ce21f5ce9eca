"""What a random program does, whichever adapter it is written for, and what must be true of it in the end."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from websock.exceptions import ConnectionClosed, ConnectionClosedOK, KeepaliveTimeout
from websock.testing import Faults
from websock.typing import Data

T = 60.0  # virtual seconds after which everybody closes
BOUND = 200.0  # virtual seconds that a program may take: T, what it sleeps, close timeouts


@dataclasses.dataclass(frozen=True)
class Send:
    """Send a message, whole or in parts; cancel that after so many seconds."""

    message: Data
    parts: int = 0  # 0: whole
    pause: float = 0.0  # between parts
    compress: bool | None = None
    cancel: float | None = None


@dataclasses.dataclass(frozen=True)
class Ping:
    wait: float | None  # for the pong


@dataclasses.dataclass(frozen=True)
class Sleep:
    seconds: float


Step = Send | Ping | Sleep


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one end of a connection does.

    Attributes:
        steps: of the one who sends.
        pace: seconds that the one who receives sleeps now and then.
        rest: how often.
        patience: of its timeouts; None: it waits.
        streaming: how often it takes a message in parts.
        close_at: seconds after which somebody closes, whatever goes on.
        ends: how the one who sends ends: ``close``, ``wait``, ``return`` or ``raise``.
        code, reason: of the Close.
    """

    seed: int
    steps: list[Step]
    pace: float
    rest: float
    patience: float | None
    streaming: float
    close_at: float
    ends: str
    code: int
    reason: str


@dataclasses.dataclass
class End:
    """What one end did, and what became of it."""

    name: str
    plan: Plan
    untended: bool = False  # while the program is not in a call of it: a blocking connection
    sent: list[Data] = dataclasses.field(default_factory=list)
    maybe: list[Data] = dataclasses.field(default_factory=list)  # the last one, which the end interrupted
    received: list[Data] = dataclasses.field(default_factory=list)
    complete: bool = False  # it has received until it was told of the end
    closed: ConnectionClosed | None = None
    ended_at: float = 0.0

    def __str__(self) -> str:
        sizes = f"sent {[len(m) for m in self.sent]} maybe {[len(m) for m in self.maybe]}"
        return f"{self.name}: {sizes} received {[len(m) for m in self.received]}; {self.closed!r} ({self.closed})"


@dataclasses.dataclass
class Run:
    """The ends of one connection; an end is missing when the opening handshake failed there."""

    client: End | None = None
    server: End | None = None
    cut: bool = False  # the blocking server was shut down, perhaps in the middle of an opening handshake


def message(draw: random.Random) -> Data:
    longest = draw.choice((0, 5, 130, 2000, 2000, 70_000, 200_000))
    size = draw.randint(0, longest)
    if draw.random() < 0.3:
        return draw.randbytes(size)
    filler = draw.choice(("x", "é", "€", "0123456789"))
    if draw.random() < 0.5:
        return (filler * size)[:size].encode()
    return f"{draw.random()}{filler * size}"[: max(1, size // len(filler.encode()))]


def plan_of(draw: random.Random) -> Plan:
    steps: list[Step] = []
    for _ in range(draw.randint(0, draw.choice((2, 8, 20)))):
        kind = draw.random()
        if kind < 0.12:
            steps.append(Sleep(draw.choice((0.0, 0.01, 0.5, 3.0))))
        elif kind < 0.2:
            steps.append(Ping(draw.choice((None, 0.0, 2.0))))
        else:
            parts = draw.randint(0, 6) if draw.random() < 0.3 else 0
            steps.append(
                Send(
                    message(draw),
                    parts,
                    draw.choice((0.0, 0.0, 0.2)) if parts else 0.0,
                    draw.choice((None, None, True, False)),
                    draw.choice((0.0, 0.001, 0.3)) if draw.random() < 0.1 else None,
                )
            )
    return Plan(
        seed=draw.getrandbits(32),
        steps=steps,
        pace=draw.choice((0.0, 0.01, 0.5, 3.0)),
        rest=draw.choice((0.0, 0.0, 0.1, 1.0)),
        patience=draw.choice((None, None, 0.0, 0.1, 2.0)),
        streaming=draw.choice((0.0, 0.0, 0.3)),
        close_at=draw.choice((0.0, 0.3, 2.0, 10.0)) if draw.random() < 0.3 else T,
        ends=draw.choice(("close", "close", "wait", "return", "raise")),
        code=draw.choice((1000, 1001, 3000, 4999)),
        reason=draw.choice(("", "bye", "tschüß")),
    )


def options_of(draw: random.Random) -> dict[str, Any]:
    return {
        "ping_interval": draw.choice((None, 1.0, 5.0, 20.0)),
        "ping_timeout": draw.choice((None, 1.0, 20.0)),
        "close_timeout": draw.choice((0.5, 5.0, 10.0)),
        "open_timeout": draw.choice((1.0, 10.0)),
        "max_queue": draw.choice((1, 2, 16, None)),
        "write_limit": draw.choice((1, 1000, 2**15, 2**17)),
        "compression": draw.choice((None, "deflate")),
    }


def faults_of(seed: int) -> Faults:
    return Faults() if seed % 5 == 0 else Faults.from_seed(seed)


class Planned(Exception):
    """What a handler raises because its plan says so."""


class Wrong(AssertionError):
    """What must be true is not."""


def judge(run: Run, faults: Faults) -> None:
    """The invariants of one connection whose program has ended.

    Raises:
        Wrong: one does not hold.
    """
    client, server = run.client, run.server
    for end in (client, server):
        if end is not None and end.closed is None:
            raise Wrong(f"{end.name} was not told how it ended")
    if client is None or server is None:
        alone = client or server
        if alone is not None and alone.received:
            raise Wrong(f"{alone} has received from nobody")
        return
    for sender, receiver in ((client, server), (server, client)):
        _delivered(sender, receiver)
        _agree(sender, receiver)
        if is_sound(faults) and not run.cut:
            tired = [end for end in (client, server) if gave_up(end)]
            quick = is_quick(client) and is_quick(server)
            if not tired and (quick or not any(failed(end) or end.untended for end in (client, server))):
                _told(sender, receiver)
            elif tired and quick:
                raise Wrong(f"{tired[0].name} gave up, though everybody reads\n{client}\n{server}")
    assert client.closed is not None and server.closed is not None
    if client.closed.rcvd_then_sent and server.closed.rcvd_then_sent:
        raise Wrong("each says that the other one closed first")


def _delivered(sender: End, receiver: End) -> None:
    """Once and in order; all of it, where the sender may think so."""
    offered = [*sender.sent, *sender.maybe]
    got = receiver.received
    if got != offered[: len(got)]:
        index = next((i for i, (a, b) in enumerate(zip(got, offered, strict=False)) if a != b), len(offered))
        raise Wrong(f"message {index} is not what was sent\n{sender}\n{receiver}")
    closed, other = sender.closed, receiver.closed
    sure = isinstance(closed, ConnectionClosed) and closed.rcvd_then_sent is False  # the Close, and so all before it
    still_open = other is not None and other.rcvd_then_sent is True  # when it came
    if sure and still_open and receiver.complete and len(got) < len(sender.sent):
        raise Wrong(f"messages are lost, and nobody knows\n{sender}\n{receiver}")


def is_sound(faults: Faults) -> bool:
    """Whether all arrives, and soon."""
    latency = faults.latency if isinstance(faults.latency, tuple) else (0.0, faults.latency)
    return latency[1] <= 0.001 and not any((faults.reset_at, faults.stall, faults.half_close, faults.refuse))


def is_quick(end: End) -> bool:
    """Whether it takes what comes, as long as something comes; and is never away, if that matters."""
    plan = end.plan
    if end.untended and (plan.patience is not None or any(_takes_time(step) for step in plan.steps)):
        return False
    return plan.rest * plan.pace <= 0.01 and (plan.streaming == 0 or plan.patience is None)


def _takes_time(step: Step) -> bool:
    return isinstance(step, Sleep) or (isinstance(step, Send) and step.pause > 0)


def gave_up(end: End) -> bool:
    """Whether it had enough of waiting."""
    return end.closed is not None and isinstance(end.closed.__cause__, TimeoutError | KeepaliveTimeout)


def failed(end: End) -> bool:
    """Whether it gave up the connection, since a message in parts was cancelled; for a second it reads on then."""
    sent = None if end.closed is None else end.closed.sent
    return sent is not None and sent.reason == "error in fragmented message"


def _told(one: End, other: End) -> None:
    """Where the network is sound, a Close arrives, whatever was on its way and whoever did not read."""
    assert one.closed is not None and other.closed is not None
    if one.closed.sent is None:
        raise Wrong(f"{one.name} ended without a Close\n{one}\n{other}")
    if one.closed.sent != other.closed.rcvd and not failed(other):
        raise Wrong(f"{other.name} has not received the Close of {one.name}\n{one}\n{other}")


def _agree(one: End, other: End) -> None:
    assert one.closed is not None and other.closed is not None
    if one.closed.rcvd is not None and one.closed.rcvd != other.closed.sent:
        raise Wrong(f"{one.name} received {one.closed.rcvd}, which {other.name} never sent\n{one}\n{other}")
    if isinstance(one.closed, ConnectionClosedOK) and other.closed.sent is None:
        raise Wrong(f"{one.name} thinks that all is well, and {other.name} has sent no Close\n{one}\n{other}")
    if other.closed.rcvd is None and one.closed.rcvd is None and isinstance(one.closed, ConnectionClosedOK):
        raise Wrong(f"an end without a Close is no good end\n{one}\n{other}")
