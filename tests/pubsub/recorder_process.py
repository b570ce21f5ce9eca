"""A recorder in a process of its own: told what to do by lines, tells what came by lines.

add COUNT           publish so many, one by one          says "added"
cast TEXT           cast                                  says "cast"
wait COUNT          until so many have come              says "came", and checks them
names               says them, as JSON
broker              says whether the broker runs here
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from websock.pubsub.backplane import Backplane
from websock.pubsub.redis import Redis
from websock.pubsub.workers import Workers

from .recorder import Recorder, record, until


def backplane_for(place: str) -> Backplane:
    kind, _, rest = place.partition(":")
    return Workers(rest) if kind == "workers" else Redis(place)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(place: str, origin: str) -> None:
    recorder = Recorder(backplane_for(place))
    await recorder.start()
    await recorder.open("room")
    loop, number = asyncio.get_running_loop(), 0
    say("ready")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, _, rest = line.strip().partition(" ")
        answer: Any = what
        match what:
            case "add":
                for _ in range(int(rest)):
                    number += 1
                    await recorder.add(record(origin, number))
                answer = "added"
            case "cast":
                await recorder.backplane.cast("room", rest.encode())
            case "wait":
                await until(lambda wanted=int(rest): len(recorder.names()) >= wanted, f"{rest} records")  # type: ignore[misc]
                recorder.check()
                answer = "came"
            case "has":
                await until(lambda name=rest: name in recorder.names(), rest)  # type: ignore[misc]
                recorder.check()
            case "names":
                answer = json.dumps(recorder.names())
            case "broker":
                answer = str(getattr(recorder.backplane, "_broker", None) is not None)
        say(answer)
    await recorder.backplane.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
