"""Groups of multicast: joining and leaving them (RFC 3678), for one socket.

Who sends to a group need not be in it. How far that goes, by which interface, and whether this host hears itself
are options of the sending socket: ``multicast_ttl``, ``multicast_interface`` and ``multicast_loop``.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys
from typing import Final, TypeAlias

from .address import Address
from .errors import NotOnThisSystem, explain
from .options import interface_index

__all__ = ["Interface", "join", "leave"]

Interface: TypeAlias = str | int
"""A network interface: its name, its number, or (IPv4 only) an address that it has."""

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_LINUX: Final = sys.platform == "linux"
# Not in Python's socket module, or only later than 3.11; from linux/in.h and linux/in6.h.
_IP_ADD_SOURCE_MEMBERSHIP: Final = 39
_IP_DROP_SOURCE_MEMBERSHIP: Final = 40
_MCAST_JOIN_SOURCE_GROUP: Final = 46
_MCAST_LEAVE_SOURCE_GROUP: Final = 47
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29


def join(
    sock: socket.socket, group: str | Address, *, interface: Interface | None = None, source: str | None = None
) -> None:
    """Receive what is sent to `group`, as far as its port is that of `sock`.

    Linux gives a socket what comes for the groups of *all* sockets of the host; after this one it does so no more.

    Args:
        group: an address in 224.0.0.0/4 or ff00::/8, of the family of `sock`; an IPv6 one may end in ``%interface``.
        interface: where to listen for it; without, the system follows its routes.
        source: take only what this address sends (source-specific multicast, RFC 4607).

    Raises:
        NotOnThisSystem: it has no source-specific multicast, or no API of it that we know.
        OSError: no such interface, no route to the group, in it already; the message says so.
        ValueError: not a group, or of another family.
    """
    _change(sock, group, interface, source, joining=True)
    for level, option in ((socket.IPPROTO_IP, _IP_MULTICAST_ALL), (socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL)):
        if _LINUX and (level == socket.IPPROTO_IPV6) == (sock.family == socket.AF_INET6):
            try:
                sock.setsockopt(level, option, 0)
            except OSError:
                pass  # IPv6 has it since Linux 4.20


def leave(
    sock: socket.socket, group: str | Address, *, interface: Interface | None = None, source: str | None = None
) -> None:
    """Undo `join`, which had the same arguments; closing the socket does it too.

    Raises:
        OSError: it is not in that group; and as `join`.
        ValueError: as `join`.
    """
    _change(sock, group, interface, source, joining=False)


def _change(
    sock: socket.socket, group: str | Address, interface: Interface | None, source: str | None, *, joining: bool
) -> None:
    ip, scope = _group(sock, group)
    interface = interface if interface is not None else scope
    doing = "join" if joining else "leave"
    where = f"{ip}{'' if interface is None else f' on {interface}'}{'' if source is None else f' from {source}'}"
    request = _plain(ip, interface, joining) if source is None else _specific(ip, interface, source, joining)
    level = socket.IPPROTO_IP if ip.version == 4 else socket.IPPROTO_IPV6
    try:
        sock.setsockopt(level, *request)
    except OSError as error:
        said = {
            errno.EADDRINUSE: "it is in that group already",
            errno.EADDRNOTAVAIL: "that is no group of this interface" if joining else "it is not in that group",
            errno.ENOBUFS: "too many groups: the system's limit is net.ipv4.igmp_max_memberships on Linux",
        }.get(error.errno or 0)
        if said is None:
            raise explain(error, doing, where) from None
        raise type(error)(error.errno, f"can't {doing} {where}: {os.strerror(error.errno or 0)} ({said})") from None


def _group(sock: socket.socket, group: str | Address) -> tuple[_IP, str | None]:
    """The group's address, and the interface that stands in it."""
    text, scope = (group.host, group.scope) if isinstance(group, Address) else (group, "")
    if not scope:
        text, _, scope = text.partition("%")
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"a group is an IPv4 or IPv6 address, not {group!s}") from None
    if not ip.is_multicast:
        raise ValueError(f"a group is in 224.0.0.0/4 or ff00::/8, and {ip} is not")
    _check_family(sock.family == socket.AF_INET, sock.family == socket.AF_INET6, ip, "this socket")
    return ip, scope or None


def _check_family(four: bool, six: bool, ip: _IP, whose: str) -> None:
    if not (four if ip.version == 4 else six):
        raise ValueError(f"{ip} is IPv{ip.version}, and {whose} is not")


def _plain(ip: _IP, interface: Interface | None, joining: bool) -> tuple[int, bytes]:
    if ip.version == 6:
        index = 0 if interface is None else interface_index(interface)
        return (
            socket.IPV6_JOIN_GROUP if joining else socket.IPV6_LEAVE_GROUP,
            ip.packed + struct.pack("@I", index),  # struct ipv6_mreq
        )
    option = socket.IP_ADD_MEMBERSHIP if joining else socket.IP_DROP_MEMBERSHIP
    if (address := _address_of(interface)) is not None:
        return option, ip.packed + address  # struct ip_mreq
    assert interface is not None  # noqa: S101 - it has an address otherwise
    index = interface_index(interface)
    if os.name == "nt":
        return option, ip.packed + struct.pack("!I", index)  # an address 0.0.0.n is the number of an interface there
    return option, ip.packed + struct.pack("@4si", bytes(4), index)  # struct ip_mreqn


def _specific(ip: _IP, interface: Interface | None, source: str, joining: bool) -> tuple[int, bytes]:
    if not _LINUX:
        raise NotOnThisSystem("source-specific multicast")
    try:
        sender = ipaddress.ip_address(source)
    except ValueError:
        raise ValueError(f"a source is an IPv4 or IPv6 address, not {source!r}") from None
    _check_family(ip.version == 4, ip.version == 6, sender, f"the group {ip}")
    if ip.version == 4 and (address := _address_of(interface)) is not None:
        return (
            _IP_ADD_SOURCE_MEMBERSHIP if joining else _IP_DROP_SOURCE_MEMBERSHIP,
            ip.packed + address + sender.packed,  # struct ip_mreq_source; other systems have another order
        )
    index = 0 if interface is None else interface_index(interface)
    return (
        _MCAST_JOIN_SOURCE_GROUP if joining else _MCAST_LEAVE_SOURCE_GROUP,
        # struct group_source_req: what follows the index is aligned as a pointer.
        struct.pack("@I0P128s128s", index, _sockaddr(ip), _sockaddr(sender)),
    )


def _address_of(interface: Interface | None) -> bytes | None:
    """The IPv4 address that names an interface, or leaves it to the system; None for one with a name or number."""
    if interface is None:
        return bytes(4)
    try:
        return ipaddress.IPv4Address(interface).packed if isinstance(interface, str) else None
    except ValueError:
        return None


def _sockaddr(ip: _IP) -> bytes:
    if ip.version == 4:
        return struct.pack("@HH4s", socket.AF_INET, 0, ip.packed)
    return struct.pack("@HHI16sI", socket.AF_INET6, 0, 0, ip.packed, 0)
