"""The client's side of the opening handshake: what it asks and which answers it takes (RFC 6455 section 4.1)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.handshake import ClientHandshake, ServerHandshake
from websock.core.options import Options
from websock.core.protocol import State
from websock.core.uri import URI, parse_uri
from websock.datastructures import Headers
from websock.exceptions import (
    HeadersTooLarge,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
)
from websock.spec import MAX_REFUSAL_BODY

from .frames import TEXT, frame, pieces, sizes
from .heads import accept_of

BAD_VALUES = ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb"]


def client(uri: str = "ws://example.com/chat", **keywords: Any) -> ClientHandshake:
    return ClientHandshake(parse_uri(uri), **keywords)


def asked(handshake: ClientHandshake) -> tuple[str, Headers]:
    """The request line and the fields of what a client writes."""
    data = b"".join(handshake.outgoing()).decode("latin-1")
    assert handshake.outgoing() == []
    assert data.endswith("\r\n\r\n") and data.count("\r\n\r\n") == 1
    line, *lines = data[:-4].split("\r\n")
    return line, Headers([(name, value) for name, _, value in (line.partition(": ") for line in lines)])


def reply(
    handshake: ClientHandshake,
    changes: dict[str, str | None] | None = None,
    more: list[tuple[str, str]] | None = None,
    line: str = "HTTP/1.1 101 Switching Protocols",
) -> bytes:
    """A good answer with some headers replaced, left out (None) or added."""
    fields: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_of(handshake.request.headers["Sec-WebSocket-Key"]),
        **(changes or {}),
    }
    lines = [f"{name}: {value}" for name, value in [*fields.items(), *(more or [])] if value is not None]
    return "\r\n".join([line, *lines, "", ""]).encode("latin-1")


# The request.


def test_the_request() -> None:
    handshake = client("ws://example.com/chat?x=1")
    line, headers = asked(handshake)
    assert line == "GET /chat?x=1 HTTP/1.1"
    key = headers["Sec-WebSocket-Key"]
    assert len(base64.b64decode(key, validate=True)) == 16
    assert headers == Headers(
        [
            ("Host", "example.com"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ]
    )  # fmt: skip
    assert handshake.request.headers == headers and handshake.request.path == "/chat?x=1"
    assert not handshake.done and handshake.protocol is None and handshake.response is None


def test_each_key_is_new() -> None:
    assert len({client().request.headers["Sec-WebSocket-Key"] for _ in range(100)}) == 100


def test_all_that_can_be_asked_for() -> None:
    handshake = client(
        "wss://us%20er:p%3Aw@example.com:8443/",
        origin="https://example.com",
        headers=[("X-Token", "1"), ("X-Token", "2"), ("Cookie", "a=\xe9")],
        user_agent="test/1",
        options=Options(subprotocols=["chat", "superchat"]),
    )
    _, headers = asked(handshake)
    assert headers["Host"] == "example.com:8443"
    assert headers["Origin"] == "https://example.com"
    assert headers["Sec-WebSocket-Protocol"] == "chat, superchat"
    assert headers["User-Agent"] == "test/1"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"us er:p:w").decode()
    assert headers.get_all("X-Token") == ["1", "2"] and headers["Cookie"] == "a=\xe9"


def test_the_caller_may_replace() -> None:
    _, headers = asked(
        client(
            "ws://u:p@127.0.0.1:9000/",
            headers={"host": "example.com", "user-agent": "mine", "authorization": "Bearer x"},
            user_agent="test/1",
        )
    )
    assert headers.get_all("Host") == ["example.com"]
    assert headers.get_all("User-Agent") == ["mine"]
    assert headers.get_all("Authorization") == ["Bearer x"]


def test_one_origin() -> None:
    """RFC 6454 section 7.3: a user agent never sends two."""
    try:
        _, headers = asked(client(origin="https://a.com", headers={"Origin": "https://b.com"}))
    except ValueError:
        return
    assert len(headers.get_all("Origin")) == 1


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "connection",
        "Sec-WebSocket-Key",
        "SEC-WEBSOCKET-VERSION",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Protocol",
    ],
)
def test_the_caller_cannot_write_our_part_of_the_request(name: str) -> None:
    with pytest.raises(ValueError, match="(?i)" + name):
        client(headers={name: "x"})


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding"])
def test_a_request_has_no_body(name: str) -> None:
    with pytest.raises(ValueError):
        client(headers={name: "chunked" if name.startswith("T") else "3"})


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize(
    "place", ["value", "name", "origin", "user_agent", "host", "subprotocol", "resource", "uri host"]
)
def test_nothing_of_the_caller_can_break_the_request(value: str, place: str) -> None:
    with pytest.raises(ValueError):
        if place == "value":
            client(headers={"X": value})
        elif place == "name":
            client(headers={value: "x"})
        elif place in ("origin", "user_agent"):
            client(**{place: value})
        elif place == "host":
            client(headers={"Host": value})
        elif place == "subprotocol":
            client(options=Options(subprotocols=[value]))
        elif place == "resource":
            ClientHandshake(URI(secure=False, host="a", port=80, resource="/" + value))
        else:
            ClientHandshake(URI(secure=False, host=value, port=80))


@pytest.mark.parametrize("resource", ["/a b", "/\xe9", "", "/☃"])
def test_a_resource_that_no_request_line_takes(resource: str) -> None:
    with pytest.raises(ValueError):
        ClientHandshake(URI(secure=False, host="a", port=80, resource=resource))


# Good answers.


@pytest.mark.parametrize(
    ("changes", "more", "line"),
    [
        ({}, [], "HTTP/1.1 101 Switching Protocols"),
        ({}, [], "HTTP/1.1 101 "),
        ({}, [], "HTTP/1.1 101 Web Socket Protocol Handshake"),
        ({"Upgrade": "WebSocket"}, [], "HTTP/1.1 101 x"),
        ({"Connection": "upgrade"}, [], "HTTP/1.1 101 x"),
        ({"Connection": "keep-alive, Upgrade"}, [], "HTTP/1.1 101 x"),
        ({}, [("Server", "x"), ("Set-Cookie", "a"), ("Set-Cookie", "b")], "HTTP/1.1 101 x"),
    ],
)
def test_a_good_answer(changes: dict[str, str | None], more: list[tuple[str, str]], line: str) -> None:
    for cut in ([1], [10**9], [20, 7]):
        handshake = client()
        early = frame(TEXT, b"early")
        handshake_done = 0
        data = reply(handshake, changes, more, line) + early
        for chunk in pieces(data, cut):
            assert handshake.done == bool(handshake_done)
            if not handshake.done:
                handshake.receive(chunk)
            handshake_done += handshake.done
        assert handshake.done and handshake.protocol is not None and handshake.response is not None
        assert early.startswith(handshake.leftover)
        if cut == [10**9]:
            assert handshake.leftover == early and handshake.protocol.receive(early) == ["early"]
        assert handshake.protocol.masks and handshake.protocol.state is State.OPEN
        assert handshake.protocol.options is handshake.options and handshake.protocol.subprotocol is None
        assert handshake.response.status_code == 101
        handshake.receive_eof()  # done is done


def test_other_informational_answers_come_before() -> None:
    handshake = client()
    handshake.receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert not handshake.done
    handshake.receive(reply(handshake))
    assert handshake.done


@pytest.mark.parametrize(
    ("offered", "chosen", "good"),
    [
        (None, None, True), (["a"], None, True), (["a"], "a", True), (["a", "b"], "b", True), (None, "a", False),
        (["a"], "b", False), (["a"], "A", False), (["a", "b"], "a, b", False), (["a"], "", False), (None, "", False),
    ],
)  # fmt: skip
def test_subprotocols(offered: list[str] | None, chosen: str | None, good: bool) -> None:
    handshake = client(options=Options(subprotocols=offered))
    data = reply(handshake, {"Sec-WebSocket-Protocol": chosen})
    if good:
        handshake.receive(data)
        assert handshake.protocol is not None and handshake.protocol.subprotocol == chosen
    else:
        with pytest.raises(NegotiationError):
            handshake.receive(data)


# Bad answers.

BAD_ANSWERS: list[tuple[dict[str, str | None], list[tuple[str, str]], str, type[InvalidHandshake]]] = [
    ({"Upgrade": None}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Upgrade": "h2c"}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Upgrade": "h2c, websocket"}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Upgrade": "notwebsocket"}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Upgrade": "websocket\xa0"}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Connection": None}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Connection": "close"}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Connection": "notupgrade"}, [], "HTTP/1.1 101 x", InvalidUpgrade),
    ({"Sec-WebSocket-Accept": None}, [], "HTTP/1.1 101 x", InvalidHeader),
    ({"Sec-WebSocket-Accept": ""}, [], "HTTP/1.1 101 x", InvalidHeaderValue),
    ({"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, [], "HTTP/1.1 101 x", InvalidHeaderValue),
    ({"Sec-WebSocket-Accept": "\xe9\xff"}, [], "HTTP/1.1 101 x", InvalidHeaderValue),
    ({}, [("Sec-WebSocket-Accept", "x")], "HTTP/1.1 101 x", InvalidHeaderValue),
    ({}, [("Sec-WebSocket-Extensions", "x-other")], "HTTP/1.1 101 x", NegotiationError),
    ({}, [("Sec-WebSocket-Protocol", "a")], "HTTP/1.1 101 x", NegotiationError),
    ({}, [("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "a")], "HTTP/1.1 101 x", InvalidHeaderValue),
    ({}, [], "HTTP/1.0 101 x", InvalidMessage),
    ({}, [], "HTTP/2 101 x", InvalidMessage),
    ({}, [], "SSH-2.0-OpenSSH_9.0", InvalidMessage),
    ({}, [], "\x15\x03\x01\0\x02\x02\x16", InvalidMessage),
    ({}, [("a", "b")] * 300, "HTTP/1.1 101 x", HeadersTooLarge),
    ({}, [("X", "a" * 20_000)], "HTTP/1.1 101 x", HeadersTooLarge),
    ({}, [("X", "a" * 2**20)], "HTTP/1.1 101 x", HeadersTooLarge),
    ({}, [("X", "a" * 20_000), ("Content-Length", "0")], "HTTP/1.1 200 OK", HeadersTooLarge),
]


@pytest.mark.parametrize(("changes", "more", "line", "kind"), BAD_ANSWERS)
def test_a_bad_answer(
    changes: dict[str, str | None], more: list[tuple[str, str]], line: str, kind: type[InvalidHandshake]
) -> None:
    for cut in ([10**9], [4096], [1] if len(more) < 2 and sum(map(len, map(str, more))) < 1000 else [999]):
        handshake = client()
        with pytest.raises(kind) as info:
            for chunk in pieces(reply(handshake, changes, more, line), cut):
                handshake.receive(chunk)
        assert type(info.value) is kind
        assert not handshake.done and handshake.protocol is None and handshake.outgoing() != []


def test_an_answer_to_another_key() -> None:
    one, other = client(), client()
    with pytest.raises(InvalidHeaderValue):
        one.receive(reply(other))


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 407, 426, 500, 503, 599])
@pytest.mark.parametrize("cut", [[1], [10**9]])
def test_another_status(status: int, cut: list[int]) -> None:
    handshake = client()
    data = f"HTTP/1.1 {status} Why\r\nContent-Length: 4\r\nLocation: /x\r\n\r\nbody".encode()
    with pytest.raises(InvalidStatus) as info:
        for chunk in pieces(data, cut):
            handshake.receive(chunk)
    assert info.value.response.status_code == status and info.value.response.body == b"body"
    assert info.value.response.headers["Location"] == "/x" and info.value.response.reason_phrase == "Why"
    assert str(info.value) == f"server rejected WebSocket connection: HTTP {status}"
    assert handshake.response is info.value.response and not handshake.done


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body(status: int) -> None:
    handshake = client()
    with pytest.raises(InvalidStatus):
        handshake.receive(f"HTTP/1.1 {status} x\r\n\r\n".encode())


REFUSALS: dict[str, Callable[[bytes], bytes]] = {
    "length": lambda body: b"HTTP/1.1 403 x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
    "chunked": lambda body: (
        b"HTTP/1.1 403 x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces(body, [1000]))
        + b"0\r\n\r\n"
    ),
    "until eof": lambda body: b"HTTP/1.1 403 x\r\n\r\n" + body,
}


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize(
    "size", [0, 1, 5000, MAX_REFUSAL_BODY - 1, MAX_REFUSAL_BODY, MAX_REFUSAL_BODY + 1, 10 * MAX_REFUSAL_BODY]
)
@pytest.mark.parametrize("cut", [[10**9], [1000]])
def test_the_body_of_a_refusal(kind: str, size: int, cut: list[int]) -> None:
    body = (b"0123456789" * (size // 10 + 1))[:size]
    handshake = client()
    with pytest.raises(InvalidStatus) as info:
        for chunk in pieces(REFUSALS[kind](body), cut):
            handshake.receive(chunk)
        assert kind == "until eof" and size < MAX_REFUSAL_BODY
        handshake.receive_eof()
    assert info.value.response.body == body[:MAX_REFUSAL_BODY]


def test_a_refusal_cut_short_tells_what_came() -> None:
    handshake = client()
    handshake.receive(b"HTTP/1.1 503 x\r\nContent-Length: 100\r\n\r\nbusy")
    with pytest.raises(InvalidStatus) as info:
        handshake.receive_eof()
    assert info.value.response.body == b"busy"


@pytest.mark.parametrize("data", [b"", b"HTTP", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n", b"HTTP/1.1 100 x\r\n\r\n"])
def test_eof_before_the_answer(data: bytes) -> None:
    handshake = client()
    handshake.receive(data)
    with pytest.raises(InvalidMessage, match="the connection was closed before the response was complete"):
        handshake.receive_eof()
    assert not handshake.done


# Anything at all.


def ends_well(handshake: ClientHandshake, data: bytes, sizes: list[int]) -> str:
    try:
        for chunk in pieces(data, sizes):
            if handshake.done:
                break
            handshake.receive(chunk)
        handshake.receive_eof()
    except InvalidHandshake as error:
        return type(error).__name__
    assert handshake.done
    return "done"


names = st.sampled_from(
    ["Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Version", "Upgrade",
     "Connection", "Content-Length", "Transfer-Encoding"]
)  # fmt: skip


@given(
    name=names,
    value=st.text(st.characters(codec="latin-1"), max_size=30),
    status=st.sampled_from([101, 200, 426]),
    sizes=sizes,
)
def test_any_text_in_any_header(name: str, value: str, status: int, sizes: list[int]) -> None:
    results = set()
    for cut in ([10**9], sizes):
        handshake = client()
        results.add(ends_well(handshake, reply(handshake, {name: value}, line=f"HTTP/1.1 {status} x") + b"body", cut))
    assert len(results) == 1


@given(data=st.binary(max_size=200), position=st.integers(0, 200), sizes=sizes)
def test_noise(data: bytes, position: int, sizes: list[int]) -> None:
    results = set()
    for cut in ([10**9], sizes):
        handshake = client()
        good = reply(handshake)
        results.add(ends_well(handshake, good[:position] + data + good[position:], cut))
    assert len(results) == 1
    assert ends_well(client(), data, sizes) != "done"


# Both together.


@given(
    sizes=sizes,
    back=sizes,
    offered=st.lists(st.sampled_from("abc"), unique=True),
    spoken=st.lists(st.sampled_from("abc"), unique=True),
)
def test_a_client_and_a_server(sizes: list[int], back: list[int], offered: list[str], spoken: list[str]) -> None:
    one = client("wss://example.com/x", options=Options(subprotocols=offered), origin="https://example.com")
    other = ServerHandshake(options=Options(subprotocols=spoken))
    for chunk in pieces(b"".join(one.outgoing()), sizes):
        other.receive(chunk)
    other.accept()
    assert other.protocol is not None
    other.protocol.send("hello")
    data = b"".join([*other.outgoing(), *other.protocol.outgoing()])
    messages: list[Any] = []
    for chunk in pieces(data, back):
        if one.protocol is None:
            one.receive(chunk)
            chunk = one.leftover
        if one.protocol is not None:
            messages += one.protocol.receive(chunk)
    assert messages == ["hello"]
    assert one.protocol is not None
    assert (
        one.protocol.subprotocol
        == other.protocol.subprotocol
        == next((name for name in spoken if name in offered), None)
    )


@pytest.mark.parametrize(
    "uri",
    [
        "ws://[fe80::1%25eth0]:8080/",
        "ws://[fe80::1%eth0]/",
        "ws://[::1]/",
        "ws://xn--9ca/",
        "ws://a_b:81/",
        "ws+unix:///tmp/x.sock",
    ],
)
def test_our_server_takes_the_host_of_our_client(uri: str) -> None:
    other = ServerHandshake()
    other.receive(b"".join(client(uri).outgoing()))
    other.accept()
    assert other.failure is None
