"""What may go wrong on the way: `Faults`."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Final, Literal

__all__ = ["Direction", "Faults", "Octet"]

Octet = int | tuple[int, int]
"""Behind how many octets; of a pair, each connection draws its own."""

Direction = Literal["to_server", "to_client"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What happens to connections in memory. Without any, octets arrive at once, whole and for ever.

    Attributes:
        latency: seconds that octets take, each way; of a pair, each write draws its own. Order is kept.
        chop: reads and writes take a part of what they could.
        capacity: octets that may be on their way or wait to be read, in each direction; then writing has to wait.
        reset_at: the connection is reset behind so many octets, of both directions together.
        stall: behind so many octets of one direction, nothing arrives for so many seconds (``math.inf``: never more).
        half_close: behind so many octets of one direction it ends: the receiver finds the end of the stream, and what
            the sender writes is lost.
        direction: of `stall` and `half_close`; None: each connection draws one.
        refuse: how many of 1 connections are refused.
        destroy: a reset destroys what has come and is not read, as on some systems; None: each connection draws it.

    Raises:
        ValueError: a value that makes no sense.
    """

    latency: float | tuple[float, float] = 0.0
    chop: bool = False
    capacity: int = 2**16
    reset_at: Octet | None = None
    stall: tuple[Octet, float] | None = None
    half_close: Octet | None = None
    direction: Direction | None = None
    refuse: float = 0.0
    destroy: bool | None = None

    def __post_init__(self) -> None:
        low, high = self.latency if isinstance(self.latency, tuple) else (self.latency, self.latency)
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"latency is a number of seconds, or the least and the most, not {self.latency!r}")
        if self.capacity < 1:
            raise ValueError(f"capacity is a number of octets from 1, not {self.capacity!r}")
        if not 0 <= self.refuse <= 1:
            raise ValueError(f"refuse is a share from 0 to 1, not {self.refuse!r}")
        if self.direction not in (None, "to_server", "to_client"):
            raise ValueError(f'direction is "to_server", "to_client" or None, not {self.direction!r}')
        if self.stall is not None and not self.stall[1] >= 0:
            raise ValueError(f"stall is how many octets, and how many seconds then, not {self.stall!r}")
        for name, octet in (("reset_at", self.reset_at), ("stall", self.stall and self.stall[0]),
                            ("half_close", self.half_close)):  # fmt: skip
            low, high = octet if isinstance(octet, tuple) else (octet or 0, octet or 0)
            if not 0 <= low <= high:
                raise ValueError(f"{name} counts octets from 0, or is the least and the most, not {octet!r}")

    @classmethod
    def from_seed(cls, seed: int) -> Faults:
        """Some faults or other, the same for the same seed: a third of them harmless (latency, parts, small buffers).

        Args:
            seed: a number.
        """
        draw = random.Random(f"websock faults {seed}")  # noqa: S311 - chance that can be repeated is what it is for
        longest = draw.choice((0.0, 0.001, 0.05, 1.0))
        octet = (0, draw.choice(_SIZES))
        worst = draw.choice((None, None, "reset", "stall", "half_close", "refuse"))
        return cls(
            latency=(longest * draw.choice((0.0, 0.5)), longest),
            chop=draw.random() < 0.5,
            capacity=draw.choice((1000, 2**14, 2**16, 2**18)),
            reset_at=octet if worst == "reset" else None,
            stall=(octet, draw.choice((0.5, 5.0, 60.0, math.inf))) if worst == "stall" else None,
            half_close=octet if worst == "half_close" else None,
            refuse=0.5 if worst == "refuse" else 0.0,
        )

    def seconds(self, chance: random.Random) -> float:
        """How long octets take."""
        return chance.uniform(*self.latency) if isinstance(self.latency, tuple) else self.latency


_SIZES: Final = (200, 500, 2000, 20_000, 200_000)


def drawn(octet: Octet, chance: random.Random) -> int:
    """The number of octets for one connection."""
    return chance.randint(*octet) if isinstance(octet, tuple) else octet
