"""What a server tells whoever wants to count: nothing, unless ``serve`` was given an `Observer`.

Strategy: all of it happens once for a connection or less often. What happens for every message is counted by the
`Protocol` that an observer makes, in place of the plain one; so it costs nothing where there is none.
"""

from __future__ import annotations

from typing import Any

from ..http11 import Response
from .endpoint import Endpoint
from .protocol import Protocol

__all__ = ["Observer"]


class Observer:
    """Watches servers. A blocking one calls it from many threads."""

    def begin(self, server: Any) -> None:
        """A server is about to serve; of asyncio, in its event loop."""

    def end(self, server: Any) -> None:
        """It is over, or given up. Called once for each `begin`."""

    def protocol(self, **how: Any) -> Protocol:
        """What an open connection is made of; `how` is for `Protocol`."""
        return Protocol(**how)

    def handshake(self, response: Response | None, failure: BaseException | None) -> None:
        """An opening handshake was answered with `response`, or ended without an answer."""

    def opened(self, connection: Endpoint) -> None:
        """A connection is open; its first message has not come."""

    def left(self, connection: Endpoint) -> None:
        """The transport of an open connection is gone."""

    def failed(self) -> None:
        """A handler, ``on_message`` or a hook of the handshake has raised."""
