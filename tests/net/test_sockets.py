"""Sockets that listen, are bound, or are taken over: of every kind of address, and nothing stays open when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from websock import net
from websock.net import info
from websock.net.address import Address
from websock.net.errors import AddressError, NotOnThisSystem
from websock.net.options import SocketOptions, packed_linger
from websock.net.resolving import Target, resolve
from websock.net.sockets import bound, listening, open_socket

from .making import ROOT, at, closing

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


STREAMS = [
    "tcp://127.0.0.1:0",
    "tls://localhost:0",
    "tcp://[::1]:0",
    "tcp://*:0",
    "unix://{tmp}/a.sock",
    "unix:@listening-{pid}",
    "unixpacket://{tmp}/a.sock",
    "unixpacket:@listening-{pid}",
]
DATAGRAMS = ["udp://127.0.0.1:0", "udp://[::1]:0", "udp://*:0", "unixgram://{tmp}/a.sock", "unixgram:@bound-{pid}"]


@pytest.mark.parametrize("text", STREAMS)
def test_who_connects_is_accepted(text: str, short_path: str) -> None:
    with closing(listening(at(text, short_path))) as listeners:
        for listener in listeners:
            address = Address.of(listener)
            target = resolve(address, family=listener.family if not address.is_unix else 0)[0]
            assert listener.type == address.kind
            with open_socket(target) as client:
                client.connect(target.sockaddr)
                accepted, _ = listener.accept()
                with accepted:
                    client.sendall(b"x")
                    assert accepted.recv(9) == b"x"
                    assert type(accepted) is socket.socket
                    if not address.is_unix:
                        assert SocketOptions.of(client).nodelay is SocketOptions.of(accepted).nodelay is True
                        assert accepted.proto == socket.IPPROTO_TCP  # asyncio looks for it


@pytest.mark.parametrize("text", DATAGRAMS)
def test_what_is_sent_arrives(text: str, short_path: str) -> None:
    with closing(bound(at(text, short_path))) as sockets:
        for sock in sockets:
            address = Address.of(sock)
            target = resolve(address, family=sock.family if not address.is_unix else 0)[0]
            with open_socket(target) as client:
                client.connect(target.sockaddr)
                client.send(b"x")
                assert sock.recv(9) == b"x"


def test_every_address_has_both_families_and_one_port() -> None:
    for make, text in ((listening, "tcp://*:0"), (bound, "udp://*:0")):
        with closing(make(text)) as sockets:
            assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
            assert len({sock.getsockname()[1] for sock in sockets}) == 1
            assert all(SocketOptions.of(sock).v6_only in (None, True) for sock in sockets)


def test_every_address_of_one_family_is_spelled_as_that() -> None:
    for text, expected in (
        ("tcp://0.0.0.0:0", ["tcp://0.0.0.0"]),
        ("tcp://[::]:0", ["tcp://[::]"]),
        ("tcp://*:0", ["tcp://0.0.0.0", "tcp://[::]"]),
    ):
        with closing(listening(text)) as sockets:
            spelled = [str(Address.of(sock)) for sock in sockets]
            assert sorted(one.rpartition(":")[0] for one in spelled) == expected
            for one, sock in zip(spelled, sockets, strict=True):
                [target] = resolve(one)  # and who connects there comes here
                assert target.family == sock.family
                with open_socket(target) as client:
                    client.connect(target.sockaddr)


def test_one_socket_takes_both_families() -> None:
    with closing(listening("tcp://*:0", SocketOptions(v6_only=False))) as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET6]
        with socket.create_connection(("127.0.0.1", sockets[0].getsockname()[1])):
            sockets[0].accept()[0].close()


def test_options_are_set_before_the_bind_and_backlog_after(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Recording(socket.socket):
        def setsockopt(self, level: int, name: int, *value: Any) -> None:
            names = {
                socket.SO_REUSEADDR: "reuse_address",
                socket.SO_REUSEPORT: "reuse_port",
                socket.SO_RCVBUF: "buffer",
            }
            log.append(names.get(name, "other") if level == socket.SOL_SOCKET else "other")
            super().setsockopt(level, name, *value)

        def bind(self, name: Any) -> None:
            log.append("bind")
            super().bind(name)

        def listen(self, backlog: int = 0) -> None:
            log.append(f"listen({backlog})")
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Recording)
    options = SocketOptions(reuse_port=True, receive_buffer=8192, backlog=7)
    with closing(listening("tcp://127.0.0.1:0", options)):
        assert log == ["reuse_address", "reuse_port", "buffer", "other", "bind", "listen(7)"]
    log.clear()
    with closing(bound("udp://127.0.0.1:0", options)):
        assert log == ["reuse_port", "buffer", "bind"]


def test_several_sockets_share_a_port() -> None:
    options = SocketOptions(reuse_port=True)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(closing(listening("tcp://127.0.0.1:0", options)))
        second = stack.enter_context(closing(listening(Address.of(first[0]), options)))
        assert Address.of(first[0]) == Address.of(second[0])


# What a system may lack, and what may be taken


class Faulty(socket.socket):
    """A system in which opening or binding some sockets fails."""

    no_family: int = 0
    bind_errors: dict[int, list[int]]

    def __init__(self, family: int = -1, *more: Any, **named: Any) -> None:
        if family == Faulty.no_family:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *more, **named)

    def bind(self, name: Any) -> None:
        if errors := Faulty.bind_errors.get(self.family):
            number = errors.pop(0)
            raise OSError(number, os.strerror(number))
        super().bind(name)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    monkeypatch.setattr(socket, "socket", Faulty)
    monkeypatch.setattr(Faulty, "no_family", 0)
    monkeypatch.setattr(Faulty, "bind_errors", {}, raising=False)
    return Faulty


def test_a_system_without_ipv6(faulty: type[Faulty]) -> None:
    faulty.no_family = socket.AF_INET6
    for options in (None, SocketOptions(v6_only=False)):
        with closing(listening("tcp://*:0", options)) as sockets:
            assert [sock.family for sock in sockets] == [socket.AF_INET]
    with pytest.raises(OSError, match=r"tcp://\[::1\]:0: Address family not supported") as caught:
        listening("tcp://[::1]:0")
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_ipv6_switched_off(faulty: type[Faulty]) -> None:
    faulty.bind_errors = {socket.AF_INET6: [errno.EADDRNOTAVAIL] * 2}
    with closing(listening("tcp://*:0")) as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET]
    with pytest.raises(OSError, match=r"can't listen on tcp://\[::1\]:0: .*no network interface here"):
        listening("tcp://[::1]:0")


def test_a_port_that_only_one_family_has_free_is_not_taken(faulty: type[Faulty]) -> None:
    faulty.bind_errors = {socket.AF_INET6: [errno.EADDRINUSE] * 3}
    with closing(listening("tcp://*:0")) as sockets:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert len(sockets) == 2
    faulty.bind_errors = {socket.AF_INET6: [errno.EADDRINUSE] * 100}
    with pytest.raises(OSError, match=r"can't listen on tcp://\[::\]:\d+: Address already in use"):
        listening("tcp://*:0")
    assert len(faulty.bind_errors[socket.AF_INET6]) == 100 - 16


@pytest.mark.parametrize("text", [one for one in [*STREAMS, *DATAGRAMS] if not one.endswith(("*:0",))])
def test_an_address_in_use_names_who_has_it(text: str, short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, doing = (bound, "bind") if text in DATAGRAMS else (listening, "listen on")
    monkeypatch.setattr(info, "who_has", lambda address: "python (pid 1)")
    with closing(make(at(text, short_path))) as sockets:
        address = Address.of(sockets[0])
        before = os.stat(address.path) if address.path.startswith("/") else None
        with pytest.raises(OSError, match=r"\(python \(pid 1\) has it\)") as caught:
            make(str(address))
        assert caught.value.errno == errno.EADDRINUSE
        assert str(caught.value.strerror).startswith(f"can't {doing} {address}: ")
        assert before is None or os.path.samestat(before, os.stat(address.path))


def test_who_has_it_really() -> None:
    with closing(listening("tcp://127.0.0.1:0")) as sockets:
        address = Address.of(sockets[0])
        with pytest.raises(OSError, match=rf"\(.* \(pid {os.getpid()}\) has it\)"):
            listening(address)


def test_not_knowing_who_is_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def who_has(address: object) -> str | None:
        raise RuntimeError("not now")

    monkeypatch.setattr(info, "who_has", who_has)
    with closing(listening("tcp://127.0.0.1:0")) as sockets, pytest.raises(OSError, match="another socket has it"):
        listening(Address.of(sockets[0]))


# What cannot be


@pytest.mark.parametrize("text", STREAMS)
def test_streams_are_not_for_datagrams(text: str, short_path: str) -> None:
    address = at(text, short_path)
    with pytest.raises(AddressError, match="it is for streams") as caught:
        bound(address)
    assert caught.value.text == address
    assert not os.listdir(short_path)


@pytest.mark.parametrize("text", DATAGRAMS)
def test_nothing_listens_for_datagrams(text: str, short_path: str) -> None:
    with pytest.raises(AddressError, match="nothing listens there"):
        listening(at(text, short_path))
    assert not os.listdir(short_path)


@pytest.mark.parametrize(
    ("text", "options", "kind", "said"),
    [
        ("localhost", {}, AddressError, "begins with one of"),
        ("tcp://192.0.2.1:0", {}, OSError, r"can't listen on tcp://192\.0\.2\.1:0: .*no network interface here"),
        ("tcp://[fe80::1%nosuch0]:0", {}, OSError, "can't resolve tcp://.*'nosuch0'"),
        ("tcp://127.0.0.1:0", {"device": "nosuch0"}, OSError, r"can't set device='nosuch0' on tcp://127\.0\.0\.1:0: "),
        ("tcp://127.0.0.1:0", {"broadcast": True}, ValueError, r"broadcast is no option of tcp://127\.0\.0\.1:0"),
        ("unix://{tmp}/a", {"ttl": 3}, ValueError, "ttl is no option of unix://{tmp}/a"),
        ("unix://{tmp}/no/a", {}, FileNotFoundError, "can't listen on unix://{tmp}/no/a: .*no folder {tmp}/no"),
        ("unix:///dev/null/a", {}, NotADirectoryError, "can't listen on unix:///dev/null/a: "),
        ("unix://{tmp}", {}, FileExistsError, "can't listen on unix://{tmp}: a file that isn't a socket"),
        ("fd://999999", {}, OSError, "can't use fd://999999: "),
    ],
)
def test_an_error_names_the_address(
    text: str, options: dict[str, Any], kind: type[Exception], said: str, short_path: str
) -> None:
    with pytest.raises(kind, match=said.replace("{tmp}", short_path)):
        listening(at(text, short_path), SocketOptions(**options))
    assert os.listdir(short_path) == []


def test_a_path_that_is_too_long_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/" + "x" * 110  # an address of that length is built, not parsed
    with pytest.raises(OSError, match=f"can't listen on unix://{path}: AF_UNIX path too long"):
        listening(Address("unix", path=path))


def test_an_option_that_the_system_lacks(monkeypatch: pytest.MonkeyPatch, short_path: str) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(NotOnThisSystem, match="reuse_port"):
        listening("tcp://*:0", SocketOptions(reuse_port=True))
    with closing(listening("tcp://*:0", SocketOptions(reuse_port=True, optional=frozenset({"reuse_port"})))) as found:
        assert found


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Only so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as spare:
        free = spare.fileno()  # the lowest one
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_room_for_another_socket(short_path: str) -> None:
    target = resolve("tcp://127.0.0.1:1")[0]
    for count, make, where in (
        (0, lambda: open_socket(target), r"tcp://127\.0\.0\.1:1"),
        (0, lambda: listening(f"unix://{short_path}/a"), f"unix://{short_path}/a"),
        (1, lambda: listening("tcp://*:0"), r"tcp://\[::\]:\d+"),
        (1, lambda: bound("udp://*:0"), r"udp://\[::\]:\d+"),
    ):
        said = f"can't open a socket for {where}: .*ulimit -n"
        with room_for(count), pytest.raises(OSError, match=said) as caught:
            make()
        assert caught.value.errno == errno.EMFILE


@pytest.mark.skipif(
    not UNPRIVILEGED.exists() or int(UNPRIVILEGED.read_text(encoding="ascii")) <= 1, reason="all ports are free"
)
def test_a_privileged_port() -> None:
    if ROOT:
        os.seteuid(65534)
    try:
        for make, doing, text in ((listening, "listen on", "tcp://127.0.0.1:1"), (bound, "bind", "udp://127.0.0.1:1")):
            with pytest.raises(PermissionError, match=f"can't {doing} {text}: .*ports below 1024"):
                make(text)
    finally:
        if ROOT:
            os.seteuid(0)


def test_an_interrupt_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch, short_path: str) -> None:
    def listen(self: socket.socket, backlog: int = 0) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "listen", listen)
    for text in ("tcp://127.0.0.1:0", "unix://{tmp}/a.sock"):
        with pytest.raises(KeyboardInterrupt):
            listening(at(text, short_path))
    assert not os.listdir(short_path)


def test_a_target_is_opened_or_taken_over() -> None:
    with pytest.raises(AddressError, match=r"fd://3.*taken over"):
        open_socket(Target(socket.AF_UNIX, socket.SOCK_STREAM, 0, 3))
    target = resolve("tcp://127.0.0.1:1")[0]
    with pytest.raises(ValueError, match=r"broadcast is no option of tcp://127\.0\.0\.1:1"):
        open_socket(target, SocketOptions(broadcast=True))
    with pytest.raises(ValueError, match="broadcast is no option of there"):
        open_socket(target, SocketOptions(broadcast=True), where="there")
    with open_socket(target, SocketOptions(ttl=9), stage="bind") as sock:
        assert sock.getblocking()
        assert (SocketOptions.of(sock).ttl, SocketOptions.of(sock).reuse_address) == (9, True)


# What is given rather than opened


@pytest.fixture(params=["blocking", "asyncio"])
def made(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Makes a stream or a listener of something, in one of the forms, and closes it."""

    def make(name: str, of: Any) -> None:
        if request.param == "blocking":
            with getattr(net, name)(of):
                return

        async def run() -> None:
            async with getattr(net.asyncio, name)(of):
                pass

        asyncio.run(run())

    return make


@pytest.mark.parametrize(
    ("family", "kind", "listens", "said"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, False, "is not connected"),
        (socket.AF_INET6, socket.SOCK_STREAM, False, "is not connected"),
        (socket.AF_INET, socket.SOCK_DGRAM, False, "is for datagrams"),
        (socket.AF_INET, socket.SOCK_STREAM, True, "listens"),
    ],
)
def test_what_is_no_stream(made: Callable[[str, Any], None], family: int, kind: int, listens: bool, said: str) -> None:
    with socket.socket(family, kind) as sock:
        if listens:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        with pytest.raises(ValueError, match=said):
            made("Stream", sock)
        assert sock.fileno() >= 0  # it is still the caller's


def test_a_stream_that_is_reset_already(made: Callable[[str, Any], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, packed_linger(0))
        accepted.close()
        made("Stream", client)


def test_what_is_no_listener(made: Callable[[str, Any], None]) -> None:
    with pytest.raises(ValueError, match="one socket or more"):
        made("Listener", [])
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ValueError, match=r"sockets that listen, and .* does not"):
                made("Listener", [sock])
            assert sock.fileno() >= 0


def test_what_has_a_socket_is_none() -> None:
    with net.listen("tcp://127.0.0.1:0") as listener, net.connect(listener.addresses[0]) as stream:
        wrong: list[Any] = [listener, stream]
        calls: list[Callable[[Any], Any]] = [net.tcp_info, net.SocketOptions.of, lambda it: net.Listener([it])]
        for it in wrong:
            for call in calls:
                with pytest.raises(TypeError, match="a socket is wanted, such as"):
                    call(it)
        with pytest.raises(TypeError, match="open in binary mode is sent, not 'name'"):
            stream.send_file("name")  # type: ignore[arg-type]
        listener.accept().close()
    one, other = map(net.Stream, socket.socketpair())
    with one, other, pytest.raises(ValueError, match="an unnamed Unix socket is not TCP"):
        one.info()


def test_help_needs_nothing_else() -> None:
    """What a page of help names is a name of the package, or explained there."""
    assert "tcp://localhost:8080" in (net.Address.__doc__ or "") and "see above" not in (net.Address.__doc__ or "")
    for name in ("TLSStream", "PoolStats", "Stage"):
        assert getattr(net, name) is not None and name in net.__all__
