"""WebSocket addresses: ``ws://``, ``wss://`` (RFC 6455 section 3), ``ws+unix://``, ``wss+unix://`` and ``mem://``.

A Unix address is ``ws+unix:///path/of.sock:/resource``; without ``:/resource`` the resource is ``/``.
``mem://name/resource`` is a place in a simulation (`websock.testing`).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import urllib.parse

from ..exceptions import InvalidURI

__all__ = ["URI", "parse_uri"]

_PORTS = {"ws": 80, "wss": 443, "mem": 80}


@dataclasses.dataclass(frozen=True, slots=True)
class URI:
    """A parsed WebSocket address.

    Attributes:
        secure: whether TLS is used.
        host: name or address to connect to, without brackets; ``localhost`` for a Unix address.
        port: TCP port.
        resource: path and query, as the request line needs them.
        user: user name and password for HTTP Basic authentication (RFC 7617), or None.
        unix_path: path of the Unix socket, or None for TCP.
        memory: `host` is the name of a place in a simulation.
    """

    secure: bool
    host: str
    port: int
    resource: str = "/"
    user: tuple[str, str] | None = dataclasses.field(default=None, repr=False)  # not for logs
    unix_path: str | None = None
    memory: bool = False

    @property
    def host_header(self) -> str:
        """The value of the Host header: the port only where it is not the default (RFC 6455 section 4.1)."""
        # A zone is of this machine only (RFC 6874 section 4).
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["wss" if self.secure else "ws"] else f"{host}:{self.port}"


def parse_uri(uri: str | URI) -> URI:
    """Parse a WebSocket address; one that is parsed stays as it is.

    Raises:
        InvalidURI: with the problem in words.
        TypeError: not a string.
    """
    if isinstance(uri, URI):
        return uri
    if not isinstance(uri, str):
        raise TypeError(f"a URI is a str, not {type(uri).__name__}")
    # urllib removes some control characters quietly, which would hide them from us.
    if bad := next((c for c in uri if c <= " " or c == "\x7f" or "\ud800" <= c <= "\udfff"), None):
        raise InvalidURI(uri, f"it contains {bad!r}")
    try:
        parts = urllib.parse.urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise InvalidURI(uri, str(error)) from None
    scheme, plus, transport = parts.scheme.partition("+")
    memory = scheme == "mem"
    if scheme not in _PORTS or (plus and (transport != "unix" or memory)):
        raise InvalidURI(uri, "scheme isn't ws, wss, ws+unix or wss+unix")
    if parts.fragment or uri.endswith("#"):
        raise InvalidURI(uri, "a fragment has no meaning in a WebSocket address (RFC 6455 section 3)")
    secure = scheme == "wss"
    if transport:
        return _unix(uri, parts, secure)
    if not parts.hostname:
        raise InvalidURI(uri, "it has no host")
    if memory and (port is not None or parts.username is not None):
        raise InvalidURI(uri, "a place in memory has a name only: mem://name/resource")
    return URI(
        secure=secure,
        host=_host(uri, parts),
        port=_PORTS[scheme] if port is None else port,
        resource=_resource(parts.path or "/", parts.query),
        user=_user(uri, parts),
        memory=memory,
    )


def _unix(uri: str, parts: urllib.parse.SplitResult, secure: bool) -> URI:
    if parts.netloc:
        raise InvalidURI(uri, "a Unix address has three slashes: ws+unix:///path.sock:/resource")
    path, _, resource = parts.path.partition(":")
    if path in ("", "/"):
        raise InvalidURI(uri, "it has no socket path")
    return URI(
        secure=secure,
        host="localhost",
        port=_PORTS["wss" if secure else "ws"],
        resource=_resource(resource or "/", parts.query),
        unix_path=urllib.parse.unquote(path),
    )


def _resource(path: str, query: str) -> str:
    if not path.startswith("/"):
        path = "/" + path
    resource = f"{path}?{query}" if query else path
    # What is not ASCII is percent-encoded (RFC 3987 section 3.1); what already is encoded stays.
    return urllib.parse.quote(resource, safe="!#$%&'()*+,/:;=?@[]~\"<>\\^`{|}")


def _host(uri: str, parts: urllib.parse.SplitResult) -> str:
    host = parts.hostname or ""
    authority = parts.netloc.rpartition("@")[2]
    if authority.startswith("["):
        # urllib lets anything stand around the brackets.
        rest = authority.partition("]")[2]
        address, percent, zone = host.partition("%")
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            address = ""
        if not address or (rest and not rest.startswith(":")) or (percent and not zone):
            raise InvalidURI(uri, f"host [{host}] isn't an IPv6 address")
        return host
    if "[" in authority or "]" in authority:
        raise InvalidURI(uri, "brackets stand around an IPv6 address only")
    try:
        encoded = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise InvalidURI(uri, f"host {host!r} can't be encoded") from None
    if not _HOST_CHARACTERS.issuperset(encoded.lower()):
        raise InvalidURI(uri, f"host {host!r} contains characters that no host has")
    return encoded


# RFC 3986 section 3.2.2: unreserved and sub-delims, without percent-encoding, which no resolver understands, and
# without the comma, with which a Host header would look like two of them: servers refuse that, ours too.
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+;=")


def _user(uri: str, parts: urllib.parse.SplitResult) -> tuple[str, str] | None:
    if parts.username is None:
        return None
    if parts.password is None:
        raise InvalidURI(uri, "it has a user name and no password")
    return urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password)


def over_unix(path: str, uri: str | URI | None) -> URI:
    """The address `uri` (default ``ws://localhost/``), reached over the Unix socket `path`.

    Raises:
        InvalidURI: `uri` is not one.
    """
    return dataclasses.replace(parse_uri("ws://localhost/" if uri is None else uri), unix_path=path)
