"""Makes the benchmarks' attacks importable, and the servers of the adapters' tests usable here."""

from __future__ import annotations

import sys
from pathlib import Path

from ..adapters.conftest import (  # noqa: F401 - pytest looks for fixtures and hooks here
    bench,
    certificate,
    client_ssl,
    logs,
    name,
    nothing_left_behind,
    pytest_collection_modifyitems,
    server_ssl,
    short_path,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
