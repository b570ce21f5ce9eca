"""What a socket of datagrams is, however it waits: under `datagram` and ``net.asyncio.datagram``.

What is not received stays in the system's queue, whose size is the option ``receive_buffer``: nothing is queued here,
so a receiver that is too slow loses datagrams in the system only, which counts them: `DatagramSocket.lost`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Any, Final, NamedTuple

from ..typing import Buffer
from . import multicast
from .address import Address
from .errors import AddressError, ClosedError, NotOnThisSystem, explain
from .multicast import Interface
from .options import SocketOptions
from .resolving import Target, asks_names, resolve
from .sockets import bound, open_socket

__all__ = [
    "LINUX",
    "MAX_SIZE",
    "NOW",
    "DatagramSocket",
    "Received",
    "TruncatedError",
    "bind_socket",
    "connect_socket",
    "numbered",
    "parse_datagram",
]

MAX_SIZE: Final = 65535  # octets: no UDP datagram is larger (RFC 768); Unix ones may be
LINUX: Final = sys.platform == "linux"
NOW: Final = socket.MSG_DONTWAIT if LINUX else 0  # elsewhere the socket itself does not block
_ANY4: Final = "0.0.0.0"  # noqa: S104 - who asks for * gets it
_REMEMBERED: Final = 1024  # addresses whose spelling, or sockaddr, is not worked out again
_MESSAGES: Final = hasattr(socket.socket, "recvmsg")
_MSG_TRUNC: Final = getattr(socket, "MSG_TRUNC", 0)
# From asm-generic/socket.h, linux/sock_diag.h and linux/in.h; Python's socket module lacks them.
_SO_MEMINFO: Final = 55
_SK_MEMINFO: Final = struct.Struct("@9I")
_IP_PKTINFO: Final = 8


class Received(NamedTuple):
    """A datagram that came.

    Attributes:
        data: what is in it.
        address: where it came from; a Unix socket without a name has the path ``""``.
        truncated: it was larger than there was room for, and the rest is lost.
        local: where it was sent to, a group perhaps, after `DatagramSocket.tell_local`; the port is ours.
    """

    data: bytes
    address: Address
    truncated: bool = False
    local: Address | None = None


class TruncatedError(OSError):
    """A datagram was larger than there was room for, and the rest is lost.

    Attributes:
        received: what is left of it.
    """

    def __init__(self, received: Received) -> None:
        what = f"a datagram from {received.address} has more than {len(received.data)} octets: the rest is lost"
        super().__init__(errno.EMSGSIZE, what)
        self.received = received


class DatagramSocket:
    """What a socket of datagrams is, however it waits; the base of `Datagram` and of the one in ``net.asyncio``.

    Args:
        sock: of kind SOCK_DGRAM or SOCK_RAW, bound or connected; it belongs to this object now.

    Raises:
        ValueError: a socket of another kind.
    """

    def __init__(self, sock: socket.socket) -> None:
        if sock.type not in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            raise ValueError(f"a socket of datagrams is wanted, not {sock!r}")
        self._sock = sock
        self._is_unix = sock.family == getattr(socket, "AF_UNIX", None)
        self._closed = False
        self._addresses: dict[Any, Address] = {}
        self._names: dict[Address | str, Any] = {}
        self._kept: OSError | None = None
        self._control = 0  # octets of ancillary data that a datagram may have
        self._local = Address.from_sockaddr(sock.getsockname(), sock.family, socket.SOCK_DGRAM)
        self._remote: Address | None = None
        try:
            self._remote = Address.from_sockaddr(sock.getpeername(), sock.family, socket.SOCK_DGRAM)
        except OSError:
            pass  # it is not connected

    def __repr__(self) -> str:
        peer = "" if self._remote is None else f" to {self._remote}"
        return f"<{type(self).__name__} {self._local}{peer}{' closed' if self._closed else ''}>"

    # What it is.

    @property
    def sock(self) -> socket.socket:
        """The socket, for what has no name here; reading from it behind our back is at your own risk."""
        return self._sock

    def fileno(self) -> int:
        """Its descriptor; -1 when it is closed."""
        return self._sock.fileno()

    @property
    def local(self) -> Address:
        """Our address; what it was, once it is closed."""
        if self._local.port or self._local.path or self._closed:
            return self._local
        try:  # a socket that is not bound gets its port when it first sends
            self._local = Address.from_sockaddr(self._sock.getsockname(), self._sock.family, socket.SOCK_DGRAM)
        except OSError:
            pass  # somebody has closed the socket behind our back
        return self._local

    @property
    def remote(self) -> Address | None:
        """The address that it is connected to, if it is."""
        return self._remote

    @property
    def closed(self) -> bool:
        """Whether it is closed here."""
        return self._closed

    def options(self) -> SocketOptions:
        """The options as the system has them.

        Raises:
            ClosedError: it is closed.
        """
        self._check_open()
        return SocketOptions.of(self._sock)

    @property
    def lost(self) -> int:
        """How many datagrams the system threw away because its queue for this socket was full, or they were damaged.

        Raises:
            ClosedError: it is closed.
            NotOnThisSystem: it doesn't tell. Linux does (SO_MEMINFO, 4.12).
        """
        self._check_open()
        if not LINUX:
            raise NotOnThisSystem("the count of lost datagrams")
        try:
            found = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO.size)
        except OSError:
            found = b""
        if len(found) < _SK_MEMINFO.size:
            raise NotOnThisSystem("the count of lost datagrams")
        return int(_SK_MEMINFO.unpack(found)[8])  # SK_MEMINFO_DROPS

    # What it belongs to.

    def join(self, group: str | Address, *, interface: Interface | None = None, source: str | None = None) -> None:
        """Receive what is sent to a multicast group: see `multicast.join`.

        Raises:
            ClosedError: it is closed; and as `multicast.join`.
        """
        self._check_open()
        multicast.join(self._sock, group, interface=interface, source=source)

    def leave(self, group: str | Address, *, interface: Interface | None = None, source: str | None = None) -> None:
        """Leave a multicast group: see `multicast.leave`.

        Raises:
            ClosedError: it is closed; and as `multicast.leave`.
        """
        self._check_open()
        multicast.leave(self._sock, group, interface=interface, source=source)

    def tell_local(self) -> None:
        """From now on, say of each datagram where it was sent to: `Received.local` (IP_PKTINFO, RFC 3542 section 6.1).

        A socket that is bound to every address, or is in several groups, learns by it which one was meant.

        Raises:
            ClosedError: it is closed.
            NotOnThisSystem: for IPv4, it is Linux only; Unix sockets have no such thing.
        """
        self._check_open()
        if self._sock.family == socket.AF_INET6 and hasattr(socket, "IPV6_RECVPKTINFO"):
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._sock.family == socket.AF_INET and LINUX:
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            raise NotOnThisSystem("the address that a datagram was sent to")
        self._control = socket.CMSG_SPACE(20)

    # What both forms do at the socket.

    def _read(self, max_size: int, flags: int) -> Received:
        """Take a datagram."""
        if not _MESSAGES:  # Windows, where a datagram that is cut is an error without its address
            data, name = self._sock.recvfrom(max(max_size, MAX_SIZE))
            return Received(data[:max_size], self._addresses.get(name) or self._address(name), len(data) > max_size)
        data, control, said, name = self._sock.recvmsg(max_size, self._control, flags)
        if name is None and not data and (self._closed or not self._is_unix):
            raise ClosedError(str(self._local))  # it was shut down while we waited; what came before that is good
        address = self._addresses.get(name) or self._address(name)
        if control or said & _MSG_TRUNC:
            return Received(data, address, bool(said & _MSG_TRUNC), self._destination(control))
        return Received(data, address)

    def _read_more(self, found: list[Received], count: int, max_size: int) -> list[Received]:
        """Take the datagrams that are there, up to `count` with those in `found`."""
        try:
            while len(found) < count and not self._closed:
                found.append(self._read(max_size, NOW))
        except BlockingIOError:
            pass  # that was all
        except OSError as error:
            self._kept = error  # the system tells it once, and what came before it is good
        return found

    def _raise_kept(self) -> None:
        """Before a receive: the error that `_read_more` met."""
        kept, self._kept = self._kept, None
        if kept is not None:
            raise kept

    def _write(self, data: Buffer, name: Any) -> None:
        """Send a datagram, without waiting."""
        if name is None:
            self._sock.send(data, NOW)
        else:
            self._sock.sendto(data, NOW, name)

    def _address(self, name: Any) -> Address:
        """The address of a sockaddr, from now on among `_addresses`."""
        if len(self._addresses) >= _REMEMBERED:
            self._addresses.clear()
        found = self._addresses[name] = Address.from_sockaddr(name, self._sock.family, socket.SOCK_DGRAM)
        if name:
            self._remember(found, name)  # it is answered perhaps
        return found

    def _remember(self, address: Address | str, name: Any) -> None:
        if len(self._names) >= _REMEMBERED:
            self._names.clear()
        self._names[address] = name

    def _question(self, address: Address | str) -> Address:
        """What is to be resolved, so that a datagram can go to `address`.

        Raises:
            AddressError: it is none, or one that this socket does not send to.
        """
        found = Address.parse(address)
        scheme = "unixgram" if self._is_unix else "udp"
        if found.scheme != scheme:
            raise AddressError(str(found), f"this socket sends to {scheme} addresses", 0)
        if self._is_unix and not found.path:
            raise AddressError(str(found), "a socket without a name can't be sent to", len(scheme) + 1)
        if self._sock.family == socket.AF_INET and ":" in found.host:
            raise AddressError(str(found), f"this socket is IPv4 ({self._local})", len(scheme) + 3)
        if self._sock.family == socket.AF_INET6 and found.host and ":" not in found.host and not asks_names(found):
            found = found.replace(host=f"::ffff:{found.host}")  # IPv4-mapped (RFC 4291 section 2.5.5.2)
        return found

    def _destination(self, control: list[tuple[int, int, bytes]]) -> Address | None:
        for level, kind, data in control:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= 12:
                return self._local.replace(host=socket.inet_ntop(socket.AF_INET, data[8:12]))
            if level == socket.IPPROTO_IPV6 and kind == getattr(socket, "IPV6_PKTINFO", -1) and len(data) >= 20:
                scoped = (data[0] == 0xFF and data[1] & 15 <= 2) or (data[0] == 0xFE and data[1] & 0xC0 == 0x80)
                number = int.from_bytes(data[16:20], sys.byteorder) if scoped else 0  # of use with link-local ones
                name = (socket.inet_ntop(socket.AF_INET6, data[:16]), self._local.port, 0, number)
                return Address.from_sockaddr(name, socket.AF_INET6, socket.SOCK_DGRAM)
        return None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(str(self._local))

    def _explained(self, error: OSError, doing: str, where: object) -> OSError:
        """What a failed call means: that it is closed, above all."""
        if self._closed:
            return ClosedError(str(self._local))
        if isinstance(error, (ClosedError, NotOnThisSystem, TruncatedError)):
            return error
        if error.errno == errno.EACCES and self._sock.family == socket.AF_INET and doing == "send to":
            said = f"can't send to {where}: {os.strerror(errno.EACCES)} (a broadcast needs the option broadcast=True)"
            return type(error)(error.errno, said)
        if error.errno == errno.EMSGSIZE and doing == "send to":
            said = f"can't send to {where}: {os.strerror(errno.EMSGSIZE)} (more than one datagram holds there)"
            return type(error)(error.errno, said)
        return explain(error, doing, where)

    def _received_from(self) -> object:
        """Whose fault it is when receiving fails: the connected peer's, which does not listen perhaps."""
        return self._local if self._remote is None else self._remote

    def _gauge(self, name: Any) -> socket.socket | None:
        """A socket that can be written when the Unix socket at `name` has room in its queue.

        Ours does not show that: unless it is connected, it can always be written, wherever to.
        """
        if not self._is_unix or name is None:
            return None
        gauge = socket.socket(self._sock.family, socket.SOCK_DGRAM)
        try:
            gauge.setblocking(False)
            gauge.connect(name)
        except OSError:
            gauge.close()
            return None  # it is gone: that is what the next attempt says
        return gauge


# Making one, once names are resolved.


def parse_datagram(address: Address | str) -> Address:
    """An address of datagrams.

    Raises:
        AddressError: not an address, or one of other sockets.
    """
    found = Address.parse(address)
    if found.scheme not in ("udp", "unixgram", "fd"):
        raise AddressError(str(address), "datagrams have udp, unixgram and fd addresses", 0)
    return found


def numbered(targets: list[Target]) -> Address:
    """The first of the addresses that a name means: a socket of datagrams has one."""
    family, kind, protocol, name = targets[0]
    return Address.from_sockaddr(name, family, kind, protocol)


def bind_socket(address: Address, options: SocketOptions | None, mode: int | None = None) -> socket.socket:
    """A bound socket; `address` has no name in it that is to be looked up. Raises as `bind_datagram`."""
    if address.scheme == "udp" and not address.host:
        address = address.replace(host=_ANY4)
    first, *rest = bound(address, options, mode=mode)
    for sock in rest:
        sock.close()
    return first


def connect_socket(address: Address, local: Address | None, options: SocketOptions | None) -> socket.socket:
    """A connected socket; the addresses have no name in them. Raises as `connect_datagram`."""
    if address.scheme == "fd":
        raise AddressError(str(address), "a descriptor is nothing to connect to: bind_datagram takes it over", 0)
    if address.scheme == "udp" and not address.host:
        address = address.replace(host="127.0.0.1")
    target = resolve(address)[0]
    if local is None:
        sock = open_socket(target, options)
    else:
        if local.scheme == "udp" and not local.host and target.family == socket.AF_INET6:
            local = local.replace(host="::")
        sock = bind_socket(local, options)
    try:
        if sock.family != target.family:
            raise AddressError(str(address), f"{local} is of another family", 0)
        if local is None and address.is_unix and LINUX:
            sock.bind("")  # autobind: unix(7)
        sock.connect(target.sockaddr)
    except OSError as error:
        sock.close()
        raise explain(error, "connect to", address) from None
    except BaseException:
        sock.close()
        raise
    return sock
