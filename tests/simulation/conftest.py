"""Thousands of seeds: as many as WEBSOCK_SEEDS says, or the one that WEBSOCK_SEED names."""

from __future__ import annotations

from ..sockets import logs, nothing_left_behind, pytest_collection_modifyitems  # noqa: F401 - fixtures and hooks
