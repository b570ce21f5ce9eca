"""The client of Redis, which is installed with ``websock[redis]``: the one place that knows it."""

from __future__ import annotations

import urllib.parse
from typing import Any

__all__ = ["client_for", "forgotten"]

_NEEDED = "the backplane redis:// needs the redis client: pip install websock[redis]"


def client_for(url: str, prefix: str, timeout: float) -> tuple[Any, str]:
    """A client for a URL, and the prefix of its keys.

    Raises:
        ImportError: there is none.
        ValueError: no URL of Redis. What it says is not repeated: there may be a password in it.
    """
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ImportError(_NEEDED) from None
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in ("redis", "rediss", "unix"):
        raise ValueError("a URL of Redis begins with redis://, rediss:// or unix://")
    bare, mark, query = rest.partition("?")
    asked = urllib.parse.parse_qsl(query, keep_blank_values=True)
    prefix = dict(asked).get("prefix", prefix)
    others = urllib.parse.urlencode([one for one in asked if one[0] != "prefix"])
    try:
        make: Any = redis.asyncio.Redis.from_url
        client = make(
            f"{scheme}:{bare}" + (f"?{others}" if mark and others else ""),
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # what is lost we must know, and we have waits of our own
            health_check_interval=0,
        )
        client.connection_pool.make_connection()  # what is wrong in the query shows only there
    except (ValueError, TypeError):
        raise ValueError("not a URL of Redis, such as redis://user:password@host:6379/0?prefix=websock") from None
    return client, prefix


def forgotten(error: Exception) -> bool:
    """Whether Redis says that it does not know a script (any more)."""
    import redis.exceptions

    return isinstance(error, redis.exceptions.NoScriptError)
