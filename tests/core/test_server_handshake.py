"""The server's side of the opening handshake: what it accepts and how it refuses (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from websock.core.handshake import ServerHandshake, accept_key
from websock.core.options import Options
from websock.core.protocol import State
from websock.datastructures import Headers
from websock.exceptions import (
    HeadersTooLarge,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidState,
    InvalidUpgrade,
    NegotiationError,
)
from websock.http11 import Response, make_response

from .frames import TEXT, frame, pieces, sizes
from .heads import ACCEPT, KEY, accept_of, answer, parse_answer, request, serve

# The handshake of RFC 6455 section 1.2, octet for octet.
EXAMPLE = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_the_example_of_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT == accept_of(KEY)
    handshake, reply = serve(EXAMPLE, Options(origins=["http://example.com"], subprotocols=["chat"]))
    assert reply is not None and reply.status == 101 and reply.body == b""
    assert reply.headers == {
        "upgrade": ["websocket"],
        "connection": ["Upgrade"],
        "sec-websocket-accept": [ACCEPT],
        "sec-websocket-protocol": ["chat"],
    }
    assert handshake.done and handshake.failure is None and handshake.leftover == b""
    assert handshake.request is not None and handshake.request.path == "/chat"
    assert handshake.request.headers["hOST"] == "server.example.com"
    assert handshake.response is not None and handshake.response.status_code == 101
    assert handshake.protocol is not None and handshake.protocol.subprotocol == "chat"
    assert handshake.protocol.state is State.OPEN and not handshake.protocol.masks
    assert handshake.protocol.options is handshake.options


def test_nothing_happens_before_the_head_is_complete() -> None:
    handshake = ServerHandshake()
    for octet in pieces(EXAMPLE[:-1], [1]):
        handshake.receive(octet)
        assert handshake.request is None and not handshake.done and handshake.outgoing() == []
    with pytest.raises(InvalidState):
        handshake.accept()
    with pytest.raises(InvalidState):
        handshake.reject(403)
    handshake.receive(EXAMPLE[-1:])
    assert handshake.request is not None and not handshake.done and handshake.outgoing() == []


def test_it_is_answered_once() -> None:
    firsts: list[Callable[[ServerHandshake], None]] = [
        lambda h: h.accept(),
        lambda h: h.reject(403),
        lambda h: h.fail(InvalidMessage("late")),
    ]
    for first in firsts:
        handshake = ServerHandshake()
        handshake.receive(request())
        first(handshake)
        data = handshake.outgoing()
        assert handshake.done and data
        for second in (
            handshake.accept,
            lambda h=handshake: h.reject(403),
            lambda h=handshake: h.respond(make_response(200, "")),
        ):
            with pytest.raises(InvalidState):
                second()
        handshake.fail(InvalidMessage("later still"))
        handshake.receive(b"more")
        assert handshake.outgoing() == []


# What is refused, with which status, and what it is called.

BAD_REQUESTS: list[tuple[str, bytes, int, type[InvalidHandshake]]] = [
    # The request line.
    ("POST", request(line="POST / HTTP/1.1"), 405, InvalidMethod),
    ("HEAD", request(line="HEAD / HTTP/1.1"), 405, InvalidMethod),
    ("CONNECT", request(line="CONNECT example.com:80 HTTP/1.1"), 405, InvalidMethod),
    ("OPTIONS", request(line="OPTIONS * HTTP/1.1"), 405, InvalidMethod),
    ("get", request(line="get / HTTP/1.1"), 405, InvalidMethod),
    ("HTTP/1.0", request(line="GET / HTTP/1.0"), 400, InvalidMessage),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400, InvalidMessage),
    ("HTTP/2.0", request(line="GET / HTTP/2.0"), 400, InvalidMessage),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 405, InvalidMethod),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 400, InvalidMessage),
    ("absolute form", request(line="GET http://example.com/ HTTP/1.1"), 400, InvalidMessage),
    ("asterisk", request(line="GET * HTTP/1.1"), 400, InvalidMessage),
    ("no path", request(line="GET  HTTP/1.1"), 400, InvalidMessage),
    ("space in path", request(line="GET /a b HTTP/1.1"), 400, InvalidMessage),
    ("tab in path", request(line="GET /a\tb HTTP/1.1"), 400, InvalidMessage),
    ("NUL in path", request(line="GET /a\0b HTTP/1.1"), 400, InvalidMessage),
    ("ESC in path", request(line="GET /a\x1bb HTTP/1.1"), 400, InvalidMessage),
    ("DEL in path", request(line="GET /a\x7fb HTTP/1.1"), 400, InvalidMessage),
    ("latin-1 in path", request(line="GET /\xe9 HTTP/1.1"), 400, InvalidMessage),
    ("nonsense", b"hello\r\n\r\n", 400, InvalidMessage),
    ("a WebSocket frame", b"\x81\x85aaaa     \r\n\r\n", 400, InvalidMessage),
    # Hosts.
    ("no Host", request({"Host": None}), 400, InvalidMessage),
    ("two Hosts", request(more=[("Host", "example.com")]), 400, InvalidMessage),
    ("empty Host", request({"Host": ""}), 400, InvalidHeaderValue),
    *[
        (f"Host {host}", request({"Host": host}), 400, InvalidHeaderValue)
        for host in (
            "a b",
            "a/b",
            "a@b",
            "user:pass@a",
            "a:b",
            "a:99999",
            "a:-1",
            "a:80:80",
            ":80",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "a,b",
            'a"b',
            "a\\b",
            "a?b",
            "a#b",
            "\xe9",
            "<a>",
            "a:\xb2",
        )
    ],
    # Bodies.
    ("a body", request(more=[("Content-Length", "3")]) + b"abc", 400, InvalidMessage),
    ("a body to come", request(more=[("Content-Length", "3")]), 400, InvalidMessage),
    ("a chunked body", request(more=[("Transfer-Encoding", "chunked")]) + b"0\r\n\r\n", 400, InvalidMessage),
    ("two lengths", request(more=[("Content-Length", "0"), ("Content-Length", "3")]), 400, InvalidMessage),
    ("a length in words", request(more=[("Content-Length", "three")]), 400, InvalidMessage),
    # Upgrade, Connection, Version.
    ("no Upgrade", request({"Upgrade": None}), 426, InvalidUpgrade),
    ("another Upgrade", request({"Upgrade": "h2c"}), 426, InvalidUpgrade),
    ("notwebsocket", request({"Upgrade": "notwebsocket"}), 426, InvalidUpgrade),
    ("websocket/13", request({"Upgrade": "websocket/13"}), 426, InvalidUpgrade),
    ("no Connection", request({"Connection": None}), 426, InvalidUpgrade),
    ("Connection: close", request({"Connection": "close"}), 426, InvalidUpgrade),
    ("Connection: notupgrade", request({"Connection": "notupgrade"}), 426, InvalidUpgrade),
    ("Connection: upgraded", request({"Connection": "keep-alive, upgraded"}), 426, InvalidUpgrade),
    ("Connection: up grade", request({"Connection": "up grade"}), 426, InvalidUpgrade),
    ("Connection: upgrade;q=1", request({"Connection": "upgrade;q=1"}), 426, InvalidUpgrade),
    ("Connection: upgrade + NBSP", request({"Connection": "Upgrade\xa0"}), 426, InvalidUpgrade),
    ("Connection: upgrade + NEL", request({"Connection": "keep-alive,\x85Upgrade"}), 426, InvalidUpgrade),
    ("Upgrade: websocket + FS", request({"Upgrade": "\x1cwebsocket"}), 426, InvalidUpgrade),
    ("no version", request({"Sec-WebSocket-Version": None}), 426, InvalidUpgrade),
    *[
        (f"version {version}", request({"Sec-WebSocket-Version": version}), 426, InvalidUpgrade)
        for version in ("", "0", "8", "12", "14", "013", "13.0", "13, 8", "thirteen", "1\xb3")
    ],
    ("two versions", request(more=[("Sec-WebSocket-Version", "13")]), 400, InvalidHeaderValue),
    # The key.
    ("no key", request({"Sec-WebSocket-Key": None}), 400, InvalidHeader),
    ("two keys", request(more=[("Sec-WebSocket-Key", KEY)]), 400, InvalidHeaderValue),
    *[
        (f"key {key!r}", request({"Sec-WebSocket-Key": key}), 400, InvalidHeaderValue)
        for key in (
            "",
            "x",
            KEY[:-1],
            KEY[:-2],
            KEY + "=",
            KEY[:-4],
            base64.b64encode(bytes(15)).decode(),
            base64.b64encode(bytes(17)).decode(),
            "dGhlIHNhbXBsZSBub25j=ZQ=",
            "dGhl IHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZ_-=",
            "\xe9" * 24,
            KEY + ", " + KEY,
        )
    ],
    ("a subprotocol that is no token", request({"Sec-WebSocket-Protocol": "a b"}), 400, InvalidHeaderFormat),
    ("a subprotocol in quotes", request({"Sec-WebSocket-Protocol": 'chat, "x"'}), 400, InvalidHeaderFormat),
    ("a subprotocol of latin-1", request({"Sec-WebSocket-Protocol": "\xe9"}), 400, InvalidHeaderFormat),
    # The grammar of HTTP.
    ("no colon", request().replace(b"Host: ", b"Host "), 400, InvalidMessage),
    ("space before the colon", request().replace(b"Upgrade: w", b"Upgrade : w"), 400, InvalidMessage),
    ("NUL in a value", request(more=[("X", b"a\0b")]), 400, InvalidMessage),
    ("CR in a value", request(more=[("X", b"a\rb")]), 400, InvalidMessage),
    ("a name that is no token", request(more=[("X(Y", "z")]), 400, InvalidMessage),
    ("an empty name", request(more=[("", "z")]), 400, InvalidMessage),
    # Sizes.
    ("2,000 headers", request(more=[("a", "b")] * 2000), 431, HeadersTooLarge),
    ("257 headers", request(more=[("a", "b")] * 252), 431, HeadersTooLarge),
    ("1 MB line", request(more=[("X", "a" * 2**20)]), 431, HeadersTooLarge),
    ("1 MB path", request(line="GET /" + "a" * 2**20 + " HTTP/1.1"), 431, HeadersTooLarge),
    ("1 MB without an end", b"GET /" + b"a" * 2**20, 431, HeadersTooLarge),
    ("100,000 times the same header", request(more=[("Cookie", "a")] * 100_000), 431, HeadersTooLarge),
    ("1 MB of folded lines", request(more=[("X", b"a\r\n " + b"b\r\n " * 2**18)]), 431, HeadersTooLarge),
]


@pytest.mark.parametrize(
    ("data", "status", "kind"), [case[1:] for case in BAD_REQUESTS], ids=[case[0] for case in BAD_REQUESTS]
)
def test_a_bad_request(data: bytes, status: int, kind: type[InvalidHandshake]) -> None:
    for chunks in ([data], pieces(data, [4096]), [data[:1], data[1:]]):
        handshake, reply = serve(chunks)
        assert reply is not None and reply.status == status, reply
        assert type(handshake.failure) is kind and handshake.failure.status == status
        assert handshake.protocol is None and handshake.done
        assert handshake.response is not None and handshake.response.status_code == status
        assert reply.headers["content-type"] == ["text/plain; charset=utf-8"]
        assert "close" in reply.headers["connection"][0]
        if not data.startswith(b"HEAD"):
            assert reply.headers["content-length"] == [str(len(reply.body))] and b"Failed to open" in reply.body
            assert len(reply.body) < 20_000
        if status == 426:  # RFC 6455 section 4.4; RFC 9110 section 15.5.22
            assert reply.headers["sec-websocket-version"] == ["13"] and reply.headers["upgrade"] == ["websocket"]
        if status == 405:  # RFC 9110 section 15.5.6
            assert reply.headers["allow"] == ["GET"]


@pytest.mark.parametrize(
    "data",
    [case[1] for case in BAD_REQUESTS if len(case[1]) < 5000],
    ids=[c[0] for c in BAD_REQUESTS if len(c[1]) < 5000],
)
def test_a_bad_request_byte_by_byte(data: bytes) -> None:
    one, other = answer(data), answer(pieces(data, [1]))
    # h11 may find a fault earlier when it sees less; which fault it was may read differently.
    assert other.status == one.status


GOOD_REQUESTS: list[tuple[str, bytes]] = [
    ("as it is", request()),
    ("LF only", request().replace(b"\r\n", b"\n")),
    ("names in lower case", request().replace(b"Sec-WebSocket-Key", b"sec-websocket-key").replace(b"Host", b"host")),
    ("Upgrade: WebSocket", request({"Upgrade": "WebSocket"})),
    ("Upgrade: several", request({"Upgrade": "h2c, websocket"})),
    ("Upgrade twice", request({"Upgrade": "h2c"}, more=[("Upgrade", "websocket")])),
    ("Connection: several", request({"Connection": "keep-alive, Upgrade"})),
    ("Connection: no spaces", request({"Connection": "keep-alive,upgrade,,"})),
    ("Connection: tabs", request({"Connection": "keep-alive\t,\tUPGRADE\t"})),
    ("Connection twice", request({"Connection": "keep-alive"}, more=[("Connection", "Upgrade")])),
    ("Content-Length: 0", request(more=[("Content-Length", "0")])),
    ("spaces around the key", request({"Sec-WebSocket-Key": f"  {KEY}\t "})),
    ("an unknown extension", request(more=[("Sec-WebSocket-Extensions", "bbf-usp-protocol")])),
    ("cookies of latin-1", request(more=[("Cookie", "a=\xe9")])),
    ("no value", request(more=[("X", "")])),
    ("256 headers", request(more=[("a", "b")] * 251)),
    *[
        (f"Host {host}", request({"Host": host}))
        for host in ("a", "A.b", "a:1", "a:65535", "a:", "127.0.0.1:80", "[::1]", "[::1]:8080", "xn--9ca", "a_b", "a.")
    ],
]  # fmt: skip


@pytest.mark.parametrize("data", [case[1] for case in GOOD_REQUESTS], ids=[case[0] for case in GOOD_REQUESTS])
def test_a_good_request(data: bytes) -> None:
    for chunks in ([data], pieces(data, [1]), pieces(data, [7, 50])):
        handshake, reply = serve(chunks)
        assert handshake.failure is None and reply is not None and reply.status == 101, handshake.failure
        assert reply.headers["sec-websocket-accept"] == [ACCEPT]


def test_the_head_may_have_exactly_max_header_size() -> None:
    size = len(request(more=[("X", "")]))
    for limit in (1000, 2**14):
        options = Options(max_header_size=limit)
        good = request(more=[("X", "a" * (limit - size))])
        bad = request(more=[("X", "a" * (limit - size + 1))])
        assert (len(good), len(bad)) == (limit, limit + 1)
        for cut in ([10**9], [limit - 1], [1000], [limit]):
            assert answer(pieces(good, cut), options).status == 101
            # What follows the head does not count.
            assert answer(pieces(good + b"\x89\x80abcd" * 10, cut), options).status == 101
            assert answer(pieces(bad, cut), options).status == 431


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_refusal_of_a_large_head(method: str) -> None:
    data = request({"X": "x" * 300}, line=f"{method} / HTTP/1.1")
    handshake = ServerHandshake(options=Options(max_header_size=256))
    handshake.receive(data)
    reply = parse_answer(b"".join(handshake.outgoing()))
    assert reply.status == 431 and isinstance(handshake.failure, HeadersTooLarge)
    assert bool(reply.body) == (method == "GET")  # RFC 9110 section 9.3.2: the answer to HEAD has no body


def test_the_default_limit_is_16_kib() -> None:
    assert Options().max_header_size == 16 * 1024
    assert answer(pieces(b"GET /" + b"a" * 20_000, [1000])).status == 431


# Anything at all.

SEC = [
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Accept",
]
others = st.sampled_from(
    [*SEC, "Host", "Origin", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Cookie", "Expect"]
)


def must_answer(data: bytes, sizes: list[int]) -> None:
    """An answer, never an exception; the same however the bytes come."""
    whole, one = serve(data)
    handshake, other = serve(pieces(data, sizes))
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.status == other.status
        assert one.status in (101, 400, 403, 405, 426, 431)
        assert (handshake.protocol is None) == (one.status != 101)
        assert (one.status == 101) == (whole.failure is None)


@given(values=st.dictionaries(st.sampled_from(SEC), st.binary(max_size=40), min_size=1), sizes=sizes)
def test_any_octets_in_every_sec_header(values: dict[str, bytes], sizes: list[int]) -> None:
    data = request(dict.fromkeys(values), more=list(values.items()))
    must_answer(data, sizes)
    assert serve(data)[1] is not None or b"\r" in b"".join(values.values()) or b"\n" in b"".join(values.values())


@given(name=others, value=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40), sizes=sizes)
@example(name="Origin", value="http://", sizes=[1])
@example(name="Origin", value="http://[", sizes=[1])
@example(name="Origin", value="http://a:b", sizes=[1])
@example(name="Host", value="[", sizes=[1])
@example(name="Sec-WebSocket-Key", value="é" * 24, sizes=[1])
@example(name="Expect", value="100-continue", sizes=[1])
def test_any_text_in_any_header(name: str, value: str, sizes: list[int]) -> None:
    must_answer(request({name: value}), sizes)
    must_answer(request(more=[(name, value)]), sizes)


@given(data=st.binary(max_size=200), sizes=sizes, end=st.booleans())
def test_noise(data: bytes, sizes: list[int], end: bool) -> None:
    must_answer(data + b"\r\n\r\n" * end, sizes)


@given(position=st.integers(0, 400), octets=st.binary(max_size=4), gone=st.integers(0, 4), sizes=sizes)
def test_damaged_requests(position: int, octets: bytes, gone: int, sizes: list[int]) -> None:
    data = EXAMPLE[:position] + octets + EXAMPLE[position + gone :]
    must_answer(data, sizes)
    must_answer(data + b"\r\n\r\n", sizes)


@pytest.mark.parametrize("octet", [bytes((o,)) for o in range(256)])
def test_every_octet_in_the_path_and_in_values(octet: bytes) -> None:
    status = answer(b"GET /a" + octet + b"b HTTP/1.1" + request()[request().index(b"\r\n") :]).status
    assert status == (101 if 0x21 <= octet[0] <= 0x7E else 400)
    for name in ("Sec-WebSocket-Key", "Upgrade", "Connection", "Sec-WebSocket-Version"):
        if octet not in b" \t\r\n":
            assert 400 <= answer(request({name: None}, more=[(name, octet + b"x")])).status < 500


# Time.


def seconds(function: Callable[[], object]) -> float:
    def once() -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("Sec-WebSocket-Protocol", "a,"), ("Sec-WebSocket-Protocol", "a\t, "), ("Sec-WebSocket-Protocol", "a"),
        ("Sec-WebSocket-Extensions", "a; b=c,"), ("Sec-WebSocket-Extensions", 'a; b="\\"'), ("Connection", "x, "),
        ("Upgrade", "x,"), ("Origin", "http://a"), ("Sec-WebSocket-Key", "A"),
        ("Cookie", "a=b; "), ("Host", "a."), ("X", " \t"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [64, 10**9])
def test_time_is_linear_in_a_header(name: str, unit: str, step: int) -> None:
    options = Options(max_header_size=2**22, subprotocols=["z"])

    def run(size: int) -> None:
        data = request({name: None}, more=[(name, unit * (size // len(unit)) + "upgrade" * (name == "Connection"))])
        serve(pieces(data, [step]), options)

    small, factor = 2**13, 16
    # Linear is 16, quadratic is 256.
    assert seconds(lambda: run(small * factor)) < 6 * factor * max(seconds(lambda: run(small)), 0.0002)


# Origins (RFC 6455 section 10.2) are in test_origins.py. Subprotocols: section 1.9.


@pytest.mark.parametrize(
    ("offered", "spoken", "chosen"),
    [
        (None, None, None), (None, ["a"], None), ("a", None, None), ("a", [], None), ("a", ["a"], "a"),
        ("a", ["b"], None),
        ("a, b", ["b", "a"], "b"), ("a,b,c", ["c", "b"], "c"), ("b, a", ["a", "b"], "a"), ("A", ["a"], None),
        (",, a ,", ["a"], "a"), ("v1.chat", ["v1"], None),
    ],
)  # fmt: skip
def test_subprotocols(offered: str | None, spoken: list[str] | None, chosen: str | None) -> None:
    handshake, reply = serve(request({"Sec-WebSocket-Protocol": offered}), Options(subprotocols=spoken))
    assert reply is not None and reply.status == 101 and handshake.protocol is not None
    assert reply.headers.get("sec-websocket-protocol") == ([chosen] if chosen else None)
    assert handshake.protocol.subprotocol == chosen


def test_subprotocols_in_several_headers() -> None:
    data = request(more=[("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b, c")])
    seen: list[Any] = []

    def choose(names: Any) -> str:
        seen.append(list(names))
        return "b"

    handshake, _ = serve(data, select_subprotocol=choose)
    assert seen == [["a", "b", "c"]]
    assert handshake.protocol is not None and handshake.protocol.subprotocol == "b"


@pytest.mark.parametrize("offered", [None, "a, b"])
def test_select_subprotocol_may_choose_none(offered: str | None) -> None:
    handshake, reply = serve(request({"Sec-WebSocket-Protocol": offered}), select_subprotocol=lambda names: None)
    assert reply is not None and reply.status == 101 and "sec-websocket-protocol" not in reply.headers
    assert handshake.protocol is not None and handshake.protocol.subprotocol is None


def test_select_subprotocol_may_refuse() -> None:
    def refuse(names: Any) -> str:
        raise NegotiationError("speak chat or go")

    handshake, reply = serve(request(), select_subprotocol=refuse)
    assert reply is not None and reply.status == 400 and b"speak chat or go" in reply.body
    assert type(handshake.failure) is NegotiationError


def test_select_subprotocol_may_not_invent() -> None:
    handshake, reply = serve(request({"Sec-WebSocket-Protocol": "a"}), select_subprotocol=lambda names: "b")
    assert reply is not None and reply.status >= 400
    assert type(handshake.failure) is NegotiationError and handshake.protocol is None


# Bytes that come early.


@pytest.mark.parametrize("answered_between", [False, True])
def test_bytes_behind_the_request(answered_between: bool) -> None:
    early = frame(TEXT, b"early", key=b"abcd") + frame(TEXT, b"bird", key=b"efgh")[:5]
    handshake = ServerHandshake()
    handshake.receive(request() + early[:7])
    if not answered_between:
        handshake.receive(early[7:])
    handshake.accept()
    assert handshake.leftover == (early[:7] if answered_between else early)
    assert handshake.protocol is not None
    assert handshake.protocol.receive(handshake.leftover) == ([] if answered_between else ["early"])


def test_bytes_before_the_answer_are_limited() -> None:
    handshake = ServerHandshake()
    handshake.receive(request())
    for _ in range(20):
        handshake.receive(bytes(1000))
    assert handshake.done and type(handshake.failure) is HeadersTooLarge
    assert handshake.protocol is None
    with pytest.raises(InvalidState):
        handshake.accept()


@given(sizes=sizes)
def test_any_chunking_with_bytes_behind(sizes: list[int]) -> None:
    early = frame(TEXT, b"early", key=b"abcd")
    handshake, reply = serve(pieces(EXAMPLE + early, sizes), Options(origins=None))
    assert reply is not None and reply.status == 101 and handshake.leftover == early


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_input_is_read_only_during_the_call(wrap: Any) -> None:
    handshake = ServerHandshake()
    for chunk in pieces(request() + b"\x81\x80abcd", [10]):
        buffer = bytearray(chunk)
        handshake.receive(wrap(buffer))
        buffer[:] = b"\xff" * len(buffer)
    handshake.accept()
    assert handshake.protocol is not None and handshake.leftover == b"\x81\x80abcd"


# What the application answers.


def asked(data: bytes | None = None) -> ServerHandshake:
    handshake = ServerHandshake()
    handshake.receive(request() if data is None else data)
    return handshake


def test_reject() -> None:
    handshake = asked()
    handshake.reject(403, "go away é\n", headers={"X-Why": "because", "Set-Cookie": "a=b"})
    reply = parse_answer(b"".join(handshake.outgoing()))
    assert reply.status == 403 and reply.body == "go away é\n".encode()
    assert reply.headers["x-why"] == ["because"] and reply.headers["content-length"] == ["11"]
    assert reply.headers["connection"] == ["close"] and len(reply.headers["date"]) == 1
    assert handshake.done and handshake.protocol is None and handshake.failure is None


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000, -1])
def test_a_status_that_ends_nothing(status: int) -> None:
    handshake = asked()
    with pytest.raises(ValueError, match=str(status)):
        handshake.reject(status)
    handshake.accept()
    assert handshake.protocol is not None


def test_a_page_for_a_request_that_is_no_handshake() -> None:
    handshake = asked(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert handshake.request is not None and handshake.request.path == "/health" and not handshake.done
    handshake.respond(Response(200, "OK", Headers([("Content-Type", "text/html")]), b"<p>fine"))
    reply = parse_answer(b"".join(handshake.outgoing()))
    assert (reply.status, reply.body) == (200, b"<p>fine")
    assert reply.headers == {"content-type": ["text/html"], "content-length": ["7"], "connection": ["close"]}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_bodies_where_they_may_be(method: str, status: int) -> None:
    handshake = asked(f"{method} /health HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    handshake.respond(make_response(status, "fine"))
    reply = parse_answer(b"".join(handshake.outgoing()))
    assert reply.status == status
    assert reply.body == (b"fine" if method == "GET" and status in (200, 404) else b"")
    assert ("content-length" in reply.headers) == (status != 204)  # RFC 9110 section 8.6


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Connection"])
def test_the_framing_is_not_the_callers(name: str) -> None:
    handshake = asked()
    handshake.respond(make_response(200, "fine", {name: "7"}))
    reply = parse_answer(b"".join(handshake.outgoing()))
    assert reply.headers["content-length"] == ["4"] and reply.headers["connection"] == ["close"]
    assert "transfer-encoding" not in reply.headers


BAD_VALUES = ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb"]


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize(
    "call",
    [
        lambda h, value: h.accept(headers={"X": value}),
        lambda h, value: h.accept(headers=[("X", value)]),
        lambda h, value: h.accept(headers={value: "x"}),
        lambda h, value: h.accept(server_header=value),
        lambda h, value: h.reject(403, headers={"X": value}),
        lambda h, value: h.reject(403, headers={value: "x"}),
        lambda h, value: h.respond(Response(200, value, Headers())),
    ],
    ids=["value", "pair", "name", "server", "reject-value", "reject-name", "reason"],
)
def test_nothing_of_the_caller_can_break_the_answer(value: str, call: Callable[[ServerHandshake, str], None]) -> None:
    handshake = asked()
    with pytest.raises(ValueError):
        call(handshake, value)
    assert not handshake.done and handshake.outgoing() == []
    handshake.reject(500)  # what an adapter does then
    assert handshake.done and b"500" in handshake.outgoing()[0]


def test_a_value_outside_of_latin_1() -> None:
    handshake = asked()
    with pytest.raises(ValueError, match="latin-1"):
        handshake.accept(headers={"X": "☃"})
    assert not handshake.done and handshake.protocol is None
    handshake.reject(500)
    assert handshake.done


def test_more_headers() -> None:
    assert answer(request(), headers=[("X", "1"), ("X", "2")], server_header="test").headers == {
        "upgrade": ["websocket"], "connection": ["Upgrade"], "sec-websocket-accept": [ACCEPT], "x": ["1", "2"],
        "server": ["test"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Accept", "Upgrade", "Connection", "Sec-WebSocket-Protocol"]
)
def test_the_caller_cannot_write_our_part_of_the_answer(name: str) -> None:
    """An extension that was not negotiated, or a second Accept: the client must fail the connection (section 4.1)."""
    handshake = asked()
    with pytest.raises(ValueError, match=f"(?i){name}"):
        handshake.accept(headers={name: "x"})
    assert not handshake.done


@pytest.mark.parametrize("offer", [None, "permessage-deflate; client_max_window_bits", "x"])
def test_the_answer_is_the_same_when_h11_writes_it(offer: str | None) -> None:
    """Our own answer is written without h11; one that a hook has changed, with it."""
    replies = []
    for through_h11 in (False, True):
        handshake = ServerHandshake(options=Options(subprotocols=["a"]))
        handshake.receive(
            request({"Sec-WebSocket-Extensions": offer, "Sec-WebSocket-Protocol": "b, a"}) + b"\x89\x80abcd"
        )
        response = handshake.answer(server_header="test")
        if through_h11:
            response.headers["X"] = "1"
        handshake.respond(response)
        protocol = handshake.protocol
        assert protocol is not None and protocol.subprotocol == "a" and handshake.leftover == b"\x89\x80abcd"
        assert (protocol.pipeline is not None) == (offer is not None and offer != "x")
        replies.append(b"".join(handshake.outgoing()))
    assert replies[1] == replies[0][:-2] + b"X: 1\r\n\r\n"


def test_the_server_header_of_a_refusal() -> None:
    assert answer(request({"Upgrade": None}), server_header="test").headers["server"] == ["test"]


def test_fail_before_a_request() -> None:
    handshake = ServerHandshake()
    handshake.receive(b"GET / HT")
    handshake.fail(InvalidMessage("it took too long"))
    reply = parse_answer(b"".join(handshake.outgoing()))
    assert reply.status == 400 and b"it took too long" in reply.body and handshake.done
