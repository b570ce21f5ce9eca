"""Who takes part: each contender is a program of its own, as a server, as a client, or without sockets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from importlib.metadata import PackageNotFoundError, version

OURS, PEER, LIMIT = "ours", "peer", "limit"

_ALL = ("plain", "deflate", "broadcast", "tls")
_PLAIN = ("plain", "broadcast", "tls")


@dataclass(frozen=True)
class Contender:
    """One contender.

    Attributes:
        name: for ``--contenders``, and in the results.
        label: for people.
        program: its name in servers.py, clients.py and sansio.py; "" for the programs in C.
        kind: OURS, PEER or LIMIT: what stands for the machine itself.
        variants: those that its server has; none: it is no server.
        client: it is a client too.
        sansio: it also works without sockets.
        uvloop: it runs on uvloop.
        threaded: it has a thread for each connection.
        raw: it echoes octets, and knows nothing of WebSocket.
        chart: it stands in the chart, where there is no room for all.
        environment: variables that select the twin.
    """

    name: str
    label: str
    program: str
    kind: str = PEER
    variants: tuple[str, ...] = _ALL
    client: bool = True
    sansio: bool = False
    uvloop: bool = False
    threaded: bool = False
    raw: bool = False
    chart: bool = False
    environment: tuple[tuple[str, str], ...] = ()

    def on_uvloop(self, chart: bool = False) -> Contender:
        label = self.label.replace(" (", " (uvloop, ") if "(" in self.label else f"{self.label} (uvloop)"
        return replace(self, name=f"{self.name}-uvloop", label=label, uvloop=True, sansio=False, chart=chart)


def accelerated() -> bool:
    """Whether the native codec is built, and would be used."""
    try:
        from websock.core.accelerate import ACCELERATED  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return False
    return bool(ACCELERATED)


def has_callbacks() -> bool:
    """Whether our `serve` and `connect` take ``on_message``."""
    from websock.asyncio.client import connect
    from websock.asyncio.server import serve

    handler, options = None, {"on_message": print}
    try:
        serve(handler, "127.0.0.1", 0, **options)  # type: ignore[arg-type]  # neither opens anything before it is awaited
        connect("ws://127.0.0.1:1/", **options)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _ours(suffix: str, note: str, environment: tuple[tuple[str, str], ...], callbacks: bool) -> list[Contender]:
    first = Contender(
        f"websock{suffix}", f"websock ({note})", "websock", OURS, sansio=True, chart=True, environment=environment
    )
    callback = replace(
        first,
        name=f"websock{suffix}-callback",
        label=f"websock (callback, {note})",
        program="websock-callback",
        sansio=False,
        chart=not suffix,
    )
    blocking = replace(
        first,
        name=f"websock{suffix}-sync",
        label=f"websock (blocking, {note})",
        program="websock-sync",
        sansio=False,
        threaded=True,
        chart=False,
    )
    found = [first, first.on_uvloop(chart=not suffix)]
    if callbacks:
        found += [callback, callback.on_uvloop(chart=not suffix)]
    return [*found, blocking]


def all_contenders() -> list[Contender]:
    """All that there are on this machine; ours come first, and the first of them is the base of the ratios."""
    native, callbacks = accelerated(), has_callbacks()
    ours = _ours("", "native" if native else "pure", (), callbacks)
    if native:
        ours += _ours("-pure", "pure", (("WEBSOCK_PURE", "1"),), False)
    websockets = Contender("websockets", "websockets", "websockets", sansio=True, chart=True)
    picows = Contender("picows", "picows (callback)", "picows", variants=_PLAIN, chart=True)
    drop_in = Contender("picows-websockets", "picows (websockets API)", "picows-websockets", chart=True)
    aiohttp = Contender("aiohttp", "aiohttp", "aiohttp", chart=True)
    raw = Contender("raw", "asyncio, TCP only", "raw", LIMIT, variants=("plain", "tls"), raw=True, chart=True)
    return [
        *ours,
        websockets,
        websockets.on_uvloop(),
        Contender("websockets-sync", "websockets (blocking)", "websockets-sync", threaded=True),
        picows,
        picows.on_uvloop(chart=True),
        drop_in,
        drop_in.on_uvloop(),
        aiohttp,
        aiohttp.on_uvloop(),
        Contender("tornado", "tornado", "tornado", client=False, chart=True),
        Contender("wsproto", "wsproto (asyncio)", "wsproto", client=False, sansio=True, chart=True),
        Contender("websocket-client", "websocket-client (blocking)", "websocket-client", variants=(), chart=True),
        raw,
        replace(raw.on_uvloop(chart=True), label="uvloop, TCP only"),
        Contender("c", "C (epoll)", "", LIMIT, variants=_PLAIN, chart=True),
    ]


def select(patterns: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    """The names that match one of the patterns, all without patterns; ValueError if one matches none."""
    for pattern in patterns:
        if not matching(names, pattern):
            raise ValueError(f"no {what} matches {pattern!r}: --list shows their names")
    return [name for name in names if not patterns or any(matching([name], pattern) for pattern in patterns)]


def versions() -> dict[str, str]:
    """The versions of what takes part."""
    packages = ("websock", "websockets", "picows", "aiohttp", "tornado", "wsproto", "websocket-client", "uvloop")
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if found["websock"] == "not installed":
        from websock import __version__

        found["websock"] = __version__
    return found


def environment_of(contender: Contender, root: str) -> dict[str, str]:
    """The environment of its process: this tree first, and no wish for a twin but its own."""
    environment = {name: value for name, value in os.environ.items() if name != "WEBSOCK_PURE"}
    path = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return {**environment, "PYTHONPATH": path, **dict(contender.environment)}
