"""Where a server listens, and how its workers share that.

Two ways to share. **One listener** that all workers accept from: all systems have it, and who is idle takes the next
connection; but who is idle is, with few connections at a time, most often the same worker (Linux wakes those that
wait in a fixed order), and one that is woken takes many at once: connections that stay make the difference stay.
Measured on Linux 6.18 with four workers and 200 connections that come one by one: 12, 27, 48 and 113 of them.
**A listener for each worker** on the same port (SO_REUSEPORT): Linux shares connections out by a hash of their
addresses, so each worker gets nearly as many (47, 49, 50, 54). macOS gives all of them to one of the listeners, so
this is the default on Linux alone, and only for TCP.

All listeners belong to the supervisor, which never accepts: when a worker dies, what waits at its listener waits for
the one that takes its place, where otherwise the kernel would reset it.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from collections.abc import Sequence
from typing import Final

from ..net.address import Address
from ..net.options import SocketOptions
from ..net.sockets import listening

__all__ = ["Place", "spell", "systemd_fds"]

_TRIES: Final = 8


@dataclasses.dataclass(frozen=True)
class Place:
    """Where to listen.

    Attributes:
        hosts: names or addresses; None is every address.
        port: 0 is any free one.
        unix: the path of a Unix socket, instead.
        mode: of its file.
        fds: descriptors of listening sockets, instead.
        sockets: listening sockets, instead.
        backlog: of the sockets.
        reuse_port: a listener for each worker; None is the better one of this system.
    """

    hosts: Sequence[str | None] = (None,)
    port: int = 0
    unix: str | None = None
    mode: int | None = None
    fds: Sequence[int] = ()
    sockets: Sequence[socket.socket] = ()
    backlog: int = 1024
    reuse_port: bool | None = None

    def listen(self, workers: int) -> list[list[socket.socket]]:
        """The sockets of each worker, which are the same objects where they share them.

        Raises:
            OSError: cannot listen there; the message names the address, and who has it where that is known.
            ValueError: an address that is none.
        """
        tcp = self.unix is None and not self.fds and not self.sockets
        apart = tcp and workers > 1 and (sys.platform == "linux" if self.reuse_port is None else self.reuse_port)
        asked = SocketOptions(backlog=self.backlog, reuse_port=self.reuse_port if tcp and not apart else None)
        if apart:
            return self._apart(workers)
        found: list[socket.socket] = list(self.sockets)
        try:
            if self.unix is not None:
                found += listening(Address("unix", path=self.unix), asked, mode=self.mode)
            for fd in self.fds:
                found += listening(f"fd://{fd}", asked)
            for host in self.hosts if tcp else ():
                found += listening(Address("tcp", host or "", self.port), asked)
        except BaseException:
            for sock in found:
                sock.close()
            raise
        return [found] * workers

    def _apart(self, workers: int) -> list[list[socket.socket]]:
        for tries in range(_TRIES, 0, -1):
            found: list[list[socket.socket]] = [[] for _ in range(workers)]
            try:
                for host in self.hosts:
                    # First without SO_REUSEPORT: another server that listens there must not share its port with us.
                    probes = listening(Address("tcp", host or "", self.port), SocketOptions(backlog=self.backlog))
                    address = Address("tcp", host or "", probes[0].getsockname()[1])
                    for probe in probes:
                        probe.close()
                    asked = SocketOptions(backlog=self.backlog, reuse_port=True)
                    for sockets in found:
                        sockets += listening(address, asked)
            except BaseException as error:
                for sockets in found:
                    for sock in sockets:
                        sock.close()
                # Somebody may have taken a free port in between.
                if self.port or not isinstance(error, OSError) or not any(found) or tries == 1:
                    raise
            else:
                return found
        raise AssertionError


def systemd_fds() -> list[int]:
    """The descriptors that systemd has opened for this process (sd_listen_fds(3)), which are asked for once."""
    number = os.environ.pop("LISTEN_FDS", "")
    pid = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not number.isdecimal():
        return []
    return list(range(3, 3 + int(number)))


def spell(sock: socket.socket, *, secure: bool) -> str:
    """The address of a listening socket as a client needs it."""
    from urllib.parse import quote

    name = sock.getsockname()
    scheme = "wss" if secure else "ws"
    if not isinstance(name, tuple):
        return f"{scheme}+unix://{quote(os.path.abspath(os.fsdecode(name)))}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
