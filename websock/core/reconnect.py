"""When to try again: the delays of a reconnecting client, and which failures are worth another try."""

from __future__ import annotations

import random
from collections.abc import Iterator

from ..exceptions import InvalidMessage, InvalidStatus

__all__ = ["backoff", "process_exception"]

_RETRIED = frozenset({500, 502, 503, 504})


def backoff(first: float = 3.0, factor: float = 1.6, longest: float = 60.0) -> Iterator[float]:
    """Seconds to wait before each attempt: the first at random in 0 to 5 s, so that a server that comes back is not
    run over by all its clients at once; then `first`, growing by `factor` to `longest`, a tenth more or less."""
    yield random.uniform(0.0, 5.0)  # noqa: S311 - spreads load, guards nothing
    delay = first
    while True:
        yield delay * random.uniform(0.9, 1.1)  # noqa: S311 - as above
        delay = min(delay * factor, longest)


def process_exception(error: Exception) -> Exception | None:
    """Whether to connect again after `error`: None to do so, an exception to raise.

    The network's errors, cut handshakes and the statuses 500, 502, 503, 504 may pass; all else stays as it is.
    """
    if isinstance(error, OSError | TimeoutError | EOFError | InvalidMessage):
        return None
    if isinstance(error, InvalidStatus) and error.response.status_code in _RETRIED:
        return None
    return error
