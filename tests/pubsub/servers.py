"""Real redis-servers for tests: on a free port of the loopback, or on a Unix socket, ended by their number."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ..programs import PATIENCE, missing

__all__ = ["RedisServer", "pause", "redis_server"]


def pause(pid: int) -> None:
    """Stop a process, and wait until all its threads have stopped (proc(5)): the signal alone waits for nothing."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    for thread in os.listdir(f"/proc/{pid}/task"):
        while Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
            assert time.monotonic() < deadline, "the process did not stop"
            time.sleep(0.001)


class RedisServer:
    """A redis-server with a folder of its own, on a Unix socket there.

    Attributes:
        path: of its socket.
        url: for `websock.pubsub`.
    """

    def __init__(self, folder: str, *options: str, saved: bool = False) -> None:
        self.folder = folder
        self.path = os.path.join(folder, "redis.sock")
        self.url = f"unix://{self.path}?prefix=test"
        self._options = (*options, *(() if saved else ("--save", "", "--appendonly", "no")))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with Path(self.folder, "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.folder),
                    *("--unixsocketperm", "700", "--daemonize", "no", *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.ask(b"PING"):
            assert self.process.poll() is None, Path(self.folder, "redis.log").read_text()
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def ask(self, command: bytes) -> bytes:
        """What it says to a command in one line; nothing if it is not there."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(self.path)
            sock.sendall(command + b"\r\n")
            return sock.recv(65536)
        return b""

    def pause(self) -> None:
        """As a machine that hangs would."""
        assert self.process is not None
        pause(self.process.pid)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None


@contextlib.contextmanager
def redis_server(folder: str, *options: str, saved: bool = False) -> Iterator[RedisServer]:
    """One that runs, and is ended; skipped where there is no redis-server, which for CI is a failure."""
    if shutil.which("redis-server") is None:
        missing("redis-server")
    server = RedisServer(folder, *options, saved=saved)
    try:
        server.start()
        yield server
    finally:
        server.kill()
