"""The live page: one file without any other resource, and a WebSocket that brings it the numbers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import importlib.resources
import json
import os
import secrets
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from ..asyncio.server import ServerConnection
from ..core.hosts import authority_of
from ..datastructures import Headers
from ..exceptions import CloseCause, ConnectionClosed
from ..http11 import Request, Response, make_response

if TYPE_CHECKING:
    from .recording import Metrics

__all__ = ["Page"]

INTERVAL: Final = 1.0  # seconds between two pictures
SHARE: Final = 20  # taking one may take the 20th part of the time: with very many connections there are fewer
PEERS: Final = 50  # connections that are listed
_ORDERS: Final = ("slowest", "behind", "busiest", "newest")

_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0f766e"/>'
    '<path d="M5 18h5l4-9 5 15 3-6h5" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round" '
    'stroke-linejoin="round"/></svg>'
)


class Page:
    """What the page's address answers.

    Closing a connection is a POST with a token that stands in the page alone: no other site's page can read it, nor
    send the header that it belongs in. Who may read the page at all the names say that it may be asked by.

    Args:
        metrics: what it shows.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._token = secrets.token_urlsafe(24)
        source = importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8")
        self._page = source.replace("{token}", self._token).encode()
        self._headers = Headers(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": "default-src 'none'; "
                f"script-src {_hashed(source, 'script')}; style-src {_hashed(source, 'style')}; img-src 'self'; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                "require-trusted-types-for 'script'; trusted-types 'none'",
                "Cache-Control": "no-store",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            }
        )
        self._pictures: dict[str, tuple[float, str]] = {}  # by order; for all who look at once
        self._interval = INTERVAL

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is asked for; None for the WebSocket."""
        try:
            url = urllib.parse.urlsplit(request.path)
        except ValueError:  # "//[": half an address of IPv6
            return _refused(404, "There is nothing here.")
        if request.method == "POST":
            return self._close(request, url.query) if url.path == "/close" else _refused(404, "There is nothing here.")
        if url.path == "/live":
            return None
        if url.path == "/favicon.svg":
            return Response(200, "OK", Headers({"Content-Type": "image/svg+xml"}), _ICON.encode())
        if url.path != "/":
            return _refused(404, "There is nothing here.")
        if request.method not in ("GET", "HEAD"):
            return _refused(405, "This is a page to be read.")
        return Response(200, "OK", self._headers.copy(), self._page)

    def _close(self, request: Request, query: str) -> Response:
        if not _from_our_page(request) or not self._has_token(request):
            return _refused(403, "Only the page itself may do that. Load it again: the server may be a new one.")
        ids = urllib.parse.parse_qs(query).get("id", [""])
        if not self._metrics.close_connection(ids[0]):
            return _refused(404, "This connection has ended already.")
        return _refused(202, "It is being closed.")

    def _has_token(self, request: Request) -> bool:
        given = request.headers.get_all("X-Token")
        return len(given) == 1 and hmac.compare_digest(given[0].encode(), self._token.encode())

    async def live(self, connection: ServerConnection) -> None:
        """Send pictures until the browser goes; it may ask for another order of the connections."""
        order = _ORDERS[0]
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(self._picture(order))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        asked = await connection.recv()
                        order = str(asked) if asked in _ORDERS else order
                        self._pictures.pop(order, None)

    def _picture(self, order: str) -> str:
        began = time.monotonic()
        taken, text = self._pictures.get(order, (0.0, ""))
        if not text or began - taken >= 0.9 * self._interval:
            text = json.dumps(self._look(order))
            took = time.monotonic() - began
            self._interval = max(INTERVAL, SHARE * took)
            self._pictures[order] = (began, text)
        return text

    def _look(self, order: str) -> dict[str, Any]:
        now = self._metrics.snapshot()
        found = dataclasses.asdict(now)
        found["closed"] = [[one.name, one.value, now.closed[one]] for one in CloseCause if now.closed.get(one)]
        found["peers"] = [dataclasses.asdict(one) for one in self._metrics.peers(PEERS, order)]
        found["order"] = order
        found["pid"] = os.getpid()
        found["worker"] = self._metrics.in_worker
        found["servers"] = self._metrics.listening
        return found


def _from_our_page(request: Request) -> bool:
    """Whether a POST comes from a page of this address: browsers say where from (RFC 6454 section 7)."""
    origin = request.headers.get_all("Origin")
    if len(origin) != 1 or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    scheme, _, rest = origin[0].partition("://")
    return scheme in ("http", "https") and authority_of(rest) == authority_of(request.headers.get("Host", ""))


def _refused(status: int, text: str) -> Response:
    return make_response(status, text + "\n", {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})


def _hashed(source: str, tag: str) -> str:
    """The page's own <script> or <style>, so that the browser runs no other."""
    content = source.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
