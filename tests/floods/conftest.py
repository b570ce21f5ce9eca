"""Makes the benchmarks' attacks importable, and the servers of the adapters' tests usable here."""

from __future__ import annotations

import sys
from pathlib import Path

from ..adapters.conftest import bench, name  # noqa: F401 - pytest looks for fixtures and hooks here
from ..sockets import (  # noqa: F401 - as above
    certificate,
    client_ssl,
    logs,
    nothing_left_behind,
    pytest_collection_modifyitems,
    server_ssl,
    short_path,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
