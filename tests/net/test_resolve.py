"""What addresses mean: without the name service where it is not needed, with its answers in order where it is."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from websock.net.address import Address
from websock.net.errors import AddressError, NotOnThisSystem
from websock.net.resolving import CONNECTION_ATTEMPT_DELAY, Target, asks_names, interleave, resolve

V4, V6, STREAM, DGRAM = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
ONE, TWO, THREE = (("192.0.2.1", 80), ("192.0.2.2", 80), ("2001:db8::1", 80, 0, 0))


@pytest.mark.parametrize(
    ("text", "passive", "expected"),
    [
        ("tcp://127.0.0.1:80", False, [(V4, STREAM, 6, ("127.0.0.1", 80))]),
        ("tls://127.0.0.1:443", False, [(V4, STREAM, 6, ("127.0.0.1", 443))]),
        ("udp://[::1]:53", False, [(V6, DGRAM, 17, ("::1", 53, 0, 0))]),
        ("udp://255.255.255.255:9", False, [(V4, DGRAM, 17, ("255.255.255.255", 9))]),
        ("tcp://*:80", True, {(V4, STREAM, 6, ("0.0.0.0", 80)), (V6, STREAM, 6, ("::", 80, 0, 0))}),
        ("tcp://*:80", False, {(V4, STREAM, 6, ("127.0.0.1", 80)), (V6, STREAM, 6, ("::1", 80, 0, 0))}),
        ("udp://*:0", True, {(V4, DGRAM, 17, ("0.0.0.0", 0)), (V6, DGRAM, 17, ("::", 0, 0, 0))}),
        ("unix:///run/a.sock", False, [(socket.AF_UNIX, STREAM, 0, "/run/a.sock")]),
        ("unix:@name", True, [(socket.AF_UNIX, STREAM, 0, "\0name")]),
        ("unixgram:a.sock", False, [(socket.AF_UNIX, DGRAM, 0, "a.sock")]),
        ("unixpacket:a.sock", False, [(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, "a.sock")]),
    ],
)
def test_what_needs_no_name_service(text: str, passive: bool, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def numeric(host: str | None, port: int, family: int, kind: int, protocol: int, flags: int) -> Any:
        assert host is None or flags & socket.AI_NUMERICHOST
        assert type(port) is int
        return real(host, port, family, kind, protocol, flags)

    monkeypatch.setattr(socket, "getaddrinfo", numeric)
    found = resolve(text, passive=passive)
    assert len(found) == len(expected)
    assert type(expected)(found) == expected
    assert resolve(Address.parse(text), passive=passive) == found


def _answering(monkeypatch: pytest.MonkeyPatch, *names: Any) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def getaddrinfo(*args: Any) -> Any:
        asked.append(args)
        return [(V6 if len(name) == 4 else V4, args[3], args[4], "", name) for name in names]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_gives_each_address_once_in_the_order_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answering(monkeypatch, THREE, ONE, THREE, TWO, ONE)
    assert [target.sockaddr for target in resolve("tcp://host.example:80")] == [THREE, ONE, TWO]
    assert asked == [("host.example", 80, 0, STREAM, 6, 0)]


def test_what_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _answering(monkeypatch, ONE)
    resolve("udp://host.example:9", passive=True, family=V6)
    resolve("tcp://*:1", passive=True)
    assert asked == [
        ("host.example", 9, V6, DGRAM, 17, socket.AI_PASSIVE),
        (None, 1, 0, STREAM, 6, socket.AI_PASSIVE),
    ]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("tcp://localhost:1", True),
        ("udp://host.example:1", True),
        ("sctp://host.example:1", True),
        ("tcp://127.0.0.1:1", False),
        ("tcp://[::1]:1", False),
        ("tcp://*:1", False),
        ("unix:localhost", False),
        ("fd://1", False),
        ("bluetooth://00:11:22:33:44:55:1", False),
    ],
)
def test_who_may_have_to_wait(text: str, asks: bool) -> None:
    assert asks_names(Address.parse(text)) is asks


def test_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror, match=r"can't resolve tls://nohost\.invalid:443: Temporary failure") as caught:
        resolve("tls://nohost.invalid:443")
    assert caught.value.errno == socket.EAI_AGAIN


@pytest.mark.parametrize("host", ["ü" * 64, "ü." + "ü" * 70, "\u2024", "x" * 64])
def test_a_name_that_no_host_can_have(host: str) -> None:
    with pytest.raises(socket.gaierror, match="can't resolve tcp://") as caught:
        resolve(Address("tcp", host, 1))
    assert isinstance(caught.value.errno, int)


def test_a_family_that_the_host_does_not_have() -> None:
    assert resolve("tcp://127.0.0.1:1", family=V4)
    with pytest.raises(socket.gaierror, match=r"can't resolve tcp://127\.0\.0\.1:1"):
        resolve("tcp://127.0.0.1:1", family=V6)


def test_scopes() -> None:
    lo = socket.if_nametoindex("lo")
    for scope in ("lo", str(lo)):
        assert resolve(f"udp://[fe80::1%{scope}]:1") == [Target(V6, DGRAM, 17, ("fe80::1", 1, 0, lo))]
    with pytest.raises(OSError, match=r"can't resolve udp://\[fe80::1%nosuch0\]:1: .*'nosuch0'") as caught:
        resolve("udp://[fe80::1%nosuch0]:1")
    assert caught.value.errno == errno.ENODEV


def test_no_address_at_all() -> None:
    with pytest.raises(AddressError):
        resolve("localhost")


def test_a_descriptor_stays_whose_it_is() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert resolve(f"fd://{one.fileno()}") == [Target(socket.AF_UNIX, STREAM, 0, one.fileno())]
        one.send(b"still here")
        assert other.recv(20) == b"still here"


def test_descriptors_that_are_no_sockets() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match=f"can't use fd://{read}: ") as caught:
            resolve(f"fd://{read}")
        assert caught.value.errno == errno.ENOTSOCK
    finally:
        os.close(read)
        os.close(write)
    with pytest.raises(OSError, match=f"can't use fd://{read}: ") as caught:
        resolve(f"fd://{read}")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="can't use fd://999999999: "):
        resolve("fd://999999999")


class Socket:
    """A system that has everything."""

    opened: list[tuple[int, ...]]

    def __init__(self, *what: int) -> None:
        Socket.opened.append(what)

    def close(self) -> None:
        Socket.opened.append(())


def test_what_few_systems_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Socket, "opened", [], raising=False)
    monkeypatch.setattr(socket, "socket", Socket)
    monkeypatch.setattr(socket, "AF_BLUETOOTH", 31, raising=False)
    assert resolve("sctp://127.0.0.1:9") == [Target(V4, STREAM, 132, ("127.0.0.1", 9))]
    assert resolve("bluetooth://00:11:22:33:44:55:3") == [Target(31, STREAM, 3, ("00:11:22:33:44:55", 3))]
    assert Socket.opened == [(V4, STREAM, 132), (), (31, STREAM, 3), ()]


def test_what_this_system_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __init__(self, *what: int) -> None:
            raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Nothing)
        for text in ("sctp://127.0.0.1:9", "bluetooth://00:11:22:33:44:55:3"):
            with pytest.raises(NotOnThisSystem, match=f"{text}: not on this system"):
                resolve(text)
    with monkeypatch.context() as patch:
        patch.delattr(socket, "AF_BLUETOOTH", raising=False)
        with pytest.raises(NotOnThisSystem, match="bluetooth://"):
            resolve("bluetooth://00:11:22:33:44:55:3")
    with monkeypatch.context() as patch:
        patch.setattr("sys.platform", "darwin")
        assert resolve("unix:name")
        with pytest.raises(NotOnThisSystem, match="unix:@name"):
            resolve("unix:@name")
        patch.delattr(socket, "AF_UNIX")
        with pytest.raises(NotOnThisSystem, match="unix:name"):
            resolve("unix:name")


def _targets(families: str) -> list[Target]:
    return [Target(int(family), STREAM, 6, (str(index), 80)) for index, family in enumerate(families)]


@pytest.mark.parametrize(
    ("families", "order"),
    [
        ("", []),
        ("6", [0]),
        ("666", [0, 1, 2]),
        ("6644", [0, 2, 1, 3]),
        ("4466", [0, 2, 1, 3]),
        ("6664", [0, 3, 1, 2]),
        ("6444", [0, 1, 2, 3]),
        ("66644", [0, 3, 1, 4, 2]),
        ("64646", [0, 1, 2, 3, 4]),
        ("664411", [0, 2, 4, 1, 3, 5]),
    ],
)
def test_families_take_turns(families: str, order: list[int]) -> None:
    targets = _targets(families)
    assert interleave(targets) == [targets[index] for index in order]


def test_the_delay_is_that_of_the_rfc() -> None:
    assert CONNECTION_ATTEMPT_DELAY == 0.25
