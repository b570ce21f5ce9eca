"""Where networks in memory meet the adapters: ``mem://name`` is a place while a simulation runs (`websock.testing`).

Here are only the doors: what listens and what connects there. The network itself is far above, and installs itself.
"""

from __future__ import annotations

import abc
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from .guard import seconds_left

__all__ = ["SCHEME", "MemoryListener", "MemorySocket", "Network", "connected", "install", "listening", "name_of"]

SCHEME = "mem://"


class MemorySocket(abc.ABC):
    """An end of a connection in memory, or what listens there: it has the methods of a socket that does not block.

    It is no ``socket.socket``, and its descriptor is none of the system's: nobody may go past its methods.
    """

    __slots__ = ()

    @abc.abstractmethod
    def wait(self, *, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        """As `Channel.wait`, in the time of its network."""

    @abc.abstractmethod
    def connect(self, address: str) -> None:
        """Begin to connect to a name.

        Raises:
            BlockingIOError: always: when it can be written, ``SO_ERROR`` tells how it went.
        """

    @abc.abstractmethod
    def getsockopt(self, level: int, option: int) -> int: ...

    @abc.abstractmethod
    def close(self) -> None: ...


class MemoryListener(Protocol):
    """What a blocking server asks of what listens for it; see `net.listener.Listener`."""

    closed: bool

    @property
    def sockets(self) -> tuple[Any, ...]: ...

    def accept_socket(self, timeout: float | None = None) -> tuple[Any, Any]: ...

    def watch(self, file: Any, callback: Callable[[], object]) -> None: ...

    def unwatch(self, file: Any) -> None: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


class Network(Protocol):
    """A network in memory."""

    def socket(self) -> MemorySocket:
        """One that is not connected."""

    def listen(self, name: str) -> MemorySocket:
        """One that listens.

        Raises:
            OSError: EADDRINUSE: somebody else does.
        """

    def listener(self, sockets: Sequence[Any]) -> MemoryListener:
        """For a blocking server."""


_network: Network | None = None


def install(network: Network | None) -> None:
    """Make this the one network of the process; None for none."""
    global _network
    _network = network


def network_for(name: str) -> Network:
    """The network that is installed.

    Raises:
        RuntimeError: none is. It is no OSError: trying again would not help.
    """
    if _network is None:
        raise RuntimeError(f"{SCHEME}{name} is a place in a simulation only: with websock.testing.simulate(): ...")
    return _network


def name_of(host: object) -> str | None:
    """The name in ``mem://name``; None for a host that is something else."""
    if not isinstance(host, str) or not host.startswith(SCHEME):
        return None
    name = host.removeprefix(SCHEME).removesuffix("/")
    if not name or "/" in name:
        raise ValueError(f"{host!r} is no place to listen: mem:// wants a name, and nothing behind it")
    return name.lower()


def listening(name: str) -> socket.socket:
    """What listens at ``mem://name``; it only looks like a socket.

    Raises:
        OSError: EADDRINUSE: somebody else does.
        RuntimeError: no simulation runs.
    """
    return cast("socket.socket", network_for(name).listen(name))


def connected(name: str, deadline: float | None = None) -> socket.socket:
    """A connection to ``mem://name``; it only looks like a socket.

    Raises:
        ConnectionRefusedError: nobody listens there.
        TimeoutError: it took too long.
        RuntimeError: no simulation runs.
    """
    sock = network_for(name).socket()
    try:
        try:
            sock.connect(name)
        except BlockingIOError:
            if not sock.wait(read=False, write=True, timeout=seconds_left(deadline))[1]:
                raise TimeoutError(errno.ETIMEDOUT, f"cannot connect to {SCHEME}{name}: no answer in time") from None
        check(sock, name)
    except BaseException:
        sock.close()
        raise
    return cast("socket.socket", sock)


def check(sock: MemorySocket, name: str) -> None:
    """Raise what came of connecting."""
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        why = "nobody listens there" if number == errno.ECONNREFUSED else os.strerror(number)
        raise OSError(number, f"cannot connect to {SCHEME}{name}: {why}")
