"""Addresses: what is one, what is none and where that shows, and the ends of real sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from websock.net.address import SCHEMES, Address
from websock.net.errors import AddressError, NotOnThisSystem

GOOD = [
    ("tcp://localhost:8080", Address("tcp", "localhost", 8080), None),
    ("TCP://LocalHost:080", Address("tcp", "LocalHost", 80), "tcp://LocalHost:80"),
    ("tls://example.org:https", Address("tls", "example.org", 443), "tls://example.org:443"),
    ("tcp://example.org.:1", Address("tcp", "example.org.", 1), None),
    ("tcp://*:http", Address("tcp", "", 80), "tcp://*:80"),
    ("udp://*:0", Address("udp"), None),
    ("udp://127.0.0.1:domain", Address("udp", "127.0.0.1", 53), "udp://127.0.0.1:53"),
    ("tcp://[::1]:1", Address("tcp", "::1", 1), None),
    ("udp://[fe80::1%eth0]:5353", Address("udp", "fe80::1", 5353, "eth0"), None),
    ("udp://[fe80::1%2]:5353", Address("udp", "fe80::1", 5353, "2"), None),
    ("tcp://[::ffff:1.2.3.4]:1", Address("tcp", "::ffff:1.2.3.4", 1), None),
    ("tcp://bücher.example:1", Address("tcp", "bücher.example", 1), None),
    ("tcp://_sip._tcp:65535", Address("tcp", "_sip._tcp", 65535), None),
    ("sctp://host:9", Address("sctp", "host", 9), None),
    ("unix:///run/app.sock", Address("unix", path="/run/app.sock"), None),
    ("unix:/run/app.sock", Address("unix", path="/run/app.sock"), "unix:///run/app.sock"),
    ("unix:app.sock", Address("unix", path="app.sock"), None),
    ("unix:@name", Address("unix", path="\0name"), None),
    ("unix:./@name", Address("unix", path="./@name"), None),
    ("unix:////x", Address("unix", path="//x"), None),
    ("unixgram:ü.sock", Address("unixgram", path="ü.sock"), None),
    ("unixpacket:///run/app.seq", Address("unixpacket", path="/run/app.seq"), None),
    ("unix:" + "x" * 107, Address("unix", path="x" * 107), None),
    ("fd://3", Address("fd", fd=3), None),
    ("fd://007", Address("fd", fd=7), "fd://7"),
    ("bluetooth://00:11:22:33:44:55:1", Address("bluetooth", "00:11:22:33:44:55", 1), None),
]
BAD = [
    ("", 0, "begins with one of"),
    ("localhost", 0, "begins with one of"),
    ("localhost:80", 0, "unknown scheme"),
    ("://x:1", 0, "unknown scheme"),
    ("http://x:1", 0, "unknown scheme"),
    ("tcp:x:1", 4, "// follows"),
    ("tcp:/x:1", 4, "// follows"),
    ("tcp://", 6, "host is missing"),
    ("tcp://:80", 6, "host is missing"),
    ("tcp://host", 10, "a colon and a port"),
    ("tcp://host:", 11, "a port is missing"),
    ("tcp://host:65536", 11, "at most 65535"),
    ("tcp://host:000080", 11, "at most 65535"),
    ("tcp://host:-1", 11, "a number or the name"),
    ("tcp://host:80/", 13, "nothing follows the port"),
    ("tcp://host:٣", 11, "a number or the name"),
    ("tcp://host:nosuchservice", 11, "there is no service"),
    ("tcp://ho st:80", 8, "in it"),
    ("tcp://ho\u2003st:80", 8, "in it"),
    ("tcp://ho\0st:80", 8, "in it"),
    ("tcp://ho\ud800st:80", 8, "in it"),
    ("tcp://a..b:80", 8, "two dots"),
    ("tcp://-a.b:80", 6, "no part of a host name"),
    ("tcp://a.b-:80", 8, "no part of a host name"),
    ("tcp://a." + "b" * 64 + ":80", 8, "no part of a host name"),
    ("tcp://u@host:80", 6, "a user and a password have no place"),
    ("tcp://u:pw@host:80", 6, "a user and a password have no place"),
    ("tcp://u:pw@[::1]:80", 6, "a user and a password have no place"),
    ("tcp://localhost:1/", 17, "nothing follows the port"),
    ("tcp://localhost:1/path", 17, "nothing follows the port"),
    ("ws://localhost:1/", 0, "unknown scheme: WebSocket is spoken by websock.connect()"),
    ("tcp://" + "a." * 127 + "b:80", 6, "at most 253"),
    ("tcp://1.2.3:80", 6, "not an IPv4"),
    ("tcp://256.2.3.4:80", 6, "not an IPv4"),
    ("tcp://127.0.0.01:80", 6, "not an IPv4"),
    ("tcp://::1:80", 6, "in brackets"),
    ("tcp://fe80::1:80", 6, "in brackets"),
    ("tcp://[::1:80", 6, "not closed"),
    ("tcp://[]:80", 7, "not an IPv6"),
    ("tcp://[1.2.3.4]:80", 7, "not an IPv6"),
    ("tcp://[fe80::1%]:80", 14, "an interface follows"),
    ("tcp://[::1]", 11, "a colon and a port"),
    ("tcp://[::1]80", 11, "a colon and a port"),
    ("tcp://[::1]x:80", 11, "a colon and a port"),
    ("unix:", 5, "a path, or @ and a name"),
    ("unix:@", 5, "a path, or @ and a name"),
    ("unix://", 7, "a third /"),
    ("unix://relative", 7, "a third /"),
    ("unix:" + "x" * 108, 5, "at most 107"),
    ("unix:" + "ü" * 54, 5, "at most 107"),
    ("unix:a b", 6, "in it"),
    ("fd://", 5, "is a number"),
    ("fd://-1", 5, "is a number"),
    ("fd://x", 5, "is a number"),
    ("fd://٣", 5, "is a number"),
    ("fd://9999999999", 5, "no such descriptor"),
    ("bluetooth://00:11:22:33:44:1", 12, "six octets"),
    ("bluetooth://00:11:22:33:44:55:", 30, "a port is missing"),
]


@pytest.mark.parametrize(("text", "expected", "spelling"), GOOD, ids=[text for text, _, _ in GOOD])
def test_what_is_an_address_and_how_it_is_written(text: str, expected: Address, spelling: str | None) -> None:
    address = Address.parse(text)
    assert address == expected
    assert str(address) == (spelling or text)
    assert Address.parse(str(address)) == address
    assert Address.parse(address) is address


@pytest.mark.parametrize(("text", "position", "reason"), BAD, ids=[ascii(text) for text, _, _ in BAD])
def test_what_is_none_and_where_that_shows(text: str, position: int, reason: str) -> None:
    with pytest.raises(AddressError, match=reason) as caught:
        Address.parse(text)
    assert (caught.value.text, caught.value.position) == (text, position)
    assert repr(text) in str(caught.value)
    assert f"(at character {position + 1})" in str(caught.value)


@pytest.mark.parametrize("value", [None, 80, b"tcp://localhost:80", ("localhost", 80)])
def test_only_text_is_parsed(value: Any) -> None:
    with pytest.raises(TypeError, match="a str or an Address"):
        Address.parse(value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"scheme": "http"}, "an address is one of"),
        ({"scheme": "tcp", "port": -1}, "from 0 to 65535"),
        ({"scheme": "tcp", "port": 65536}, "from 0 to 65535"),
        ({"scheme": "tcp", "port": "80"}, "from 0 to 65535"),
        ({"scheme": "tcp", "port": True}, "from 0 to 65535"),
        ({"scheme": "fd"}, "a descriptor is a number"),
        ({"scheme": "fd", "fd": "3"}, "a descriptor is a number"),
        ({"scheme": "tcp", "host": "a\0b"}, "NUL"),
        ({"scheme": "unix", "path": "/a\0b"}, "NUL"),
    ],
)
def test_fields_that_no_address_has(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Address(**fields)


def test_a_path_that_the_file_system_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("latin-1"))
    with pytest.raises(AddressError, match="encoding does not have it") as caught:
        Address.parse("unix:///run/€")
    assert caught.value.position == 12


def test_what_follows_from_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one for one in SCHEMES if Address(one, fd=1).is_unix] == ["unix", "unixgram", "unixpacket"]
    assert [one for one in SCHEMES if Address(one, fd=1).secure] == ["tls"]
    kinds = {one: Address(one, fd=1).kind for one in SCHEMES}
    assert {one for one, kind in kinds.items() if kind == socket.SOCK_DGRAM} == {"udp", "unixgram"}
    assert {one for one, kind in kinds.items() if kind == socket.SOCK_SEQPACKET} == {"unixpacket"}
    assert [Address(one).protocol for one in ("tcp", "tls", "udp", "sctp", "unix")] == [6, 6, 17, 132, 0]
    assert Address("bluetooth").protocol == getattr(socket, "BTPROTO_RFCOMM", 3)
    monkeypatch.delattr(socket, "SOCK_SEQPACKET")
    with pytest.raises(NotOnThisSystem, match="unixpacket"):
        assert Address("unixpacket").kind


def test_replace_checks_too() -> None:
    assert str(Address("tcp", "host", 1).replace(scheme="udp", port=2)) == "udp://host:2"
    with pytest.raises(ValueError, match="from 0 to 65535"):
        Address("tcp", "host").replace(port=70000)


# Real sockets


@pytest.mark.parametrize(
    ("family", "kind", "name", "expected"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), "tcp://127.0.0.1:{port}"),
        (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0), "udp://127.0.0.1:{port}"),
        (socket.AF_INET, socket.SOCK_STREAM, ("", 0), "tcp://0.0.0.0:{port}"),
        (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0), "tcp://[::1]:{port}"),
        (socket.AF_INET6, socket.SOCK_DGRAM, ("::", 0), "udp://[::]:{port}"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "{tmp}/a.sock", "unix://{tmp}/a.sock"),
        (socket.AF_UNIX, socket.SOCK_DGRAM, "{tmp}/a.sock", "unixgram://{tmp}/a.sock"),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, "{tmp}/a.sock", "unixpacket://{tmp}/a.sock"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0test-{pid}", "unix:@test-{pid}"),
    ],
)
def test_where_a_socket_is(family: int, kind: int, name: Any, expected: str, short_path: str) -> None:
    fill = {"tmp": short_path, "pid": os.getpid()}
    with socket.socket(family, kind) as sock:
        sock.bind(name.format(**fill) if isinstance(name, str) else name)
        port = 0 if family == socket.AF_UNIX else sock.getsockname()[1]
        assert str(Address.of(sock)) == expected.format(port=port, **fill)
        assert Address.parse(str(Address.of(sock))) == Address.of(sock)


def test_both_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            assert Address.of(accepted) == Address.of_peer(client) == Address.of(server)
            assert Address.of_peer(accepted) == Address.of(client)


def test_a_name_padded_with_nul_is_one() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0padded-{os.getpid()}\0\0")
        assert Address.of(sock).path == f"\0padded-{os.getpid()}\0\0"


def test_sockets_without_a_name() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert Address.of(one) == Address.of_peer(one) == Address("unix")
    with pytest.raises(OSError, match="Bad file descriptor"):
        Address.of(one)
    with socket.socket() as sock, pytest.raises(OSError, match="not connected"):
        Address.of_peer(sock)


def test_scopes_and_other_families() -> None:
    lo = socket.if_nametoindex("lo")
    assert Address.from_sockaddr(("fe80::1", 1, 0, lo), socket.AF_INET6, socket.SOCK_STREAM).scope == "lo"
    assert Address.from_sockaddr(("fe80::1%x", 1, 0, lo), socket.AF_INET6, socket.SOCK_STREAM).scope == "x"
    gone = Address.from_sockaddr(("fe80::1", 1, 0, 99999), socket.AF_INET6, socket.SOCK_STREAM)
    assert str(gone) == "tcp://[fe80::1%99999]:1"
    assert str(Address.from_sockaddr(("1.2.3.4", 1), socket.AF_INET, socket.SOCK_SEQPACKET, 132)) == "sctp://1.2.3.4:1"
    if hasattr(socket, "AF_BLUETOOTH"):
        name = ("00:11:22:33:44:55", 3)
        address = Address.from_sockaddr(name, socket.AF_BLUETOOTH, socket.SOCK_STREAM)
        assert str(address) == "bluetooth://00:11:22:33:44:55:3"
    with pytest.raises(ValueError, match="no spelling"):
        Address.from_sockaddr((0, 0), socket.AF_NETLINK, socket.SOCK_RAW)


# Any text at all

_MARKS = [":", "//", "/", "[", "]", "%", "@", "*", ".", "::", "-", "_", " ", "\u2003", "\0", "\udc80"]
_PARTS = ["fe80::1", "127.0.0.1", "a", "80", "65536", "http", "00:11:22:33:44:55", "ü", "ﬀ", "٣", "x" * 64, "x" * 108]
_BITS = st.sampled_from([*SCHEMES, *_MARKS, *_PARTS])
_TEXTS = st.text() | st.lists(_BITS, max_size=10).map("".join)
_SCHEMED = st.tuples(st.sampled_from(SCHEMES), st.sampled_from([":", "://", ":///"]), _TEXTS).map("".join)


@given(_TEXTS | _SCHEMED)
@example("tcp://[fe80::1%]]:1")
@example("tcp://[::1%a%b]:1")
def test_any_text_is_an_address_or_an_error_that_points_into_it(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError as caught:
        error = caught
    else:
        assert Address.parse(str(address)) == address
        return
    assert error.text == text
    assert 0 <= error.position <= len(text)
    assert f"(at character {error.position + 1})" in str(error)


_HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]([a-z0-9]{0,20})){1,5}", fullmatch=True)
_PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=26)


@given(
    st.builds(
        Address,
        st.sampled_from(["tcp", "tls", "udp", "sctp"]),
        _HOSTS | st.just("") | st.ip_addresses().map(str),
        st.integers(0, 65535),
    )
    | st.builds(Address, st.sampled_from(["unix", "unixgram", "unixpacket"]), path=_PATHS | _PATHS.map("\0".__add__))
    | st.builds(Address, st.just("fd"), fd=st.integers(0, 10**9 - 1))
)
def test_what_is_written_is_read(address: Address) -> None:
    again = Address.parse(str(address))
    if address.path.startswith("@"):
        assert again == address.replace(path=f"./{address.path}")
    else:
        assert again == address
