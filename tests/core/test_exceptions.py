"""The tree of exceptions: what catches what, what they say, and that they travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from websock import exceptions
from websock.datastructures import Headers
from websock.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    HeadersTooLarge,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidHost,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidState,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    InvalidUTF8,
    KeepaliveTimeout,
    LimitExceeded,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
    RateExceeded,
    TooManyFragments,
    WebSocketException,
)
from websock.frames import Close
from websock.http11 import Response

ALL = [
    kind
    for kind in vars(exceptions).values()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == exceptions.__name__
]

EXAMPLES: list[Exception] = [
    ConnectionClosed(None, None),
    ConnectionClosedOK(Close(1000), Close(1000, "bye"), True),
    ConnectionClosedError(None, Close(1011)),
    InvalidURI("http://", "no"),
    InvalidState("x"),
    ConcurrencyError("x"),
    InvalidHandshake("x"),
    InvalidMessage("x"),
    HeadersTooLarge("x"),
    InvalidMethod("x"),
    InvalidStatus(Response(403, "Forbidden", Headers(A="b"), b"body")),
    InvalidHeader("Upgrade"),
    InvalidHeaderFormat("Upgrade", "a"),
    InvalidHeaderValue("Upgrade", ""),
    InvalidOrigin("http://a"),
    InvalidOrigin(None),
    InvalidUpgrade("Upgrade", "b"),
    NegotiationError("x"),
    ProtocolError("x", code=1003),
    InvalidUTF8(),
    TooManyFragments("x"),
    PayloadTooBig(),
    KeepaliveTimeout(),
    LimitExceeded("enough", 429, 5),
    InvalidHost("evil.example"),
    RateExceeded(),
]


def test_all_names_are_public() -> None:
    assert sorted(exceptions.__all__) == sorted(["CloseCause", *(kind.__name__ for kind in ALL)])
    assert all(issubclass(kind, WebSocketException) for kind in ALL)
    assert all(kind.__doc__ for kind in ALL)


def test_the_tree_at_the_head_of_the_file_names_all() -> None:
    tree = exceptions.__doc__ or ""
    assert [kind.__name__ for kind in ALL if kind.__name__ not in tree] == []


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_they_can_be_sent_to_another_process(error: Exception, through: object) -> None:
    double = through(error)  # type: ignore[operator]
    assert type(double) is type(error) and str(double) == str(error)
    assert {**vars(double)}.keys() == {**vars(error)}.keys()
    for name in ("code", "status", "value", "name", "uri", "rcvd", "sent"):
        assert getattr(double, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionClosed(None, None), "no close frame received or sent"),
        (ConnectionClosed(Close(1000, "a"), None), "received 1000 (OK) a; no close frame sent"),
        (ConnectionClosed(None, Close(3000)), "sent 3000 (registered); no close frame received"),
        (ConnectionClosed(Close(1000), Close(1001), True), "received 1000 (OK); then sent 1001 (going away)"),
        (ConnectionClosed(Close(1000), Close(1001), False), "sent 1001 (going away); then received 1000 (OK)"),
        (InvalidHeader("Host"), "missing Host header"),
        (InvalidHeader("Host", ""), "empty Host header"),
        (InvalidHeader("Host", "x"), "invalid Host header: x"),
        (InvalidOrigin("x"), "invalid Origin header: x"),
        (InvalidOrigin(None), "missing Origin header"),
        (InvalidURI("x", "no scheme"), "'x' isn't a valid URI: no scheme"),
    ],
)
def test_what_they_say(error: Exception, text: str) -> None:
    assert str(error) == text


def test_the_cause_is_said_too() -> None:
    error = ConnectionClosedError(None, None)
    error.__cause__ = OSError("unplugged")
    assert str(error) == "no close frame received or sent: unplugged"
    error.__cause__ = EOFError()
    assert str(error) == "no close frame received or sent"


def test_code_and_reason_are_the_peers() -> None:
    error = ConnectionClosed(Close(3000, "a"), Close(1000, "b"), True)
    assert (error.code, error.reason) == (3000, "a")
    assert (ConnectionClosed(None, Close(1000)).code, ConnectionClosed(None, None).reason) == (1006, "")


@pytest.mark.parametrize(
    ("rcvd", "sent", "order"), [(None, None, True), (Close(1000), None, False), (Close(1000), Close(1000), None)]
)
def test_the_order_goes_with_both_frames(rcvd: Close | None, sent: Close | None, order: bool | None) -> None:
    with pytest.raises(ValueError, match="order"):
        ConnectionClosed(rcvd, sent, order)


def test_who_is_to_blame() -> None:
    """DESIGN.md principle 10."""
    assert issubclass(InvalidURI, ValueError)
    assert issubclass(InvalidState, RuntimeError) and issubclass(ConcurrencyError, RuntimeError)
    for kind in ALL:
        assert not issubclass(kind, OSError) and not issubclass(kind, TypeError)
    peers = [kind for kind in ALL if issubclass(kind, ProtocolError | InvalidHandshake | ConnectionClosed)]
    assert not any(issubclass(kind, ValueError | RuntimeError) for kind in peers)
