"""The version, and what the handshake says of us."""

from __future__ import annotations

import sys

__all__ = ["SERVER", "USER_AGENT", "__version__"]

__version__ = "0.1.0"

_PRODUCT = f"Python/{sys.version_info.major}.{sys.version_info.minor} websock/{__version__}"

USER_AGENT = _PRODUCT
"""Value of the client's User-Agent header."""

SERVER = _PRODUCT
"""Value of the server's Server header."""
