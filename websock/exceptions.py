"""Every exception that websock raises for what happens on a connection.

::

    WebSocketException
    +-- ConnectionClosed                the connection is over: .rcvd, .sent, .rcvd_then_sent, and why: .cause
    |   +-- ConnectionClosedOK          both sides said goodbye with 1000, 1001 or no code
    |   +-- ConnectionClosedError       anything else; __cause__ is the reason where there is one
    +-- InvalidURI                      you: an address that is not a WebSocket address
    +-- InvalidState                    you: not possible at this stage of the connection
    +-- ConcurrencyError                you: two callers where only one can be
    +-- InvalidHandshake                the peer's opening handshake is refused
    |   +-- InvalidMessage              it is not HTTP, is cut short, or has a body
    |   |   +-- HeadersTooLarge         more header bytes or fields than the limits
    |   +-- InvalidMethod               a request that is not GET
    |   +-- RequestTimeout              no complete request within open_timeout
    |   +-- ServerClosing               the server stops
    |   +-- LimitExceeded               a limit of the server: .status, .retry_after
    |   +-- InvalidStatus               the server answered with another status: .response
    |   +-- InvalidHeader               .name, .value
    |   |   +-- InvalidHeaderFormat
    |   |   +-- InvalidHeaderValue
    |   |   +-- InvalidHost             the server has no such name
    |   |   +-- InvalidOrigin
    |   |   +-- InvalidUpgrade
    |   +-- NegotiationError            subprotocol or extension: no agreement
    +-- ProtocolError                   the peer broke a rule of framing: .code, .section
        +-- ReservedBits, ReservedOpcode, FragmentedControl, ControlTooLong, MissingMask, UnexpectedMask,
        |   NonMinimalLength, LengthTooBig, UnexpectedContinuation, ExpectedContinuation, InvalidClose
        +-- InvalidUTF8                 closes with 1007
        +-- InvalidCompressedData       closes with 1007
        +-- TooManyFragments            closes with 1008
        +-- RateExceeded                closes with 1008
        +-- PayloadTooBig               closes with 1009
        +-- KeepaliveTimeout            closes with 1011

Wrong arguments are ``TypeError`` and ``ValueError``; what the network does is ``OSError`` and ``TimeoutError``.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Literal

from .frames import Close
from .http11 import Response
from .spec import CloseCode

__all__ = [
    "CloseCause",
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "ControlTooLong",
    "ExpectedContinuation",
    "FragmentedControl",
    "HeadersTooLarge",
    "InvalidClose",
    "InvalidCompressedData",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidHeaderFormat",
    "InvalidHeaderValue",
    "InvalidHost",
    "InvalidMessage",
    "InvalidMethod",
    "InvalidOrigin",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "InvalidUTF8",
    "InvalidUpgrade",
    "KeepaliveTimeout",
    "LengthTooBig",
    "LimitExceeded",
    "MissingMask",
    "NegotiationError",
    "NonMinimalLength",
    "PayloadTooBig",
    "ProtocolError",
    "RateExceeded",
    "ReservedBits",
    "ReservedOpcode",
    "RequestTimeout",
    "ServerClosing",
    "TooManyFragments",
    "UnexpectedContinuation",
    "UnexpectedMask",
    "WebSocketException",
]


class WebSocketException(Exception):
    """Base of all exceptions that websock defines."""


class CloseCause(enum.Enum):
    """Why a connection ended: `ConnectionClosed.cause`. The value is what it says in words.

    Where two fit, the one that came first counts, but for a closing handshake that we began and that did not come to
    its end: then it is what ended that.

    Attributes:
        PEER_CLOSED: its Close came first (RFC 6455 section 7.1.2), whatever the code.
        WE_CLOSED: ``close()``, ``fail()``, or the program aborted the transport.
        PEER_SILENT: keepalive: no octet came after a ping that had left.
        WRITE_STUCK: keepalive: nor did the system take any of the octets that wait; this wins.
        PEER_BROKE_RULE: of RFC 6455 or of an extension: 1002, 1007.
        CLOSE_TIMEOUT: the peer did not answer our Close within ``close_timeout``.
        CONNECTION_LOST: reset, or another error of the system or of TLS: ``os_error``.
        ENDED_WITHOUT_CLOSE: the peer ended the TCP or TLS stream.
        HANDLER_FAILED: handler, callback, an iterable that was being sent, an extension: 1011.
        OVER_LIMIT: the peer went over one of our limits: 1008, 1009.
        SLOW_CONSUMER: the peer did not take what was broadcast: 1013.
        DRAINED: our server stops: 1001, 1012.
    """

    PEER_CLOSED = "closed by the peer"
    WE_CLOSED = "closed by us"
    PEER_SILENT = "peer silent"
    WRITE_STUCK = "network write stuck"
    PEER_BROKE_RULE = "the peer broke a rule"
    CLOSE_TIMEOUT = "no answer to our close"
    CONNECTION_LOST = "connection lost"
    ENDED_WITHOUT_CLOSE = "ended without a close frame"
    HANDLER_FAILED = "our program failed"
    OVER_LIMIT = "over a limit of ours"
    SLOW_CONSUMER = "the peer took too long to read"
    DRAINED = "our server stops"


class ConnectionClosed(WebSocketException):
    """The connection is closed: nothing more is received and nothing more can be sent.

    Attributes:
        rcvd: the Close frame that came from the peer, or None.
        sent: the Close frame that we sent, or None.
        rcvd_then_sent: True when the peer closed first, False when we did, None unless both frames passed.
        cause: why it ended.
        began: who sent the first Close frame, "peer" or "we"; None when there was none.
        os_error: what the system or TLS reported, or None.
        last_activity: seconds between the last octet from the peer and the end; None when that is not known.
        unsent: octets that waited to be sent and that the system never took.
        stalled: seconds that nothing came while we listened (`CloseCause.PEER_SILENT`) or left
            (`CloseCause.WRITE_STUCK`); else None.
        detail: what happened, in words, as far as the Close frames do not tell it.
    """

    def __init__(self, rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None = None) -> None:
        if (rcvd_then_sent is None) != (rcvd is None or sent is None):
            raise ValueError("rcvd_then_sent tells the order of two Close frames, so it goes with both or none")
        super().__init__(rcvd, sent, rcvd_then_sent)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent
        # As far as the frames tell; a connection knows more.
        self.cause = CloseCause.ENDED_WITHOUT_CLOSE
        self.began: Literal["peer", "we"] | None = None
        if rcvd is not None and rcvd_then_sent is not False:
            self.cause, self.began = CloseCause.PEER_CLOSED, "peer"
        elif sent is not None:
            self.cause, self.began = CloseCause.WE_CLOSED, "we"
        self.os_error: OSError | None = None
        self.last_activity: float | None = None
        self.unsent = 0
        self.stalled: float | None = None
        self.detail = ""

    def __str__(self) -> str:
        if self.rcvd is None and self.sent is None:
            text = "no close frame received or sent"
        elif self.sent is None:
            text = f"received {self.rcvd}; no close frame sent"
        elif self.rcvd is None:
            text = f"sent {self.sent}; no close frame received"
        elif self.rcvd_then_sent:
            text = f"received {self.rcvd}; then sent {self.sent}"
        else:
            text = f"sent {self.sent}; then received {self.rcvd}"
        # A detail travels to other processes, and __cause__ does not.
        why = self.detail or ("" if self.__cause__ is None else str(self.__cause__))
        return f"{text}: {why}" if why else text

    @property
    def code(self) -> int:
        """The code in the peer's Close frame; 1006 when none came (RFC 6455 section 7.1.5)."""
        return CloseCode.ABNORMAL_CLOSURE if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """The reason in the peer's Close frame; empty when none came (RFC 6455 section 7.1.6)."""
        return "" if self.rcvd is None else self.rcvd.reason


class ConnectionClosedOK(ConnectionClosed):
    """Closed as agreed: both Close frames passed, with 1000, 1001 or no code."""


class ConnectionClosedError(ConnectionClosed):
    """Closed by an error: a code that tells of one, or no complete closing handshake."""


class InvalidURI(WebSocketException, ValueError):
    """Not a WebSocket address (RFC 6455 section 3): ``.uri``, ``.problem``."""

    def __init__(self, uri: str, problem: str) -> None:
        super().__init__(uri, problem)
        self.uri = uri
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.uri!r} isn't a valid URI: {self.problem}"


class InvalidState(WebSocketException, RuntimeError):
    """Something was asked that is not possible at this stage of the connection."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two callers do at the same time what only one of them can do."""


class InvalidHandshake(WebSocketException):
    """The opening handshake failed because of what the peer sent. ``.status`` is what a server answers."""

    status: int = 400


class InvalidMessage(InvalidHandshake):
    """What came is not an HTTP/1.1 message, or is only a part of one."""


class HeadersTooLarge(InvalidMessage):
    """More bytes or fields in the HTTP head than the limits allow (RFC 6585 section 5)."""

    status = 431


class InvalidMethod(InvalidHandshake):
    """A WebSocket handshake is a GET (RFC 6455 section 4.1)."""

    status = 405


class RequestTimeout(InvalidHandshake):
    """A server waited ``open_timeout`` seconds for a complete request (RFC 9110 section 15.5.9)."""

    status = 408


class ServerClosing(InvalidHandshake):
    """A server that stops opens no more connections (RFC 9110 section 15.6.4)."""

    status = 503


class LimitExceeded(InvalidHandshake):
    """A limit of the server (`Limits`): the client may try again later.

    Attributes:
        status: 503 when the server has enough of all, 429 when it has enough of this client.
        retry_after: seconds.
    """

    def __init__(self, what: str, status: int, retry_after: int) -> None:
        super().__init__(what, status, retry_after)
        self.status = status
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidStatus(InvalidHandshake):
    """The server did not answer 101: ``.response`` is what it said."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        return f"server rejected WebSocket connection: HTTP {self.response.status_code}"


class InvalidHeader(InvalidHandshake):
    """A header is missing, repeated or wrong: ``.name``, ``.value`` (None when missing)."""

    def __init__(self, name: str, value: str | None = None) -> None:
        super().__init__(name, value)
        self.name = name
        self.value = value

    def __str__(self) -> str:
        if self.value is None:
            return f"missing {self.name} header"
        if not self.value:
            return f"empty {self.name} header"
        return f"invalid {self.name} header: {self.value}"


class InvalidHeaderFormat(InvalidHeader):
    """The header cannot be parsed by the grammar of RFC 6455 section 4.3."""


class InvalidHeaderValue(InvalidHeader):
    """The header can be parsed and says something that is not allowed here."""


class InvalidHost(InvalidHeader):
    """The Host header names none of the server's names (RFC 9110 section 7.4)."""

    status = 421

    def __init__(self, host: str | None) -> None:
        super().__init__("Host", host)
        self.args = (host,)  # what a copy is made from

    def __str__(self) -> str:
        return f"the Host header names none of this server's hosts: {self.value}"


class InvalidOrigin(InvalidHeader):
    """A page of this origin may not connect (RFC 6455 section 10.2)."""

    status = 403

    def __init__(self, origin: str | None) -> None:
        super().__init__("Origin", origin)
        self.args = (origin,)  # what a copy is made from


class InvalidUpgrade(InvalidHeader):
    """The Upgrade, Connection or Sec-WebSocket-Version header does not ask for WebSocket 13."""

    status = 426


class NegotiationError(InvalidHandshake):
    """Client and server did not agree on a subprotocol or an extension."""


class ProtocolError(WebSocketException):
    """The peer broke a rule of RFC 6455; the connection is failed with ``.code``.

    Every rule has a class of its own, with ``section``, the place in RFC 6455 where it stands, and ``cause``, the
    `CloseCause` of a connection that ends by it.
    """

    code: int = CloseCode.PROTOCOL_ERROR
    cause: CloseCause = CloseCause.PEER_BROKE_RULE
    section: ClassVar[str] = ""
    text: ClassVar[str] = "protocol error"

    def __init__(self, text: str | None = None, *, code: int | None = None) -> None:
        super().__init__(text or self.text)
        if code is not None:
            self.code = code


class ReservedBits(ProtocolError):
    """RSV1, RSV2 or RSV3 is set and no extension gave it a meaning."""

    section = "5.2"
    text = "reserved bits must be 0"


class ReservedOpcode(ProtocolError):
    """Opcodes 3 to 7 and 11 to 15 mean nothing yet."""

    section = "5.2"
    text = "reserved opcode"


class FragmentedControl(ProtocolError):
    """A control frame without FIN."""

    section = "5.5"
    text = "fragmented control frame"


class ControlTooLong(ProtocolError):
    """A control frame of more than 125 octets."""

    section = "5.5"
    text = "control frame too long"


class MissingMask(ProtocolError):
    """A client sent an unmasked frame."""

    section = "5.1"
    text = "a client must mask its frames"


class UnexpectedMask(ProtocolError):
    """A server sent a masked frame."""

    section = "5.1"
    text = "a server must not mask its frames"


class NonMinimalLength(ProtocolError):
    """A length in more octets than it needs."""

    section = "5.2"
    text = "length not in its shortest form"


class LengthTooBig(ProtocolError):
    """A 64-bit length with the most significant bit set."""

    section = "5.2"
    text = "length with the most significant bit set"


class UnexpectedContinuation(ProtocolError):
    """A continuation frame, and no message has begun."""

    section = "5.4"
    text = "unexpected continuation frame"


class ExpectedContinuation(ProtocolError):
    """A new message began before the fragmented one ended."""

    section = "5.4"
    text = "expected a continuation frame"


class InvalidClose(ProtocolError):
    """A Close frame of one octet, or with a code that must not travel."""

    section = "5.5.1"
    text = "invalid close frame"


class InvalidUTF8(ProtocolError):
    """Text, or the reason in a Close frame, that is not UTF-8."""

    code = CloseCode.INVALID_DATA
    section = "8.1"
    text = "invalid UTF-8"


class InvalidCompressedData(ProtocolError):
    """A compressed message that cannot be inflated."""

    code = CloseCode.INVALID_DATA
    section = "RFC 7692, 7.2.2"
    text = "invalid compressed data"


class TooManyFragments(ProtocolError):
    """A message in more fragments than the limit."""

    code = CloseCode.POLICY_VIOLATION
    cause = CloseCause.OVER_LIMIT
    section = "10.4"
    text = "too many fragments"


class PayloadTooBig(ProtocolError):
    """A message of more bytes than ``max_size``."""

    code = CloseCode.MESSAGE_TOO_BIG
    cause = CloseCause.OVER_LIMIT
    section = "10.4"
    text = "message too big"


class RateExceeded(ProtocolError):
    """More messages or octets per second than `Limits` allow."""

    code = CloseCode.POLICY_VIOLATION
    cause = CloseCause.OVER_LIMIT
    section = "10.4"
    text = "too fast"


class KeepaliveTimeout(ProtocolError):
    """Nothing came from the peer for ``ping_timeout`` seconds after a keepalive ping, or the ping could not leave.

    Attributes:
        cause: `CloseCause.PEER_SILENT` or `CloseCause.WRITE_STUCK`.
        stalled: for how many seconds, or None.
    """

    code = CloseCode.INTERNAL_ERROR
    cause = CloseCause.PEER_SILENT
    section = "5.5.2"
    text = "keepalive ping timeout"

    def __init__(
        self,
        text: str | None = None,
        *,
        code: int | None = None,
        cause: CloseCause = CloseCause.PEER_SILENT,
        stalled: float | None = None,
    ) -> None:
        if text is None and stalled is not None:
            text = f"{cause.value} for {stalled:.1f} s"
        super().__init__(text, code=code)
        self.cause = cause
        self.stalled = stalled
