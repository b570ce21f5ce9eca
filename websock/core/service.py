"""What a server does between a request and the end of its handler, the same in every adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any

from ..exceptions import CloseCause, ConnectionClosed
from ..http11 import Response
from ..spec import CloseCode
from ..typing import LoggerLike
from .endpoint import Endpoint
from .forwarding import Networks
from .gate import Gate
from .handshake import ServerHandshake
from .limits import Limits
from .options import Options
from .slow import DEFAULT, SlowConsumers

__all__ = ["HandlerRun", "Service"]

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

    def gate(self) -> Gate:
        """What counts the connections of one server."""
        return Gate(self.limits, self.logger, self.trusted_proxies, self.proxy_protocol)

    def handshake(self) -> ServerHandshake:
        """The opening handshake of one connection."""
        return ServerHandshake(options=self.options, limits=self.limits)

    def __post_init__(self) -> None:
        if not callable(self.handler):
            raise TypeError(f"the handler must be a function, not {self.handler!r}")
        if not isinstance(self.limits, Limits):
            raise TypeError(f"limits must be a Limits or None, not {self.limits!r}")
        if not isinstance(self.proxy_protocol, bool):
            raise TypeError(f"proxy_protocol must be True or False, not {self.proxy_protocol!r}")

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

    __slots__ = ("_logger", "code", "why")

    def __init__(self, logger: LoggerLike) -> None:
        self._logger = logger
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
        self.code = CloseCode.INTERNAL_ERROR
        self.why = CloseCause.HANDLER_FAILED
        return True
