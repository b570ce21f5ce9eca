"""The settings that both testees share."""

from __future__ import annotations

import argparse
from typing import Any


def parser(description: str) -> argparse.ArgumentParser:
    """Describe a command line with the options of both testees."""
    result = argparse.ArgumentParser(description=description, allow_abbrev=False)
    result.add_argument("--adapter", choices=("asyncio", "sync"), required=True)
    return result


def settings() -> dict[str, Any]:
    """Keyword arguments for `serve` and `connect`.

    Section 9 sends messages of 16 MiB, and nothing but echoes and answers may be on the wire.
    """
    return {"max_size": None, "ping_interval": None}
