"""The handler behind the proxies."""

from __future__ import annotations

import json
import os
import signal
from typing import Any


async def handler(ws: Any) -> None:
    async for message in ws:
        match message:
            case "who":  # is asking, and who answers
                seen = {
                    "pid": os.getpid(),
                    "client": ws.remote_address[0],
                    "proxy": ws.proxy_address,
                    "proto": ws.forwarded_proto,
                }
                await ws.send(json.dumps(seen))
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                await ws.send(message)
