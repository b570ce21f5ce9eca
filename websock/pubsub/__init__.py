"""Topics, presence, history and direct messages, over one process or many: see `Hub`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .backplane import Added, Backplane, Opened, Receiver
    from .blocking import BlockingHub, BlockingListener, BlockingMember, BlockingReceipt
    from .errors import BackplaneDown, BackplaneFull, HubClosed, HubError, NotHere, NotSpread, TooManyTopics
    from .events import Event, to_json
    from .history import History
    from .hub import Hub, HubState
    from .listener import Listener
    from .member import Member, Subscribed
    from .positions import Cursor, Position, Record
    from .presence import Present
    from .receipts import Receipt
    from .redis import Redis
    from .workers import Workers

__getattr__, __dir__ = lazily(
    __name__,
    {
        "backplane": ("Added", "Backplane", "Opened", "Receiver"),
        "blocking": ("BlockingHub", "BlockingListener", "BlockingMember", "BlockingReceipt"),
        "errors": (
            "BackplaneDown",
            "BackplaneFull",
            "HubClosed",
            "HubError",
            "NotHere",
            "NotSpread",
            "TooManyTopics",
        ),
        "events": ("Event", "to_json"),
        "history": ("History",),
        "hub": ("Hub", "HubState"),
        "listener": ("Listener",),
        "member": ("Member", "Subscribed"),
        "positions": ("Cursor", "Position", "Record"),
        "redis": ("Redis",),
        "workers": ("Workers",),
        "presence": ("Present",),
        "receipts": ("Receipt",),
    },
)

__all__ = [
    "Added",
    "Backplane",
    "BackplaneDown",
    "BackplaneFull",
    "BlockingHub",
    "BlockingListener",
    "BlockingMember",
    "BlockingReceipt",
    "Cursor",
    "Event",
    "History",
    "Hub",
    "HubClosed",
    "HubError",
    "HubState",
    "Listener",
    "Member",
    "NotHere",
    "NotSpread",
    "Opened",
    "Position",
    "Present",
    "Receipt",
    "Receiver",
    "Record",
    "Redis",
    "Subscribed",
    "TooManyTopics",
    "Workers",
    "to_json",
]
