"""What the tests of the socket layer share."""

from __future__ import annotations

from ..sockets import (  # noqa: F401 - pytest looks for fixtures and hooks here
    certificate,
    client_ssl,
    logs,
    nothing_left_behind,
    pytest_collection_modifyitems,
    server_ssl,
    short_path,
)
