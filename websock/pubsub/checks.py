"""Arguments that many calls of a hub have, and what is wrong with them."""

from __future__ import annotations

from typing import Final

from .history import History

__all__ = ["MAX_NAME", "check_by", "check_history", "check_last", "check_name"]

MAX_NAME: Final = 200  # characters of a topic, a user or a uid


def check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise ValueError(f"{what} is text, not {name!r}")
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"{what} has 1 to {MAX_NAME} characters, not {len(name):,}")
    if any(character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"{what} has no control characters, unlike {name!a}")


def check_by(by: object) -> None:
    if by is not None and not isinstance(by, str):  # no other hub could read it
        raise TypeError(f"by is the name of a user or None, not {by!r}")


def check_last(last: object) -> None:
    """Raises:
    ValueError: no number of messages.
    """
    if not isinstance(last, int) or isinstance(last, bool) or last < 0:
        raise ValueError(f"last is a number of messages from 0, not {last!r}")


def check_history(history: object) -> History | None:
    if not (history is None or isinstance(history, History)):
        raise TypeError(f"the history of a topic is a History or None, not {history!r}")
    return history
