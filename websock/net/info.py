"""What the kernel tells of sockets: the state and the figures of a TCP connection, and the sockets of a process.

Sources: RFC 9293 section 3.3.2 for the states; tcp(7), proc(5) and ``struct tcp_info`` of Linux; ``struct
tcp_connection_info`` of macOS. Elsewhere less is known, and what is not known is None.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import ipaddress
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from .address import Address
from .errors import ClosedError, NotOnThisSystem, check_socket

__all__ = ["SocketRow", "TCPInfo", "sockets_of", "tcp_info", "who_has"]

# The numbers are the system's own (Linux: include/net/tcp_states.h, macOS: netinet/tcp_fsm.h); the names RFC 9293's.
_LINUX_STATES: Final = (
    "", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED", "CLOSE-WAIT",
    "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED",
)  # fmt: skip
_BSD_STATES: Final = (
    "CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "CLOSE-WAIT", "FIN-WAIT-1", "CLOSING", "LAST-ACK",
    "FIN-WAIT-2", "TIME-WAIT",
)  # fmt: skip
_TCP_CONNECTION_INFO: Final = 0x106  # macOS, which Python has no name for
_MOST: Final = 1024  # octets that Python's getsockopt takes; no system gives as many
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_UNIX: Final = getattr(socket, "AF_UNIX", None)


@dataclasses.dataclass(frozen=True, slots=True)
class TCPInfo:
    """A TCP connection as the kernel sees it. What this kernel does not tell is None.

    Attributes:
        state: by its name in RFC 9293 section 3.3.2: ``ESTABLISHED``, ``CLOSE-WAIT``, ...
        rtt: the smoothed round trip time in seconds (RFC 6298); None also before the first measurement.
        rtt_variance: how much it varies, in seconds.
        retransmits: how often what waits for an acknowledgement now has been sent again.
        retransmits_total: segments that were sent again since the connection began.
        unacknowledged: segments that are on their way.
        lost: those of them that are thought to be lost.
        congestion_window: octets that may be on their way at once (RFC 5681).
        receive_queue: octets that have come and were not read; of a listening socket, connections to be accepted.
        send_queue: octets that were written and are not acknowledged, those that are not yet sent among them.
        pmtu: the largest packet that the path takes, in octets.
        bytes_acked: octets that the peer has acknowledged, in all.
        bytes_received: octets that have come, in all.
    """

    state: str
    rtt: float | None = None
    rtt_variance: float | None = None
    retransmits: int | None = None
    retransmits_total: int | None = None
    unacknowledged: int | None = None
    lost: int | None = None
    congestion_window: int | None = None
    receive_queue: int | None = None
    send_queue: int | None = None
    pmtu: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None


def tcp_info(sock: socket.socket) -> TCPInfo:
    """What the kernel knows of a TCP socket.

    Raises:
        ClosedError: it is closed.
        ValueError: it is not TCP.
        TypeError: no socket.
        NotOnThisSystem: there is neither TCP_INFO (Linux) nor TCP_CONNECTION_INFO (macOS).
        OSError: the kernel's.
    """
    check_socket(sock)
    if sock.fileno() < 0:
        raise ClosedError
    if not _is_tcp(sock):
        raise ValueError(f"{_spell(sock)} is not TCP")
    receive, send = _queues(sock)
    if sys.platform == "linux":
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOST)
        info = _from_linux(raw)
    elif sys.platform == "darwin":
        info = _from_macos(sock.getsockopt(socket.IPPROTO_TCP, _TCP_CONNECTION_INFO, _MOST))
        return dataclasses.replace(info, receive_queue=receive)
    else:
        raise NotOnThisSystem("TCP_INFO")
    if info.state == "LISTEN":  # there the kernel counts in these fields what waits to be accepted
        return TCPInfo("LISTEN", receive_queue=info.unacknowledged)
    return dataclasses.replace(info, receive_queue=receive, send_queue=send)


def _from_linux(raw: bytes) -> TCPInfo:
    """From ``struct tcp_info``, which has grown over the years; what an older kernel leaves off is not known."""

    def number(offset: int, form: str = "I") -> int | None:
        return struct.unpack_from(form, raw, offset)[0] if offset + struct.calcsize(form) <= len(raw) else None

    rtt, segment, window = number(68), number(16), number(80)
    return TCPInfo(
        state=_name(_LINUX_STATES, raw[0]),
        rtt=_seconds(rtt, 1e6),
        rtt_variance=_seconds(number(72), 1e6) if rtt else None,
        retransmits=number(2, "B"),
        retransmits_total=number(100),
        unacknowledged=number(24),
        lost=number(32),
        congestion_window=None if window is None or segment is None else window * segment,
        pmtu=number(60) or None,
        bytes_acked=number(120, "Q"),
        bytes_received=number(128, "Q"),
    )


def _from_macos(raw: bytes) -> TCPInfo:
    """From ``struct tcp_connection_info``: times in milliseconds, the window in octets."""
    if len(raw) < 112:
        raise NotOnThisSystem("TCP_CONNECTION_INFO")
    window, queue = struct.unpack_from("=I4xI", raw, 24)
    rtt, variance = struct.unpack_from("=II", raw, 44)
    received, again = struct.unpack_from("=Q8xQ", raw, 88)
    return TCPInfo(
        state=_name(_BSD_STATES, raw[0]),
        rtt=_seconds(rtt, 1e3),
        rtt_variance=_seconds(variance, 1e3) if rtt else None,
        retransmits_total=again,
        congestion_window=window,
        send_queue=queue,
        bytes_received=received,
    )


def _seconds(number: int | None, unit: float) -> float | None:
    return number / unit if number else None  # 0 is "not yet measured"


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else f"state {number}"


def _queues(sock: socket.socket) -> tuple[int | None, int | None]:
    """SIOCINQ and SIOCOUTQ, which have the terminals' numbers: octets to be read, and to be acknowledged."""
    try:
        import fcntl
        import termios
    except ImportError:
        return None, None
    found: list[int | None] = []
    for request in (getattr(termios, "FIONREAD", None), getattr(termios, "TIOCOUTQ", None)):
        try:
            if request is None:
                raise OSError
            found.append(int.from_bytes(fcntl.ioctl(sock.fileno(), request, bytes(4)), sys.byteorder))
        except OSError:
            found.append(None)  # it listens, or its family has no such queue
    return found[0], found[1]


def _is_tcp(sock: socket.socket) -> bool:
    return (
        sock.family in _INTERNET
        and sock.type == socket.SOCK_STREAM
        and sock.proto in (0, socket.IPPROTO_TCP)  # not SCTP, not MPTCP
    )


def _spell(sock: socket.socket) -> str:
    try:
        address = Address.of(sock)
        return "an unnamed Unix socket" if address.is_unix and not address.path else str(address)
    except (ValueError, OSError):
        return f"a socket of family {int(sock.family)}"


# ---- the sockets of a process ----


@dataclasses.dataclass(frozen=True, slots=True)
class SocketRow:
    """A socket of a process.

    Attributes:
        fd: its descriptor there.
        kind: ``tcp``, ``udp``, ``unix``, ``unixgram``, ``unixpacket``, or what the system calls its protocol.
        state: of TCP as in RFC 9293 section 3.3.2; of others ``LISTEN``, ``CONNECTED`` or ``UNCONNECTED``.
        local: its own end; None where there is no spelling or the system does not tell.
        remote: the peer's; None when not connected, or when the system does not tell.
        receive_queue: octets to be read; of a listening TCP socket, connections to be accepted; None: not known.
        send_queue: octets that are not yet acknowledged, or taken; None: not known.
        inode: what the system counts sockets by: one that several processes or descriptors share has the same.
    """

    fd: int
    kind: str
    state: str
    local: Address | None = None
    remote: Address | None = None
    receive_queue: int | None = None
    send_queue: int | None = None
    inode: int = 0


def sockets_of(pid: int | None = None) -> list[SocketRow]:
    """The sockets of a process, by descriptor; of this one without a number.

    Raises:
        ProcessLookupError: there is no such process.
        PermissionError: it belongs to somebody else.
        NotOnThisSystem: only this process can be asked on this system: there is no /proc as on Linux.
        ValueError: not the number of a process.
    """
    if pid is not None and (type(pid) is not int or pid < 1):
        raise ValueError(f"a process has a number from 1, not {pid!r}")
    own = pid is None or pid == os.getpid()
    if not _has_proc():
        if not own:
            raise NotOnThisSystem("the sockets of another process")
        return _own_sockets()
    root = f"/proc/{os.getpid() if pid is None else pid}"
    try:
        found = _socket_descriptors(root)
        table = {inode: row for inode, row in _tables(root) if inode} if found else {}
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from None
    except PermissionError as error:
        raise PermissionError(error.errno, f"not permitted to see the sockets of process {pid}") from None
    rows = []
    for fd, inode in found:
        row = table.get(inode)
        if row is not None:
            rows.append(dataclasses.replace(row, fd=fd))
        elif own:  # not bound, or of another network name space: the tables have no line for it
            rows += _look_at(fd)
        else:
            rows.append(SocketRow(fd, _protocol_name(root, fd), "UNCONNECTED", inode=inode))
    return rows


def _has_proc() -> bool:
    return os.path.exists("/proc/self/net/tcp") and os.path.exists("/proc/self/fd")


def _socket_descriptors(root: str) -> list[tuple[int, int]]:
    """The descriptors of a process that are sockets, each with its inode."""
    found = []
    for fd in sorted(map(int, os.listdir(f"{root}/fd"))):
        try:
            target = os.readlink(f"{root}/fd/{fd}")
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            found.append((fd, int(target[8:-1])))
    return found


def _protocol_name(root: str, fd: int) -> str:
    """What Linux calls the protocol of a socket that is in none of the tables."""
    try:
        name = os.getxattr(f"{root}/fd/{fd}", "system.sockprotoname")  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return "unknown"
    text = name.rstrip(b"\0").decode("ascii", "replace").lower()
    return {"tcpv6": "tcp", "udpv6": "udp", "unix-stream": "unix"}.get(text, text)


def _tables(root: str) -> Iterator[tuple[int, SocketRow]]:
    """All sockets of the network name space of a process: inode and row (without descriptor)."""
    for kind in ("tcp", "tcp6", "udp", "udp6", "icmp", "icmp6", "raw", "raw6"):
        for line in _lines(f"{root}/net/{kind}"):
            with contextlib.suppress(ValueError, LookupError):  # not as documented: rather none than a wrong one
                yield _internet_row(line.split(), kind.rstrip("6"))
    for line in _lines(f"{root}/net/unix"):
        with contextlib.suppress(ValueError, LookupError):
            yield _unix_row(line)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as table:
            return table.read().split("\n")[1:-1]
    except OSError as error:
        if error.errno == errno.EINVAL:  # a process that has ended and is not yet collected
            raise ProcessLookupError from None
        if isinstance(error, FileNotFoundError) and os.path.exists(os.path.dirname(path)):
            return []  # a kernel without IPv6 has no such table
        raise


def _internet_row(fields: list[str], kind: str) -> tuple[int, SocketRow]:
    """A line of /proc/net/tcp and its like, which are alike (proc(5))."""
    local, remote = _end(fields[1], kind), _end(fields[2], kind)
    number = int(fields[3], 16)
    send, receive = (int(text, 16) for text in fields[4].split(":"))
    state = _state(kind, number)
    inode = int(fields[9])
    if remote is not None and remote.is_any and not remote.port:
        remote = None
    return inode, SocketRow(-1, kind, state, local, remote, receive, None if state == "LISTEN" else send, inode)


def _state(kind: str, number: int) -> str:
    if kind == "tcp":
        return _name(_LINUX_STATES, number)
    return "CONNECTED" if number == 1 else "UNCONNECTED"  # the numbers are TCP's in all tables


def _end(text: str, kind: str) -> Address | None:
    """An address in a table: words of 32 bits in the machine's order, in hexadecimal, and the port."""
    if kind not in ("tcp", "udp"):
        return None
    words, _, port = text.partition(":")
    packed = b"".join(
        int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
    )  # in network order by that
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    name = (socket.inet_ntop(family, packed), int(port, 16))
    return Address.from_sockaddr(name, family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)


_UNIX_KINDS: Final = {1: "unix", 2: "unixgram", 5: "unixpacket"}


def _unix_row(line: str) -> tuple[int, SocketRow]:
    """A line of /proc/net/unix; a path may have blanks in it."""
    _, _, _, flags, kind, state, inode, *path = line.split(None, 7)
    scheme = _UNIX_KINDS[int(kind, 16)]
    name = path[0] if path else ""
    name = "\0" + name[1:] if name.startswith("@") else name
    listens = int(flags, 16) & 0x10000  # SO_ACCEPTCON
    word = "LISTEN" if listens else "CONNECTED" if int(state, 16) == 3 else "UNCONNECTED"
    try:
        local = Address(scheme, path=name)
    except ValueError:  # NULs in an abstract name
        local = None
    return int(inode), SocketRow(-1, scheme, word, local, inode=int(inode))


def _own_sockets() -> list[SocketRow]:
    """The sockets of this process, without help of /proc."""
    if os.name == "nt":  # sockets are no descriptors there: those that Python knows
        known = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
        return sorted((_row(one, one.fileno(), 0) for one in known), key=lambda row: row.fd)
    try:
        candidates: Iterable[int] = sorted(map(int, os.listdir("/dev/fd")))
    except (OSError, ValueError):
        candidates = range(min(os.sysconf("SC_OPEN_MAX"), 65536))
    return [row for fd in candidates for row in _look_at(fd)]


def _look_at(fd: int) -> list[SocketRow]:
    """A descriptor of this process; nothing if it is no socket (any more)."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISSOCK(status.st_mode):
            return []
        # A duplicate, since an object closes its descriptor when it goes.
        copy = os.dup(fd)
        try:
            sock = socket.socket(fileno=copy)
        except BaseException:
            os.close(copy)
            raise
        with sock:
            return [_row(sock, fd, status.st_ino)]
    except OSError:
        return []


def _row(sock: socket.socket, fd: int, inode: int) -> SocketRow:
    local = remote = None
    with contextlib.suppress(OSError, ValueError):
        local = Address.of(sock)
    with contextlib.suppress(OSError, ValueError):
        remote = Address.of_peer(sock)
    if _is_tcp(sock):
        with contextlib.suppress(OSError):
            info = tcp_info(sock)
            return SocketRow(fd, "tcp", info.state, local, remote, info.receive_queue, info.send_queue, inode)
    if _is_tcp(sock):
        kind = "tcp"
    elif local is not None:
        kind = local.scheme
    else:
        kind = getattr(sock.family, "name", f"family {int(sock.family)}").removeprefix("AF_").lower()
    try:
        listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        listens = False
    receive, send = _queues(sock)
    state = "LISTEN" if listens else "UNCONNECTED" if remote is None else "CONNECTED"
    return SocketRow(fd, kind, state, local, remote, receive, send, inode)


# ---- who has an address ----


def who_has(address: str | Address) -> str | None:
    """Who holds an address of this host that cannot be bound: ``"python (pid 123)"``, or None when that isn't known.

    It is for error messages, so it raises nothing, whatever it is given. A port without a process (the rest of a
    connection in TIME-WAIT) and a process that may not be looked into are not known. Nor is a TCP socket of another
    process that is bound and neither listens nor is connected: the kernel has those in no table.
    """
    try:
        return _holder(Address.parse(address)) if _has_proc() else None
    except (OSError, ValueError, TypeError):
        return None


def _holder(wanted: Address) -> str | None:
    rows = [(inode, row) for inode, row in _tables("/proc/self") if inode and _in_the_way(row, wanted)]
    # Who listens is the one; others may have a connection from that port.
    listening = {inode for inode, row in rows if row.state in ("LISTEN", "UNCONNECTED")}
    inodes = listening or {inode for inode, _ in rows}
    if not inodes:  # perhaps one of ours that is in no table: it can be asked itself
        return _process(os.getpid()) if any(_in_the_way(row, wanted) for row in sockets_of()) else None
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if any(inode in inodes for _, inode in _socket_descriptors(f"/proc/{pid}")):
                return _process(pid)
        except OSError:
            continue  # it has ended, or is somebody else's
    return None


def _process(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().rstrip("\n")
    return f"{''.join(one if one.isprintable() else '?' for one in name)} (pid {pid})"


def _in_the_way(row: SocketRow, wanted: Address) -> bool:
    has = row.local
    if has is None:
        return False
    if wanted.is_unix:
        if has.scheme != wanted.scheme or not has.path:
            return False
        both = has.path, wanted.path
        return both[0] == both[1] or (not any(one.startswith("\0") for one in both) and _same_file(*both))
    protocol = {"tls": "tcp"}.get(wanted.scheme, wanted.scheme)
    if has.scheme != protocol or has.port != wanted.port or not wanted.port:
        return False
    if has.is_any or wanted.is_any:
        return True  # one of them is every address of this host
    try:
        return ipaddress.ip_address(has.host) == ipaddress.ip_address(wanted.host)
    except ValueError:
        return True  # a name: it means one of this host's addresses, or there was nothing to bind


def _same_file(one: str, other: str) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)
