"""As for the adapters: nothing may be left behind by any test."""

from __future__ import annotations

from ..adapters.conftest import bench
from ..sockets import (
    certificate,
    client_ssl,
    logs,
    nothing_left_behind,
    server_ssl,
    short_path,
)

__all__ = ["bench", "certificate", "client_ssl", "logs", "nothing_left_behind", "server_ssl", "short_path"]
