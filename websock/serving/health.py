"""An answer for health checks, so that a proxy knows which server to send clients to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.endpoint import Endpoint
from ..http11 import Request, Response

__all__ = ["answering"]

Hook = Callable[[Any, Request], Any]


def answering(path: str, then: Hook | None) -> Hook:
    """A ``process_request`` that answers ``GET path`` with 200, and leaves the rest to `then`.

    It is answered by the process that would open connections, in its event loop or by its threads: what answers
    could serve. Who stops listens no more, which is all that a check needs to see.

    Raises:
        TypeError, ValueError: it is no path.
    """
    if not isinstance(path, str):
        raise TypeError(f"health is a path such as '/healthz', not {path!r}")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or set(path) & set(" ?#"):
        raise ValueError(f"health is a path such as '/healthz', not {path!r}")

    def process_request(connection: Endpoint, request: Request) -> Response | Any:
        if request.path.partition("?")[0] == path:
            return connection.respond(200, "OK\n")
        return None if then is None else then(connection, request)

    return process_request
