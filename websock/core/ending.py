"""Why a connection ends: what is known of it is put together here, and becomes a `ConnectionClosed`."""

from __future__ import annotations

from typing import Final, Literal, TypeVar

from ..exceptions import (
    CloseCause,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    KeepaliveTimeout,
    ProtocolError,
)
from ..spec import CloseCode
from .closing import Close

__all__ = ["Ending"]

_OK_CODES: Final = frozenset({CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD})

# Causes of a closing handshake of ours; when that does not come to its end, what kept it from that counts.
_BEGUN: Final = frozenset({None, CloseCause.WE_CLOSED, CloseCause.DRAINED})

# What the two Close frames and their order say already.
_SAID: Final = frozenset({None, CloseCause.PEER_CLOSED, CloseCause.WE_CLOSED})


E = TypeVar("E", bound=BaseException | None)


def _without_frames(error: E) -> E:
    """An error to keep. The frames that it came through are ours, and would keep the connection, which keeps the error:
    thousands of ended connections would wait for the garbage collector."""
    if isinstance(error, OSError | ProtocolError | EOFError):
        error.__traceback__ = None
        if error.__suppress_context__:  # nobody is told of it
            error.__context__ = None
    return error


class Ending:
    """What is known of the end of a connection.

    Attributes:
        cause: None as long as it does not end.
        error: what goes to ``__cause__``.
        os_error: what the system said.
        received_first: whether the peer's Close was first, or ours; None before the first.
        heard_at: when the last octet came, in the time of `Protocol.tick`; None when nobody knows.
        ended_at: when it ended; None when nobody knows.
        unsent: octets that the system never took.
    """

    __slots__ = ("cause", "ended_at", "error", "heard_at", "os_error", "received_first", "unsent")

    def __init__(self) -> None:
        self.cause: CloseCause | None = None
        self.error: BaseException | None = None
        self.os_error: OSError | None = None
        self.received_first: bool | None = None
        self.heard_at: float | None = None
        self.ended_at: float | None = None
        self.unsent = 0

    def begin(self, cause: CloseCause, *, by_peer: bool) -> None:
        """The first Close passes; the second one changes nothing."""
        if self.received_first is None:
            self.received_first = by_peer
        if self.cause is None:
            self.cause = cause

    def failed(self, error: BaseException | None, why: CloseCause | None) -> None:
        """We fail the connection (RFC 6455 section 7.1.7)."""
        if why is None:
            why = error.cause if isinstance(error, ProtocolError) else CloseCause.WE_CLOSED
        self.cause = why
        self.error = _without_frames(error)

    def report(self, error: BaseException) -> None:
        """The transport reports an error; whether it matters is for `cut` to say."""
        if self.os_error is None and isinstance(error, OSError):
            self.os_error = _without_frames(error)

    def cut(self, cause: CloseCause, error: BaseException | None) -> None:
        """No complete closing handshake, because of this."""
        if self.cause in _BEGUN:
            self.cause = cause
        if self.error is None:
            self.error = _without_frames(error)

    def exception(self, received: Close | None, sent: Close | None) -> ConnectionClosed:
        """What to raise."""
        both = received is not None and sent is not None
        kind: type[ConnectionClosed] = ConnectionClosedError
        if received is not None and sent is not None and {received.code, sent.code} <= _OK_CODES:
            kind = ConnectionClosedOK
        result = kind(received, sent, self.received_first if both else None)
        began: Literal["peer", "we"] = "peer" if self.received_first else "we"
        result.began = None if self.received_first is None else began
        if self.cause is not None:
            result.cause = self.cause
        result.os_error = self.os_error
        result.unsent = self.unsent
        if self.ended_at is not None and self.heard_at is not None:
            result.last_activity = max(0.0, self.ended_at - self.heard_at)
        if isinstance(self.error, KeepaliveTimeout):
            result.stalled = self.error.stalled
        result.__cause__ = self.error
        result.detail = "" if self.error is None else str(self.error)
        if not result.detail and self.cause is not None and self.cause not in _SAID:
            result.detail = self.cause.value
        return result
