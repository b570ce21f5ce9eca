"""What the tests of hubs share."""

from __future__ import annotations

from ..sockets import logs, nothing_left_behind, pytest_collection_modifyitems, short_path  # noqa: F401 - fixtures
