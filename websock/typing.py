"""Types that appear in more than one public signature."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, Union

__all__ = ["Buffer", "Data", "HeadersLike", "LoggerLike"]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What can be sent as a binary message; a memoryview must be C-contiguous, of single octets."""

Data: TypeAlias = str | bytes
"""A received message: text is ``str``, binary is ``bytes`` (RFC 6455 section 5.6)."""

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Header fields: a mapping, or pairs of name and value."""

LoggerLike: TypeAlias = Union[logging.Logger, "logging.LoggerAdapter[Any]"]
