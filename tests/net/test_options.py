"""Options: each is set on a real socket and read back; what is out of range, lacking or misplaced says so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import inspect
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from websock import net
from websock.net import asyncio as tasks
from websock.net import options as module
from websock.net.errors import NotOnThisSystem
from websock.net.options import SocketOptions, Stage, interface_index
from websock.net.resolving import resolve
from websock.net.sockets import bound, listening, open_socket

LINUX = os.uname().sysname == "Linux"
TCP, TCP6 = (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_STREAM)
UDP, UDP6 = (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_DGRAM)
UNIX, UNIXGRAM = (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)
UNIXPACKET = (socket.AF_UNIX, socket.SOCK_SEQPACKET)
STREAMS, DATAGRAMS, UNIXES = (TCP, TCP6), (UDP, UDP6), (UNIX, UNIXGRAM, UNIXPACKET)
INTERNET = (*STREAMS, *DATAGRAMS)
ALL = (*INTERNET, *UNIXES)
ROOT = os.geteuid() == 0


def _congestion() -> str:
    with contextlib.suppress(OSError), socket.socket() as sock:
        current = SocketOptions.of(sock).congestion
        allowed = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text(encoding="ascii").split()
        return next((name for name in allowed if name != current), current or "")
    return "reno"


# Field, value, the sockets that have it, the first stage that sets it.
FIELDS: list[tuple[str, Any, tuple[tuple[int, int], ...], Stage]] = [
    ("reuse_address", True, INTERNET, "bind"),
    ("reuse_address", False, INTERNET, "bind"),
    ("reuse_port", True, INTERNET, "bind"),
    ("v6_only", True, (TCP6, UDP6), "bind"),
    ("v6_only", False, (TCP6, UDP6), "bind"),
    ("device", "lo", INTERNET, "bind"),
    ("mark", 2**32 - 2, INTERNET, "bind"),
    ("receive_buffer", 16384, ALL, "bind"),
    ("send_buffer", 16384, ALL, "connect"),
    ("fast_open", 5, STREAMS, "bind"),
    ("congestion", _congestion(), STREAMS, "connect"),
    ("ttl", 33, INTERNET, "bind"),
    ("ttl", 255, INTERNET, "accepted"),
    ("tos", 0x88, INTERNET, "bind"),
    ("dscp", 46, INTERNET, "connect"),
    ("nodelay", True, STREAMS, "connect"),
    ("nodelay", False, STREAMS, "accepted"),
    ("user_timeout", 1.5, STREAMS, "connect"),
    ("keepalive", True, STREAMS, "connect"),
    ("keepalive_idle", 11, STREAMS, "connect"),
    ("keepalive_interval", 12, STREAMS, "connect"),
    ("keepalive_count", 13, STREAMS, "accepted"),
    ("linger", 0, STREAMS, "connect"),
    ("linger", 3, STREAMS, "accepted"),
    ("broadcast", True, DATAGRAMS, "bind"),
    ("multicast_ttl", 0, DATAGRAMS, "bind"),
    ("multicast_ttl", 7, DATAGRAMS, "connect"),
    ("multicast_loop", False, DATAGRAMS, "bind"),
    ("multicast_interface", "127.0.0.1", (UDP,), "bind"),
    ("multicast_interface", 1, (UDP6,), "bind"),
    ("kernel_receive_timeout", 2.5, ALL, "connect"),
    ("kernel_send_timeout", 2.5, ALL, "accepted"),
    ("kernel_send_timeout", 0.5, (*DATAGRAMS, UNIXGRAM), "bind"),
    ("quick_ack", False, STREAMS, "connected"),
    ("quick_ack", False, STREAMS, "accepted"),
]


def _with(field: str, value: Any, **others: Any) -> SocketOptions:
    return SocketOptions(**{**others, field: value})


DOUBLED = ("receive_buffer", "send_buffer")  # by Linux, for its own needs: socket(7)


def _row(value: tuple[str, Any, tuple[Any, ...], Stage], kind: tuple[int, int]) -> Any:
    family = socket.AddressFamily(kind[0]).name.removeprefix("AF_")
    marks = [pytest.mark.skipif(not ROOT, reason="needs privileges")] if value[0] == "mark" else []
    name = f"{value[0]}={value[1]}-{family}-{socket.SocketKind(kind[1]).name.removeprefix('SOCK_')}-{value[3]}"
    return pytest.param(value[0], value[1], kind, value[3], id=name, marks=marks)


@pytest.mark.skipif(not LINUX, reason="other systems have other options")
@pytest.mark.parametrize(
    ("field", "value", "kind", "stage"), [_row(field, kind) for field in FIELDS for kind in field[2]]
)
def test_what_is_set_is_read_back(field: str, value: Any, kind: tuple[int, int], stage: Stage) -> None:
    with socket.socket(*kind) as sock:
        _with(field, value).apply(sock, stage=stage)
        if field == "fast_open":
            sock.listen()  # another option tells of sockets that connect
        found = getattr(SocketOptions.of(sock), field)
    if field in DOUBLED:
        value *= 2
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("kind", ALL)
def test_what_a_new_socket_has_can_be_set_again(kind: tuple[int, int]) -> None:
    with socket.socket(*kind) as sock, socket.socket(*kind) as other:
        found = SocketOptions.of(sock)
        again = found.replace(receive_buffer=None, send_buffer=None, optional=frozenset({"mark", "fast_open"}))
        for stage in ("connect", "connected"):
            again.apply(other, stage=stage)
        assert SocketOptions.of(other) == found


def test_every_field_has_a_row_and_a_description() -> None:
    fields = {field.name for field in dataclasses.fields(SocketOptions) if field.init} - {"backlog", "optional"}
    assert {row[0] for row in FIELDS} == fields == set(module._OPTIONS)
    described = inspect.getdoc(SocketOptions) or ""  # since 3.13 the compiler itself takes the indentation away
    for name in fields:
        assert f"\n    {name}: " in described


def test_the_defaults_are_nodelay_and_for_listening_reuse_address() -> None:
    for kind, stage, nodelay, reuse in (
        (TCP, "bind", True, os.name == "posix"),
        (TCP, "connect", True, False),
        (TCP, "accepted", True, False),
        (UDP, "bind", None, False),
        (UNIX, "bind", None, None),
    ):
        with socket.socket(*kind) as sock:
            SocketOptions().apply(sock, stage=stage)  # type: ignore[arg-type]
            found = SocketOptions.of(sock)
            assert (found.nodelay, found.reuse_address) == (nodelay, reuse)


def test_a_multicast_interface_by_name_and_number() -> None:
    lo = socket.if_nametoindex("lo")
    for interface in ("lo", lo, str(lo)):
        with socket.socket(*UDP6) as sock:
            SocketOptions(multicast_interface=interface).apply(sock, stage="bind")
            assert SocketOptions.of(sock).multicast_interface == lo
        with socket.socket(*UDP) as sock:  # the kernel takes it, and tells only addresses
            SocketOptions(multicast_interface=interface).apply(sock, stage="bind")


def test_keepalive_is_on_when_its_times_are_given() -> None:
    with socket.socket() as sock:
        SocketOptions(keepalive_interval=5).apply(sock, stage="connect")
        assert SocketOptions.of(sock).keepalive is True
        SocketOptions(keepalive=False, keepalive_idle=6).apply(sock, stage="connect")
        assert (SocketOptions.of(sock).keepalive, SocketOptions.of(sock).keepalive_idle) == (False, 6)
    with socket.socket(*UNIX) as sock:
        SocketOptions(keepalive_idle=6, optional=frozenset({"keepalive_idle"})).apply(sock, stage="connect")
        with pytest.raises(ValueError, match="keepalive_idle is no option of"):
            SocketOptions(keepalive_idle=6).apply(sock, stage="connect")


def test_fast_open_of_a_connecting_socket_is_on_or_off() -> None:
    for value in (0, 9):
        with socket.socket() as sock:
            try:
                SocketOptions(fast_open=value).apply(sock, stage="connect")
            except NotOnThisSystem:
                pytest.skip("net.ipv4.tcp_fastopen")
            assert SocketOptions.of(sock).fast_open == int(value > 0)


def test_of_a_listening_socket() -> None:
    with socket.socket() as sock:
        SocketOptions(fast_open=9).apply(sock, stage="bind")
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert SocketOptions.of(sock).fast_open == 9


# Ranges


def _numbers(field: str, low: float, high: float) -> Iterator[tuple[str, Any, bool]]:
    whole = field not in ("user_timeout", "kernel_receive_timeout", "kernel_send_timeout")
    for value, good in ((low, True), (high, True), (low - 1, False), (high + 1, False), (-(10**30), False)):
        yield field, value, good
    yield field, float("nan") if not whole else 10**30, False


RANGES = [
    *_numbers("mark", 0, 2**32 - 1),
    *_numbers("receive_buffer", 1, 2**31 - 1),
    *_numbers("send_buffer", 1, 2**31 - 1),
    *_numbers("fast_open", 0, 65535),
    *_numbers("ttl", 1, 255),
    *_numbers("tos", 0, 255),
    *_numbers("dscp", 0, 63),
    *_numbers("user_timeout", 0.001, 2147483),
    *_numbers("keepalive_idle", 1, 32767),
    *_numbers("keepalive_interval", 1, 32767),
    *_numbers("keepalive_count", 1, 127),
    *_numbers("linger", 0, 32767),
    *_numbers("multicast_ttl", 0, 255),
    *_numbers("kernel_receive_timeout", 0.001, 1e9),
    *_numbers("kernel_send_timeout", 0.001, 1e9),
    *_numbers("backlog", 0, 2**31 - 1),
    *(("device", value, good) for value, good in (("e" * 15, True), ("e" * 16, False), ("", False), ("a/b", False))),
    *(("device", value, False) for value in ("a b", "a\0", "a\n", "ü" * 8)),
    *(("congestion", value, good) for value, good in (("reno", True), ("", False), ("x" * 16, False))),
    *(("multicast_interface", value, good) for value, good in ((1, True), (0, False), (-1, False), ("", False))),
    ("multicast_interface", "255.255.255.255", True),
]


@pytest.mark.parametrize(("field", "value", "good"), RANGES)
def test_ranges(field: str, value: Any, good: bool) -> None:
    if good:
        assert getattr(_with(field, value), field) == value
        return
    with pytest.raises(ValueError, match=f"^{field} is "):
        _with(field, value)


_FLAGS = [row[0] for row in FIELDS if type(row[1]) is bool]
_WHOLE = [row[0] for row in FIELDS if type(row[1]) is int and row[0] != "multicast_interface"] + ["backlog"]
_SECONDS = [row[0] for row in FIELDS if type(row[1]) is float]
_NAMES = ["device", "congestion"]
_TYPES = [
    *((name, value) for name in _FLAGS for value in (0, 1, "1", b"1", 1.0)),
    *((name, value) for name in _WHOLE for value in (True, "1", b"1", 1.0)),
    *((name, value) for name in _SECONDS for value in (True, "1", b"1", 1j)),
    *((name, value) for name in _NAMES for value in (True, 1, b"lo")),
    *(("multicast_interface", value) for value in (True, b"lo", 1.0)),
]


@pytest.mark.parametrize(("field", "value"), sorted(set(_TYPES), key=repr))
def test_types(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{field} is "):
        _with(field, value)


def test_backlog_is_a_number() -> None:
    with pytest.raises(TypeError, match="not None"):
        SocketOptions(backlog=None)  # type: ignore[arg-type]


def test_tos_and_dscp_agree_or_not() -> None:
    with socket.socket() as sock:
        SocketOptions(tos=0x88, dscp=0x22).apply(sock, stage="connect")
        assert (SocketOptions.of(sock).tos, SocketOptions.of(sock).dscp) == (0x88, 0x22)
    with pytest.raises(ValueError, match="upper six bits"):
        SocketOptions(tos=0x88, dscp=46)


def test_optional_names_fields() -> None:
    assert SocketOptions(optional={"mark"}).optional == frozenset({"mark"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no option 'keepalive_idel'; is it 'keepalive_idle'"):
        SocketOptions(optional=frozenset({"keepalive_idel"}))
    with pytest.raises(ValueError, match="no option 'backlog'"):
        SocketOptions(optional=frozenset({"backlog"}))
    with pytest.raises(ValueError, match="no option 1"):
        SocketOptions(optional={1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a set of names"):
        SocketOptions(optional="mark")  # type: ignore[arg-type]


def test_they_are_values() -> None:
    one = SocketOptions(ttl=3, optional=frozenset({"mark"}))
    assert one == SocketOptions(ttl=3, optional=frozenset({"mark"})) != SocketOptions(ttl=4)
    assert hash(one) == hash(one.replace(ttl=3))
    assert one.replace(ttl=4).ttl == 4
    assert "_given" not in repr(one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.ttl = 5  # type: ignore[misc]
    with pytest.raises(ValueError, match="ttl is 1 to 255"):
        one.replace(ttl=0)


# What is lacking, what does not fit, what is refused


@pytest.mark.parametrize("field", [name for name in module._OPTIONS if name != "multicast_interface"])
def test_what_the_system_lacks(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, kinds, stage = next((row[1], row[2], row[3]) for row in FIELDS if row[0] == field)
    for spelling in module._OPTIONS[field].names:
        for name in spelling.partition(" ")[2].split("|"):
            for one in (name, f"{name}_CONNECT"):  # the latter is TCP_FASTOPEN's, and in the socket module since 3.12
                monkeypatch.delattr(socket, one, raising=False)
    monkeypatch.setattr(module, "_UNNAMED", {})
    with socket.socket(*kinds[-1]) as sock:
        with pytest.raises(NotOnThisSystem, match=f"{field}: not on this system"):
            _with(field, value, nodelay=None).apply(sock, stage=stage)
        _with(field, value, nodelay=None, optional=frozenset({field})).apply(sock, stage=stage)
        assert getattr(SocketOptions.of(sock), field) is None


class Refusing(socket.socket):
    """Its kernel takes no option but those below."""

    number = errno.ENOPROTOOPT

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        if name != socket.TCP_NODELAY:
            raise OSError(self.number, os.strerror(self.number))
        super().setsockopt(level, name, *value)


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.EOPNOTSUPP])
def test_what_the_kernel_lacks(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refusing, "number", number)
    with Refusing() as sock:
        with pytest.raises(NotOnThisSystem, match="ttl"):
            SocketOptions(ttl=3).apply(sock, stage="connect")
        SocketOptions(ttl=3, optional=frozenset({"ttl"})).apply(sock, stage="connect")
        assert SocketOptions.of(sock).nodelay is True


def test_what_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refusing, "number", errno.EINVAL)
    with Refusing() as sock:
        for optional in ((), ("ttl",)):  # a wrong value is no lack
            with pytest.raises(OSError, match=r"can't set ttl=3 on tcp://there:1: Invalid argument") as caught:
                SocketOptions(ttl=3, optional=frozenset(optional)).apply(sock, stage="connect", where="tcp://there:1")
            assert caught.value.errno == errno.EINVAL


def test_what_this_process_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refusing, "number", errno.EPERM)
    with Refusing() as sock:
        with pytest.raises(PermissionError, match=r"can't set mark=7 on tcp://0.0.0.0:0: .*privileges"):
            SocketOptions(mark=7).apply(sock, stage="connect")
        SocketOptions(mark=7, optional=frozenset({"mark"})).apply(sock, stage="connect")


@pytest.mark.skipif(not ROOT, reason="there are no privileges to give up")
def test_a_mark_needs_privileges() -> None:
    os.seteuid(65534)
    try:
        with socket.socket() as sock, pytest.raises(PermissionError, match="can't set mark=7 on"):
            SocketOptions(mark=7).apply(sock, stage="connect")
    finally:
        os.seteuid(0)


def test_an_unknown_congestion_control() -> None:
    with socket.socket() as sock:
        with pytest.raises(OSError, match="can't set congestion='nosuch' on tcp://"):
            SocketOptions(congestion="nosuch").apply(sock, stage="connect")
        SocketOptions(congestion="nosuch", optional=frozenset({"congestion"})).apply(sock, stage="connect")


def test_a_missing_interface() -> None:
    for kind, field, number in (
        (TCP, "device", errno.ENODEV),
        (UDP, "multicast_interface", errno.ENODEV),
        (UDP6, "multicast_interface", errno.ENODEV),
    ):
        with socket.socket(*kind) as sock, pytest.raises(OSError, match=f"can't set {field}='nosuch0' on") as caught:
            _with(field, "nosuch0").apply(sock, stage="bind")
        assert caught.value.errno == number
    for interface in ("nosuch0", 0, -1, 2**40, 99999, "99999"):
        with pytest.raises(OSError, match="there is no network interface"):
            interface_index(interface)


@pytest.mark.parametrize("kind", ALL)
def test_what_does_not_fit(kind: tuple[int, int]) -> None:
    fits = {row[0] for row in FIELDS if kind in row[2]} | {"nodelay", "multicast_interface"}
    if kind[0] == socket.AF_INET:
        fits.add("v6_only")  # a host has both families
    for field, value, _, stage in FIELDS:
        if field in fits:
            continue
        with socket.socket(*kind) as sock:
            first: Stage = "connect" if stage == "bind" else stage
            with pytest.raises(ValueError, match=f"{field} is no option of "):
                _with(field, value).apply(sock, stage=first)
            _with(field, value, optional=frozenset({field})).apply(sock, stage=first)
            assert getattr(SocketOptions.of(sock), field) is None


def test_the_error_names_the_address(short_path: str) -> None:
    with socket.socket(*UNIX) as sock:
        sock.bind(f"{short_path}/a")
        with pytest.raises(ValueError, match=f"ttl is no option of unix://{short_path}/a"):
            SocketOptions(ttl=3).apply(sock, stage="connect")
        with pytest.raises(ValueError, match="ttl is no option of there"):
            SocketOptions(ttl=3).apply(sock, stage="connect", where="there")


def test_a_closed_socket() -> None:
    with socket.socket() as sock:
        pass
    with pytest.raises(OSError, match="can't set nodelay=True on a closed socket") as caught:
        SocketOptions().apply(sock, stage="connect")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        SocketOptions.of(sock)


def test_elsewhere_a_peer_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Refusing, "number", errno.EINVAL)
    monkeypatch.setattr("sys.platform", "darwin")
    with Refusing() as sock:
        SocketOptions(ttl=3).apply(sock, stage="accepted")
        with pytest.raises(OSError, match="Invalid argument"):
            SocketOptions(ttl=3).apply(sock, stage="connect")


# Order


class Recording(socket.socket):
    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        self.log.append((level, name))

    log: list[tuple[int, int]]


def _order(kind: tuple[int, int], stage: Stage, *fields: str) -> list[str]:
    """The fields in the order in which they are set."""
    given = {row[0]: row[1] for row in FIELDS if row[0] in fields and kind in row[2]}
    with Recording(*kind) as sock:
        sock.log = []
        SocketOptions(**{"nodelay": None, "reuse_address": None, **given}).apply(sock, stage=stage)
        numbers = {
            option.numbers(module._kind(sock), stage): name
            for name, option in module._OPTIONS.items()
            if name != "dscp"
        }
    return [numbers[one] for one in sock.log]


def test_each_stage_sets_what_has_its_time_then() -> None:
    everything = [name for name in module._OPTIONS if name != "dscp"]
    before = ["reuse_address", "reuse_port", "v6_only", "device", "mark", "receive_buffer", "send_buffer", "fast_open"]
    inherited = ["congestion", "ttl", "tos", "nodelay", "user_timeout", "keepalive_idle"]
    inherited += ["keepalive_interval", "keepalive_count", "keepalive"]
    connection = ["linger", "kernel_receive_timeout", "kernel_send_timeout"]
    assert _order(TCP6, "bind", *everything) == before + inherited
    assert _order(TCP6, "connect", *everything) == [*before, *inherited, *connection]
    assert _order(TCP6, "connected", *everything) == ["quick_ack"]
    assert _order(TCP6, "accepted", *everything) == [*inherited, *connection, "quick_ack"]
    datagram = ["ttl", "tos", "broadcast", "multicast_ttl", "multicast_loop", "multicast_interface"]
    assert _order(UDP6, "bind", *everything) == [
        *before[:-1],
        *datagram,
        "kernel_receive_timeout",
        "kernel_send_timeout",
    ]


def test_a_listening_socket_does_not_time_out_and_what_it_accepts_does() -> None:
    options = SocketOptions(kernel_receive_timeout=0.01, linger=0, ttl=33)
    with socket.socket() as server:
        options.apply(server, stage="bind")
        server.bind(("127.0.0.1", 0))
        server.listen()
        raw = server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        assert struct.unpack("@ll", raw) == (0, 0)
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
            with accepted:
                options.apply(accepted, stage="accepted")
                found = SocketOptions.of(accepted)
                assert (found.kernel_receive_timeout is not None, found.linger, found.ttl) == (True, 0, 33)
                with pytest.raises(BlockingIOError):
                    accepted.recv(1)


def test_the_window_scales_because_the_buffer_came_first() -> None:
    """Of a buffer that is set after the handshake, TCP could offer no more than what it then said (RFC 7323)."""
    options = SocketOptions(receive_buffer=4096)
    with socket.socket() as server:
        options.apply(server, stage="bind")
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
            with accepted:
                assert SocketOptions.of(accepted).receive_buffer == SocketOptions.of(server).receive_buffer


def test_only_what_is_asked_for_is_shown() -> None:
    assert repr(SocketOptions()) == "SocketOptions()"
    assert repr(SocketOptions(ttl=3, nodelay=False)) == "SocketOptions(ttl=3, nodelay=False)"


def _entries() -> dict[str, Callable[[Any], Any]]:
    """Every way to give options, blocking and for tasks."""
    found: dict[str, Callable[[Any], Any]] = {
        "listening": lambda options: listening("tcp://127.0.0.1:0", options),
        "bound": lambda options: bound("udp://127.0.0.1:0", options),
        "open_socket": lambda options: open_socket(resolve("tcp://127.0.0.1:1")[0], options),
        "listener": lambda options: net.Listener([], options=options),
        "listener, tasks": lambda options: in_loop(lambda: tasks.Listener([], options=options)),
        "take_over": lambda options: net.connect("fd://0", options=options),
    }
    for name, address in {
        "listen": "tcp://localhost:0",
        "connect": "tcp://127.0.0.1:1",
        "bind_datagram": "udp://127.0.0.1:0",
        "connect_datagram": "udp://127.0.0.1:1",
    }.items():
        found[name] = functools.partial(
            lambda name, address, options: getattr(net, name)(address, options=options), name, address
        )
        found[f"{name}, tasks"] = functools.partial(
            lambda name, address, options: in_loop(lambda: getattr(tasks, name)(address, options=options)),
            name,
            address,
        )
    return found


def in_loop(call: Callable[[], Any]) -> Any:
    async def main() -> Any:
        result = call()
        return await result if inspect.isawaitable(result) else result

    return asyncio.run(main())


@pytest.mark.parametrize("options", [{"nodelay": True}, {}, "nodelay", 0], ids=repr)
@pytest.mark.parametrize("entry", _entries())
def test_what_are_no_options(entry: str, options: Any) -> None:
    with pytest.raises(TypeError, match="SocketOptions"):
        _entries()[entry](options)
