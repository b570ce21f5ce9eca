"""Which pages may connect (RFC 6455 section 10.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from websock.core.options import SAME_ORIGIN, Options
from websock.exceptions import InvalidHeaderValue, InvalidOrigin

from .heads import request, serve


def allowed(origin: str | None, host: str, options: Options | None = None) -> bool:
    handshake, reply = serve(request({"Host": host}, more=[] if origin is None else [("Origin", origin)]), options)
    assert reply is not None
    if reply.status == 403:
        assert type(handshake.failure) is InvalidOrigin and handshake.failure.value == origin
    else:
        assert reply.status == 101
    return reply.status == 101


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        (None, "example.com", True),  # not a browser
        ("http://example.com", "example.com", True),
        ("https://example.com", "example.com", True),  # a proxy ended TLS
        ("HTTP://EXAMPLE.com", "example.COM", True),
        ("http://example.com:80", "example.com", True),
        ("http://example.com", "example.com:80", True),
        ("https://example.com:443", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("http://example.com:8000", "example.com:8000", True),
        ("https://example.com:8443", "example.com:8443", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]", "[::1]", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://[FE80::A]", "[fe80::a]:443", True),
        ("http://example.com", "example.com:443", False),
        ("https://example.com", "example.com:80", False),
        ("http://example.com:8000", "example.com", False),
        ("http://example.com", "example.com:8000", False),
        ("http://example.com:8000", "example.com:8001", False),
        ("http://evil.com", "example.com", False),
        ("http://example.com.evil.com", "example.com", False),
        ("http://evilexample.com", "example.com", False),
        ("http://sub.example.com", "example.com", False),
        ("http://example.com", "sub.example.com", False),
        ("http://example.com@evil.com", "example.com", False),
        ("http://evil.com#example.com", "example.com", False),
        ("http://evil.com/example.com", "example.com", False),
        ("http://example.com/", "example.com", False),  # an Origin has no path (RFC 6454 section 6.1)
        ("http://[::2]", "[::1]", False),
        ("null", "example.com", False),
        ("null", "null", False),
        ("", "example.com", False),
        ("example.com", "example.com", False),
        ("//example.com", "example.com", False),
        ("http:example.com", "example.com", False),
        ("http://", "example.com", False),
        ("://example.com", "example.com", False),
        ("ftp://example.com", "example.com", False),
        ("file://", "example.com", False),
        ("chrome-extension://example.com", "example.com", False),
        ("http://example.com http://evil.com", "example.com", False),
        ("http://example.com:b", "example.com", False),
        ("http://example.com:99999", "example.com", False),
        ("http://example.com:\xb2", "example.com", False),
        ("http://ex\xe4mple.com", "example.com", False),
    ],
)
def test_same_origin(origin: str | None, host: str, expected: bool) -> None:
    assert Options().origins is SAME_ORIGIN
    assert allowed(origin, host) == expected


def test_two_origins() -> None:
    data = request(more=[("Origin", "http://example.com"), ("Origin", "http://example.com")])
    handshake, reply = serve(data)
    assert reply is not None and reply.status == 400 and type(handshake.failure) is InvalidHeaderValue


@pytest.mark.parametrize("origin", [None, "http://evil.com", "null", "", "nonsense"])
def test_any_origin(origin: str | None) -> None:
    assert allowed(origin, "example.com", Options(origins=None))


@pytest.mark.parametrize(
    ("origins", "origin", "expected"),
    [
        (["http://a.com"], "http://a.com", True),
        (["http://a.com"], "http://a.com:80", False),
        (["http://a.com"], "http://b.com", False),
        (["http://a.com"], "HTTP://A.COM", False),  # browsers send it in lower case
        (["http://a.com"], None, False),
        (["http://a.com", None], None, True),
        ([None], None, True),
        ([None], "http://a.com", False),
        ([None], "", False),
        ([], None, False),
        ([], "http://example.com", False),
        (["null"], "null", True),
        ([""], None, False),
        ([re.compile(r"https?://\w+\.a\.com")], "https://x.a.com", True),
        ([re.compile(r"https?://\w+\.a\.com")], "https://x.a.com.evil.com", False),
        ([re.compile(r"https?://\w+\.a\.com")], "evil https://x.a.com", False),
        ([re.compile(r"https?://\w+\.a\.com")], None, False),
        ([re.compile(".*")], None, False),
        (("http://a.com", re.compile("b")), "b", True),
        (["http://a.com"], "http://example.com", False),  # a list replaces the default
    ],
)
def test_a_list_of_origins(origins: Sequence[Any], origin: str | None, expected: bool) -> None:
    assert allowed(origin, "example.com", Options(origins=origins)) == expected


@pytest.mark.parametrize("origins", [{"http://a.com"}, frozenset({"http://a.com"}), {"http://a.com": 1}.keys()])
def test_a_set_of_origins_works_or_is_refused_at_once(origins: Any) -> None:
    """Not with an exception in every handshake."""
    try:
        options = Options(origins=origins)
    except TypeError:
        return
    assert allowed("http://a.com", "example.com", options)
    assert not allowed("http://b.com", "example.com", options)


@pytest.mark.parametrize(
    "origins", ["http://a.com", b"http://a.com", [b"http://a.com"], [re.compile(b"a")], [1], 5, re.compile("a"), True]
)
def test_origins_of_a_wrong_type(origins: Any) -> None:
    with pytest.raises(TypeError):
        Options(origins=origins)
