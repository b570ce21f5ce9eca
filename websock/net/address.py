"""Addresses of sockets: one spelling for all kinds of them (see `Address`), without asking anybody what they mean.

What a name means is found in ``resolving.py``.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import socket
from typing import Final, Self

from .errors import AddressError, NotOnThisSystem

__all__ = ["SCHEMES", "Address"]

_INTERNET: Final = ("tcp", "tls", "udp", "sctp")
_UNIX: Final = ("unix", "unixgram", "unixpacket")
SCHEMES: Final = (*_INTERNET, *_UNIX, "fd", "bluetooth")

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_DEVICE = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_MOST_PATH: Final = 107  # octets: what sun_path takes on Linux beside its NUL; other systems take a few less


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a socket is, or is to be.

    ::

        tcp://localhost:8080    tls://example.org:443   udp://[fe80::1%eth0]:5353   tcp://*:http
        unix:///run/app.sock    unix:@abstract          unixgram:relative.sock      unixpacket:///run/app.seq
        fd://3                  sctp://host:9           bluetooth://00:11:22:33:44:55:1

    `Address.parse` reads these, ``str`` writes them. A port is a number or the name of a service. ``*`` is every
    address of this host, ``0.0.0.0`` and ``[::]`` those of one family. ``fd://`` is a descriptor that is open.

    Attributes:
        scheme: what is before the first colon, as above.
        host: a name, an IPv4 or an IPv6 address without brackets, a Bluetooth device; ``""`` is every address.
        port: 0 to 65535; 0 lets the system choose. Of Bluetooth, the channel.
        scope: the interface of a link-local IPv6 address (RFC 4007): its name or number.
        path: of a Unix socket; one that begins with NUL is in Linux' abstract name space; ``""`` has no name.
        fd: the descriptor of ``fd://``; -1 without.

    Raises:
        ValueError: a field has a value that no address has.
    """

    scheme: str
    host: str = ""
    port: int = 0
    scope: str = ""
    path: str = ""
    fd: int = -1

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"an address is one of {', '.join(SCHEMES)}, not {self.scheme!r}")
        if type(self.port) is not int or not 0 <= self.port < 65536:
            raise ValueError(f"a port is a number from 0 to 65535, not {self.port!r}")
        if self.scheme == "fd" and (type(self.fd) is not int or self.fd < 0):
            raise ValueError(f"a descriptor is a number from 0, not {self.fd!r}")
        if "\0" in self.host or ("\0" in self.path and not self.path.startswith("\0")):
            raise ValueError("an address has no NUL in it")  # but for abstract names, which some pad with them

    @classmethod
    def parse(cls, text: str | Self) -> Self:
        """Read an address; one that is read stays as it is.

        Raises:
            AddressError: it is none; with the place where that shows.
            TypeError: not a string.
        """
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise TypeError(f"an address is a str or an Address, not {type(text).__name__}")
        for index, character in enumerate(text):
            if character <= " " or character == "\x7f" or "\ud800" <= character <= "\udfff":
                raise AddressError(text, f"{character!r} in it", index)
        scheme, colon, rest = text.partition(":")
        if not colon:
            raise AddressError(text, f"it begins with one of {', '.join(SCHEMES)} and a colon", 0)
        start = len(scheme) + 1
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            known = f"it is one of {', '.join(SCHEMES)}, such as tcp://HOST:PORT"
            if scheme in ("ws", "wss"):
                known = "WebSocket is spoken by websock.connect() and websock.serve(), sockets are " + known[6:]
            raise AddressError(text, f"unknown scheme: {known}", 0)
        if scheme in _UNIX:
            return cls(scheme, path=_path(text, rest, start))
        if not rest.startswith("//"):
            raise AddressError(text, f"// follows {scheme}:", start)
        rest, start = rest[2:], start + 2
        if scheme == "fd":
            if not (rest.isascii() and rest.isdigit()):
                raise AddressError(text, "a descriptor is a number", start)
            if len(rest) > 9:
                raise AddressError(text, "there is no such descriptor", start)
            return cls(scheme, fd=int(rest))
        if scheme == "bluetooth":
            return cls._bluetooth(text, rest, start)
        return cls._internet(text, scheme, rest, start)

    @classmethod
    def _internet(cls, text: str, scheme: str, rest: str, start: int) -> Self:
        scope = ""
        if "@" in rest.partition("[")[0]:
            raise AddressError(text, "a user and a password have no place in an address", start)
        if rest.startswith("["):
            end = rest.find("]")
            if end < 0:
                raise AddressError(text, "the bracket is not closed", start)
            host, percent, scope = rest[1:end].partition("%")
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                raise AddressError(text, "not an IPv6 address between the brackets", start + 1) from None
            if percent and not scope:
                raise AddressError(text, "an interface follows %", start + 1 + len(host))
            colon, port = rest[end + 1 : end + 2], rest[end + 2 :]
            at = start + end + 1
        else:
            host, colon, port = rest.partition(":")
            at = start + len(host)
            if ":" in port and not host.isdigit():
                raise AddressError(text, "an IPv6 address stands in brackets", start)
            _check_host(text, host, start)
        if colon != ":":
            raise AddressError(text, "a colon and a port follow the host", at)
        return cls(scheme, "" if host == "*" else host, _port(text, port, at + 1, scheme), scope)

    @classmethod
    def _bluetooth(cls, text: str, rest: str, start: int) -> Self:
        device, colon, channel = rest.rpartition(":")
        if not _DEVICE.fullmatch(device):
            raise AddressError(text, "a device is six octets in hexadecimal, and a channel follows", start)
        return cls("bluetooth", device, _port(text, channel, start + len(device) + len(colon), "tcp"))

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Where a socket is: its own end.

        Raises:
            OSError: it is closed.
        """
        return cls._of(sock, sock.getsockname())

    @classmethod
    def of_peer(cls, sock: socket.socket) -> Self:
        """Where the peer of a connected socket is.

        Raises:
            OSError: it is closed, or not connected.
        """
        return cls._of(sock, sock.getpeername())

    @classmethod
    def _of(cls, sock: socket.socket, name: object) -> Self:
        return cls.from_sockaddr(name, sock.family, sock.type, sock.proto)

    @classmethod
    def from_sockaddr(cls, name: object, family: int, kind: int, protocol: int = 0) -> Self:
        """An address as the ``socket`` module gives it, for a socket of that family and kind.

        Raises:
            ValueError: it is of a family that has no spelling here.
        """
        if family in (socket.AF_INET, socket.AF_INET6):
            assert isinstance(name, tuple)  # noqa: S101 - for the type checker
            sctp = protocol == getattr(socket, "IPPROTO_SCTP", 132)
            scheme = "sctp" if sctp else "udp" if kind == socket.SOCK_DGRAM else "tcp"
            host, _, scope = str(name[0]).partition("%")
            if not scope and len(name) > 3 and name[3]:
                scope = _interface(name[3])
            return cls(scheme, host, name[1], scope)
        if family == getattr(socket, "AF_UNIX", None):
            path = os.fsdecode(name) if isinstance(name, bytes) else str(name or "")
            kinds = {socket.SOCK_DGRAM: "unixgram", getattr(socket, "SOCK_SEQPACKET", -1): "unixpacket"}
            return cls(kinds.get(socket.SocketKind(kind), "unix"), path=path)
        if family == getattr(socket, "AF_BLUETOOTH", None):
            assert isinstance(name, tuple)  # noqa: S101 - for the type checker
            return cls("bluetooth", str(name[0]), int(name[1]))
        raise ValueError(f"sockets of family {family} have no spelling")

    def __str__(self) -> str:
        if self.scheme == "fd":
            return f"fd://{self.fd}"
        if self.is_unix:
            if self.path.startswith("\0"):
                return f"{self.scheme}:@{self.path[1:]}"
            return f"{self.scheme}:{'//' if self.path[:1] == '/' else './' if self.path[:1] == '@' else ''}{self.path}"
        host = self.host or "*"
        if ":" in host and self.scheme != "bluetooth":
            host = f"[{host}{'%' if self.scope else ''}{self.scope}]"
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_unix(self) -> bool:
        """Whether it is of a Unix socket."""
        return self.scheme in _UNIX

    @property
    def is_any(self) -> bool:
        """Whether the host is every address of this one: of both families, or of one (``0.0.0.0``, ``[::]``)."""
        return self.host in ("", "0.0.0.0", "::")  # noqa: S104 - it is compared

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme == "tls"

    @property
    def kind(self) -> socket.SocketKind:
        """The kind of the sockets there: stream, datagram or sequence of packets.

        Raises:
            NotOnThisSystem: it has no such sockets.
        """
        if self.scheme in ("udp", "unixgram"):
            return socket.SOCK_DGRAM
        if self.scheme == "unixpacket":
            if not hasattr(socket, "SOCK_SEQPACKET"):
                raise NotOnThisSystem("unixpacket")
            return socket.SOCK_SEQPACKET
        return socket.SOCK_STREAM

    @property
    def protocol(self) -> int:
        """The number of its protocol, for ``socket.socket``; 0 where there is only one."""
        match self.scheme:
            case "tcp" | "tls":
                return socket.IPPROTO_TCP
            case "udp":
                return socket.IPPROTO_UDP
            case "sctp":
                return getattr(socket, "IPPROTO_SCTP", 132)
            case "bluetooth":
                return getattr(socket, "BTPROTO_RFCOMM", 3)
        return 0

    def replace(self, **fields: object) -> Self:
        """The same with other fields."""
        return dataclasses.replace(self, **fields)  # type: ignore[arg-type]  # the fields are checked when it is made


def _path(text: str, rest: str, start: int) -> str:
    if rest.startswith("//"):
        if not rest.startswith("///"):
            raise AddressError(text, "a path after // begins with a third /", start + 2)
        rest = rest[2:]
    if not rest or rest == "@":
        raise AddressError(text, "a path, or @ and a name, follows", start)
    path = "\0" + rest[1:] if rest.startswith("@") else rest
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError as error:
        at = len(text) - len(path) + error.start
        raise AddressError(text, "the file system's encoding does not have it", at) from None
    if length > _MOST_PATH:
        raise AddressError(text, f"a path has at most {_MOST_PATH} octets, not {length}", start)
    return path


def _check_host(text: str, host: str, start: int) -> None:
    if host == "*":
        return
    if not host:
        raise AddressError(text, "a host is missing; * is every address of this one", start)
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise AddressError(text, "not an IPv4 address", start) from None
        return
    for index, character in enumerate(host):
        if character.isspace():
            raise AddressError(text, f"{character!r} in it", start + index)
    at = start
    name = host.removesuffix(".")
    if len(name) > 253:
        raise AddressError(text, "a host name has at most 253 characters", start)
    for label in name.split("."):
        if label.isascii() and not _LABEL.fullmatch(label):
            raise AddressError(text, f"{label!r} is no part of a host name" if label else "two dots in a row", at)
        at += len(label) + 1


def _port(text: str, port: str, at: int, scheme: str) -> int:
    if port.isascii() and port.isdigit():
        if len(port) > 5 or int(port) > 65535:
            raise AddressError(text, "a port is at most 65535", at)
        return int(port)
    number, slash, _ = port.partition("/")
    if slash and number.isascii() and number.isdigit():
        raise AddressError(text, "nothing follows the port", at + len(number))
    if not port:
        raise AddressError(text, "a port is missing; 0 lets the system choose", at)
    if not _SERVICE.fullmatch(port):
        raise AddressError(text, "a port is a number or the name of a service", at)
    try:
        return socket.getservbyname(port.lower(), "udp" if scheme == "udp" else "tcp")
    except OSError:
        raise AddressError(text, f"there is no service {port!r}", at) from None


def _interface(number: int) -> str:
    try:
        return socket.if_indextoname(number)
    except (OSError, AttributeError):
        return str(number)
