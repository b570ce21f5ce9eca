"""What a process needs to know to serve, and what one kind of server has in common with the other."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from ..core import draining
from ..typing import LoggerLike
from .certificates import Certificates
from .orders import Do, Order, Orders

__all__ = ["QUICK", "Form", "Plan", "farewell", "goodbye"]

DRAIN: Final = 0.9
"""Part of the time for a graceful stop after which what is left is closed, so that its end fits into the rest,"""
REST: Final = 0.25
"""which is so many seconds, where there are: on a busy machine a thread may have to wait for its turn."""

QUICK: Final = 1.0
"""Seconds that a quick stop gives Close frames to go out, and an aborted handler to notice."""


@dataclasses.dataclass
class Plan:
    """How a process is to serve.

    Attributes:
        handler: what serves a connection; None with ``on_message`` among the options.
        options: keywords of ``serve``.
        certificates: TLS files; None without, or with ``ssl`` among the options.
        grace: seconds from an order to stop until what is left is cut.
        logger: whom it tells.
    """

    handler: Any
    options: Mapping[str, Any]
    certificates: Certificates | None
    grace: float
    logger: LoggerLike

    def keywords(self) -> dict[str, Any]:
        """For ``serve``. The TLS files are read now.

        Raises:
            OSError, ValueError: they cannot be.
        """
        found = {"logger": self.logger, **self.options}
        if self.certificates is not None:
            found["ssl"] = self.certificates.context()
        return found

    def reload(self) -> None:
        """Read again what can be: the TLS files. New connections get them."""
        if self.certificates is None:
            self.logger.info("server has no TLS files to read again; new code needs a supervisor, or a restart")
            return
        try:
            self.certificates.reload()
        except (OSError, ValueError) as error:
            self.logger.error("TLS files are not usable, the old ones stay in use: %s", error)
        else:
            self.logger.info("server has read its TLS files again")


class Form(Protocol):
    """How a process serves: with an event loop, or blocking, with one of its models.

    Attributes:
        name: of the model.
        asynchronous: whether handlers are coroutine functions.
    """

    name: str
    asynchronous: ClassVar[bool]

    def check(self) -> None:
        """Raise what would prevent it from beginning here: ImportError, NotOnThisSystem."""

    def serve(self, plan: Plan, sockets: Sequence[socket.socket], orders: Orders, ready: Callable[[], object]) -> None:
        """Serve until ordered to stop; `ready` is called when it listens."""


def goodbye(server: Any, order: Order, grace: float) -> Any:
    """Stop a server of either adapter as `order` says: **the one place where serving ends connections**.

    Of an asyncio server the closing begins and goes on in the background; of a blocking one it is done when this
    returns. Who calls cuts what is left after `grace` seconds, or after `QUICK` ones.
    """
    if order.do is Do.QUIT or server.draining:
        close = getattr(server, "shutdown", None) or server.close
        return close(code=order.code, reason=order.reason, refuse=order.refuse)
    drained = server.drain(_drain_time(grace), code=order.code, reason=order.reason, refuse=order.refuse)
    return asyncio.ensure_future(drained) if asyncio.iscoroutine(drained) else drained


def farewell(grace: float) -> tuple[Any, ...]:
    """What the jobs of a blocking server are told (`Job.stop`) by the `goodbye` of a SIGTERM."""
    order = Order(Do.STOP)
    return True, order.code, order.reason, order.refuse, draining.PATIENCE * _drain_time(grace)


def _drain_time(grace: float) -> float:
    return max(grace / 2, min(DRAIN * grace, grace - REST))
