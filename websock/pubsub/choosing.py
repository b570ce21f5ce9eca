"""Which backplane an address says. It is imported when it is wanted: each needs something that not all have."""

from __future__ import annotations

import importlib
from typing import cast

from .backplane import Backplane

__all__ = ["backplane_named"]


def backplane_named(name: str, history_octets: float) -> Backplane:
    """The one that an address says.

    Args:
        history_octets: what it may keep, where it is ours.

    Raises:
        ValueError: there is none of that kind.
    """
    kind, _, rest = name.partition(":")
    if kind == "workers":
        return cast(
            "Backplane", importlib.import_module(".workers", __package__).Workers(rest, history_octets=history_octets)
        )
    if kind in ("redis", "rediss", "unix"):
        return cast("Backplane", importlib.import_module(".redis", __package__).Redis(name))
    raise ValueError(f"a backplane is redis://..., rediss://..., unix://... or workers:/path, not {name!r}")
