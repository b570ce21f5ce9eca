"""Hosts and ports as requests name them (RFC 3986 section 3.2), and a server's list of its own."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["authority_of", "checked_hosts", "is_one_of"]

_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_~%!$&'()*+;=")


def authority_of(text: str) -> tuple[str, str] | None:
    """Host and port (empty without one) of ``host[:port]`` (RFC 3986 section 3.2), or None when it is neither."""
    text = text.lower()
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not host or not set(host) <= set("0123456789abcdef:.%_-~v"):
            return None
        if rest and not rest.startswith(":"):
            return None
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if not host or not _HOST_CHARACTERS.issuperset(host):
            return None
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        return None
    return host, port


def checked_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """The names of a list, in lower case.

    Raises:
        ValueError: one is no host, with or without a port.
    """
    found = tuple(host.lower() for host in hosts)
    for host in found:
        name = host[2:] if host.startswith("*.") else host
        if authority_of(name) is None or "*" in name or host.endswith(":"):
            raise ValueError(f"hosts has {host!r}, which isn't a host; *.example.com stands for every name below it")
    return found


def is_one_of(authority: tuple[str, str], hosts: Iterable[str]) -> bool:
    """Whether host and port of a request are in a list that `checked_hosts` gave."""
    name, port = authority[0].removesuffix("."), authority[1]  # example.com. is the same name (RFC 1034 section 3.1)
    for host in hosts:
        wild = host.startswith("*.")
        wanted, only = authority_of(host[2:] if wild else host) or ("", "")
        if (only == "" or only == port) and (name.endswith("." + wanted) if wild else name == wanted):
            return True
    return False
