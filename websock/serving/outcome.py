"""How a process ended, in words."""

from __future__ import annotations

import os
import signal

__all__ = ["explain_status", "failed"]


def failed(status: int) -> bool:
    """Whether a status of ``os.waitpid`` is not that of an end as wanted."""
    return status != 0


def explain_status(status: int) -> str:
    """What a status of ``os.waitpid`` says: "was killed by SIGSEGV", "ended with exit status 1"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (core dumped)" if os.WCOREDUMP(status) else "")
