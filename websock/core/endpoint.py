"""What a connection tells about itself, the same in every adapter."""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final, NoReturn

from ..exceptions import CloseCause, ConnectionClosed, InvalidState, LimitExceeded
from ..http11 import Request, Response, make_response
from ..spec import CloseCode
from ..typing import Data, LoggerLike
from .extensions import Transform
from .keepalive import Stall
from .protocol import Protocol, State
from .slow import DEFAULT, Backlog, SlowConsumers

__all__ = ["Endpoint"]


class _NotOpen:
    """Stands where the `Protocol` will be while the opening handshake goes on."""

    state = State.CONNECTING
    subprotocol = None
    pipeline = None
    latency = 0.0

    def __getattr__(self, name: str) -> NoReturn:
        raise InvalidState("the opening handshake isn't finished")


NOT_OPEN: Any = _NotOpen()


class Endpoint:
    """The attributes of a connection; the adapters add what does I/O, and keep its fields in slots of theirs.

    Attributes:
        request: the opening request.
        response: the answer to it.
        logger: where this connection logs.
        slow_consumers: what is done with broadcasts that the peer does not take; may be changed at any time.
        dropped: how many broadcasts were not sent to this peer because of that.
    """

    # Of the class until they are something else: most connections never need them.
    slow_consumers: SlowConsumers = DEFAULT
    dropped: int = 0
    _counted: bool = False  # there is a `Gate` that logs those that were over a limit, or too slow
    _backlog: Backlog[Any] | None = None
    # What the native twin counts, past the protocol: octets of frames, and messages; see `Observer`.
    _octets_in: int = 0
    _octets_out: int = 0
    _messages_in: int = 0
    _messages_out: int = 0

    remote_address: Any

    def _too_slow(self) -> None:
        """End the connection with 1013: its peer does not take what is broadcast."""
        raise NotImplementedError

    def __init__(self, logger: LoggerLike) -> None:
        self._protocol: Protocol = NOT_OPEN
        self._id: uuid.UUID | None = None
        self.request: Request | None = None
        self.response: Response | None = None
        self.logger = logger

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} {self.state.name} {self.id}>"

    @property
    def id(self) -> uuid.UUID:
        """A number for this connection, to tell it from others in logs."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def state(self) -> State:
        """Where the connection is: see `State`."""
        return self._protocol.state

    @property
    def subprotocol(self) -> str | None:
        """What the opening handshake agreed on (RFC 6455 section 1.9), or None."""
        return self._protocol.subprotocol

    @property
    def extensions(self) -> tuple[Transform, ...]:
        """The extensions that the opening handshake agreed on (RFC 6455 section 9), as they are in use here."""
        pipeline = self._protocol.pipeline
        return () if pipeline is None else pipeline.transforms

    @property
    def latency(self) -> float:
        """Seconds that the last answered ping took to come back; 0.0 before the first."""
        return self._protocol.latency

    @property
    def close_code(self) -> int | None:
        """The code in the peer's Close; 1006 when the connection ended without one; None before (RFC 6455 7.1.5)."""
        if self.state < State.ENDING:
            return None
        close = self._protocol.close_received
        return CloseCode.ABNORMAL_CLOSURE if close is None else close.code

    @property
    def close_reason(self) -> str | None:
        """The reason in the peer's Close, empty without one; None before the connection ended (RFC 6455 7.1.6)."""
        if self.state < State.ENDING:
            return None
        close = self._protocol.close_received
        return "" if close is None else close.reason

    @property
    def close_exc(self) -> ConnectionClosed | None:
        """What ``recv`` and ``send`` raise now; None before the connection ended."""
        return None if self.state < State.ENDING else self._why_closed()

    def _why_closed(self) -> ConnectionClosed:
        """What the protocol knows of the end; the adapters add what they know."""
        return self._protocol.closed()

    def _warn(self, what: str, details: str = "") -> None:
        """Log what has become of this connection; a server counts those to whom the same has happened.

        Args:
            what: the same text each time.
            details: what differs.
        """
        self.logger.warning("connection with %s %s%s", self.remote_address, what, details and f", {details}")

    def respond(self, status: int, text: str) -> Response:
        """A plain text response, for ``process_request`` and ``process_response`` to return as it is or changed."""
        return make_response(status, text)


def converted(message: Data, decode: bool | None) -> Data:
    """The message as ``recv(decode=)`` asks for it: None as it came, True as ``str``, False as ``bytes``."""
    if decode is None or isinstance(message, str) is decode:
        return message
    return message.encode() if isinstance(message, str) else message.decode()


def code_for(kind: type[BaseException] | None) -> CloseCode:
    """The close code at the end of a ``with`` block, by what ended it; leaving a loop is no error."""
    return CloseCode.NORMAL_CLOSURE if kind is None or kind is GeneratorExit else CloseCode.INTERNAL_ERROR


def log_outcome(logger: LoggerLike, response: Response | None, failure: BaseException | None, peer: object) -> None:
    """One line for an opening handshake: refused ones are news; scans, health checks and pages are not."""
    if response is None:
        logger.debug("connection from %s ended before a handshake: %s", peer, failure or "closed")
    elif response.status_code == 101:
        logger.debug("connection from %s open", peer)
    elif isinstance(failure, LimitExceeded):
        logger.debug("connection from %s rejected (%d): %s", peer, response.status_code, failure)  # counted elsewhere
    elif failure is not None:
        # The failure quotes what a stranger sent: no control characters, and not much of it.
        text = str(failure).encode("ascii", "backslashreplace").decode()
        logger.info("connection from %s rejected (%d): %.200s", peer, response.status_code, text)
    else:
        level = logging.DEBUG if response.status_code < 400 else logging.INFO
        logger.log(level, "connection from %s answered (%d)", peer, response.status_code)


# We gave the connection up: that is worth a line.
_GIVEN_UP: Final = frozenset(
    {
        CloseCause.PEER_SILENT,
        CloseCause.WRITE_STUCK,
        CloseCause.PEER_BROKE_RULE,
        CloseCause.CLOSE_TIMEOUT,
        CloseCause.OVER_LIMIT,
        CloseCause.SLOW_CONSUMER,
    }
)


# A crowd does that at a time: where there is a `Gate`, one line of its tells of all of them.
COUNTED: Final = frozenset({CloseCause.OVER_LIMIT, CloseCause.SLOW_CONSUMER})


def log_end(connection: Endpoint) -> None:
    """One line for the end of a connection; one that we gave up is news, others are not."""
    logger, cause = connection.logger, connection._protocol.ending.cause
    if cause in _GIVEN_UP and not (connection._counted and cause in COUNTED):
        error = connection._why_closed()
        # The text quotes what the peer said: no control characters.
        text = str(error).encode("unicode_escape").decode()
        logger.info("connection with %s given up: %s, %s", connection.remote_address, error.cause.name, text)
    elif logger.isEnabledFor(logging.DEBUG):  # what is not written need not be put together for every connection
        logger.debug("connection closed: %s", connection._why_closed())


def log_stall(connection: Endpoint, stall: Stall, busy: str) -> None:
    """A stall of ours, for which the peer had more time; `busy` says what was, if it was not the queue."""
    why = "handler busy, queue full" if stall.paused else busy
    connection._warn(f"kept: we stalled ({why})", f"for {stall.seconds:.1f} s")


def default_logger(name: str) -> logging.Logger:
    """The logger of a room of the package."""
    return logging.getLogger(f"websock.{name}")
