"""A server with a hub, for tests: what a connection says are commands, what it is told are events."""

from __future__ import annotations

import json
import os
from typing import Any

import websock.pubsub.broker
import websock.pubsub.redis
from websock.exceptions import ConnectionClosed
from websock.pubsub.history import History
from websock.pubsub.hub import Hub

websock.pubsub.broker.REBUILD = websock.pubsub.redis.REBUILD = 3.0
# Patient: on a machine that stalls, only what is away is called away.
hub = Hub(history=History(10_000, 2**24, 3600.0), presence=False, patience=20.0)


async def handler(ws: Any) -> None:
    async with hub.join(ws, user=ws.request.path) as member:
        try:
            async for message in ws:
                await _obey(ws, member, json.loads(message))
        except ConnectionClosed:
            pass  # killed, or cut


async def _obey(ws: Any, member: Any, said: dict[str, Any]) -> None:
    match said.pop("do"):
        case "subscribe":
            got = await member.subscribe(said["topic"], after=said["after"])
            await ws.send(json.dumps({"kind": "got", "recovered": got.recovered, "why": got.why, "id": got.id}))
        case "publish":
            receipt = await member.publish(said["topic"], said["data"], uid=said["uid"])
            await receipt.settled()  # who is told so need not try again
            await ws.send(json.dumps({"kind": "published", "uid": said["uid"], "spread": receipt.spread}))
        case "state":
            broker = getattr(hub._backplane, "_broker", None) is not None
            await ws.send(
                json.dumps({"kind": "state", "pid": os.getpid(), "broker": broker, "backplane": hub.state.backplane})
            )
