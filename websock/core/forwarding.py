"""Who the client is when proxies stand between: Forwarded (RFC 7239), X-Forwarded-For, and HAProxy's PROXY protocol.

Strategy: what a header says is believed for as far as each hop that said it is trusted. So the list is read from its
right end, which the nearest proxy wrote, and the first address that is no trusted proxy is the client; what stands left
of it, anybody can have written.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ..datastructures import Headers, is_token
from ..exceptions import InvalidHeader, InvalidHeaderFormat, InvalidMessage

__all__ = ["Client", "Networks", "ProxyHeader", "client_key", "client_of", "ip_of"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def ip_of(address: object) -> IPAddress | None:
    """The IP address of a socket address as ``socket`` has it, or of a text; None when it is none.

    IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2) is IPv4, and the scope of a link-local address is left out.
    """
    host = address[0] if isinstance(address, tuple) and address else address
    if not isinstance(host, str):
        return None
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return found.ipv4_mapped or found
    return found


def client_key(address: object) -> object:
    """What connections of one client have in common: its IPv4 address, or the /64 of its IPv6 address; None for a
    Unix socket's."""
    found = ip_of(address) if isinstance(address, tuple) else None  # a path may look like an address
    if isinstance(found, ipaddress.IPv6Address):
        return int(found) >> 64, 6
    return found


class Networks:
    """The proxies that are trusted.

    Args:
        values: networks and addresses, as text or objects of ``ipaddress``; ``"unix"`` for every peer on a Unix socket.

    Raises:
        TypeError, ValueError: something else.
    """

    def __init__(self, values: Iterable[str | IPAddress | IPNetwork]) -> None:
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise TypeError(f"trusted_proxies must be a list of networks, not {values!r}")
        self._networks: list[IPNetwork] = []
        self._unix = False
        for value in values:
            if value == "unix":
                self._unix = True
            elif isinstance(value, str | IPAddress | IPNetwork):
                try:
                    self._networks.append(ipaddress.ip_network(value))
                except ValueError as error:
                    raise ValueError(f"trusted_proxies: {error}") from None
            else:
                raise TypeError(f"trusted_proxies has {value!r}, which is no network")

    def __iter__(self) -> Iterator[IPNetwork | str]:
        """What it was made of."""
        return iter([*self._networks, *(["unix"] if self._unix else ())])

    def __contains__(self, address: object) -> bool:
        """Whether a peer is trusted: an address as ``socket`` has it, or an IP address."""
        if not isinstance(address, tuple | IPAddress):
            return self._unix  # whatever its path: a client may call its own socket 127.0.0.1
        found = ip_of(address) if isinstance(address, tuple) else address
        if found is None:
            return False
        return any(found in network for network in self._networks)


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """Who a proxy says that it speaks for.

    Attributes:
        address: host and port as ``socket`` has them, port 0 where it was not told; the path of a Unix socket.
        proto: ``http`` or ``https``, what the client spoke with the proxy, in lower case; None where it was not told.
    """

    address: Any
    proto: str | None = None


def client_of(headers: Headers, trusted: Networks) -> Client | None:
    """The client that a request of a trusted proxy came from; None when it names none.

    Only the last hop is believed for what it says of the one before it, and so on: see above. A name instead of an
    address ("unknown", "_hidden") ends the search at the proxy that wrote it.

    Raises:
        InvalidHeader: Forwarded is none; or it and X-Forwarded-For name different clients: a proxy writes one of them,
            and the other may have come from anybody.
    """
    standard = _last(_forwarded(headers.get_all("Forwarded")), trusted)
    proto = next(reversed(headers.tokens("X-Forwarded-Proto")), None)
    usual = _last([(one, proto) for one in headers.tokens("X-Forwarded-For")], trusted)
    if standard is None or usual is None:
        return standard or usual
    if standard.address[0] != usual.address[0]:
        raise InvalidHeader("Forwarded", f"{standard.address[0]}, and X-Forwarded-For {usual.address[0]}")
    return standard


def _last(hops: Sequence[tuple[str, str | None]], trusted: Networks) -> Client | None:
    """The rightmost hop that is no trusted proxy, or the leftmost one that is known."""
    client = None
    for node, proto in reversed(hops):
        found = _node(node)
        if found is None:
            break
        address, port = found
        client = Client((str(address), port), proto.lower() if proto else None)
        if address not in trusted:
            break
    return client


def _node(text: str) -> tuple[IPAddress, int] | None:
    """Address and port of ``192.0.2.1[:port]``, ``[2001:db8::1][:port]`` (RFC 7239 section 6), or a bare IPv6 address,
    as X-Forwarded-For has it."""
    port = ""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host = text
    address = None if "%" in host else ip_of(host)
    number = _port(port)
    return None if address is None else (address, 0 if number is None else number)  # a port may be hidden: "_a"


def _port(text: str) -> int | None:
    """A port in decimal digits, without zeros in front."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or (text[0] == "0" and text != "0"):
        return None
    return int(text) if int(text) < 65536 else None


def _forwarded(values: Iterable[str]) -> list[tuple[str, str | None]]:
    """The ``for`` and ``proto`` of each hop (RFC 7239 section 4); one without ``for`` counts as unknown."""
    hops = []
    for value in values:
        for element in _split(value, ","):
            if not element.strip(" \t"):
                continue  # an empty element of a list (RFC 9110 section 5.6.1)
            pairs: dict[str, str] = {}
            for pair in _split(element, ";"):
                name, equals, text = pair.strip(" \t").partition("=")
                if not name and not equals:
                    continue
                unquoted = _unquoted(text)
                if not is_token(name) or unquoted is None or name.lower() in pairs:
                    raise InvalidHeaderFormat("Forwarded", value)
                pairs[name.lower()] = unquoted
            hops.append((pairs.get("for", "unknown"), pairs.get("proto")))
    return hops


def _split(text: str, separator: str) -> list[str]:
    """The parts of `text`, where a separator in a quoted string is none."""
    parts, start, quoted, escaped = [], 0, False, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _unquoted(text: str) -> str | None:
    """What a token or a quoted string stands for (RFC 9110 section 5.6.4); None when it is neither."""
    if not text.startswith('"'):
        return text if is_token(text) else None
    if len(text) < 2 or not text.endswith('"'):
        return None
    out, escaped = [], False
    for character in text[1:-1]:
        if escaped or character not in '"\\':
            out.append(character)
            escaped = False
        elif character == '"':
            return None
        else:
            escaped = True
    return None if escaped else "".join(out)


# The PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2).

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD_V2: Final = 16  # octets of signature, version and command, family, length
_MOST_V1: Final = 107  # octets of the longest line, its end included
_MOST_V2: Final = 2**12  # octets of addresses and TLVs, which can be 65,535; those that are in use take a few hundred
_SHORTEST: Final = b"PROXY UNKNOWN\r\n"
_KINDS: Final[dict[str, Callable[[str], IPAddress]]] = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}

# By the octet of family and protocol: octets of the addresses, those of one IP address.
_FAMILIES: Final = {
    0x00: (0, 0),
    0x11: (12, 4),
    0x12: (12, 4),
    0x21: (36, 16),
    0x22: (36, 16),
    0x31: (216, 0),
    0x32: (216, 0),
}


class ProxyHeader:
    """What a proxy sends before all else, TLS included: whom it speaks for. A phase as the others, but one that
    answers nothing.

    Attributes:
        done: the header is complete.
        source: the client's address as ``socket`` has it; None where the proxy speaks for itself or does not know.
    """

    def __init__(self) -> None:
        self.done = False
        self.source: Any = None
        self._data = b""

    @property
    def wanted(self) -> int:
        """How many octets belong to the header for certain: who reads no more needs not give any back."""
        data = self._data
        if self.done:
            return 0
        if len(data) < len(_SHORTEST):
            return len(_SHORTEST) - len(data)
        if data.startswith(b"P"):
            return 1
        if len(data) < _HEAD_V2:
            return _HEAD_V2 - len(data)
        return _HEAD_V2 + int.from_bytes(data[14:16], "big") - len(data)

    def receive(self, data: bytes) -> bytes:
        """Take octets; what of them is behind the header.

        Raises:
            InvalidMessage: it is no such header. What is wrong is found as soon as it is there.
        """
        while data and not self.done:
            size = self.wanted
            self._data += data[:size]
            data = data[size:]
            self._look()
        return data

    def _look(self) -> None:
        data = self._data
        if data.startswith(b"P"):
            if not b"PROXY ".startswith(data[:6]):
                raise InvalidMessage("no PROXY header")
            if b"\n" in data:
                self._line(data)
            elif len(data) >= _MOST_V1:
                raise InvalidMessage(f"a PROXY header of more than {_MOST_V1} octets")
            return
        if not _SIGNATURE.startswith(data[:12]):
            raise InvalidMessage("no PROXY header")
        if len(data) > 12 and data[12] not in (0x20, 0x21):
            raise InvalidMessage(f"a PROXY header of version and command {data[12]:#04x}")
        if len(data) > 13 and data[13] not in _FAMILIES:
            raise InvalidMessage(f"a PROXY header of family {data[13]:#04x}")
        if len(data) >= _HEAD_V2:
            length = int.from_bytes(data[14:16], "big")
            if length > _MOST_V2:
                raise InvalidMessage(f"a PROXY header of {length} octets")
            if data[12] == 0x21 and length < _FAMILIES[data[13]][0]:
                raise InvalidMessage(f"a PROXY header of {length} octets, too short for its addresses")
            if len(data) == _HEAD_V2 + length:
                self._addresses(data)

    def _line(self, data: bytes) -> None:
        """Version 1: one line of text."""
        text = data.decode("latin-1")
        words = text[:-2].split(" ")
        if not text.endswith("\r\n") or "\r" in text[:-2] or "\n" in text[:-2]:
            raise InvalidMessage("a PROXY header that does not end in CRLF")
        if words[1] == "UNKNOWN":  # what follows must be ignored
            self.done = True
            return
        kind = _KINDS.get(words[1])
        if kind is None or len(words) != 6:
            raise InvalidMessage(f"a PROXY header that is none: {text[:-2]!r}")
        try:
            source, _ = (kind(word) for word in words[2:4])
        except ValueError as error:
            raise InvalidMessage(f"a PROXY header with a bad address: {error}") from None
        ports = [_port(word) for word in words[4:]]
        if ports[0] is None or ports[1] is None or "%" in words[2] + words[3]:
            raise InvalidMessage(f"a PROXY header with a bad address or port: {text[:-2]!r}")
        self.source = _sockaddr(source, ports[0])
        self.done = True

    def _addresses(self, data: bytes) -> None:
        """Version 2: all is here. TLVs may follow the addresses, and are passed over."""
        self.done = True
        size, width = _FAMILIES[data[13]]
        if data[12] == 0x20 or not size:  # LOCAL: the proxy speaks for itself; UNSPEC: it does not know for whom
            return
        body = data[_HEAD_V2:]
        if width:
            port = int.from_bytes(body[2 * width : 2 * width + 2], "big")
            self.source = _sockaddr(ipaddress.ip_address(body[:width]), port)
        else:
            self.source = body[:108].rstrip(b"\0").decode("utf-8", "surrogateescape")


def _sockaddr(address: IPAddress, port: int) -> tuple[Any, ...]:
    return (str(address), port) if address.version == 4 else (str(address), port, 0, 0)
