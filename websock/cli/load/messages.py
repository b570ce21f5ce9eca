"""Messages that can be told from each other, and what became of them.

A message is 16 hexadecimal digits, 6 for its connection and 10 for its number there, and then a filling that depends
on its size alone. So an answer tells which message it is to, and whether it was altered.
"""

from __future__ import annotations

import enum
import random
from typing import Final

from ...typing import Data

__all__ = ["HEAD", "Messages", "Order", "Seen"]

HEAD: Final = 16  # octets; no message can be smaller
_DIGITS: Final = 6  # of them for the connection
_HOLES: Final = 1024  # missing numbers that are remembered for each connection
_BLOCK: Final = 2**18  # octets after which the filling repeats itself: more than a window of DEFLATE, which is 2**15
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Messages:
    """Makes the messages of all connections, and reads answers.

    Args:
        sizes: octets; the messages of a connection have them in turn.
        binary: bytes, not text.
    """

    def __init__(self, sizes: tuple[int, ...], *, binary: bool) -> None:
        self.sizes = sizes
        self._binary = binary
        chance = random.Random("websock bench")  # noqa: S311 - all processes have the same
        length = max(sizes) - HEAD
        block = "".join(chance.choices(_LETTERS, k=min(length, _BLOCK)))  # which compresses to three quarters
        longest = (block * -(-length // _BLOCK))[:length]
        self._text = [longest[: size - HEAD] for size in sizes]
        self._bytes = [one.encode() for one in self._text]

    def make(self, connection: int, number: int) -> Data:
        """The message with this number of a connection."""
        which = number % len(self.sizes)
        head = f"{connection:06x}{number:010x}"
        return head.encode() + self._bytes[which] if self._binary else head + self._text[which]

    def size(self, number: int) -> int:
        """Octets."""
        return self.sizes[number % len(self.sizes)]

    def number(self, message: Data, connection: int) -> int:
        """Which message of a connection that is; -1: none, as far as one can tell."""
        head = message[:HEAD]
        if len(head) < HEAD:
            return -1
        try:
            if int(head[:_DIGITS], 16) == connection:
                return int(head[_DIGITS:], 16)
        except ValueError:  # no digits
            pass
        return -1

    def intact(self, message: Data, connection: int, number: int) -> bool:
        """Whether a message is as `make` made it."""
        which = number % len(self.sizes)
        if len(message) != self.sizes[which] or isinstance(message, str) is self._binary:
            return False
        head = f"{connection:06x}{number:010x}"
        if isinstance(message, str):
            return message.startswith(head) and message.endswith(self._text[which])
        return message.startswith(head.encode()) and message.endswith(self._bytes[which])


class Seen(enum.Enum):
    """What the number of an answer tells. Members are compared by identity, so they cost nothing to compare."""

    NEXT = enum.auto()  # no later one has come
    LATE = enum.auto()  # a later one has come before it
    AGAIN = enum.auto()


class Order:
    """The numbers that have come on a connection.

    While they come in order that is one number. Those that are left out are remembered, the last 1,024 of them; one
    from before that, which would come very late indeed, counts as lost, and as doubled when it comes.

    Attributes:
        next: the lowest number above all that have come.
    """

    __slots__ = ("_forgotten", "_holes", "next")

    def __init__(self) -> None:
        self.next = 0
        self._holes: dict[int, None] | None = None
        self._forgotten = 0

    def take(self, number: int) -> Seen:
        """This one has come."""
        if number == self.next:
            self.next = number + 1
            return Seen.NEXT
        if number > self.next:
            holes = self._holes = self._holes or {}
            kept = max(self.next, number - _HOLES)
            self._forgotten += kept - self.next
            for hole in range(kept, number):
                holes[hole] = None
            while len(holes) > _HOLES:
                del holes[next(iter(holes))]
                self._forgotten += 1
            self.next = number + 1
            return Seen.NEXT
        if self._holes is not None and number in self._holes:
            del self._holes[number]
            return Seen.LATE
        return Seen.AGAIN

    @property
    def lost(self) -> int:
        """How many were left out, and have not come."""
        return self._forgotten + (len(self._holes) if self._holes is not None else 0)
