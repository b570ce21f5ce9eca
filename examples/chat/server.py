"""A chat in the browser: whoever has the page open talks to everybody in the same rooms.

    python examples/chat/server.py --host 127.0.0.1 --port 8765
    python examples/chat/server.py --workers 2 --redis redis://127.0.0.1    several processes, on several hosts

The page (page.html and what it needs) is at `/`, its WebSocket at `/ws`, and `/health` is for load balancers. What the
page and the server say to each other stands in rooms.py, what may be said in rules.py.

There are no accounts: who reaches the page can read and write in every room. So a company puts it behind its own
login, at a proxy that ends TLS. With workers or Redis nobody needs sticky sessions: any server takes over from any
other, and what was said meanwhile comes from the history of the room.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import rules
from rooms import Chat

from websock import Limits, Request, Response, serving
from websock.asyncio.server import ServerConnection
from websock.core.forwarding import Networks
from websock.pubsub import Hub

HERE = Path(__file__).parent
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#4f46e5"
d="M8 3h16a6 6 0 0 1 6 6v9a6 6 0 0 1-6 6H14l-8 6v-6.4a6 6 0 0 1-4-5.6V9a6 6 0 0 1 6-6z"/></svg>"""
HTML, STYLE, SCRIPT, PLAIN = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript", "plain"))
FILES = {
    "/": (HTML, (HERE / "page.html").read_text("utf-8")),
    "/page.css": (STYLE, (HERE / "page.css").read_text("utf-8")),
    **{f"/{name}.js": (SCRIPT, (HERE / f"{name}.js").read_text("utf-8")) for name in ("page", "link", "talk", "view")},
    "/favicon.ico": ("image/svg+xml", ICON),
    "/health": (PLAIN, "ok\n"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer plain HTTP; None lets the request go on to become a WebSocket."""
    path = request.path.partition("?")[0]
    if path == "/ws":
        return None
    kind, text = FILES.get(path, (PLAIN, "Nothing here. The chat is at /\n"))
    if request.method in ("GET", "HEAD"):
        response = connection.respond(200 if path in FILES else 404, text)
    else:
        kind, response = PLAIN, connection.respond(405, "The chat is to be read only.\n")
        response.headers["Allow"] = "GET, HEAD"
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = kind
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def announce(sockets: Sequence[socket.socket]) -> None:
    """Say where the chat is."""
    address, port = sockets[0].getsockname()[:2]
    url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
    print(f"The chat is at {url} (Ctrl-C stops it)", flush=True)


def run(host: str, port: int, workers: int, redis: str, rooms: list[str], trusted_proxy: list[str] | None) -> None:
    """Serve until Ctrl-C or SIGTERM, then close every connection with 1001, "going away"."""

    @functools.cache
    def chat() -> Chat:  # each worker has one of its own
        return Chat(rooms)

    async def attend(websocket: ServerConnection) -> None:
        await chat().attend(websocket)

    try:
        if redis:
            os.environ["WEBSOCK_BACKPLANE"] = redis
            Hub(redis)  # says now what is wrong with it
        serving.run(
            attend,
            host,
            port,
            workers=workers if workers > 1 else None,
            grace=3,
            on_ready=announce,
            process_request=answer,
            trusted_proxies=trusted_proxy,
            max_size=rules.MAX_SIZE,
            # A page that comes back asks for all its rooms at once. Nobody may take all descriptors, of which there are
            # often 1,024: clients are told apart by their address, or the one that a trusted proxy names.
            limits=Limits(messages_per_second=60, per_client=200),
            ping_interval=10,  # who vanished is noticed within 30 seconds
            close_timeout=2,
        )
    except (OSError, ValueError, ImportError, serving.StartError) as error:
        sys.exit(f"The chat cannot start: {getattr(error, 'strerror', None) or error}")


def port(text: str) -> int:
    return range(65536).index(int(text))  # ValueError, and so argparse's error, for what is not there


def number(text: str) -> int:
    return range(1, 1000).index(int(text)) + 1


def room(text: str) -> str:
    try:
        return rules.check_room(text)
    except rules.Refusal as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None


def network(text: str) -> str:
    try:
        Networks([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat in the browser.", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    parser.add_argument("--port", default=8765, type=port, help="default: %(default)s; 0 takes any free port")
    parser.add_argument("--workers", default=1, type=number, help="processes; default: %(default)s")
    parser.add_argument("--redis", default="", metavar="URL", help="where several hosts meet: redis://127.0.0.1")
    parser.add_argument(
        "--rooms", default=["lobby", "help", "random"], nargs="+", type=room, help="that are there for newcomers"
    )
    parser.add_argument(
        "--trusted-proxy", action="append", metavar="NETWORK", type=network,
        help="believe what it says of clients, in Forwarded or X-Forwarded-For: 10.0.0.0/8; repeatable",
    )  # fmt: skip
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    run(**vars(parser.parse_args()))
