"""Multicast and broadcast: on loopback, and between several hosts where the machine lets a test make them."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.net import multicast
from websock.net.address import Address
from websock.net.datagram import Datagram, bind_datagram
from websock.net.datagram_socket import bind_socket
from websock.net.errors import NotOnThisSystem
from websock.net.options import SocketOptions

from . import datagrams
from .datagrams import FORMS, PATIENCE, Driver, Peer
from .hosts import Host, hosts

FOUR, SIX = "239.255.77.1", "ff15::7701"
LOOPBACK4 = SocketOptions(multicast_interface="127.0.0.1", reuse_address=True)
HOST6 = SocketOptions(multicast_interface="eth0", reuse_address=True)


@pytest.fixture(params=FORMS)
def driver(request: pytest.FixtureRequest, short_path: str) -> Iterator[Driver]:
    with datagrams.driver(request.param, short_path) as one:
        yield one


class Wire:
    """Multicast within a host: IPv4's loopback, and for IPv6 a host of ours, since loopback has no groups there."""

    def __init__(self, driver: Driver, host: Host | None) -> None:
        self.driver = driver
        self.host = host
        self.group = FOUR if host is None else SIX
        self.other_group = "239.255.77.2" if host is None else "ff15::7702"
        self.interface = "127.0.0.1" if host is None else "eth0"
        self.sender = self.receiver() if host else driver.bind("udp://127.0.0.1:0", options=LOOPBACK4)

    def receiver(self, port: int = 0) -> Peer:
        if self.host is None:
            return self.driver.bind(f"udp://*:{port}", options=LOOPBACK4)
        return self.driver.take(self.host.run(bind_socket, Address("udp", "::", port), HOST6))

    def send(self, data: bytes, group: str, receiver: Peer) -> None:
        self.sender.send_to(data, Address("udp", group, receiver.local.port))

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Where the names of the interfaces mean them."""
        return function(*args, **options) if self.host is None else self.host.run(function, *args, **options)

    def mark(self, receiver: Peer) -> list[bytes]:
        """What has come, as one that is sent to it alone is the last of it."""
        self.sender.send_to(b"mark", Address("udp", "::1" if self.host else "127.0.0.1", receiver.local.port))
        found = []
        while (data := receiver.within(PATIENCE, "receive")) != b"mark":
            found.append(data)
        return found


@pytest.fixture(scope="module")
def three() -> Iterator[list[Host]]:
    with hosts(3) as found:
        yield found


@pytest.fixture(params=[4, 6])
def wire(driver: Driver, request: pytest.FixtureRequest) -> Wire:
    return Wire(driver, request.getfixturevalue("three")[0] if request.param == 6 else None)


def test_joining_and_leaving(wire: Wire) -> None:
    receiver = wire.receiver()
    wire.send(b"before", wire.group, receiver)
    assert wire.mark(receiver) == []
    wire.run(receiver.join, wire.group, interface=wire.interface)
    wire.send(b"inside", wire.group, receiver)
    assert wire.mark(receiver) == [b"inside"]
    wire.run(receiver.leave, wire.group, interface=wire.interface)
    wire.send(b"after", wire.group, receiver)
    assert wire.mark(receiver) == []


@pytest.mark.parametrize("how", ["name", "number"])
def test_interfaces(wire: Wire, how: str) -> None:
    receiver = wire.receiver()
    name = "lo" if wire.host is None else "eth0"
    interface = name if how == "name" else wire.run(socket.if_nametoindex, name)
    wire.run(receiver.join, wire.group, interface=interface)
    wire.send(b"1", wire.group, receiver)
    assert wire.mark(receiver) == [b"1"]
    wire.run(receiver.leave, wire.group, interface=interface)


def test_all_that_are_in_a_group(wire: Wire) -> None:
    first = wire.receiver()
    second = wire.receiver(first.local.port)
    for one in (first, second):
        wire.run(one.join, wire.group, interface=wire.interface)
    wire.send(b"for all", wire.group, first)
    assert [first.within(PATIENCE, "receive"), second.within(PATIENCE, "receive")] == [b"for all"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="what IP_MULTICAST_ALL is for")
def test_the_groups_of_others_are_theirs(wire: Wire) -> None:
    first = wire.receiver()
    second = wire.receiver()
    wire.run(first.join, wire.group, interface=wire.interface)
    wire.run(second.join, wire.other_group, interface=wire.interface)
    wire.send(b"not for the first", wire.other_group, first)
    assert wire.mark(first) == []


def test_the_group_is_told(wire: Wire) -> None:
    receiver = wire.receiver()
    receiver.tell_local()
    for group in (wire.group, wire.other_group):
        wire.run(receiver.join, group, interface=wire.interface)
        wire.send(b"?", group, receiver)
        received = receiver.within(PATIENCE, "receive_from")
        assert received.local.host == group and received.local.port == receiver.local.port
        assert received.address.host == (wire.host.six if wire.host else "127.0.0.1")


@pytest.mark.skipif(sys.platform != "linux", reason="source-specific multicast")
def test_from_one_source_only(driver: Driver) -> None:
    receiver = driver.bind("udp://*:0", options=LOOPBACK4)
    senders = [driver.bind(f"udp://127.0.0.{number}:0", options=LOOPBACK4) for number in (1, 2)]
    for interface in ("127.0.0.1", "lo"):
        receiver.join("232.1.1.1", interface=interface, source="127.0.0.2")
        for sender in senders:
            sender.send_to(b"from " + sender.local.host.encode(), f"udp://232.1.1.1:{receiver.local.port}")
        assert receiver.within(PATIENCE, "receive") == b"from 127.0.0.2"
        receiver.leave("232.1.1.1", interface=interface, source="127.0.0.2")
        senders[1].send_to(b"after", f"udp://232.1.1.1:{receiver.local.port}")
        senders[0].send_to(b"mark", f"udp://127.0.0.1:{receiver.local.port}")
        assert receiver.within(PATIENCE, "receive") == b"mark"


@pytest.mark.skipif(sys.platform != "linux", reason="source-specific multicast")
def test_from_one_source_only_over_ipv6(driver: Driver, three: list[Host]) -> None:
    wire = Wire(driver, three[0])
    receiver = wire.receiver()
    wire.run(receiver.join, "ff35::7701%eth0", source="fd99::1")
    wire.send(b"1", "ff35::7701", receiver)
    assert wire.mark(receiver) == [b"1"]
    wire.run(receiver.leave, "ff35::7701%eth0", source="fd99::1")
    wire.run(receiver.join, "ff35::7701", source="fd99::5", interface="eth0")
    wire.send(b"2", "ff35::7701", receiver)
    assert wire.mark(receiver) == []


def test_elsewhere_there_is_no_source(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = driver.bind("udp://*:0")
    monkeypatch.setattr(multicast, "_LINUX", False)
    with pytest.raises(NotOnThisSystem, match="source-specific multicast"):
        receiver.join("232.1.1.1", source="127.0.0.1")


@pytest.mark.parametrize(
    ("group", "options", "error"),
    [
        ("10.0.0.1", {}, "224.0.0.0/4"), ("name", {}, "a group is an IPv4 or IPv6 address, not name"),
        (SIX, {}, "is IPv6, and this socket is not"), (FOUR, {"interface": "nosuch0"}, "interface 'nosuch0'"),
        (FOUR, {"interface": "192.0.2.77"}, "can't join 239.255.77.1 on 192.0.2.77"),
        (FOUR, {"interface": 99999}, "99999"), (FOUR, {"source": "name"}, "a source is"),
        (FOUR, {"source": "::1"}, "is IPv6, and the group"),
    ],
)  # fmt: skip
def test_what_can_not_be_joined(group: str, options: dict[str, str], error: str) -> None:
    with bind_datagram("udp://127.0.0.1:0") as one, pytest.raises((OSError, ValueError), match=error):
        one.join(group, **options)


def test_twice_and_never() -> None:
    with bind_datagram("udp://*:0") as one:
        one.join(FOUR, interface="127.0.0.1")
        with pytest.raises(OSError, match="it is in that group already") as failure:
            one.join(FOUR, interface="127.0.0.1")
        assert failure.value.errno == errno.EADDRINUSE
        one.leave(FOUR, interface="127.0.0.1")
        with pytest.raises(OSError, match="it is not in that group"):
            one.leave(FOUR, interface="127.0.0.1")
    with bind_datagram("udp://[::1]:0") as one:
        with pytest.raises(OSError, match="it is not in that group"):
            one.leave(SIX)
        with pytest.raises(ValueError, match="is IPv4, and this socket is not"):
            one.join(FOUR)


def test_unix_sockets_have_no_groups(short_path: str) -> None:
    with bind_datagram(f"unixgram:{short_path}/x") as one, pytest.raises(ValueError, match="this socket is not"):
        one.join(FOUR)


# Broadcast.


def test_broadcast(driver: Driver) -> None:
    receiver = driver.bind("udp://*:0")
    sender = driver.bind("udp://127.0.0.1:0", options=SocketOptions(broadcast=True))
    sender.send_to(b"all of you", f"udp://127.255.255.255:{receiver.local.port}")
    received = receiver.within(PATIENCE, "receive_from")
    assert (received.data, received.address) == (b"all of you", sender.local)


def test_broadcast_is_asked_for(driver: Driver) -> None:
    sender = driver.bind("udp://127.0.0.1:0")
    with pytest.raises(PermissionError, match="needs the option broadcast=True"):
        sender.send_to(b"", "udp://127.255.255.255:9")


# Several hosts.


def on(host: Host, address: str, **options: object) -> Datagram:
    one = host.run(bind_datagram, address, options=SocketOptions(**options))  # type: ignore[arg-type]
    one.receive_timeout = PATIENCE
    return one


def test_hosts_in_a_group(three: list[Host]) -> None:
    for group, every, source in ((FOUR, "udp://*:7700", 0), (SIX, "udp://[::]:7700", 1)):
        interface = {"multicast_interface": "eth0"}
        where = Address("udp", group, 7700, "eth0" if source else "")
        with (
            on(three[0], every, **interface) as speaker,
            on(three[1], every) as listener,
            on(three[2], every, **interface) as stranger,
        ):
            three[1].run(listener.join, group, interface="eth0")
            three[0].run(speaker.send_to, b"to the group", where)
            received = listener.receive_from()
            assert received.data == b"to the group"
            assert received.address.port == 7700
            # Who is not in it hears nothing of it, but can send to it.
            three[2].run(stranger.send_to, b"from outside", where)
            assert listener.receive() == b"from outside"
            own = Address("udp", three[2].six if source else three[2].four, 7700)
            listener.send_to(b"to one", own)
            assert stranger.receive() == b"to one"
            three[1].run(listener.leave, group, interface="eth0")
            three[0].run(speaker.send_to, b"after", where)
            mine = Address("udp", three[1].six if source else three[1].four, 7700)
            speaker.send_to(b"mark", mine)
            assert listener.receive() == b"mark"


def test_hops_and_loop(three: list[Host]) -> None:
    where = f"udp://{FOUR}:7701"
    interface = {"multicast_interface": "eth0"}
    with (
        on(three[0], "udp://*:7701", **interface, multicast_ttl=0) as near,
        on(three[0], "udp://*:7702", **interface, multicast_loop=False) as far,
        on(three[1], "udp://*:7701") as there,
    ):
        three[0].run(near.join, FOUR, interface="eth0")
        three[1].run(there.join, FOUR, interface="eth0")
        near.send_to(b"stays on this host", where)
        far.send_to(b"does not come back", where)
        assert there.receive() == b"does not come back"
        assert near.receive() == b"stays on this host"
        there.send_to(b"mark", f"udp://{three[0].four}:7701")
        assert near.receive() == b"mark"


def test_one_source_of_two_hosts(three: list[Host]) -> None:
    interface = {"multicast_interface": "eth0"}
    with (
        on(three[0], "udp://*:7703", **interface) as wanted,
        on(three[1], "udp://*:7703", **interface) as unwanted,
        on(three[2], "udp://*:7703") as listener,
    ):
        three[2].run(listener.join, "232.9.9.9", interface="eth0", source=three[0].four)
        for sender in (unwanted, wanted):
            sender.send_to(b"?", "udp://232.9.9.9:7703")
        assert listener.receive_from().address.host == three[0].four
        unwanted.send_to(b"mark", f"udp://{three[2].four}:7703")
        assert listener.receive() == b"mark"


def test_broadcast_to_hosts(three: list[Host]) -> None:
    with (
        on(three[0], f"udp://{three[0].four}:0", broadcast=True) as sender,
        on(three[1], "udp://*:7704") as first,
        on(three[2], "udp://*:7704") as second,
    ):
        sender.send_to(b"all", "udp://10.99.0.255:7704")
        for one in (first, second):
            received = one.receive_from()
            assert (received.data, received.address) == (b"all", sender.local)


def test_a_network_that_is_not_there(three: list[Host]) -> None:
    no_way = r"can't send to udp://203.0.113.1:9: .*no way to that network"
    with on(three[0], "udp://*:0") as one, pytest.raises(OSError, match=no_way):
        one.send_to(b"", "udp://203.0.113.1:9")
