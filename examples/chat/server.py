"""A chat in the browser: whoever has the page open talks to everybody else who has.

    python examples/chat/server.py --host 127.0.0.1 --port 8765

The page (page.html) is at `/`, its WebSocket at `/ws`. There is one room and no history.

Each message is a JSON object in a text frame. The page sends
    {"type": "join", "nick": "Ada"}        come in: once, before anything is said
    {"type": "say", "text": "Hello!"}      say this to all
    {"type": "ping"}                       are you there? (a page cannot send a WebSocket ping)

and the server
    {"type": "welcome", "nick": "Ada", "here": ["Bob", "Ada"], "max_text": 2000}    you are in
    {"type": "joined", "nick": "Cy"}       somebody came
    {"type": "left", "nick": "Cy"}         somebody went
    {"type": "said", "nick": "Ada", "text": "Hello!"}   to all, Ada too: for her it is the receipt
    {"type": "pong"}                       I am here
    {"type": "error", "code": "too-fast", "text": "Not so fast...", "wait": 1.5}    not done:
            "text" tells a person why, "code" a program; "wait", in seconds, comes with "too-fast" only
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import signal
import sys
import unicodedata
from pathlib import Path
from typing import Any

from websock import Request, Response
from websock.asyncio.server import ServerConnection, broadcast, serve
from websock.exceptions import ConnectionClosed

MAX_NICK = 32  # characters
MAX_TEXT = 2000  # characters
MAX_SIZE = 32 * 1024  # bytes in a message: MAX_TEXT characters fit, even if each is written "\ud83d\ude00"
BURST = 8  # so many messages may be said at once,
PACE = 1.0  # then one in so many seconds

Message = dict[str, Any]


class Guest:
    """Somebody with the page open; without a name until they join."""

    def __init__(self, websocket: ServerConnection) -> None:
        self.websocket = websocket
        self.nick = ""
        self.due = 0.0  # when the pace will have caught up with all that was said

    def must_wait(self, now: float) -> float:
        """Let BURST messages pass at once, then one every PACE seconds; return the seconds to wait, or 0."""
        due = max(self.due, now) + PACE
        wait = max(0, due - now - BURST * PACE)
        if not wait:
            self.due = due
        return wait


class Room:
    """Who is here. Only `attend` waits, and only for its own guest: a slow one delays nobody else."""

    def __init__(self) -> None:
        self.guests: dict[str, Guest] = {}

    async def attend(self, websocket: ServerConnection) -> None:
        """Serve one guest, from the first message to the end of the connection."""
        guest = Guest(websocket)
        try:
            async for message in websocket:
                reply = self.handle(guest, message)
                if reply:
                    await websocket.send(json.dumps(reply))
        except ConnectionClosed:
            pass  # without a goodbye, but gone all the same
        finally:
            if guest.nick:
                del self.guests[alike(guest.nick)]
                self.tell_all({"type": "left", "nick": guest.nick})

    def handle(self, guest: Guest, message: str | bytes) -> Message | None:
        """Do what the message asks for; return what only this guest is told."""
        try:
            request = json.loads(message) if isinstance(message, str) else None
        except (ValueError, RecursionError):  # not JSON; "[[[[[[..."
            request = None
        match request:
            case {"type": "join", "nick": str(nick)} if not guest.nick:
                return self.join(guest, nick.strip())
            case {"type": "say", "text": str(text)} if guest.nick:
                return self.say(guest, text.strip())
            case {"type": "ping"}:
                return {"type": "pong"}
        return refusal("unexpected", "The server did not expect this message.")

    def join(self, guest: Guest, nick: str) -> Message:
        if not 1 <= len(nick) <= MAX_NICK or not nick.isprintable():
            return refusal("nick-invalid", f"A name has 1 to {MAX_NICK} characters, all of them visible.")
        if alike(nick) in self.guests:
            return refusal("nick-taken", f"Somebody here is called {nick}. Please choose another name.")
        self.tell_all({"type": "joined", "nick": nick})
        guest.nick = nick
        self.guests[alike(nick)] = guest
        here = [other.nick for other in self.guests.values()]
        return {"type": "welcome", "nick": nick, "here": here, "max_text": MAX_TEXT}

    def say(self, guest: Guest, text: str) -> Message | None:
        if not 1 <= len(text) <= MAX_TEXT:
            return refusal("text-invalid", f"A message has 1 to {MAX_TEXT} characters, this one {len(text)}.")
        if wait := guest.must_wait(asyncio.get_running_loop().time()):
            return refusal("too-fast", "Not so fast: please wait a moment.", wait=round(wait + 0.05, 1))
        self.tell_all({"type": "said", "nick": guest.nick, "text": text})
        return None

    def tell_all(self, message: Message) -> None:
        broadcast([guest.websocket for guest in self.guests.values()], json.dumps(message))


def refusal(code: str, text: str, **more: float) -> Message:
    return {"type": "error", "code": code, "text": text, **more}


def alike(nick: str) -> str:
    """Give names that look the same, as "Ada" and " ADA" do, the same key."""
    return " ".join(unicodedata.normalize("NFKC", nick).casefold().split())


PAGE = Path(__file__).with_name("page.html").read_text("utf-8")
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#4f46e5"
d="M8 3h16a6 6 0 0 1 6 6v9a6 6 0 0 1-6 6H14l-8 6v-6.4a6 6 0 0 1-4-5.6V9a6 6 0 0 1 6-6z"/></svg>"""
FILES = {"/": ("text/html; charset=utf-8", PAGE), "/favicon.ico": ("image/svg+xml", ICON)}


def own(tag: str) -> str:
    """Name the page's own <script> or <style> by its hash, so that the browser runs no other."""
    content = PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {own('script')}; style-src {own('style')}; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """Answer plain HTTP; None lets the request go on to become a WebSocket."""
    path = request.path.partition("?")[0]
    if path == "/ws":
        return None
    kind, text = FILES.get(path, ("text/plain; charset=utf-8", "Nothing here. The chat is at /\n"))
    response = connection.respond(200 if path in FILES else 404, text)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = kind
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


async def run(host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM, then close every connection with 1001, "going away"."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        # A guest who vanished is noticed within 30 seconds, and holds up the end for 2 at most.
        server = await serve(
            Room().attend, host, port, process_request=answer, max_size=MAX_SIZE, ping_interval=10, close_timeout=2
        )
    except OSError as error:
        sys.exit(f"The chat cannot start: {error.strerror or error}")
    async with server:
        address, port = server.sockets[0].getsockname()[:2]
        url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
        print(f"The chat is at {url} (Ctrl-C stops it)", flush=True)
        await stop.wait()


def port(text: str) -> int:
    return range(65536).index(int(text))  # ValueError, and so argparse's error, for what is not there


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat in the browser.", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    parser.add_argument("--port", default=8765, type=port, help="default: %(default)s; 0 takes any free port")
    asyncio.run(run(**vars(parser.parse_args())))
