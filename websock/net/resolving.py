"""What an address means: the system's name service asked, and its answers in the order to try them."""

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from .address import Address
from .errors import NotOnThisSystem, explain
from .options import interface_index

__all__ = ["CONNECTION_ATTEMPT_DELAY", "Target", "asks_names", "interleave", "resolve"]

CONNECTION_ATTEMPT_DELAY: Final = 0.25
"""Seconds before the next address is tried beside one that doesn't answer yet (RFC 8305 section 5)."""

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where who listens at every address is found


class Target(NamedTuple):
    """One way to reach an address.

    Attributes:
        family: ``socket.AF_INET``, ``AF_INET6``, ``AF_UNIX``, ...
        kind: ``socket.SOCK_STREAM``, ...
        protocol: for ``socket.socket``; 0 where there is only one.
        sockaddr: what ``bind`` and ``connect`` take; of ``fd://``, the descriptor.
    """

    family: int
    kind: int
    protocol: int
    sockaddr: Any


def asks_names(address: Address) -> bool:
    """Whether `resolve` may have to ask others, and so may take long."""
    return bool(_internet(address) and address.host and not _numeric(address.host))


def resolve(address: str | Address, *, passive: bool = False, family: int = 0) -> list[Target]:
    """The ways to reach an address, each once, in the order of the system's preference (RFC 6724).

    Blocks while a name is looked up (see `asks_names`).

    Args:
        address: see `Address`.
        passive: to listen or to bind: ``*`` is every address of this host. Otherwise it is this host (loopback), as
            ``0.0.0.0`` and ``[::]`` are.
        family: only ``socket.AF_INET`` or ``AF_INET6``; 0 is both. Of no meaning to other kinds of addresses.

    Raises:
        AddressError: it is no address.
        socket.gaierror: no host has that name, or none in that family.
        NotOnThisSystem: this system has no such sockets.
        OSError: there is no such network interface (of a scope), no such descriptor; the message names the address.
    """
    address = Address.parse(address)
    if address.is_unix:
        return [_unix(address)]
    if address.scheme == "fd":
        return [_descriptor(address)]
    if address.scheme == "bluetooth":
        found = getattr(socket, "AF_BLUETOOTH", None)
        return [_probed(address, found, (address.host, address.port))]
    targets = list(dict.fromkeys(_ask(address, passive, family)))
    if address.scheme == "sctp":
        _probed(address, targets[0].family, targets[0].sockaddr)
    return targets


def interleave(targets: Iterable[Target]) -> list[Target]:
    """The families of the targets in turns, beginning with that of the first (RFC 8305 section 4)."""
    families: dict[int, list[Target]] = {}
    for target in targets:
        families.setdefault(target.family, []).append(target)
    rounds = itertools.zip_longest(*families.values())
    return [target for targets_of_round in rounds for target in targets_of_round if target is not None]


def _ask(address: Address, passive: bool, family: int) -> list[Target]:
    flags = socket.AI_PASSIVE if passive else 0
    if _numeric(address.host):
        flags |= socket.AI_NUMERICHOST
    try:
        scope = interface_index(address.scope) if address.scope else 0
        infos = socket.getaddrinfo(
            (address.host if passive else _LOOPBACK.get(address.host, address.host)) or None,
            address.port,
            family,
            address.kind,
            socket.IPPROTO_TCP if address.kind == socket.SOCK_STREAM else address.protocol,
            flags,
        )
    except UnicodeError:
        error = socket.gaierror(socket.EAI_NONAME, "not a host name")
        raise explain(error, "resolve", address) from None
    except OSError as error:
        raise explain(error, "resolve", address) from None
    targets = []
    for found, kind, _, _, sockaddr in infos:
        if found == socket.AF_INET6 and scope:
            sockaddr = (*sockaddr[:3], scope)
        targets.append(Target(found, kind, address.protocol, sockaddr))
    return targets


def _unix(address: Address) -> Target:
    abstract = address.path.startswith("\0")
    if not hasattr(socket, "AF_UNIX") or (abstract and sys.platform != "linux"):
        raise NotOnThisSystem(str(address))
    return Target(socket.AF_UNIX, address.kind, 0, address.path)


def _descriptor(address: Address) -> Target:
    """Family and kind of a descriptor that stays whose it is."""
    try:
        sock = socket.socket(fileno=address.fd)
    except OSError as error:
        raise explain(error, "use", address) from None
    target = Target(sock.family, sock.type, sock.proto, address.fd)
    sock.detach()
    return target


def _probed(address: Address, family: int | None, sockaddr: Any) -> Target:
    """A target of a family that few systems have: asked, because the socket module does not know."""
    if family is None:
        raise NotOnThisSystem(str(address))
    try:
        socket.socket(family, address.kind, address.protocol).close()
    except OSError as error:
        raise NotOnThisSystem(str(address)) from error
    return Target(family, address.kind, address.protocol, sockaddr)


def _internet(address: Address) -> bool:
    return not address.is_unix and address.scheme not in ("fd", "bluetooth")


def _numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
