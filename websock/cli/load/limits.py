"""What the system gives a process of the tool: open files, of which each connection is one, and cores."""

from __future__ import annotations

from typing import Final

__all__ = ["Files", "raise_files", "waited_for_core"]

_OWN: Final = 64  # descriptors that a process needs beside its connections


class Files(Exception):
    """The system allows fewer open files than are needed."""


def raise_files(connections: int) -> None:
    """Let this process, and those that it starts, have so many connections each.

    Raises:
        Files: it may not; the text says how many it needs and has.
    """
    try:
        import resource  # not on Windows, which has no such limit
    except ImportError:
        return
    needed = connections + _OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Files(
            f"{connections:,} connections in one process need {needed:,} open files, and the limit is {hard:,} "
            "(ulimit -Hn): raise it, or share them among more --processes"
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):  # a system with another limit on top
        raise Files(f"{connections:,} connections need {needed:,} open files, and this system allows fewer") from None


def waited_for_core() -> float:
    """Seconds in which the main thread of this process could have run, and others did; 0 where nobody knows."""
    try:
        with open("/proc/self/schedstat", "rb") as file:  # Linux, Documentation/scheduler/sched-stats
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
