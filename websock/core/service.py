"""What a server does between a request and the end of its handler, the same in every adapter."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any

from ..exceptions import CloseCause, ConnectionClosed, InvalidHandshake
from ..http11 import Response
from ..spec import CloseCode
from ..typing import LoggerLike
from .endpoint import Endpoint, log_outcome
from .forwarding import Networks
from .gate import Gate
from .handshake import ServerHandshake, refusal_bytes
from .limits import Limits
from .observer import Observer
from .options import Options
from .protocol import Protocol
from .slow import DEFAULT, SlowConsumers

__all__ = ["HandlerRun", "Service", "check_kind", "handler_kind"]

_DEFAULTS = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The settings of a server, and its hooks: see ``serve``."""

    handler: Callable[[Any], Any]
    options: Options
    logger: LoggerLike
    process_request: Callable[[Any, Any], Any] | None = None
    process_response: Callable[[Any, Any, Any], Any] | None = None
    select_subprotocol: Callable[[Any, Sequence[str]], str | None] | None = None
    server_header: str | None = None
    slow_consumers: SlowConsumers = DEFAULT
    limits: Limits = _DEFAULTS
    trusted_proxies: Networks | None = None
    proxy_protocol: bool = False
    observer: Observer | None = None

    def gate(self) -> Gate:
        """What counts the connections of one server."""
        return Gate(self.limits, self.logger, self.trusted_proxies, self.proxy_protocol)

    def refusal(self, failure: InvalidHandshake, *, secure: bool) -> bytes:
        """What to write to a connection of which nothing is read; nothing where TLS or a proxy has to speak first."""
        if self.observer is not None:
            self.observer.handshake(None, failure)
        return b"" if secure or self.proxy_protocol else refusal_bytes(failure)

    def handshake(self) -> ServerHandshake:
        """The opening handshake of one connection."""
        make = Protocol if self.observer is None else self.observer.protocol
        return ServerHandshake(options=self.options, limits=self.limits, make=make)

    def tell_outcome(self, response: Response | None, failure: BaseException | None, peer: object) -> None:
        """An opening handshake is over, with this answer or without one."""
        log_outcome(self.logger, response, failure, peer)
        if self.observer is not None:
            self.observer.handshake(response, failure)

    def handling(self, connection: Endpoint) -> HandlerRun:
        """The context in which the handler of a connection runs."""
        return HandlerRun(connection.logger, self.observer)

    def __post_init__(self) -> None:
        if not callable(self.handler):
            raise TypeError(f"the handler must be a function, not {self.handler!r}")
        if not isinstance(self.limits, Limits):
            raise TypeError(f"limits must be a Limits or None, not {self.limits!r}")
        if not isinstance(self.proxy_protocol, bool):
            raise TypeError(f"proxy_protocol must be True or False, not {self.proxy_protocol!r}")
        if self.observer is not None and not isinstance(self.observer, Observer):
            raise TypeError(f"metrics must be a websock.metrics.Metrics or None, not {self.observer!r}")

    def answer(self, handshake: ServerHandshake, connection: Endpoint) -> Generator[Any, Any, None]:
        """Answer the request of `handshake`: the user's hooks come first and last (RFC 6455 section 4.2.2).

        Yields what a hook returned, for the adapter to send back, or what it comes to when it is awaited. A hook that
        raises is answered with 500 and logged.
        """
        try:
            response = yield from self._response(handshake, connection)
            if response is not None and not handshake.done:  # else time ran out meanwhile
                handshake.respond(response)
                connection.response = response
        except Exception:
            self.logger.exception("opening handshake failed")
            if self.observer is not None:
                self.observer.failed()
            if not handshake.done:
                handshake.reject(500, "Failed to open a WebSocket connection: internal error.\n")

    def _response(self, handshake: ServerHandshake, connection: Endpoint) -> Generator[Any, Any, Response | None]:
        request = handshake.request
        response: Response | None = None
        if self.process_request is not None:
            response = _checked("process_request", (yield self.process_request(connection, request)))
        if handshake.done:
            return None
        if response is None:
            select = self.select_subprotocol
            response = handshake.answer(
                server_header=self.server_header,
                select_subprotocol=None if select is None else lambda offered: select(connection, offered),
            )
        elif self.server_header is not None and "Server" not in response.headers:
            response.headers["Server"] = self.server_header
        if self.process_response is not None:
            replaced = _checked("process_response", (yield self.process_response(connection, request, response)))
            response = replaced or response
        return response


def check_kind(handler: object, *, asynchronous: bool, model: str) -> None:
    """Refuse a handler that a model cannot run: found now, rather than by the first client.

    Args:
        handler: a function, or an object that is called like one.
        asynchronous: whether the model awaits what the handler returns.
        model: its name.

    Raises:
        TypeError: it is of the other kind; the message names handler and model.
    """
    if not callable(handler):
        raise TypeError(f"the handler must be a function, not {handler!r}")
    kind = handler_kind(handler)
    name = getattr(handler, "__qualname__", None) or repr(handler)
    if kind == "generator":
        raise TypeError(f"the handler {name} is a generator function (it has yield), which no model runs")
    if kind == "coroutine" and not asynchronous:
        raise TypeError(
            f"the handler {name} is a coroutine function (async def), and the model {model!r} calls ordinary functions:"
            " use an event loop, or a handler with def"
        )
    if kind == "function" and asynchronous:
        raise TypeError(
            f"the handler {name} is an ordinary function (def), and the model {model!r} awaits coroutines:"
            " use threads, a pool or processes, or a handler with async def"
        )


def handler_kind(handler: Any) -> str:
    """ "coroutine", "function", "generator", or "either" for a wrapper that does not tell.

    A wrapper (functools.wraps) with ``def`` around ``async def`` most often returns the coroutine.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not (inspect.isroutine(handler) or inspect.isclass(handler)):
        handler = type(handler).__call__
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        return "generator"
    if inspect.iscoroutinefunction(handler):
        return "coroutine"
    return "either" if inspect.iscoroutinefunction(inspect.unwrap(handler)) else "function"


def _checked(hook: str, result: Any) -> Response | None:
    if result is not None and not isinstance(result, Response):
        raise TypeError(f"{hook} must return None or a Response, not {result!r}")
    return result


class HandlerRun:
    """The context in which a handler runs: what it raises ends its connection and nothing else.

    Attributes:
        code: the code to close with afterwards.
        why: what the cause of that is, if it is not that the handler returned.
    """

    __slots__ = ("_logger", "_observer", "code", "why")

    def __init__(self, logger: LoggerLike, observer: Observer | None = None) -> None:
        self._logger = logger
        self._observer = observer
        self.code = CloseCode.NORMAL_CLOSURE
        self.why: CloseCause | None = None

    def __enter__(self) -> HandlerRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, ConnectionClosed):
            return True  # a handler need not catch what ends every connection
        if not isinstance(error, Exception):
            return False
        self._logger.error("connection handler failed", exc_info=error)
        if self._observer is not None:
            self._observer.failed()
        self.code = CloseCode.INTERNAL_ERROR
        self.why = CloseCause.HANDLER_FAILED
        return True
