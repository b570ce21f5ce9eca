"""Making sockets: listening, bound and not yet connected ones, over IPv4, IPv6 and Unix, or taken over from others."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeVar

from .address import Address
from .errors import AddressError, check_socket, explain
from .options import SocketOptions, Stage, asked
from .resolving import Target, resolve

__all__ = [
    "BACK_OFF",
    "FULL",
    "ITS_OWN",
    "UnixSocket",
    "bound",
    "check_listening",
    "check_stream",
    "listening",
    "no_delay",
    "open_socket",
    "take_over",
]

FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # no room to accept
BACK_OFF: Final = 0.5  # seconds to wait then
# accept(2): what happened to a connection before it was accepted is told by accept, and is not the listener's error.
ITS_OWN: Final = frozenset(
    getattr(errno, name)
    for name in ("ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
                 "ENETUNREACH", "ECONNRESET", "ETIMEDOUT")
    if hasattr(errno, name)
)  # fmt: skip
_TRIES: Final = 16  # to find a port that is free in all families
_LOCKED: Final = 1.0  # seconds to wait for others who make Unix files in the same directory
_Socket = TypeVar("_Socket", bound=socket.socket)
_DATAGRAM_KINDS: Final = (socket.SOCK_DGRAM, socket.SOCK_RAW)


def open_socket(
    target: Target, options: SocketOptions | None = None, *, stage: Stage = "connect", where: object = None
) -> socket.socket:
    """A blocking socket to connect or to bind, with the options that come before that.

    Args:
        target: see `resolve`. Of ``fd://`` there is nothing to open: see `take_over`.
        options: None is the defaults.
        stage: "connect" or "bind". Afterwards, "connected" is up to the caller.
        where: what errors name; the target's address, without.

    Raises:
        OSError: there is no room for it or an option is refused (see `SocketOptions.apply`). Nothing stays open.
        ValueError: an option does not fit it.
    """
    if isinstance(target.sockaddr, int):
        raise AddressError(f"fd://{target.sockaddr}", "it is open, to be taken over", 0)
    if where is None:
        where = Address.from_sockaddr(target.sockaddr, target.family, target.kind, target.protocol)
    kind = UnixSocket if target.family == getattr(socket, "AF_UNIX", None) else socket.socket
    sock = _new(kind, target, where)  # a file that it is bound to goes with it
    try:
        asked(options).apply(sock, stage=stage, where=where)
    except BaseException:
        sock.close()
        raise
    return sock


def listening(
    address: str | Address, options: SocketOptions | None = None, *, mode: int | None = None
) -> list[socket.socket]:
    """Sockets that listen there: one for each address that the host has, of ``*`` one for IPv4 and one for IPv6.

    Port 0 lets the system choose, the same for all of them. With ``v6_only=False``, one IPv6 socket takes both
    at ``*``. The file that a dead server left in the place of a Unix socket is replaced, a living one's never; ours
    is removed when the socket is closed. ``fd://`` is taken over.

    Args:
        address: see `Address`.
        options: those that accepted connections are to have too; the listener sets them then (stage "accepted").
        mode: of the file of a Unix socket, such as 0o660. It has it before the first peer can come.

    Raises:
        AddressError: no address, or one where nothing listens: datagrams, a descriptor of another kind.
        NotOnThisSystem: the system has no such sockets, or lacks an option.
        OSError: it cannot be used; the message names it, and who has it where that is known. Nothing stays open.
        ValueError: an option or a mode that does not fit it.
    """
    return _open(Address.parse(address), asked(options), mode, "listening")


def bound(
    address: str | Address, options: SocketOptions | None = None, *, mode: int | None = None
) -> list[socket.socket]:
    """Sockets for datagrams that are bound there: otherwise as `listening`.

    Raises:
        AddressError: no address, or not one of datagrams.
        NotOnThisSystem: the system has no such sockets, or lacks an option.
        OSError: it cannot be used; the message names it, and who has it where that is known. Nothing stays open.
        ValueError: an option or a mode that does not fit it.
    """
    return _open(Address.parse(address), asked(options), mode, "bound")


def check_stream(sock: socket.socket) -> None:
    """Whether a socket can be a stream's. A connection that is broken already is one still.

    Raises:
        ValueError: it is for datagrams, or listens, or was never connected.
    """
    check_socket(sock)
    reason = ""
    if sock.type in _DATAGRAM_KINDS:
        reason = "is for datagrams: bind_datagram() and connect_datagram() open those"
    else:
        try:
            sock.getpeername()
        except OSError:
            name = sock.getsockname() if sock.fileno() >= 0 else None
            if isinstance(name, tuple) and not name[1]:
                reason = "is not connected"
            elif name is not None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                reason = "listens"
    if reason:
        raise ValueError(f"a stream has a connected socket, and {sock!r} {reason}")


def check_listening(sockets: Sequence[socket.socket]) -> None:
    """Whether sockets can be a listener's.

    Raises:
        ValueError: there are none, or one does not listen.
    """
    if not sockets:
        raise ValueError("a listener has one socket or more that listen")
    for sock in sockets:
        check_socket(sock)
        if sock.type in _DATAGRAM_KINDS or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(f"a listener has sockets that listen, and {sock!r} does not")


def take_over(
    address: str | Address,
    options: SocketOptions | None = None,
    *,
    state: Literal["listening", "connected", "bound"],
) -> socket.socket:
    """The socket of a descriptor that was open before us (``fd://3``). It is ours from now on, and we close it.

    What has its time before a socket is bound was up to who bound it: `reuse_port` and `v6_only` are left out.

    Args:
        address: ``fd://`` and its number.
        options: None is the defaults.
        state: what it must be. One that is bound for streams is made to listen.

    Raises:
        AddressError: it is not such a socket. The descriptor stays open, as with the next.
        OSError: there is no such descriptor, or it is no socket, or an option is refused.
    """
    address, options = Address.parse(address), asked(options)
    if address.scheme != "fd":
        raise AddressError(str(address), "no descriptor to take over", 0)
    try:
        sock = socket.socket(fileno=address.fd)
    except OSError as error:
        raise explain(error, "use", address) from None
    try:
        _check_state(sock, address, state, options.backlog)
        stage: Stage = "accepted" if state == "connected" else "bind"
        options.replace(reuse_port=None, v6_only=None).apply(sock, stage=stage, where=address)
        sock.set_inheritable(False)
        sock.setblocking(True)
    except BaseException:
        sock.detach()
        raise
    return sock


class UnixSocket(socket.socket):
    """A Unix socket that removes its file when it is closed, unless another one has taken its place.

    Only the process that bound it does: one that it forked closes its copy, and the file stays. So it does when the
    socket is detached, to be given to another process.
    """

    __slots__ = ("_file", "_path", "_pid")

    _file: tuple[int, int] | None

    def bind(self, name: str) -> None:  # type: ignore[override]  # of all addresses, only this family's
        super().bind(name)
        self._pid = os.getpid()
        self._path = os.path.abspath(name) if name and not name.startswith("\0") else ""
        self._file = _identity(self._path) if self._path else None

    def close(self) -> None:
        file, self._file = getattr(self, "_file", None), None
        with contextlib.suppress(OSError):
            if file is not None and self._pid == os.getpid() and _identity(self._path) == file:
                os.unlink(self._path)
        super().close()

    def detach(self) -> int:
        self._file = None
        return super().detach()


def _open(
    address: Address, options: SocketOptions, mode: int | None, state: Literal["listening", "bound"]
) -> list[socket.socket]:
    if address.scheme != "fd" and (address.kind in _DATAGRAM_KINDS) != (state == "bound"):
        what = "datagrams: nothing listens there" if state == "listening" else "streams: there are no datagrams"
        raise AddressError(str(address), f"it is for {what}", 0)
    if mode is not None:
        if type(mode) is not int:
            raise TypeError(f"mode is a number, not {mode!r}")
        if not 0 <= mode <= 0o777:
            raise ValueError(f"mode is 0 to 0o777, not {mode:#o}")
        if not address.is_unix or address.path[:1] in ("", "\0"):
            raise ValueError(f"mode: {address} has no file")
    if address.scheme == "fd":
        return [take_over(address, options, state=state)]
    targets = resolve(address, passive=True)
    if address.is_unix:
        return [_unix(address, targets[0], options, mode, state)]
    if options.v6_only is None:
        options = options.replace(v6_only=True)  # what the system has by default differs from host to host
    elif not options.v6_only and not address.host:
        targets.sort(key=lambda target: target.family != socket.AF_INET6)
    for tries in range(_TRIES, 0, -1):
        sockets: list[socket.socket] = []
        try:
            _bind_all(address, targets, options, state, sockets)
            return sockets
        except BaseException as error:
            for sock in sockets:
                sock.close()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if address.port or not taken or tries == 1 or not sockets:
                raise
    raise AssertionError


def _bind_all(
    address: Address, targets: list[Target], options: SocketOptions, state: str, sockets: list[socket.socket]
) -> None:
    """Append a socket for each target that this host really has."""
    failure: OSError | None = None
    for target in targets:
        if sockets:
            if not options.v6_only and not address.host:
                return  # the IPv6 one takes both
            sockaddr = target.sockaddr
            port = address.port or sockets[0].getsockname()[1]
            target = target._replace(sockaddr=(sockaddr[0], port, *sockaddr[2:]))
        where = Address.from_sockaddr(*_name(target)).replace(scheme=address.scheme)
        try:
            sock = open_socket(target, options, stage="bind", where=where)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            failure = failure or error  # a system without IPv6 still names its addresses
            continue
        try:
            sock.bind(target.sockaddr)
            if state == "listening":
                sock.listen(options.backlog)
        except OSError as error:
            sock.close()
            explained = _not_bound(error, where, state)
            if error.errno != errno.EADDRNOTAVAIL or target.family != socket.AF_INET6:
                raise explained from None
            failure = failure or explained  # IPv6 is there and switched off
        except BaseException:
            sock.close()
            raise
        else:
            sockets.append(sock)
    if not sockets:
        assert failure is not None  # noqa: S101 - there is no answer without a target
        raise failure


def _name(target: Target) -> tuple[Any, int, int, int]:
    return target.sockaddr, target.family, target.kind, target.protocol


def _unix(address: Address, target: Target, options: SocketOptions, mode: int | None, state: str) -> UnixSocket:
    path = "" if address.path.startswith("\0") else address.path
    sock = _new(UnixSocket, target, address)
    try:
        options.apply(sock, stage="bind", where=address)
        try:
            with _alone(path):
                if path:
                    _remove_stale(path, target.kind)
                sock.bind(address.path)
                if mode is not None:
                    os.chmod(path, mode)  # before it listens: nobody comes under another one
                if state == "listening":
                    sock.listen(options.backlog)
        except OSError as error:
            raise _not_bound(error, address, state) from None
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """No other of us makes a Unix file in that directory meanwhile: bound and not listening yet, it looks dead.

    A lock of the directory says so. Anybody may hold one as long as they like, so it is not waited for without end.
    """
    number = -1
    try:
        with contextlib.suppress(OSError, ImportError):  # without, as everybody else
            import fcntl  # not on Windows

            number = os.open(os.path.dirname(path) or ".", os.O_RDONLY) if path else -1
            deadline = time.monotonic() + _LOCKED
            while number >= 0 and time.monotonic() < deadline:
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.005)
        yield
    finally:
        if number >= 0:
            os.close(number)


def _new(cls: type[_Socket], target: Target, where: object) -> _Socket:
    try:
        return cls(target.family, target.kind, target.protocol)
    except OSError as error:
        raise explain(error, "open a socket for", where) from None


def _not_bound(error: OSError, where: Address, state: str) -> OSError:
    doing = "listen on" if state == "listening" else "bind"
    return explain(error, doing, where, holder=_holder(where) if error.errno == errno.EADDRINUSE else None)


def _holder(address: Address) -> str | None:
    """Who has an address, where that can be read."""
    try:
        from .info import who_has  # only a failure pays for it

        return who_has(address)
    except Exception:
        return None  # this is about another error, which comes without it then


def _check_state(sock: socket.socket, address: Address, state: str, backlog: int) -> None:
    def wrong(reason: str) -> AddressError:
        return AddressError(str(address), reason, len("fd://"))

    if (sock.type in _DATAGRAM_KINDS) != (state == "bound"):
        raise wrong(f"the socket there is of kind {socket.SocketKind(sock.type).name}")
    if state == "bound":
        return
    listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    try:
        sock.getpeername()
        connected = True
    except OSError:
        connected = False
    if state == "connected" and not connected:
        raise wrong("the socket there is not connected" if not listens else "the socket there listens")
    if state == "listening" and not listens:
        name = sock.getsockname()
        if connected or not (name[1] if isinstance(name, tuple) else name):
            raise wrong(f"the socket there {'is connected' if connected else 'is not bound'}")
        try:
            sock.listen(backlog)
        except OSError as error:
            raise explain(error, "listen on", address) from None


def _identity(name: str) -> tuple[int, int]:
    found = os.lstat(name)
    return found.st_dev, found.st_ino


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from one that came after it: a number is soon given again."""
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove_stale(name: str, kind: int) -> None:
    """Remove the file of a Unix socket that nobody has any more.

    Raises:
        OSError: there is another file, or a living socket.
    """
    try:
        found = os.lstat(name)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "a file that isn't a socket is there")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            pass
        except PermissionError:
            raise
        except FileNotFoundError:
            return
        except OSError:
            raise OSError(errno.EADDRINUSE, "a server is listening there") from None  # it answers somehow
        else:
            raise OSError(errno.EADDRINUSE, "a server is listening there")
    # Between the question and now another server may have put its own there. So it is moved aside, which nobody
    # else can do with the same file, looked at, and put back if it isn't the dead one.
    aside = f"{name}.{secrets.token_hex(4)}"
    try:
        os.rename(name, aside)
    except FileNotFoundError:
        return
    try:
        if _stamp(os.lstat(aside)) != _stamp(found):
            os.link(aside, name)
            raise OSError(errno.EADDRINUSE, "a server is listening there")
    finally:
        os.unlink(aside)


def no_delay(sock: Any) -> None:
    """Send small messages at once (TCP_NODELAY, RFC 9293 section 3.7.4), where the socket is TCP."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the peer is gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
