"""Who the client is behind proxies: Forwarded (RFC 7239), X-Forwarded-For, the PROXY protocol."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.forwarding import Client, Networks, ProxyHeader, client_key, client_of, ip_of
from websock.datastructures import Headers
from websock.exceptions import InvalidHeader, InvalidMessage

from .frames import pieces, sizes

TRUSTED = Networks(["10.0.0.0/8", "fd00::/8", ipaddress.ip_network("192.168.1.1")])


def found(*fields: tuple[str, str]) -> Any:
    client = client_of(Headers(fields), TRUSTED)
    return None if client is None else (*client.address, client.proto)


# Networks.


def test_networks() -> None:
    for address in (("10.1.2.3", 1), ("::ffff:10.1.2.3", 1, 0, 0), ("fd00::1%eth0", 1, 0, 0), ("192.168.1.1", 5)):
        assert address in TRUSTED
    for other in (("11.0.0.1", 1), ("fe80::1", 1, 0, 0), ("192.168.1.2", 1), "", b"", None, ("localhost", 1)):
        assert other not in TRUSTED
    unix = Networks(["unix"])
    assert "" in unix and b"" in unix and "/run/x" in unix and None in unix
    assert ("10.0.0.1", 1) not in unix and ("localhost", 1) not in unix
    assert [*Networks(Networks(iter(["10.0.0.0/8", "unix"])))] == [ipaddress.ip_network("10.0.0.0/8"), "unix"]
    assert ipaddress.ip_address("10.0.0.1") in TRUSTED and ("10.0.0.1", 1) not in Networks([])


@pytest.mark.parametrize("values", ["10.0.0.0/8", b"10.0.0.0/8", 5, [5], [None], [b"10.0.0.0/8"]])
def test_what_is_no_list_of_networks(values: Any) -> None:
    with pytest.raises(TypeError, match="trusted_proxies"):
        Networks(values)


@pytest.mark.parametrize("value", ["10.0.0.1/8", "localhost", "", "10.0.0.0/33", "UNIX"])
def test_what_is_no_network(value: str) -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        Networks([value])


def test_keys_of_clients() -> None:
    assert client_key(("192.0.2.1", 1)) == client_key(("192.0.2.1", 2)) == client_key(("::ffff:192.0.2.1", 1, 0, 0))
    assert client_key(("2001:db8::1", 1, 0, 0)) == client_key(("2001:db8::2:0:0:1", 1, 0, 0))
    assert client_key(("2001:db8::1", 1, 0, 0)) != client_key(("2001:db8:0:1::1", 1, 0, 0))
    assert client_key("") is client_key("/run/x") is client_key(None) is None
    assert client_key("192.0.2.1") is None, "the path of a Unix socket"
    assert "10.0.0.1" not in TRUSTED
    assert client_key(("::1", 1, 0, 0)) != client_key(("0.0.0.0", 1))


# Headers.


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:4711", ("192.0.2.1", 4711)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 0)),
        ("203.0.113.9, 192.0.2.1", ("192.0.2.1", 0)),  # what stands left of it, anybody can have written
        ("192.0.2.1, 10.0.0.5", ("192.0.2.1", 0)),
        ("203.0.113.9, 192.0.2.1 , 10.0.0.5,fd00::7, ", ("192.0.2.1", 0)),
        ("10.0.0.7, 10.0.0.5", ("10.0.0.7", 0)),  # a client in our own network
        ("unknown, 10.0.0.5", ("10.0.0.5", 0)),
        ("192.0.2.1, garbage, 10.0.0.5", ("10.0.0.5", 0)),
        ("192.0.2.1, unknown", None),
        ("", None),
        (" , ", None),
        ("192.0.2.999", None),
        ("192.0.2.01", None),
        ("2001:db8::1%eth0", None),
        ("[2001:db8::1", None),
        ("[2001:db8::1]x", None),
        ("192.0.2.1:99999", ("192.0.2.1", 0)),
        ("192.0.2.1:_hidden", ("192.0.2.1", 0)),
    ],
)
def test_x_forwarded_for(value: str, client: Any) -> None:
    assert found(("X-Forwarded-For", value)) == (None if client is None else (*client, None))


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.1", ("192.0.2.1", 0, None)),
        ("FOR=192.0.2.1;Proto=HTTPS;by=10.0.0.1;host=example.com", ("192.0.2.1", 0, "https")),
        ('for="192.0.2.1:47011"', ("192.0.2.1", 47011, None)),
        ('for="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711, None)),
        ('For="[2001:db8:cafe::17]"', ("2001:db8:cafe::17", 0, None)),
        (r'for="192\.0.2.1"', ("192.0.2.1", 0, None)),
        ("for=203.0.113.9, for=192.0.2.1", ("192.0.2.1", 0, None)),
        ("for=192.0.2.1;proto=https, for=10.0.0.4;proto=http", ("192.0.2.1", 0, "https")),
        ('for=203.0.113.9;host="a, for=1.2.3.4; \\" x" , for=192.0.2.1', ("192.0.2.1", 0, None)),
        ("for=_hidden, for=10.0.0.4", ("10.0.0.4", 0, None)),
        ("proto=https", None),
        ("for=192.0.2.1, proto=https", None),  # the last hop does not say for whom
        (",, for=192.0.2.1 ; ;proto=http,", ("192.0.2.1", 0, "http")),
    ],
)
def test_forwarded(value: str, client: Any) -> None:
    assert found(("Forwarded", value)) == client


@pytest.mark.parametrize(
    "value",
    [
        'for="192.0.2.1',
        'for="a, for=192.0.2.1',
        'for="a, for="[2001:db8::1]"',
        "for=192.0.2.1;for=192.0.2.2",
        "for 192.0.2.1",
        "192.0.2.1",
        "for=[2001:db8::1]",
        "for=",
        "=192.0.2.1",
        "for=192.0.2.1:80",
        'for="x"y',
        'for="x\\"',
    ],
)
def test_what_is_not_forwarded(value: str) -> None:
    with pytest.raises(InvalidHeader):
        found(("Forwarded", value))


def test_lines_of_a_header_are_one_list() -> None:
    assert found(("X-Forwarded-For", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")) == ("192.0.2.1", 0, None)
    assert found(("Forwarded", "for=203.0.113.9"), ("Forwarded", "for=192.0.2.1")) == ("192.0.2.1", 0, None)
    assert found(("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "http, HTTPS")) == ("192.0.2.1", 0, "https")


def test_two_headers_must_agree() -> None:
    """A proxy writes one of them, and passes the other on as it came."""
    same = ("Forwarded", "for=192.0.2.1;proto=https"), ("X-Forwarded-For", "192.0.2.1")
    assert found(*same) == ("192.0.2.1", 0, "https")
    with pytest.raises(InvalidHeader):
        found(("Forwarded", "for=192.0.2.1"), ("X-Forwarded-For", "192.0.2.2"))
    with pytest.raises(InvalidHeader):
        found(("Forwarded", "for=203.0.113.66"), ("X-Forwarded-For", "203.0.113.66, 192.0.2.2"))


@given(st.text(alphabet='for=;,"\\ []:._-10.2ab', max_size=60), st.sampled_from(["Forwarded", "X-Forwarded-For"]))
def test_nothing_else_is_raised_and_what_stands_right_counts(text: str, name: str) -> None:
    """Whatever a client writes, the hop that the proxy puts behind it is what counts, or the request is refused."""
    ours = "for=192.0.2.7" if name == "Forwarded" else "192.0.2.7"
    try:
        assert found((name, text), (name, ours)) == ("192.0.2.7", 0, None)
        assert found((name, f"{text}, {ours}")) == ("192.0.2.7", 0, None)
    except InvalidHeader:
        assert name == "Forwarded"


# The PROXY protocol.


def v2(command: int = 0x21, family: int = 0x11, body: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, family]) + size.to_bytes(2, "big") + body


V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("10.0.0.1") + (4000).to_bytes(2, "big") + (80).to_bytes(2, "big")
V6 = bytes(range(0x20, 0x30)) + bytes(16) + (4000).to_bytes(2, "big") + (80).to_bytes(2, "big")
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/us".ljust(108, b"\0")
SIX = ("2021:2223:2425:2627:2829:2a2b:2c2d:2e2f", 4000, 0, 0)

LONG = b"ffff:" * 7 + b"ffff"

GOOD: list[tuple[bytes, Any]] = [
    (b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\n", ("192.0.2.1", 4000)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:db8::1 ::1 4000 80\r\n", ("2001:db8::1", 4000, 0, 0)),
    (
        b"PROXY TCP6 " + LONG + b" " + LONG + b" 65535 65535\r\n",
        (LONG.decode(), 65535, 0, 0),
    ),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + LONG + b" " + LONG + b" 65535 65535\r\n", None),
    (b"PROXY UNKNOWN anything at all\r\n", None),
    (v2(body=V4), ("192.0.2.1", 4000)),
    (v2(family=0x12, body=V4), ("192.0.2.1", 4000)),
    (v2(body=V4 + b"\x04\0\x05noops" + b"\xee\0\0"), ("192.0.2.1", 4000)),
    (v2(family=0x21, body=V6), SIX),
    (v2(family=0x22, body=V6 + bytes(4000)), SIX),
    (v2(family=0x31, body=UNIX), "/run/client"),
    (v2(family=0x32, body=UNIX), "/run/client"),
    (v2(0x20, 0x00), None),
    (v2(0x20, 0x11, V4), None),
    (v2(0x20, 0x11), None),
    (v2(0x21, 0x00), None),
    (v2(0x21, 0x00, b"TLVs"), None),
]

BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaa",
    b"PROXY\r\nTCP4 1.2.3.4 ",
    b"proxy TCP4 192.0.2.1 10.0.0.1 4000 80\r\n",
    b"PROXY TCP5 192.0.2.1 10.0.0.1 4000 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4000\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80 1\r\n",
    b"PROXY TCP4  192.0.2.1 10.0.0.1 4000 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80 \r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\n",
    b"PROXY TCP4 192.0.2.1\r10.0.0.1 4000 80\r\n",
    b"PROXY TCP4 192.0.2.01 10.0.0.1 4000 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.256 4000 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 04000 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 -1\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 +4000 80\r\n",
    b"PROXY TCP4 2001:db8::1 ::1 4000 80\r\n",
    b"PROXY TCP6 192.0.2.1 10.0.0.1 4000 80\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 4000 80\r\n",
    b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\r\n",
    b"PROXY A\r\n" + b" " * 10,
    b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
    b"PROXY TCP4 " + b"1" * 120,
    b"\r\n\r\n\0\r\nQUIT\r" + b"\x21\x11\0\0",
    v2(0x11, 0x11, V4),
    v2(0x22, 0x11, V4),
    v2(0x21, 0x10, V4),
    v2(0x21, 0x41, V4),
    v2(0x21, 0x13, V4),
    v2(0x21, 0x11, V4[:-1]),
    v2(0x21, 0x21, V6[:-1]),
    v2(0x21, 0x31, UNIX[:-1]),
    v2(0x21, 0x11, length=0xFFFF),
    v2(0x20, 0x00, length=4097),
]  # fmt: skip


def read(header: ProxyHeader, chunks: list[bytes]) -> bytes:
    return b"".join(header.receive(chunk) for chunk in chunks)


@given(good=st.sampled_from(GOOD), sizes=sizes, behind=st.binary(max_size=60))
def test_any_chunking_of_a_good_header(good: tuple[bytes, Any], sizes: list[int], behind: bytes) -> None:
    data, source = good
    header = ProxyHeader()
    assert read(header, pieces(data + behind, sizes)) == behind
    assert header.done and header.source == source and header.wanted == 0


@pytest.mark.parametrize("data", [data for data, _ in GOOD])
def test_no_octet_more_than_wanted(data: bytes) -> None:
    """TLS begins behind it, so nobody may read too much; nor wait for what never comes."""
    header = ProxyHeader()
    left = data + b"behind"
    while not header.done:
        assert 0 < header.wanted <= len(left) - len(b"behind")
        taken, left = left[: header.wanted], left[header.wanted :]
        assert header.receive(taken) == b""
    assert left == b"behind"


@given(data=st.sampled_from(BAD), sizes=sizes)
def test_any_chunking_of_a_bad_header(data: bytes, sizes: list[int]) -> None:
    header = ProxyHeader()
    with pytest.raises(InvalidMessage):
        read(header, pieces(data, sizes))
    assert not header.done or header.source is None


@given(good=st.sampled_from(GOOD), sizes=sizes, place=st.integers(0, 60), octet=st.integers(0, 255), cut=st.booleans())
def test_anything_else_is_refused_or_read_the_same(
    good: tuple[bytes, Any], sizes: list[int], place: int, octet: int, cut: bool
) -> None:
    data = bytearray(good[0])
    data[place % len(data)] = octet
    data = data[: place + 1] if cut else data

    def told(sizes: list[int]) -> Any:
        header = ProxyHeader()
        try:
            left = read(header, pieces(bytes(data), sizes))
        except InvalidMessage:
            return "refused"
        return header.done, header.source, left

    assert told(sizes) == told([1])


@given(st.binary(max_size=300))
def test_it_keeps_little(data: bytes) -> None:
    header = ProxyHeader()
    try:
        read(header, [b"PROXY " + data.replace(b"\n", b"")])
    except InvalidMessage:
        pass
    assert len(header._data) <= 107


def test_addresses() -> None:
    assert ip_of(("192.0.2.1", 1)) == ipaddress.ip_address("192.0.2.1") == ip_of("192.0.2.1")
    assert ip_of(None) is ip_of(()) is ip_of(b"1.2.3.4") is ip_of("") is None
    assert Client(("a", 1)).proto is None
