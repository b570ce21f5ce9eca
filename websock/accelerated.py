"""Whether the native twins are in use: where they were built, unless ``WEBSOCK_PURE=1``.

Attributes:
    ACCELERATED: whether they are.
    REASON: why not; empty if they are.
"""

from __future__ import annotations

import os

__all__ = ["ACCELERATED", "REASON"]

REASON = ""
if os.environ.get("WEBSOCK_PURE", "0") not in ("", "0"):
    REASON = "WEBSOCK_PURE is set"
else:
    try:
        from ._native import speedups  # noqa: F401 - to see whether it is there
    except ImportError as error:
        missing = "cannot import name" in str(error)
        REASON = "not built for this Python" if missing else f"cannot be loaded: {error}"

ACCELERATED = not REASON
