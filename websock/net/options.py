"""The options of sockets, typed: set in the order in which they take effect, and read back as the kernel has them."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import functools
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

from .address import Address
from .errors import NotOnThisSystem, check_socket, explain

__all__ = ["SocketOptions", "Stage", "asked", "interface_index", "packed_linger"]

Stage: TypeAlias = Literal["bind", "connect", "connected", "accepted"]
"""When options are set: before a socket is bound (and listens), before it connects, after that; or once accepted."""

_LACKING: Final = frozenset({errno.ENOPROTOOPT, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)})
_MAY_NOT: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOENT})  # ENOENT: a congestion control not loaded
_CONGESTION: Final = "this kernel has none of that name: sysctl net.ipv4.tcp_available_congestion_control has those"
_MOST: Final = 2**31 - 1
_TIMEVAL: Final = "@ll"
_LINGER: Final = "hh" if os.name == "nt" else "ii"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SocketOptions:
    """What is asked of a socket. None leaves a thing as the system has it.

    Attributes:
        reuse_address: take an address that ended connections still hold (SO_REUSEADDR); for multicast, share one.
            By default listening sockets do, on POSIX.
        reuse_port: several sockets listen on one port, and the kernel shares the connections out (SO_REUSEPORT).
        v6_only: an IPv6 socket takes no IPv4 (RFC 3493 section 5.3). For IPv4 sockets it is nothing.
        device: the network interface that traffic is bound to (SO_BINDTODEVICE), by name.
        mark: a number from 0 to 2**32-1 for the routing and the firewall of Linux (SO_MARK; needs privileges).
        receive_buffer: octets that the kernel keeps for us (SO_RCVBUF). Set before listening and connecting, so
            that TCP offers a window of that scale (RFC 7323 section 2). Linux doubles what is set, and `of` says so.
        send_buffer: octets that wait to be sent (SO_SNDBUF).
        fast_open: data may come with the first packet (RFC 7413): how many such connections may wait at a listening
            socket; a connecting one does it for any number but 0.
        congestion: the name of TCP's congestion control (TCP_CONGESTION).
        ttl: hops of a packet, 1 to 255 (IP_TTL, IPV6_UNICAST_HOPS).
        tos: the whole octet of the class of service, 0 to 255 (IP_TOS, IPV6_TCLASS).
        dscp: its upper six bits alone, 0 to 63 (RFC 2474).
        nodelay: small messages go at once (TCP_NODELAY, RFC 9293 section 3.7.4). Nothing on what is not TCP.
        user_timeout: seconds that sent data may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482).
        keepalive: probe a silent peer (SO_KEEPALIVE, RFC 9293 section 3.8.4). On when one of the next three is given.
        keepalive_idle: seconds of silence before the first probe, 1 to 32767.
        keepalive_interval: seconds between probes, 1 to 32767.
        keepalive_count: probes without an answer that end the connection, 1 to 127.
        linger: seconds that close() waits for data on their way (SO_LINGER); 0 resets the connection.
        broadcast: datagrams may go to a broadcast address (SO_BROADCAST).
        multicast_ttl: hops of a multicast packet, 0 to 255; 0 stays on this host.
        multicast_loop: our own multicast packets come back to this host.
        multicast_interface: where multicast packets leave: a name, an index, or an IPv4 address of the interface.
        kernel_receive_timeout: seconds that a blocking system call waits for data (SO_RCVTIMEO). It fails with
            BlockingIOError then; the timeouts of a `Stream` are the better ones.
        kernel_send_timeout: seconds that it waits to send (SO_SNDTIMEO).
        quick_ack: acknowledge at once (TCP_QUICKACK), until the kernel finds that it should not.
        backlog: connections that wait to be accepted, 0 to 2**31-1; the kernel may allow fewer. Cannot be read back.
        optional: the fields that are left out where the system lacks them, where this process may not set them, or
            where they don't fit the kind of socket. Without, each of these is an error.

    Raises:
        TypeError: a field is of a wrong type.
        ValueError: a field is out of range, or `optional` names one that does not exist.
    """

    reuse_address: bool | None = None
    reuse_port: bool | None = None
    v6_only: bool | None = None
    device: str | None = None
    mark: int | None = None
    receive_buffer: int | None = None
    send_buffer: int | None = None
    fast_open: int | None = None
    congestion: str | None = None
    ttl: int | None = None
    tos: int | None = None
    dscp: int | None = None
    nodelay: bool | None = True
    user_timeout: float | None = None
    keepalive: bool | None = None
    keepalive_idle: int | None = None
    keepalive_interval: int | None = None
    keepalive_count: int | None = None
    linger: int | None = None
    broadcast: bool | None = None
    multicast_ttl: int | None = None
    multicast_loop: bool | None = None
    multicast_interface: str | int | None = None
    kernel_receive_timeout: float | None = None
    kernel_send_timeout: float | None = None
    quick_ack: bool | None = None
    backlog: int = 1024
    optional: frozenset[str] = frozenset()
    _given: tuple[tuple[str, Any], ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, option in _OPTIONS.items():
            option.check(name, getattr(self, name))
        _number(0, _MOST, "connections")("backlog", 0 if self.backlog is None else self.backlog)
        if self.backlog is None:
            raise TypeError("backlog is a number of connections, not None")
        if self.tos is not None and self.dscp is not None and self.tos >> 2 != self.dscp:
            raise ValueError(f"dscp is the upper six bits of tos: {self.dscp} is not in {self.tos}")
        if isinstance(self.optional, str):
            raise TypeError(f"optional is a set of names of fields, not {self.optional!r}")
        object.__setattr__(self, "optional", frozenset(self.optional))
        for name in self.optional:
            if name not in _OPTIONS:
                near = difflib.get_close_matches(name, _OPTIONS, 1) if isinstance(name, str) else ()
                raise ValueError(f"optional: there is no option {name!r}{f'; is it {near[0]!r}?' if near else ''}")
        values = {name: getattr(self, name) for name in _OPTIONS}
        if values["keepalive"] is None:
            times = {f"keepalive_{name}" for name in ("idle", "interval", "count") if values[f"keepalive_{name}"]}
            values["keepalive"] = True if times else None
            if times and times <= self.optional:
                object.__setattr__(self, "optional", self.optional | {"keepalive"})
        if self.tos is not None:
            values["dscp"] = None  # it is in it
        given = tuple((name, value) for name, value in values.items() if value is not None)
        object.__setattr__(self, "_given", given)  # once: accept() is short

    def __repr__(self) -> str:
        fields = (
            field for field in dataclasses.fields(self) if field.init and getattr(self, field.name) != field.default
        )
        return f"SocketOptions({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in fields)})"

    def apply(self, sock: socket.socket, *, stage: Stage, where: object = None) -> None:
        """Set what has its time at this stage.

        Args:
            sock: it stays open when this fails.
            stage: "bind" (before a socket is bound, and listens), "connect" (before it connects), "connected" (after
                that), "accepted". For datagrams, "bind" is before binding and "connect" where nothing is bound.
            where: what errors name; the socket's own address, without.

        Raises:
            NotOnThisSystem: this system lacks an option; the message names the field.
            ValueError: an option does not fit this kind of socket.
            OSError: the kernel refuses a value; the message names the field and the value.
        """
        kind = _kind(sock)
        if stage == "bind" and self.reuse_address is None and os.name == "posix" and kind.stream:
            _set(sock, kind, "reuse_address", True, stage, where)
        for name, value in self._given:
            if (name == "v6_only" and kind.internet and not kind.ipv6) or (name == "nodelay" and not kind.tcp):
                continue  # a host has both families, and what isn't TCP never waits
            if not _OPTIONS[name].due(kind, stage):
                continue
            try:
                _set(sock, kind, name, value, stage, where)
            except (NotOnThisSystem, ValueError):
                if name not in self.optional:
                    raise
            except OSError as error:
                if name in self.optional and error.errno in _MAY_NOT:
                    continue
                if stage == "accepted" and error.errno == errno.EINVAL and sys.platform != "linux":
                    return  # elsewhere that is a peer who is gone already; the first read tells it
                raise

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """What the kernel has for a socket: None where it has no such option or knows no value.

        Raises:
            OSError: it is closed.
            TypeError: no socket.
        """
        check_socket(sock)
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)  # a closed one is an error, not all None
        kind = _kind(sock)
        values: dict[str, Any] = {"nodelay": None}
        stage: Stage = "connect"
        with contextlib.suppress(OSError, AttributeError):
            stage = "bind" if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else "connect"
        for name, option in _OPTIONS.items():
            numbers = option.numbers(kind, stage) if getattr(kind, option.fits) else None
            if numbers is None:
                continue
            with contextlib.suppress(OSError, TypeError, ValueError):  # what it has may be outside of what one sets
                raw = sock.getsockopt(*numbers, option.size) if option.size else sock.getsockopt(*numbers)
                index = name == "multicast_interface" and kind.ipv6  # and no IPv4 address
                value = (raw or None) if index else option.unpack(raw)
                option.check(name, value)
                values[name] = value
        return cls(**values)

    def replace(self, **fields: Any) -> Self:
        """The same with other fields."""
        return dataclasses.replace(self, **fields)


def interface_index(interface: str | int) -> int:
    """The number of a network interface, of its name or of that number itself.

    Raises:
        OSError: there is no such interface; the message names it.
    """
    try:
        if isinstance(interface, int) or interface.isdecimal():
            socket.if_indextoname(int(interface))
            return int(interface)
        return socket.if_nametoindex(interface)
    except (OSError, OverflowError):
        raise OSError(errno.ENODEV, f"there is no network interface {interface!r}") from None


def _set(sock: socket.socket, kind: _Kind, name: str, value: Any, stage: Stage, where: object) -> None:
    option = _OPTIONS[name]
    if not getattr(kind, option.fits):
        raise ValueError(f"{name} is no option of {_spell(sock, where)}")
    numbers = option.numbers(kind, stage)
    if numbers is None:
        raise NotOnThisSystem(name)
    try:
        if name == "multicast_interface":
            packed = _interface(sock, value)
        elif name == "fast_open" and stage != "bind":
            packed = int(value > 0)
        else:
            packed = option.pack(value)
        sock.setsockopt(*numbers, packed)
    except OSError as error:
        if error.errno in _LACKING:
            raise NotOnThisSystem(name) from error
        advice = _CONGESTION if name == "congestion" and error.errno == errno.ENOENT else None
        raise explain(error, f"set {name}={value!r} on", _spell(sock, where), advice=advice) from None


def _spell(sock: socket.socket, where: object) -> object:
    if where is not None:
        return where
    with contextlib.suppress(OSError, ValueError):
        return Address.of(sock)
    return "a closed socket" if sock.fileno() < 0 else f"a socket of family {sock.family}"


class _Kind(NamedTuple):
    """What a socket is, as far as options go."""

    any: bool
    internet: bool
    ipv6: bool
    stream: bool
    tcp: bool
    datagram: bool
    lasting: bool  # it has nothing but itself: no connection comes of it later


def _kind(sock: socket.socket) -> _Kind:
    return _kind_of(sock.family, sock.type, sock.proto)


@functools.cache
def _kind_of(family: int, kind: int, protocol: int) -> _Kind:
    internet = family in (socket.AF_INET, socket.AF_INET6)
    stream = internet and kind == socket.SOCK_STREAM
    lasting = kind in (socket.SOCK_DGRAM, socket.SOCK_RAW)
    return _Kind(
        any=True,
        internet=internet,
        ipv6=family == socket.AF_INET6,
        stream=stream,
        tcp=stream and protocol != getattr(socket, "IPPROTO_SCTP", 132),
        datagram=internet and lasting,
        lasting=lasting,
    )


# What a value may be.


def _flag(name: str, value: Any) -> None:
    if value is not None and type(value) is not bool:
        raise TypeError(f"{name} is True, False or None, not {value!r}")


def _number(low: int, high: int, unit: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value is None:
            return
        if type(value) is not int:
            raise TypeError(f"{name} is a whole number of {unit}, not {value!r}")
        if not low <= value <= high:
            raise ValueError(f"{name} is {low} to {high} {unit}, not {value}")

    return check


def _seconds(low: float, high: float) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value is None:
            return
        if type(value) not in (int, float):
            raise TypeError(f"{name} is a number of seconds, not {value!r}")
        if not low <= value <= high:
            raise ValueError(f"{name} is {low} to {high} seconds, not {value}")

    return check


def _name(name: str, value: Any) -> None:
    if value is None:
        return
    if type(value) is not str:
        raise TypeError(f"{name} is a name, not {value!r}")
    if not (1 <= len(os.fsencode(value)) <= 15 and value.isprintable() and not set(value) & set("/ ")):
        raise ValueError(f"{name} is a name of 1 to 15 octets, not {value!r}")


def _name_or_index(name: str, value: Any) -> None:
    if type(value) is int:
        return _number(1, _MOST, "as the index of an interface")(name, value)
    return _name(name, value)


# How the kernel has it.


def _same(value: Any) -> Any:
    return value


def _pack_time(seconds: float) -> bytes | int:
    if os.name == "nt":
        return round(seconds * 1000)
    return struct.pack(_TIMEVAL, *divmod(round(seconds * 1_000_000), 1_000_000))


def _unpack_time(raw: Any) -> float | None:
    if isinstance(raw, int):
        return raw / 1000 or None
    whole, part = struct.unpack(_TIMEVAL, raw)
    return (whole + part / 1_000_000) or None


def packed_linger(seconds: int) -> bytes:
    """What SO_LINGER takes: on, for that many seconds; after 0 TCP resets the connection."""
    return struct.pack(_LINGER, 1, seconds)


def _unpack_linger(raw: bytes) -> int | None:
    on, seconds = struct.unpack(_LINGER, raw)
    return seconds if on else None


def _unpack_name(raw: bytes) -> str | None:
    return os.fsdecode(raw.split(b"\0", 1)[0]) or None


def _interface(sock: socket.socket, interface: str | int) -> bytes | int:
    """What names an interface to the kernel: an index for IPv6; for IPv4 an address, or all of ``ip_mreqn``."""
    if sock.family == socket.AF_INET6:
        return interface_index(interface)
    with contextlib.suppress(OSError, TypeError):
        return socket.inet_pton(socket.AF_INET, interface)  # type: ignore[arg-type]  # an index is a TypeError, which goes on below
    return struct.pack("@4s4si", b"", b"", interface_index(interface))


def _unpack_interface(raw: int) -> str | None:
    """The address of the interface; one that was given by its index has none (Linux keeps it to itself)."""
    return socket.inet_ntoa(struct.pack("@i", raw)) if raw else None


class _Option(NamedTuple):
    """How a field goes to the kernel.

    Attributes:
        names: level and name, as the socket module has them; where there are two, the second is for IPv6.
            ``A|B`` is the first that the system has.
        fits: which sockets can have it.
        check: raises what the constructor raises.
        stages: when it is set.
        pack: value to what ``setsockopt`` takes.
        unpack: the other way.
        size: octets to read, 0 for an int.
    """

    names: tuple[str, ...]
    fits: Literal["any", "internet", "ipv6", "stream", "tcp", "datagram"]
    check: Callable[[str, Any], None]
    stages: frozenset[Stage]
    pack: Callable[[Any], Any] = _same
    unpack: Callable[[Any], Any] = _same
    size: int = 0

    def due(self, kind: _Kind, stage: Stage) -> bool:
        """Whether this stage is its time."""
        if stage == "bind" and self.stages is _CONNECTION:
            # On a listening socket these wait until there is a connection: accept() itself would run into the
            # timeouts. A datagram socket has no later.
            return kind.lasting
        return stage in self.stages

    def numbers(self, kind: _Kind, stage: Stage) -> tuple[int, int] | None:
        """Level and option; None where this system has no name for them."""
        spelling = self.names[-1 if kind.ipv6 else 0]
        if spelling == "IPPROTO_TCP TCP_FASTOPEN" and stage != "bind":
            spelling = "IPPROTO_TCP TCP_FASTOPEN_CONNECT"
        level, _, names = spelling.partition(" ")
        for name in names.split("|"):
            number = getattr(socket, name, _UNNAMED.get(name) if sys.platform == "linux" else None)
            if number is not None:
                return getattr(socket, level), number
        return None


_TIME_SIZE: Final = 0 if os.name == "nt" else struct.calcsize(_TIMEVAL)
_UNNAMED: Final = {"TCP_FASTOPEN_CONNECT": 30}  # of Linux (linux/tcp.h), without a name in the socket module
_BEFORE: Final[frozenset[Stage]] = frozenset({"bind", "connect"})
_INHERITED: Final[frozenset[Stage]] = frozenset({"bind", "connect", "accepted"})  # by accepted sockets, not everywhere
_CONNECTION: Final[frozenset[Stage]] = frozenset({"connect", "accepted"})
_AFTER: Final[frozenset[Stage]] = frozenset({"connected", "accepted"})

# The order is that in which they are set.
_OPTIONS: Final[dict[str, _Option]] = {
    "reuse_address": _Option(("SOL_SOCKET SO_REUSEADDR",), "internet", _flag, _BEFORE, int, bool),
    "reuse_port": _Option(("SOL_SOCKET SO_REUSEPORT",), "internet", _flag, _BEFORE, int, bool),
    "v6_only": _Option(("IPPROTO_IPV6 IPV6_V6ONLY",), "ipv6", _flag, _BEFORE, int, bool),
    "device": _Option(("SOL_SOCKET SO_BINDTODEVICE",), "internet", _name, _BEFORE, os.fsencode, _unpack_name, 16),
    "mark": _Option(
        ("SOL_SOCKET SO_MARK",),
        "internet",
        _number(0, 2**32 - 1, "as a mark"),
        _BEFORE,
        lambda mark: struct.pack("@I", mark),
        lambda mark: mark & 0xFFFFFFFF,
    ),
    "receive_buffer": _Option(("SOL_SOCKET SO_RCVBUF",), "any", _number(1, _MOST, "octets"), _BEFORE),
    "send_buffer": _Option(("SOL_SOCKET SO_SNDBUF",), "any", _number(1, _MOST, "octets"), _BEFORE),
    "fast_open": _Option(("IPPROTO_TCP TCP_FASTOPEN",), "tcp", _number(0, 65535, "connections"), _BEFORE),
    "congestion": _Option(("IPPROTO_TCP TCP_CONGESTION",), "tcp", _name, _INHERITED, os.fsencode, _unpack_name, 16),
    "ttl": _Option(
        ("IPPROTO_IP IP_TTL", "IPPROTO_IPV6 IPV6_UNICAST_HOPS"), "internet", _number(1, 255, "hops"), _INHERITED
    ),
    "tos": _Option(
        ("IPPROTO_IP IP_TOS", "IPPROTO_IPV6 IPV6_TCLASS"), "internet", _number(0, 255, "as an octet"), _INHERITED
    ),
    "dscp": _Option(
        ("IPPROTO_IP IP_TOS", "IPPROTO_IPV6 IPV6_TCLASS"),
        "internet",
        _number(0, 63, "as a code point"),
        _INHERITED,
        lambda dscp: dscp << 2,
        lambda tos: tos >> 2,
    ),
    "nodelay": _Option(("IPPROTO_TCP TCP_NODELAY",), "tcp", _flag, _INHERITED, int, bool),
    "user_timeout": _Option(
        ("IPPROTO_TCP TCP_USER_TIMEOUT",),
        "tcp",
        _seconds(0.001, _MOST // 1000),
        _INHERITED,
        lambda seconds: round(seconds * 1000),
        lambda milliseconds: milliseconds / 1000 or None,
    ),
    "keepalive_idle": _Option(
        ("IPPROTO_TCP TCP_KEEPIDLE|TCP_KEEPALIVE",), "tcp", _number(1, 32767, "seconds"), _INHERITED
    ),
    "keepalive_interval": _Option(("IPPROTO_TCP TCP_KEEPINTVL",), "tcp", _number(1, 32767, "seconds"), _INHERITED),
    "keepalive_count": _Option(("IPPROTO_TCP TCP_KEEPCNT",), "tcp", _number(1, 127, "probes"), _INHERITED),
    "keepalive": _Option(("SOL_SOCKET SO_KEEPALIVE",), "stream", _flag, _INHERITED, int, bool),
    "linger": _Option(
        ("SOL_SOCKET SO_LINGER",),
        "stream",
        _number(0, 32767, "seconds"),
        _CONNECTION,
        packed_linger,
        _unpack_linger,
        struct.calcsize(_LINGER),
    ),
    "broadcast": _Option(("SOL_SOCKET SO_BROADCAST",), "datagram", _flag, _BEFORE, int, bool),
    "multicast_ttl": _Option(
        ("IPPROTO_IP IP_MULTICAST_TTL", "IPPROTO_IPV6 IPV6_MULTICAST_HOPS"),
        "datagram",
        _number(0, 255, "hops"),
        _BEFORE,
    ),
    "multicast_loop": _Option(
        ("IPPROTO_IP IP_MULTICAST_LOOP", "IPPROTO_IPV6 IPV6_MULTICAST_LOOP"), "datagram", _flag, _BEFORE, int, bool
    ),
    "multicast_interface": _Option(
        ("IPPROTO_IP IP_MULTICAST_IF", "IPPROTO_IPV6 IPV6_MULTICAST_IF"),
        "datagram",
        _name_or_index,
        _BEFORE,
        _same,
        _unpack_interface,
    ),
    "kernel_receive_timeout": _Option(
        ("SOL_SOCKET SO_RCVTIMEO",), "any", _seconds(0.001, 1e9), _CONNECTION, _pack_time, _unpack_time, _TIME_SIZE
    ),
    "kernel_send_timeout": _Option(
        ("SOL_SOCKET SO_SNDTIMEO",), "any", _seconds(0.001, 1e9), _CONNECTION, _pack_time, _unpack_time, _TIME_SIZE
    ),
    "quick_ack": _Option(("IPPROTO_TCP TCP_QUICKACK",), "tcp", _flag, _AFTER, int, bool),
}


_DEFAULTS: Final = SocketOptions()


def asked(options: SocketOptions | None) -> SocketOptions:
    """The options that somebody gave: None is the defaults.

    Raises:
        TypeError: they are none, such as a dict.
    """
    if options is None:
        return _DEFAULTS
    if not isinstance(options, SocketOptions):
        raise TypeError(f"options are SocketOptions(name=value, ...), not {options!r}")
    return options
