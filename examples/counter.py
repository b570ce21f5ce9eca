"""A counter that everybody shares: whoever is connected sees it move, and how many others look on.

    python examples/counter.py --port 8765

Send the text "plus" or "minus" (``python -m websock connect ws://127.0.0.1:8765/`` will do, in several terminals).
All get {"value": 3} when the counter changes, and {"users": 2} when somebody comes or goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from websock.asyncio import ServerConnection, broadcast, serve


class Counter:
    """State that all connections share. It needs no lock: asyncio runs one task at a time, up to its next await."""

    def __init__(self) -> None:
        self.value = 0
        self.users: set[ServerConnection] = set()

    def tell_all(self, **news: int) -> None:
        # Encoded once, queued for everybody, and no await: a user who reads slowly delays nobody else.
        broadcast(self.users, json.dumps(news))

    async def serve(self, ws: ServerConnection) -> None:
        """Serve one user, from coming to going."""
        self.users.add(ws)
        try:
            self.tell_all(users=len(self.users))
            await ws.send(json.dumps({"value": self.value}))
            async for message in ws:
                if message not in ("plus", "minus"):
                    await ws.close(1008, "say plus or minus")  # 1008: policy violation
                    return
                self.value += 1 if message == "plus" else -1
                self.tell_all(value=self.value)
        finally:  # also for a user who vanished
            self.users.remove(ws)
            self.tell_all(users=len(self.users))


async def main(host: str, port: int) -> None:
    async with serve(Counter().serve, host, port) as server:
        port = server.sockets[0].getsockname()[1]  # with --port 0, the system has chosen one
        print(f"listening on ws://{host}:{port}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    parser.add_argument("--port", default=8765, type=int, help="default: %(default)s; 0 for any free one")
    try:
        asyncio.run(main(**vars(parser.parse_args())))
    except KeyboardInterrupt:
        pass  # the way to stop it; the users were told "going away"
