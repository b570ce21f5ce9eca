"""The addresses at which metrics can be looked at: a thread with an event loop of its own, while there is a server.

Strategy: it must answer when the program does not, so it shares nothing with its loops and threads but the GIL. What it
speaks is our own HTTP and WebSocket. There are few who ask, and they are trusted to look; so limits are low, and what
is checked is that it is they who ask, and not a page that they have open beside.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..asyncio.server import Server, ServerConnection, serve
from ..core.hosts import checked_hosts
from ..core.limits import Limits
from ..http11 import Request, Response
from ..net.address import Address
from ..net.sockets import listening
from ..typing import LoggerLike
from .page import Page

if TYPE_CHECKING:
    from .recording import Metrics

__all__ = ["Web", "place_of"]

SUCCESSIVE: Final = 1000  # ports that are tried: twice as many workers as there are run during a reload
GOODBYE: Final = 0.3  # seconds for browsers to hear that it is over
_LIMITS: Final = Limits(connections=100, half_open=32)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")

Answer = Callable[[ServerConnection, Request], "Awaitable[Response | None] | Response | None"]
Handler = Callable[[ServerConnection], Awaitable[None]]


def place_of(place: str | int) -> Address:
    """Where to listen: ``"host:port"``, or a port of this machine alone.

    Raises:
        TypeError, ValueError: it is no such place.
    """
    if isinstance(place, bool) or not isinstance(place, str | int):
        raise TypeError(f"an address of metrics is 'host:port' or a port, not {place!r}")
    text = str(place)
    return Address.parse(f"tcp://127.0.0.1:{text}" if text.isascii() and text.isdigit() else f"tcp://{text}")


class Web:
    """Serves what `Metrics` knows.

    Args:
        metrics: it.
        prometheus, page: where; None for not at all.
        hosts: further names by which both may be asked.
        logger: whom it tells where it is.

    Raises:
        ImportError: there is no prometheus-client.
        ValueError: a page for everybody that has no name, or a name that is none.

    Attributes:
        addresses: URLs of what is served now, by name.
    """

    def __init__(
        self,
        metrics: Metrics,
        prometheus: Address | None,
        page: Address | None,
        hosts: Sequence[str],
        logger: LoggerLike,
    ) -> None:
        self._logger = logger
        self._endpoints: list[_Endpoint] = []
        self.addresses: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        own = checked_hosts(hosts)
        if prometheus is not None:
            from .prometheus import exposition

            # A scraper elsewhere asks by whatever name it has been given, and there is nothing in it about anybody.
            names = [*_LOOPBACK, *own] if _is_loopback(prometheus) else own or None
            self._endpoints.append(_Endpoint("prometheus", prometheus, "metrics", exposition(metrics), None, names))
        if page is not None:
            if page.host == "" or _is_any(page.host):
                if not own:
                    raise ValueError(f"a page on every address ({page}) needs hosts=: the names by which it is asked")
                names = [*own]
            else:
                names = [*(_LOOPBACK if _is_loopback(page) else ()), _bracketed(page.host), *own]
            shown = Page(metrics)
            self._endpoints.append(_Endpoint("page", page, "", shown.answer, shown.live, names))
            if not _is_loopback(page):
                logger.warning("the page of metrics is at %s: whoever can connect to it can close connections", page)

    def start(self, *, in_worker: bool) -> None:
        """Listen, and serve in a thread.

        Args:
            in_worker: there are others beside us: when a port is taken, try the next ones.

        Raises:
            OSError: it cannot listen there.
        """
        opened: list[list[socket.socket]] = []
        try:
            for endpoint in self._endpoints:
                opened.append(endpoint.listen(in_worker))
        except BaseException:
            for sock in [sock for sockets in opened for sock in sockets]:
                sock.close()
            raise
        for endpoint, sockets in zip(self._endpoints, opened, strict=True):
            host, port = sockets[0].getsockname()[:2]
            url = self.addresses[endpoint.name] = f"http://{_bracketed(host)}:{port}/{endpoint.path}"
            what = "metrics" if endpoint.name == "prometheus" else endpoint.name
            self._logger.info("%s at %s%s", what, url, ", of this worker alone" if in_worker else "")
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(opened, ready)), name="websock-metrics", daemon=True
        )
        self._thread.start()
        ready.wait()

    async def _run(self, opened: list[list[socket.socket]], ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        stopped = self._stopped = asyncio.Event()
        servers: list[Server] = []
        try:
            for endpoint, sockets in zip(self._endpoints, opened, strict=True):
                servers.append(await endpoint.serve(sockets, self._logger))
            ready.set()
            await stopped.wait()
        finally:
            ready.set()
            for server in servers:
                server.close()
            closing = [asyncio.create_task(server.wait_closed()) for server in servers]
            if closing and (await asyncio.wait(closing, timeout=GOODBYE))[1]:
                for server in servers:
                    for connection in [*server._sessions.values(), *server._untended]:
                        connection.transport.abort()
                    for opening in list(server._openings):
                        opening.cut()
                await asyncio.wait(closing, timeout=GOODBYE)

    def stop(self) -> None:
        """Close all, and wait for it: less than a second."""
        thread, loop, stopped = self._thread, self._loop, self._stopped
        self.addresses = {}
        if thread is None or loop is None or stopped is None:
            return
        self._thread = self._loop = self._stopped = None
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


class _Endpoint:
    """One of the addresses."""

    def __init__(
        self,
        name: str,
        place: Address,
        path: str,
        answer: Answer,
        live: Handler | None,
        hosts: Sequence[str] | None,
    ) -> None:
        self.name = name
        self.path = path
        self._place = place
        self._answer = answer
        self._live = live
        self._hosts = hosts

    def listen(self, successive: bool) -> list[socket.socket]:
        port = self._place.port
        last = min(65535, port + SUCCESSIVE) if successive and port else port
        while True:
            place = self._place.replace(port=port)
            if port < last and _is_taken(place):
                port += 1
                continue
            try:
                return listening(place)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port >= last:
                    raise
                port += 1

    async def serve(self, sockets: list[socket.socket], logger: LoggerLike) -> Server:
        return await serve(
            self._live or _nobody,
            sock=sockets,
            hosts=self._hosts,
            limits=_LIMITS,
            process_request=self._answer,
            compression=None,
            max_size=1024,
            close_timeout=1.0,
            open_timeout=5.0,
            logger=_Quiet(logger, {}),
        )


class _Quiet(logging.LoggerAdapter[Any]):
    """Who looks at metrics every few seconds is no news: errors only."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level >= logging.ERROR and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return msg, kwargs


async def _nobody(connection: ServerConnection) -> None:
    """There are no WebSocket connections where only pages are."""


def _is_taken(place: Address) -> bool:
    """Whether somebody listens there. `listening` would tell who, for which it looks at all processes."""
    with socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((place.host, place.port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(place: Address) -> bool:
    try:
        return ipaddress.ip_address(place.host).is_loopback
    except ValueError:
        return place.host == "localhost"


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
