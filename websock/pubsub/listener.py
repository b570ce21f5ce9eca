"""A program's own part in a topic, without a connection."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .events import Event
from .member import Subscribed

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Listener"]


class Listener:
    """A function that hears what is published to a topic; made by `Hub.listen`. As a context manager it leaves at the
    end.

    Attributes:
        topic: the topic's name.
        subscribed: how it began.
    """

    subscribed: Subscribed

    def __init__(self, hub: Hub, topic: str, heard: Callable[[Event], object]) -> None:
        self.topic = topic
        self._hub = hub
        self._heard = heard
        self._left = False

    def __repr__(self) -> str:
        return f"<Listener {self.topic!r} {self._heard!r}>"

    def leave(self) -> None:
        """Hear no more, also not what is on its way. Again is no error."""
        if not self._left:
            self._left = True
            self._hub._unlisten(self)

    def _tell(self, event: Event) -> None:
        if self._left:
            return
        try:
            self._heard(event)
        except Exception:
            self._hub.logger.exception("a listener of %.100r failed", self.topic)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
