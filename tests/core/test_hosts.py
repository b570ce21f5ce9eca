"""Which hosts a request may ask for: the allow-list, and what is no Host at all (RFC 9110 section 7.2)."""

from __future__ import annotations

from typing import Any

import pytest

from websock.core.options import Options
from websock.exceptions import InvalidHost

from .heads import request, serve

HOSTS = ["Example.com", "other.example:8443", "*.wild.example", "[::1]", "[2001:db8::1]:80", "192.0.2.1"]


def status(data: bytes, **options: Any) -> int:
    handshake, reply = serve(data, Options(**options))
    assert reply is not None
    if reply.status == 421:
        assert isinstance(handshake.failure, InvalidHost)
    return reply.status


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("example.com", True),
        ("EXAMPLE.com:1234", True),
        ("example.com.", True),
        ("example.com:", True),
        ("www.example.com", False),
        ("example.com.evil.example", False),
        ("notexample.com", False),
        ("other.example:8443", True),
        ("other.example", False),
        ("other.example:443", False),
        ("a.wild.example", True),
        ("A.b.wild.example:99", True),
        ("wild.example", False),
        ("evilwild.example", False),
        (".wild.example", True),
        ("[::1]", True),
        ("[::1]:9", True),
        ("[::2]", False),
        ("[2001:DB8::1]:80", True),
        ("[2001:db8::1]", False),
        ("192.0.2.1:1", True),
        ("192.0.2.10", False),
    ],
)
def test_hosts(host: str, good: bool) -> None:
    assert status(request({"Host": host}), hosts=HOSTS) == (101 if good else 421)
    assert status(request({"Host": host})) == 101


@pytest.mark.parametrize("hosts", [None, HOSTS])
@pytest.mark.parametrize(
    "data",
    [
        request({"Host": None}),
        request(more=[("Host", "example.com")]),
        request(more=[("Host", "other.example")]),
        *[
            request({"Host": host})
            for host in ("", "a b", "example.com:port", "example.com:65536", "[::1", "a/b", "user@example.com", "é")
        ],
    ],
)
def test_what_is_no_host(data: bytes, hosts: Any) -> None:
    assert status(data, hosts=hosts) == 400


def test_it_is_refused_before_anybody_sees_the_request() -> None:
    from websock.core.handshake import ServerHandshake

    handshake = ServerHandshake(options=Options(hosts=["example.com"]))
    handshake.receive(request({"Host": "evil.example"}))
    assert handshake.done and handshake.response is not None and handshake.response.status_code == 421


@pytest.mark.parametrize("value", ["", "*", "*.", "*.*.com", "a.*.com", "http://a", "a b", "a:x", "a:", "[::1", "::1"])
def test_what_is_no_host_of_ours(value: str) -> None:
    with pytest.raises(ValueError, match="hosts has"):
        Options(hosts=[value])


def test_types() -> None:
    with pytest.raises(TypeError):
        Options(hosts="example.com")
    with pytest.raises(TypeError):
        Options(hosts=[1])  # type: ignore[list-item]
    assert Options(hosts=iter(["A.example"])).hosts == ("a.example",)  # type: ignore[arg-type]
    assert status(request(), hosts=[]) == 421


def test_what_a_proxy_says_of_the_host_is_not_looked_at() -> None:
    """Anybody can send X-Forwarded-Host, and many proxies pass it on: only the Host header counts."""
    said = [("X-Forwarded-Host", "example.com"), ("X-Forwarded-Proto", "https"), ("Forwarded", "host=example.com")]
    assert status(request({"Host": "evil.example"}, said), hosts=["example.com"]) == 421  # type: ignore[arg-type]
    page = [("Origin", "https://example.com"), *said]
    assert status(request({"Host": "inner.example"}, page)) == 403  # type: ignore[arg-type]
    assert status(request({"Host": "example.com"}, page)) == 101  # type: ignore[arg-type]
