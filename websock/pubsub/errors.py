"""What goes wrong between hubs.

::

    HubError
    +-- BackplaneDown       the service between the hubs is away: whether the last thing was done is not known
    +-- BackplaneFull       too much waits for it already: this message was not taken
    +-- NotSpread           a message was delivered here, and will not reach the other hubs
    +-- NotHere             nobody is connected under this name
    +-- TooManyTopics       one connection asked for more topics than it may have
    +-- HubClosed           the hub has ended

Wrong arguments are ``TypeError`` and ``ValueError``; an answer that does not come is ``TimeoutError``.
"""

from __future__ import annotations

__all__ = ["BackplaneDown", "BackplaneFull", "HubClosed", "HubError", "NotHere", "NotSpread", "TooManyTopics"]


class HubError(Exception):
    """All of them."""


class BackplaneDown(HubError, ConnectionError):
    """The service between the hubs is away: whether the last thing was done is not known."""


class BackplaneFull(HubError):
    """As many messages as may wait for the backplane do: this one was not taken, and nobody has seen it."""


class NotSpread(HubError):
    """A message was delivered to this hub's subscribers, and will not reach those of others."""


class NotHere(HubError):
    """Nobody is connected under this name."""


class TooManyTopics(HubError):
    """A connection has as many topics as it may."""


class HubClosed(HubError):
    """The hub has ended."""
