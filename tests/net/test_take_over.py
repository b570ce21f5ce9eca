"""Descriptors that were open before us become ours, or stay whose they are."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from websock.net.address import Address
from websock.net.errors import AddressError
from websock.net.options import SocketOptions
from websock.net.sockets import bound, listening, take_over

from .making import at, closing


@pytest.mark.parametrize(
    ("make", "scheme"), [(listening, "tcp://127.0.0.1:0"), (listening, "unix:@taken-{pid}"), (bound, "udp://[::1]:0")]
)
def test_a_descriptor_is_taken_over(make: Any, scheme: str, short_path: str) -> None:
    before = make(at(scheme, short_path))[0]
    address, number = Address.of(before), before.detach()
    os.set_inheritable(number, True)
    os.set_blocking(number, False)
    with closing(make(f"fd://{number}", SocketOptions(receive_buffer=8192, reuse_port=True))) as sockets:
        assert sockets[0].fileno() == number
        assert Address.of(sockets[0]) == address
        assert SocketOptions.of(sockets[0]).receive_buffer == 16384
        assert os.get_blocking(number)
        assert not os.get_inheritable(number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_what_is_bound_is_made_to_listen() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address, number = Address.of(sock), sock.detach()
    with closing(listening(f"fd://{number}")):
        socket.create_connection((address.host, address.port)).close()


def test_what_is_connected_stays_so() -> None:
    one, other = socket.socketpair()
    with take_over(f"fd://{one.detach()}", state="connected") as taken, other:
        taken.send(b"x")
        assert other.recv(9) == b"x"
    with closing(listening("tcp://127.0.0.1:0")) as sockets:
        client = socket.create_connection(sockets[0].getsockname())
        with take_over(f"fd://{client.detach()}", SocketOptions(ttl=9), state="connected") as taken:
            assert (SocketOptions.of(taken).nodelay, SocketOptions.of(taken).ttl) == (True, 9)


def _one(what: str) -> socket.socket:
    if what == "connected":
        one, other = socket.socketpair()
        other.close()
        return one
    if what == "datagrams":
        return bound("udp://127.0.0.1:0")[0]
    if what == "listening":
        return listening("tcp://127.0.0.1:0")[0]
    return socket.socket()


@pytest.mark.parametrize(
    ("what", "state", "said"),
    [
        ("connected", "listening", "is connected"),
        ("connected", "bound", "is of kind SOCK_STREAM"),
        ("datagrams", "listening", "is of kind SOCK_DGRAM"),
        ("datagrams", "connected", "is of kind SOCK_DGRAM"),
        ("listening", "connected", "listens"),
        ("listening", "bound", "is of kind SOCK_STREAM"),
        ("new", "connected", "is not connected"),
        ("new", "listening", "is not bound"),
    ],
)
def test_a_wrong_descriptor_stays_open(what: str, state: Any, said: str) -> None:
    with _one(what) as sock:
        with pytest.raises(AddressError, match=f"'fd://{sock.fileno()}': the socket there {said}"):
            take_over(f"fd://{sock.fileno()}", state=state)
        os.fstat(sock.fileno())


def test_a_descriptor_of_the_wrong_kind_is_no_address_to_listen_on() -> None:
    for what, make in (("datagrams", listening), ("listening", bound)):
        with _one(what) as sock:
            with pytest.raises(AddressError, match="is of kind"):
                make(f"fd://{sock.fileno()}")
            os.fstat(sock.fileno())


def test_an_option_that_does_not_fit_a_descriptor_leaves_it_open() -> None:
    with _one("connected") as sock:
        with pytest.raises(ValueError, match=f"ttl is no option of fd://{sock.fileno()}"):
            take_over(f"fd://{sock.fileno()}", SocketOptions(ttl=9), state="connected")
        os.fstat(sock.fileno())


def test_descriptors_that_are_none() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match=f"can't use fd://{read}: ") as caught:
            take_over(f"fd://{read}", state="connected")
        assert caught.value.errno == errno.ENOTSOCK
        os.fstat(read)
    finally:
        os.close(read)
        os.close(write)
    with pytest.raises(OSError, match=f"can't use fd://{read}: ") as caught:
        take_over(f"fd://{read}", state="connected")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(AddressError, match="no descriptor to take over"):
        take_over("tcp://127.0.0.1:1", state="connected")
