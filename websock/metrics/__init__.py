"""What a server does, in numbers: for programs, for Prometheus, and on a page. See `Metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .recording import Metrics
    from .snapshots import Backplane, Distribution, Peer, Snapshot

__getattr__, __dir__ = lazily(
    __name__,
    {
        "recording": ("Metrics",),
        "snapshots": ("Backplane", "Distribution", "Peer", "Snapshot"),
    },
)

__all__ = ["Backplane", "Distribution", "Metrics", "Peer", "Snapshot"]
