"""What topics are like: how much of each is kept, and whether it tells who is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from .checks import check_history
from .history import History

__all__ = ["Setting", "Settings"]


class Setting(NamedTuple):
    """What one topic is like."""

    history: History | None
    presence: bool


class Settings:
    """Those of all topics of a hub.

    Args:
        history: of topics for which `change` says nothing else: one for all, or a function of the topic's name.
        presence: likewise.

    Raises:
        TypeError: `history` is none of these.
    """

    def __init__(
        self, history: History | Callable[[str], History | None] | None, presence: bool | Callable[[str], bool]
    ) -> None:
        if not (history is None or isinstance(history, History) or callable(history)):
            raise TypeError(f"history is a History, None or a function, not {history!r}")
        self._history, self._presence = history, presence
        self._own: dict[str, Setting] = {}

    def of(self, name: str) -> Setting:
        """A topic's.

        Raises:
            TypeError: the function of the program gives no `History`.
        """
        found = self._own.get(name)
        if found is not None:
            return found
        history, presence = self._history, self._presence
        return Setting(
            check_history(history(name)) if callable(history) else history,
            presence(name) if callable(presence) else presence,
        )

    def change(
        self, name: str, history: History | Literal["default"] | None, presence: bool | None, *, in_use: bool
    ) -> None:
        """Give a topic its own.

        Raises:
            TypeError: `history` is none.
            RuntimeError: that would change what is in use.
        """
        before = self.of(name)
        new = Setting(
            before.history if history == "default" else check_history(history),
            before.presence if presence is None else presence,
        )
        if new != before and in_use:
            raise RuntimeError(f"the topic {name!r} is in use")
        self._own[name] = new
