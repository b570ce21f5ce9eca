"""WebSocket addresses (RFC 6455 section 3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from websock.core.uri import URI, parse_uri
from websock.exceptions import InvalidURI, WebSocketException

# Address, what it is, its Host header.
GOOD: list[tuple[str, URI, str]] = [
    ("ws://example.com", URI(False, "example.com", 80, "/"), "example.com"),
    ("ws://example.com/", URI(False, "example.com", 80, "/"), "example.com"),
    ("wss://example.com/", URI(True, "example.com", 443, "/"), "example.com"),
    ("WSS://EXAMPLE.com/A", URI(True, "example.com", 443, "/A"), "example.com"),
    ("ws://example.com:80/", URI(False, "example.com", 80, "/"), "example.com"),
    ("ws://example.com:443/", URI(False, "example.com", 443, "/"), "example.com:443"),
    ("wss://example.com:443/", URI(True, "example.com", 443, "/"), "example.com"),
    ("wss://example.com:80/", URI(True, "example.com", 80, "/"), "example.com:80"),
    ("ws://example.com:8765/", URI(False, "example.com", 8765, "/"), "example.com:8765"),
    ("ws://example.com:/", URI(False, "example.com", 80, "/"), "example.com"),
    ("ws://example.com?x=1&y=2", URI(False, "example.com", 80, "/?x=1&y=2"), "example.com"),
    ("ws://h/a/b;c?d=/?e", URI(False, "h", 80, "/a/b;c?d=/?e"), "h"),
    ("ws://h//a//b", URI(False, "h", 80, "//a//b"), "h"),
    ("ws://h/%20%zz?%41", URI(False, "h", 80, "/%20%zz?%41"), "h"),
    ("ws://h/é?ü=☃", URI(False, "h", 80, "/%C3%A9?%C3%BC=%E2%98%83"), "h"),
    ("ws://h/\x80", URI(False, "h", 80, "/%C2%80"), "h"),
    ("ws://127.0.0.1:81/", URI(False, "127.0.0.1", 81, "/"), "127.0.0.1:81"),
    ("ws://[::1]/", URI(False, "::1", 80, "/"), "[::1]"),
    ("wss://[2001:DB8::1]:8443/", URI(True, "2001:db8::1", 8443, "/"), "[2001:db8::1]:8443"),
    # RFC 6874 section 3: the zone is for connecting only, "MUST remove any ZoneID attached to an outgoing URI".
    ("ws://[fe80::1%eth0]:81/", URI(False, "fe80::1%eth0", 81, "/"), "[fe80::1]:81"),
    ("ws://é.example/", URI(False, "xn--9ca.example", 80, "/"), "xn--9ca.example"),
    ("ws://a_b/", URI(False, "a_b", 80, "/"), "a_b"),
    ("ws://u:p@h/", URI(False, "h", 80, "/", user=("u", "p")), "h"),
    ("ws://u%3A%40:p%2F%C3%A9@h/", URI(False, "h", 80, "/", user=("u:@", "p/é")), "h"),
    ("ws://:p@h/", URI(False, "h", 80, "/", user=("", "p")), "h"),
    ("ws://u:@h/", URI(False, "h", 80, "/", user=("u", "")), "h"),
    ("ws+unix:///tmp/x.sock", URI(False, "localhost", 80, "/", unix_path="/tmp/x.sock"), "localhost"),
    ("ws+unix:///tmp/x.sock:/a?b=c", URI(False, "localhost", 80, "/a?b=c", unix_path="/tmp/x.sock"), "localhost"),
    ("wss+unix:///tmp/x.sock:/a:b", URI(True, "localhost", 443, "/a:b", unix_path="/tmp/x.sock"), "localhost"),
    ("ws+unix:///tmp/a%20b%3A.sock:/", URI(False, "localhost", 80, "/", unix_path="/tmp/a b:.sock"), "localhost"),
    ("ws+unix:///tmp/x.sock:", URI(False, "localhost", 80, "/", unix_path="/tmp/x.sock"), "localhost"),
]


@pytest.mark.parametrize(("address", "uri", "host"), GOOD)
def test_good(address: str, uri: URI, host: str) -> None:
    assert parse_uri(address) == uri
    assert uri.host_header == host
    assert uri.resource.isascii() and uri.resource.startswith("/")


@pytest.mark.parametrize(
    "address",
    [
        "", "ws", "ws:", "ws:/", "ws://", "ws:///", "ws://:80/", "ws://?x", "example.com", "//example.com/", "/path",
        "http://h/", "https://h/", "wsx://h/", "ws+tcp://h/", "ws+://h/", "wss+http://h/", "+unix:///x", "unix:///x",
        "ws+unix://h/x", "ws+unix://", "ws+unix:///", "ws+unix://:/x", "ws+unix:///:/x",
        "ws://h/#", "ws://h/#x", "ws://h#/x", "ws://h/?x#y", "ws+unix:///x:/#y",
        "ws://h:port/", "ws://h:-1/", "ws://h:65536/", "ws://h:99999999999/", "ws://h:８０/", "ws://h:8 0/", "ws://h:1:2/",
        "ws://u@h/", "ws://@h/", "ws://u:p@/", "ws://u:p@:80/",
        "ws://[::1/", "ws://::1]/", "ws://[::1]x/", "ws://x[::1]/", "ws://[]/", "ws://[x]/", "ws://[1.2.3.4]/",
        "ws://h /", " ws://h/", "ws://h/ ", "ws://h/a b", "ws://h/\n", "ws://h/\r\nX: y", "ws://h\t/", "ws://h/\0", "ws://h/\x7f",
        "ws://h\\x/", "ws://a<b/", "ws://a\"b/", "ws://a^b/", "ws://a|b/", "ws://a`b/", "ws://a{b}/",
        "ws://\ud800/", "ws://h/\ud800", "ws://h/?\udfff",
    ],
)  # fmt: skip
def test_bad(address: str) -> None:
    with pytest.raises(InvalidURI) as info:
        parse_uri(address)
    assert info.value.uri == address and info.value.problem
    assert isinstance(info.value, ValueError) and isinstance(info.value, WebSocketException)
    assert str(info.value).startswith(repr(address))


@pytest.mark.parametrize("address", [None, b"ws://h/", 1, ["ws://h/"]])
def test_not_a_str(address: Any) -> None:
    with pytest.raises(TypeError):
        parse_uri(address)


def test_a_parsed_address_stays_as_it_is() -> None:
    uri = parse_uri("ws://h/")
    assert parse_uri(uri) is uri


def test_a_password_is_not_shown() -> None:
    """A repr ends up in a log."""
    assert "secret" not in repr(parse_uri("ws://user:secret@h/"))


@given(st.one_of(st.text(max_size=30), st.from_regex(r"wss?(\+unix)?://[^\s/]{0,12}(/.{0,12})?", fullmatch=True)))
@example("ws://[")
@example("ws://a[b]c")
@example("ws://\ufe13")
def test_anything(address: str) -> None:
    try:
        uri = parse_uri(address)
    except InvalidURI:
        return
    assert 0 <= uri.port < 65536 and uri.host
    assert uri.resource.isascii() and uri.resource.startswith("/")
    for text in (uri.resource, uri.host_header):
        assert text.isascii() and text.isprintable() and " " not in text


@given(path=st.text(max_size=20), query=st.text(max_size=20))
def test_any_resource(path: str, query: str) -> None:
    uri = parse_uri(f"ws://h/{quote(path, safe='')}?{quote(query, safe='')}x")
    got_path, _, got_query = uri.resource.partition("?")
    assert unquote(got_path) == "/" + path and unquote(got_query) == query + "x"
