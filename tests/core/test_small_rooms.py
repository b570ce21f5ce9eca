"""The small files of the core: a message for many, when to connect again, what a connection tells about itself."""

from __future__ import annotations

import itertools
import logging
import uuid
from typing import Any

import pytest

from websock.core.broadcast import Broadcast
from websock.core.endpoint import Endpoint, code_for, converted, log_outcome
from websock.core.handshake import ServerHandshake
from websock.core.options import Options
from websock.core.protocol import Protocol, State
from websock.core.reconnect import backoff, process_exception
from websock.core.service import HandlerRun, Service
from websock.datastructures import Headers
from websock.exceptions import (
    ConnectionClosedOK,
    InvalidHeader,
    InvalidMessage,
    InvalidOrigin,
    InvalidState,
    InvalidStatus,
    NegotiationError,
)
from websock.frames import Close
from websock.http11 import Response

from .frames import CLOSE, CODECS, frame, outcome
from .heads import Answer, parse_answer, request


def sent(protocol: Protocol) -> list[Any]:
    data = b"".join(protocol.outgoing())
    return outcome(CODECS[0], [data], masked=protocol.masks, judge_close=False).messages


# Broadcast.


@pytest.mark.parametrize(
    ("message", "text", "expected"),
    [
        ("é", None, "é"),
        ("é", False, "é".encode()),
        (b"a", None, b"a"),
        (b"a", True, "a"),
        (bytes(9000), None, bytes(9000)),
    ],
)
def test_a_broadcast_reaches_all_that_are_open(message: Any, text: bool | None, expected: Any) -> None:
    protocols = [Protocol(server=server) for server in (True, True, False, False)]
    closed = Protocol(server=True)
    closed.close()
    closed.outgoing()
    broadcast = Broadcast(message, text)
    for protocol in [*protocols, closed, *protocols]:
        broadcast.queue(protocol)
    assert [sent(protocol) for protocol in protocols] == [[expected, expected]] * 4
    assert not closed.has_outgoing


def test_a_broadcast_is_encoded_once() -> None:
    broadcast = Broadcast(bytes(100_000))
    servers = [Protocol(server=True) for _ in range(3)]
    for server in servers:
        broadcast.queue(server)
    buffers = [server.outgoing() for server in servers]
    assert all(one is other for one, other in zip(buffers[0], buffers[1], strict=True))


def test_clients_do_not_share_a_mask() -> None:
    broadcast = Broadcast(b"same")
    clients = [Protocol(server=False) for _ in range(20)]
    for client in clients:
        broadcast.queue(client)
    assert len({b"".join(client.outgoing())[2:6] for client in clients}) == 20


def test_a_broadcast_takes_the_message_as_it_is_now() -> None:
    buffer = bytearray(b"a" * 5000)
    broadcast = Broadcast(buffer)
    buffer[:] = b"b" * 5000
    protocol = Protocol(server=True)
    broadcast.queue(protocol)
    assert sent(protocol) == [b"a" * 5000]


def test_a_broadcast_waits_behind_parts() -> None:
    protocol = Protocol(server=True)
    protocol.send_part("a", last=False)
    Broadcast("x").queue(protocol)
    protocol.send_part("b", last=True)
    assert sent(protocol) == ["ab", "x"]


def test_a_broadcast_that_is_wrong() -> None:
    with pytest.raises(TypeError):
        Broadcast(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="utf-8"):
        Broadcast(b"\xff", text=True)


# Connecting again.


def test_backoff() -> None:
    for _ in range(50):
        first, *delays = itertools.islice(backoff(), 20)
        assert 0 <= first <= 5
        expected = 3.0
        for delay in delays:
            assert 0.9 * expected <= delay <= 1.1 * expected
            expected = min(expected * 1.6, 60.0)
    assert len({next(backoff()) for _ in range(20)}) > 15


@pytest.mark.parametrize("factor", [1.6, 10.0])
def test_backoff_never_overflows(factor: float) -> None:
    *_, last = itertools.islice(backoff(first=1.0, factor=factor, longest=60.0), 5000)
    assert 54 <= last <= 66


def status(code: int) -> InvalidStatus:
    return InvalidStatus(Response(code, "", Headers()))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(), True), (ConnectionRefusedError(), True), (TimeoutError(), True), (EOFError(), True),
        (InvalidMessage(), True),
        (status(500), True), (status(502), True), (status(503), True), (status(504), True),
        (status(501), False), (status(400), False), (status(401), False), (status(403), False), (status(200), False),
        (InvalidHeader("Upgrade"), False), (InvalidOrigin("x"), False), (NegotiationError(), False),
        (ValueError(), False),
        (InvalidState(), False),
    ],
)  # fmt: skip
def test_what_is_worth_another_try(error: Exception, again: bool) -> None:
    assert process_exception(error) is (None if again else error)


# What a connection tells about itself.


def test_an_endpoint_before_the_handshake() -> None:
    endpoint = Endpoint(logging.getLogger("x"))
    assert endpoint.state is State.CONNECTING and endpoint.subprotocol is None and endpoint.latency == 0.0
    assert endpoint.close_code is None and endpoint.close_reason is None and endpoint.close_exc is None
    assert endpoint.request is None and endpoint.response is None
    assert isinstance(endpoint.id, uuid.UUID) and endpoint.id == endpoint.id
    assert "CONNECTING" in repr(endpoint) and str(endpoint.id) in repr(endpoint)
    with pytest.raises(InvalidState):
        endpoint._protocol.send("x")


def test_an_endpoint_tells_what_its_protocol_knows() -> None:
    endpoint = Endpoint(logging.getLogger("x"))
    protocol = endpoint._protocol = Protocol(server=False, subprotocol="chat")
    before = endpoint.close_code
    assert endpoint.state is State.OPEN and endpoint.subprotocol == "chat" and before is None
    protocol.receive(frame(CLOSE, b"\x03\xe8bye"))
    protocol.settle()
    assert (endpoint.close_code, endpoint.close_reason) == (1000, "bye")
    assert isinstance(endpoint.close_exc, ConnectionClosedOK) and endpoint.close_exc.rcvd == Close(1000, "bye")
    endpoint._protocol = Protocol(server=False)
    endpoint._protocol.lost()
    assert (endpoint.close_code, endpoint.close_reason) == (1006, "")


@pytest.mark.parametrize(
    ("message", "decode", "expected"),
    [
        ("é", None, "é"),
        (b"a", None, b"a"),
        ("é", True, "é"),
        (b"a", True, "a"),
        ("é", False, "é".encode()),
        (b"a", False, b"a"),
    ],
)
def test_converted(message: Any, decode: bool | None, expected: Any) -> None:
    assert converted(message, decode) == expected and type(converted(message, decode)) is type(expected)


def test_code_for() -> None:
    assert code_for(None) == code_for(GeneratorExit) == 1000
    assert code_for(ValueError) == code_for(KeyboardInterrupt) == 1011


def test_scans_and_health_checks_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("websock.test")
    log_outcome(logger, None, None, "peer")
    log_outcome(logger, None, InvalidMessage("cut"), "peer")
    log_outcome(logger, Response(101, "", Headers()), None, "peer")
    log_outcome(logger, Response(403, "", Headers()), InvalidOrigin("x"), "peer")
    log_outcome(logger, Response(200, "", Headers()), None, "peer")
    log_outcome(logger, Response(404, "", Headers()), None, "peer")
    levels = ["DEBUG", "DEBUG", "DEBUG", "INFO", "DEBUG", "INFO"]
    assert [record.levelname for record in caplog.records] == levels
    assert all(record.exc_info is None for record in caplog.records)


def test_a_log_line_is_short_and_plain_whatever_a_stranger_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_outcome(logging.getLogger("websock.test"), Response(403, "", Headers()), InvalidOrigin("\x9b2J" * 9999), "peer")
    (record,) = caplog.records
    assert record.getMessage().isascii() and record.getMessage().isprintable() and len(record.getMessage()) < 300


# What a server does around its handler.


def asked(headers: bytes = b"") -> ServerHandshake:
    handshake = ServerHandshake()
    handshake.receive(request()[:-2] + headers + b"\r\n")
    return handshake


def answered(service: Service, handshake: ServerHandshake) -> Answer:
    """Drive the hooks as the blocking adapter does: what a hook returned is the result."""
    connection = Endpoint(service.logger)
    steps = service.answer(handshake, connection)
    result: Any = None
    try:
        while True:
            result = steps.send(result)
    except StopIteration:
        pass
    assert handshake.done
    assert connection.response is handshake.response or handshake.response is None or connection.response is None
    return parse_answer(b"".join(bytes(buffer) for buffer in handshake.outgoing()))


def service_with(**hooks: Any) -> Service:
    return Service(handler=print, options=Options(), logger=logging.getLogger("websock.test"), **hooks)


def test_a_service_without_hooks() -> None:
    reply = answered(service_with(server_header="s"), asked())
    assert reply.status == 101 and reply.headers["server"] == ["s"]


def test_process_request_may_answer() -> None:
    page = Response(200, "OK", Headers(), b"fine")
    handshake = asked()
    reply = answered(service_with(process_request=lambda c, r: page, server_header="s"), handshake)
    assert (reply.status, reply.body) == (200, b"fine") and reply.headers["server"] == ["s"]
    assert handshake.protocol is None
    assert answered(service_with(process_request=lambda c, r: None), asked()).status == 101


def test_process_response_may_change_and_replace() -> None:
    def change(connection: Any, request: Any, response: Response) -> None:
        response.headers["X"] = "1"

    assert answered(service_with(process_response=change), asked()).headers["x"] == ["1"]
    handshake = asked()
    other = Response(403, "Forbidden", Headers(), b"no")
    assert answered(service_with(process_response=lambda c, q, r: other), handshake).status == 403
    assert handshake.protocol is None


def test_process_response_cannot_accept_what_was_refused() -> None:
    handshake = ServerHandshake()
    handshake.receive(request({"Sec-WebSocket-Version": "8"}))
    accepted = Response(101, "x", Headers({"Sec-WebSocket-Accept": "x"}))
    assert answered(service_with(process_response=lambda c, q, r: accepted), handshake).status == 500
    assert handshake.protocol is None


def broken(*_: object) -> None:
    raise RuntimeError("a bug in a hook")


@pytest.mark.parametrize(
    "hooks",
    [
        {"process_request": broken},
        {"process_response": broken},
        {"select_subprotocol": broken},
        {"process_request": lambda *_: "not a response"},
        {"process_response": lambda *_: 403},
        {"process_request": lambda *_: Response(200, "a\r\nb", Headers())},
        {"process_request": lambda *_: Response(101, "x", Headers())},
        {"process_request": lambda *_: Response(99, "x", Headers())},
        {"process_response": lambda c, q, r: r.headers.update({"X": "☃"})},
    ],
)
def test_a_hook_that_fails_is_our_error_and_ends_nothing_else(
    hooks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    handshake = asked()
    reply = answered(service_with(**hooks), handshake)
    assert reply.status == 500 and handshake.protocol is None
    assert b"bug" not in reply.body  # what broke is ours to know
    assert [record.levelname for record in caplog.records] == ["ERROR"] and caplog.records[0].exc_info


def test_time_may_run_out_in_a_hook(caplog: pytest.LogCaptureFixture) -> None:
    handshake = asked()
    reply = answered(service_with(process_request=lambda c, r: handshake.fail(InvalidMessage("too slow"))), handshake)
    assert reply.status == 400 and handshake.protocol is None and not caplog.records


def test_a_handler_must_be_callable() -> None:
    with pytest.raises(TypeError, match="handler"):
        Service(handler=5, options=Options(), logger=logging.getLogger("x"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code", "logged"),
    [
        (None, 1000, 0),
        (ConnectionClosedOK(None, None), 1000, 0),
        (RuntimeError("bug"), 1011, 1),
        (ValueError(), 1011, 1),
    ],
)
def test_what_a_handler_raises_ends_its_connection(
    error: Exception | None, code: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = HandlerRun(logging.getLogger("websock.test"))
    with run:
        if error is not None:
            raise error
    assert run.code == code and len(caplog.records) == logged


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_is_passed_on(error: type[BaseException]) -> None:
    with pytest.raises(error), HandlerRun(logging.getLogger("websock.test")):
        raise error
