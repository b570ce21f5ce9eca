"""What the tests of deployment share: it is that of serving."""

from __future__ import annotations

from ..serving.conftest import served, start  # noqa: F401 - pytest looks for fixtures here
from ..sockets import logs, nothing_left_behind, short_path  # noqa: F401 - as above
