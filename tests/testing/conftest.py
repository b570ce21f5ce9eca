"""What the tests of websock.testing share."""

from __future__ import annotations

from ..sockets import logs, nothing_left_behind, pytest_collection_modifyitems  # noqa: F401 - fixtures and hooks
