"""A hub that has just begun: what it knows of the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from websock.asyncio import connect, serve
from websock.pubsub import Hub


def test_a_new_hub_knows_who_is_with_the_others(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.pubsub.hub.GREET", 2.0)  # on a machine that stalls

    async def main() -> None:
        place = f"workers:{short_path}/hub"
        here = asyncio.Event()

        async with Hub(place, presence=True, patience=20.0) as old:

            async def handler(ws: Any) -> None:
                async with old.join(ws, user="ann") as member:
                    await member.subscribe("room/1")
                    here.set()
                    await ws.wait_closed()

            async with serve(handler, "localhost", 0) as server:
                host, port = server.sockets[0].getsockname()[:2]
                async with connect(f"ws://{host}:{port}/"):
                    await asyncio.wait_for(here.wait(), 30)
                    async with Hub(place, presence=True, patience=20.0) as new:
                        assert [one.user for one in await new.present("room/1")] == ["ann"]

    asyncio.run(main())
