"""Telling systemd how a server is: sd_notify(3), where ``NOTIFY_SOCKET`` is set."""

from __future__ import annotations

import os
import socket
import time

__all__ = ["notify"]


def notify(state: str) -> None:
    """Tell ``READY``, ``RELOADING`` or ``STOPPING``. It is nobody's fault when nobody listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or not hasattr(socket, "AF_UNIX"):
        return
    lines = [f"{state}=1"]
    if state == "READY":
        lines.append(f"MAINPID={os.getpid()}")
    elif state == "RELOADING":
        lines.append(f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.sendto("\n".join(lines).encode(), "\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        pass
