"""A connection's state is plain data: it can be written down and rebuilt in another process (DESIGN.md section 2)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from websock.core.handshake import ServerHandshake
from websock.core.options import Options
from websock.core.protocol import Protocol, State
from websock.exceptions import ReservedOpcode
from websock.frames import Close

from .frames import BINARY, CLOSE, CODECS, PONG, TEXT, frame, outcome

KEY = b"\x01\x02\x03\x04"


def pickled(protocol: Protocol) -> Protocol:
    copied: Protocol = pickle.loads(pickle.dumps(protocol))
    return copied


COPIES = pytest.mark.parametrize("copied", [pickled, copy.deepcopy], ids=["pickle", "deepcopy"])


def busy(server: bool) -> tuple[Protocol, bytes]:
    """A protocol in the middle of everything, and what its peer sends next."""
    key = KEY if server else None
    protocol = Protocol(server=server, options=Options(max_size=1000, subprotocols=["chat"]), subprotocol="chat")
    protocol.tick(10.0)
    protocol.tick(40.0)
    protocol.ping(b"mine")
    protocol.send("queued")
    protocol.send_part(b"\xe2\x82", last=False, text=True)
    protocol.send(b"held" * 2000)
    protocol.pause(41.0)
    data = frame(TEXT, b"a\xe2\x82", fin=False, key=key) + frame(0x0, b"\xacb", key=key) + frame(PONG, b"mine", key=key)
    data += frame(BINARY, b"x" * 100, key=key)
    cut = len(data) - 50
    assert protocol.receive(data[:cut]) == ["a€b"]
    return protocol, data[cut:]


@COPIES
@pytest.mark.parametrize("server", [True, False])
def test_an_open_connection(copied: Callable[[Protocol], Protocol], server: bool) -> None:
    protocol, rest = busy(server)
    double = copied(protocol)
    assert double.tick(42.0) == protocol.tick(42.0)
    assert (double.options, double.subprotocol, double.latency) == (protocol.options, "chat", protocol.latency)
    seen = []
    for one in (protocol, double):
        assert one.receive(rest) == [b"x" * 100]
        one.send_part(b"\xac", last=True, text=True)
        one.close(1001)
        result = outcome(CODECS[0], [b"".join(one.outgoing())], masked=one.masks)
        seen.append((result.messages, result.controls[1:], one.state, one.queued))
    assert seen[0] == seen[1]
    assert seen[0][0] == ["queued", "€", b"held" * 2000]
    protocol.receive(frame(CLOSE, key=KEY if server else None))
    assert protocol.state is State.ENDING and double.state is State.CLOSE_SENT  # two connections, not one


@COPIES
def test_a_failure_that_waits(copied: Callable[[Protocol], Protocol]) -> None:
    protocol = Protocol(server=True)
    protocol.receive(frame(TEXT, b"a", key=KEY) + frame(0x3, key=KEY))
    double = copied(protocol)
    double.settle()
    assert type(double.closed().__cause__) is ReservedOpcode and double.close_sent is not None
    assert protocol.state is State.OPEN


@COPIES
def test_after_the_end(copied: Callable[[Protocol], Protocol]) -> None:
    protocol = Protocol(server=True)
    protocol.receive(frame(CLOSE, b"\x03\xe8", key=KEY))
    protocol.lost(ConnectionResetError("reset"))
    double = copied(protocol)
    assert double.closed().rcvd == Close(1000) and double.state is State.CLOSED


@COPIES
def test_in_the_middle_of_a_message_in_parts(copied: Callable[[Protocol], Protocol]) -> None:
    protocol = Protocol(server=True)
    protocol.stream(True)
    protocol.receive(frame(TEXT, b"a\xe2\x82", fin=False, key=KEY))
    (part,) = copied(protocol).receive(frame(0x0, b"\xac", key=KEY))
    assert (part.data, part.last) == ("€", True)  # type: ignore[union-attr]


@COPIES
@pytest.mark.parametrize("message", [memoryview(bytes(5000)), bytearray(5000), memoryview(b"x" * 9000)[::2]])
def test_whatever_waits_to_be_written(copied: Callable[[Protocol], Protocol], message: Any) -> None:
    protocol = Protocol(server=True)
    protocol.send(message)
    double = copied(protocol)
    assert b"".join(double.outgoing()) == b"".join(protocol.outgoing())


@pytest.mark.xfail(
    strict=True, reason="on_pong is the caller's function: a lambda or a bound future cannot be written down"
)
def test_a_ping_with_a_callback() -> None:
    protocol = Protocol(server=True)
    protocol.ping(b"x", lambda: None)
    pickled(protocol)


def test_a_handshake_leaves_no_trace_in_its_protocol() -> None:
    handshake = ServerHandshake()
    handshake.receive(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    handshake.accept()
    assert handshake.protocol is not None
    assert pickled(handshake.protocol).state is State.OPEN
