"""An echo server with asyncio: every client gets back what it sends.

python examples/echo_server_asyncio.py --host 127.0.0.1 --port 8765
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from websock.asyncio import ServerConnection, serve


async def echo(ws: ServerConnection) -> None:
    """Serve one client. It runs once for each, all at the same time."""
    # The loop ends when the client closes the connection. If it vanishes instead, ConnectionClosedError leaves this
    # function: the server takes that for the ordinary end that it is, so there is no need to catch it.
    async for message in ws:  # text is str, binary is bytes
        await ws.send(message)


async def main(host: str, port: int) -> None:
    async with serve(echo, host, port) as server:
        # Ctrl-C, and SIGTERM from systemd or Docker: tell all clients "going away" (1001), wait for them, and end.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(server.close))
        port = server.sockets[0].getsockname()[1]  # with --port 0, the system has chosen one
        print(f"listening on ws://{host}:{port}/", flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    parser.add_argument("--port", default=8765, type=int, help="default: %(default)s; 0 for any free one")
    asyncio.run(main(**vars(parser.parse_args())))
