"""How a server spreads its work: one handler, one switch. See `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from ..sync.models import Job, Model, Threads
    from .event_loop import EventLoop
    from .loading import LoadError
    from .pool import Pool
    from .prefork import StartError
    from .processes import Processes
    from .running import MODELS, Serving, run

__getattr__, __dir__ = lazily(
    __name__,
    {
        "event_loop": ("EventLoop",),
        "loading": ("LoadError",),
        "pool": ("Pool",),
        "prefork": ("StartError",),
        "processes": ("Processes",),
        "running": ("MODELS", "Job", "Model", "Serving", "Threads", "run"),
    },
)

__all__ = [
    "MODELS",
    "EventLoop",
    "Job",
    "LoadError",
    "Model",
    "Pool",
    "Processes",
    "Serving",
    "StartError",
    "Threads",
    "run",
]
