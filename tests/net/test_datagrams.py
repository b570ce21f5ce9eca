"""One suite for datagrams: UDP over IPv4 and IPv6, Unix with a file and without; blocking, on asyncio and on uvloop."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from websock.net import datagram as blocking
from websock.net import datagram_socket
from websock.net.address import Address
from websock.net.datagram import Received, TruncatedError
from websock.net.errors import AddressError, NotOnThisSystem
from websock.net.options import SocketOptions

from . import datagrams
from .datagrams import FORMS, KINDS, PATIENCE, Driver, Peer

UDP = ["udp4", "udp6"]
UNIX = ["unixgram", "abstract"]


@pytest.fixture(params=FORMS)
def driver(request: pytest.FixtureRequest, short_path: str) -> Iterator[Driver]:
    with datagrams.driver(request.param, short_path) as one:
        yield one


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def two(driver: Driver, kind: str) -> tuple[Peer, Peer]:
    """Two that are bound."""
    return driver.bind(driver.address(kind)), driver.bind(driver.address(kind))


def connected(driver: Driver, kind: str) -> tuple[Peer, Peer]:
    """One that is bound, and one that is connected to it, with an address of its own."""
    one = driver.bind(driver.address(kind))
    return one, driver.connect(one.local, local=driver.address(kind))


# To and fro.


def test_each_is_both(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)
    one.send_to(b"question", other.local)
    received = other.receive_from()
    assert received == Received(b"question", one.local)
    other.send_to(b"answer", received.address)
    assert one.receive() == b"answer"
    other.send_to(bytearray(b"by name"), str(one.local))
    one.send_to(memoryview(b"and back"), str(other.local))
    assert (one.receive(), other.receive()) == (b"by name", b"and back")


def test_connected(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    assert client.remote == server.local
    assert server.remote is None
    client.send(b"in")
    received = server.receive_from()
    assert received == Received(b"in", client.local)
    server.send_to(b"out", received.address)
    assert client.receive_from() == Received(b"out", server.local)


def test_a_connected_one_receives_from_its_peer_only(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    stranger = driver.bind(driver.address(kind))
    with contextlib.suppress(PermissionError):  # Unix says it
        stranger.send_to(b"strange", client.local)
    server.send_to(b"known", client.local)
    assert client.receive() == b"known"


def test_without_an_address_of_its_own(driver: Driver, kind: str) -> None:
    server = driver.bind(driver.address(kind))
    client = driver.connect(server.local)
    client.send(b"hello")
    received = server.receive_from()
    assert received == Received(b"hello", client.local)
    server.send_to(b"you can be answered", received.address)
    assert client.receive() == b"you can be answered"


def test_an_empty_datagram_is_one(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    for data in (b"", b"1", b""):
        client.send(data)
    assert [server.receive() for _ in range(3)] == [b"", b"1", b""]


def test_what_is_cut_says_so(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    for data in (b"12345", b"1234", b"12345", b"12"):
        client.send(data)
    assert server.receive_from(4) == Received(b"1234", client.local, truncated=True)
    assert server.receive_from(4) == Received(b"1234", client.local)
    with pytest.raises(TruncatedError) as failure:
        server.receive(4)
    assert failure.value.received == Received(b"1234", client.local, truncated=True)
    assert str(client.local) in str(failure.value) and failure.value.errno == errno.EMSGSIZE
    assert server.receive_many(2, 1) == [Received(b"1", client.local, truncated=True)]


def test_the_largest_and_what_is_too_large(driver: Driver, kind: str) -> None:
    options = SocketOptions(send_buffer=200_000)
    server = driver.bind(driver.address(kind), options=options)
    client = driver.connect(server.local, options=options)
    largest = {"udp4": 65507, "udp6": 65507}.get(kind, 100_000)  # 65535 less the headers of UDP and IPv4
    data = os.urandom(largest)
    client.send(data)
    assert server.receive(largest) == data
    with pytest.raises(OSError, match="can't send to") as failure:
        client.send(bytes(1_000_000))
    assert failure.value.errno == errno.EMSGSIZE and str(server.local) in str(failure.value)
    with pytest.raises(OSError, match="can't send to") as failure:
        server.send_to(bytes(1_000_000), client.local)
    assert failure.value.errno == errno.EMSGSIZE and str(client.local) in str(failure.value)


# Many at once.


def test_many(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)
    sent = [f"{number}".encode() for number in range(8)]  # a Unix socket keeps 10 by default
    assert one.send_many((data, other.local) for data in sent) == 8
    assert [received.data for received in other.receive_many(5)] == sent[:5]
    assert other.receive_many(100) == [Received(data, one.local) for data in sent[5:]]
    late = other.start("receive_many", 100)
    one.send_to(b"late", other.local)
    assert [received.data for received in late.result(PATIENCE)] == [b"late"]
    with pytest.raises(ValueError, match="at least 1"):
        other.receive_many(0)


def test_many_to_many(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    assert client.send_many([(b"1", None), (b"2", None)]) == 2
    assert [received.data for received in server.receive_many(9)] == [b"1", b"2"]
    assert client.send_many([]) == 0


def test_many_until_one_fails(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)
    pairs = [(b"1", other.local), (bytes(1_000_000), other.local), (b"3", other.local)]
    assert one.send_many(pairs) == 1
    with pytest.raises(OSError, match="can't send to"):
        one.send_many(pairs[1:])
    assert other.receive() == b"1"


# Errors.


@pytest.mark.parametrize("kind", UDP)
def test_nobody_listens(driver: Driver, kind: str) -> None:
    server = driver.bind(driver.address(kind))
    where = server.local
    client = driver.connect(where)
    client.send(b"here")
    assert server.receive() == b"here"
    client.send(b"unread")
    server.close()
    for call in (client.receive, client.receive_from, lambda: client.receive_many(10)):
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError, match="nothing listens there") as failure:
            call()
        assert str(where) in str(failure.value) and failure.value.errno == errno.ECONNREFUSED
    client.send(b"?")
    with pytest.raises(ConnectionRefusedError, match="can't send to"):
        client.send(b"?")


@pytest.mark.parametrize("kind", UDP)
def test_what_came_before_an_error_is_not_lost(driver: Driver, kind: str) -> None:
    """The error is told by the next call, though the system tells it only once."""
    server, client = connected(driver, kind)
    server.send_to(b"1", client.local)
    found: list[Received] = []
    reads = client.raw._read

    def read(max_size: int, flags: int) -> Received:
        if found:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        found.append(reads(max_size, flags))
        return found[0]

    client.raw._read = read
    assert client.receive_many(10) == found
    client.raw._read = reads
    with pytest.raises(ConnectionRefusedError, match="nothing listens there"):
        client.receive()
    server.send_to(b"2", client.local)
    assert client.receive() == b"2"


@pytest.mark.parametrize("kind", UNIX)
def test_a_unix_peer_that_is_gone(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)
    where = other.local
    other.close()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)) as failure:
        one.send_to(b"?", where)
    assert str(where) in str(failure.value)
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)) as failure:
        driver.connect(where)
    assert "can't connect to" in str(failure.value) and str(where) in str(failure.value)


def test_timeouts(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)
    with pytest.raises(TimeoutError):
        one.within(0.01, "receive")
    other.send_to(b"later", one.local)
    assert one.within(PATIENCE, "receive") == b"later"


def test_a_timeout_of_the_kernel(driver: Driver) -> None:
    if driver.name != "blocking":
        pytest.skip("what does not block has none")
    one = driver.bind("udp://127.0.0.1:0", options=SocketOptions(kernel_receive_timeout=0.01))
    with pytest.raises(TimeoutError, match="can't receive from udp://127"):
        one.receive()


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("tcp://127.0.0.1:1", "datagrams have"), ("unix:/tmp/x", "datagrams have"), ("nonsense", "begins with"),
        ("udp://127.0.0.1:99999", "at most 65535"), ("udp://no.such.host.invalid:1", "can't resolve udp://no.such"),
        ("udp://192.0.2.77:0", "no network interface here"), ("unixgram:/no/such/dir/x", "can't bind unixgram:///no"),
        ("fd://999999", "fd://999999"), ("udp://[fe80::1%nosuch0]:0", "nosuch0"),
    ],
)  # fmt: skip
def test_bad_addresses(driver: Driver, address: str, error: str) -> None:
    with pytest.raises((OSError, ValueError), match=error):
        driver.bind(address)


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("udp4", "unixgram:///tmp/x"), ("udp4", "tcp://127.0.0.1:1"), ("udp4", "nonsense"), ("udp4", "udp://[::1]:1"),
        ("unixgram", "udp://127.0.0.1:1"), ("unixgram", Address("unixgram")), ("udp4", "udp://no.such.host.invalid:1"),
    ],
)  # fmt: skip
def test_bad_destinations(driver: Driver, kind: str, address: Any) -> None:
    one = driver.bind(driver.address(kind))
    with pytest.raises((AddressError, OSError)) as failure:
        one.send_to(b"", address)
    assert str(address) in str(failure.value)


def test_what_can_not_be_connected_to(driver: Driver) -> None:
    with pytest.raises(AddressError, match="a descriptor is nothing to connect to"):
        driver.connect("fd://0")
    with pytest.raises(AddressError, match="datagrams have"):
        driver.connect("udp://127.0.0.1:1", local="tcp://127.0.0.1:1")
    with pytest.raises(OSError, match="can't bind"):
        driver.connect("udp://127.0.0.1:1", local="udp://192.0.2.77:0")
    with pytest.raises(AddressError, match="of another family"):
        driver.connect("udp://[::1]:1", local="udp://127.0.0.1:0")


def test_sending_to_nobody(driver: Driver, kind: str) -> None:
    one = driver.bind(driver.address(kind))
    with pytest.raises(OSError, match="can't send to nobody") as failure:
        one.send(b"")
    assert failure.value.errno in (errno.EDESTADDRREQ, errno.ENOTCONN)


def test_text_is_no_data(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    with pytest.raises(TypeError):
        client.send("text")
    with pytest.raises(TypeError):
        server.send_to("text", client.local)


# Names.


def test_a_name(driver: Driver) -> None:
    named = driver.bind("udp://localhost:0")
    client = driver.connect(f"udp://localhost:{named.local.port}")
    client.send(b"1")
    assert named.receive_from() == Received(b"1", client.local)
    third = driver.connect(named.local, local="udp://localhost:0")
    third.send(b"2")
    assert named.receive_from() == Received(b"2", third.local)
    named.send_to(b"3", f"udp://localhost:{client.local.port}")
    assert client.receive() == b"3"


def test_every_address(driver: Driver) -> None:
    four, six = driver.bind("udp://*:0"), driver.bind("udp://[::]:0")
    assert (four.sock.family, six.sock.family) == (socket.AF_INET, socket.AF_INET6)
    one = driver.connect(f"udp://*:{four.local.port}", local="udp://*:0")
    one.send(b"4")
    assert four.receive() == b"4"
    other = driver.connect(f"udp://[::1]:{six.local.port}", local="udp://*:0")
    other.send(b"6")
    assert six.receive() == b"6"
    for bound, client in ((four, one), (six, other)):  # what an address says, it means when it is used again
        again = driver.connect(bound.local)
        again.send(b"again")
        assert bound.receive() == b"again"
        where = str(bound.local)
        bound.close()
        assert driver.bind(where).sock.family == client.sock.family


def test_one_for_both_families(driver: Driver) -> None:
    both = driver.bind("udp://[::]:0", options=SocketOptions(v6_only=False))
    four = driver.bind("udp://127.0.0.1:0")
    four.send_to(b"4", f"udp://127.0.0.1:{both.local.port}")
    received = both.receive_from()
    assert received.address.host == "::ffff:127.0.0.1"
    both.send_to(b"answer", received.address)
    both.send_to(b"by its own name", four.local)
    assert [four.receive(), four.receive()] == [b"answer", b"by its own name"]


def test_addresses_are_remembered_within_bounds(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_socket, "_REMEMBERED", 3)
    one = driver.bind("udp://127.0.0.1:0")
    for _ in range(3):
        for _ in range(4):
            other = driver.bind("udp://127.0.0.1:0")
            other.send_to(b"?", one.local)
            received = one.receive_from()
            assert received.address == other.local
            one.send_to(b"!", received.address)
            assert other.receive() == b"!"
        assert len(one.raw._addresses) <= 3 and len(one.raw._names) <= 3


@pytest.mark.parametrize("kind", UDP)
def test_where_it_was_sent_to(driver: Driver, kind: str) -> None:
    one = driver.bind({"udp4": "udp://*:0", "udp6": "udp://[::]:0"}[kind])
    other = driver.bind(driver.address(kind))
    hosts = ["127.0.0.1", "127.0.0.2"] if kind == "udp4" else ["::1"]
    one.tell_local()
    for host in hosts:
        other.send_to(b"?", Address("udp", host, one.local.port))
        received = one.receive_from()
        assert received == (b"?", other.local, False, received.local)
        assert (received.local.host, received.local.port) == (host, one.local.port)


@pytest.mark.parametrize("kind", UNIX)
def test_unix_sockets_do_not_tell_where_it_was_sent_to(driver: Driver, kind: str) -> None:
    with pytest.raises(NotOnThisSystem):
        driver.bind(driver.address(kind)).tell_local()


# The files of Unix sockets.


def test_the_file(driver: Driver) -> None:
    address = driver.address("unixgram")
    one = driver.bind(address, mode=0o600)
    path = one.local.path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(OSError, match="can't bind") as failure:
        driver.bind(address)
    assert failure.value.errno == errno.EADDRINUSE and address in str(failure.value)
    one.close()
    assert not os.path.exists(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(path)
    driver.bind(address).close()
    assert not os.path.exists(path)
    with pytest.raises(ValueError, match="mode"):
        driver.bind("udp://127.0.0.1:0", mode=0o600)


def test_the_file_of_one_that_can_not_connect(driver: Driver) -> None:
    mine = driver.address("unixgram")
    with pytest.raises(FileNotFoundError, match="can't connect to"):
        driver.connect(driver.address("unixgram"), local=mine)
    assert not os.path.exists(Address.parse(mine).path)


# Sockets of others.


def test_a_pair(driver: Driver) -> None:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one, other = driver.take(first), driver.take(second)
    one.send(b"across")
    assert other.receive_from() == Received(b"across", Address("unixgram"))
    assert "unixgram:" in repr(other.raw)


def test_a_descriptor_is_taken_over(driver: Driver) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        one = driver.bind(f"fd://{os.dup(sock.fileno())}")
        one.send_to(b"to myself", one.local)
        assert sock.recv(100) == b"to myself"
    with socket.socket() as stream:
        with pytest.raises(AddressError, match="SOCK_STREAM"):
            driver.bind(f"fd://{stream.fileno()}")
        with pytest.raises(ValueError, match="a socket of datagrams is wanted"):
            driver.take(stream)
    with pytest.raises(OSError, match="fd://"), open(os.devnull) as file:
        driver.bind(f"fd://{file.fileno()}")


# Options, and what is lost.


def test_options(driver: Driver, kind: str) -> None:
    one = driver.bind(driver.address(kind), options=SocketOptions(receive_buffer=10_000))
    assert one.options().receive_buffer >= 10_000
    if kind in UDP:
        options = SocketOptions(broadcast=True, multicast_ttl=7, multicast_loop=False, ttl=9)
        found = driver.bind(driver.address(kind), options=options).options()
        assert (found.broadcast, found.multicast_ttl, found.multicast_loop, found.ttl) == (True, 7, False, 9)


@pytest.mark.parametrize("kind", UDP)
@pytest.mark.parametrize("buffer", [4096, 4_000_000])
def test_100_000_datagrams_and_none_is_lost_unreported(driver: Driver, kind: str, buffer: int) -> None:
    count = 100_000
    server = driver.bind(driver.address(kind), options=SocketOptions(receive_buffer=buffer))
    with blocking.connect_datagram(server.local) as client:

        def send() -> None:
            for number in range(count):
                client.send(number.to_bytes(4, "big"))

        sender = threading.Thread(target=send)
        sender.start()
        found: list[int] = []
        while len(found) + server.lost < count:
            for received in server.within(PATIENCE, "receive_many", 1000):
                assert received[1:] == (client.local, False, None)
                found.append(int.from_bytes(received.data, "big"))
        sender.join()
    assert len(found) + server.lost == count
    assert len(set(found)) == len(found) and found == sorted(found)
    if buffer == 4096:
        assert server.lost > 0


def test_nothing_is_lost_to_unix_sockets(driver: Driver) -> None:
    server, client = connected(driver, "unixgram")
    sending = client.driver.start(client.raw.send_many, [(str(number).encode(), None) for number in range(5000)])
    found: list[Received] = []
    while len(found) < 5000:
        found += server.receive_many(1000)
    assert [int(received.data) for received in found] == list(range(5000))
    assert sending.result(PATIENCE) == 5000
    assert server.lost == 0
