"""A process for each connection, forked when it was accepted.

Strategy: the parent only accepts, with one thread, and hears of a child by a socket pair: what it writes there is what
`Job.stop` is to be told in the child, and its end means that the other side is gone. In a child, the thread that
accepted runs the job, and a second one reads what the parent has to say.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, NoReturn

from ..net.channel import wait_for
from ..net.errors import NotOnThisSystem
from ..sync.models import Job, Model
from .outcome import explain_status, failed

__all__ = ["Processes"]

_PATIENCE: Final = 10.0  # seconds for a child whose parent is gone
_SOON: Final = 0.001  # seconds
_ORDER: Final = 4096  # octets of one read of what a child is told


@dataclasses.dataclass(eq=False)
class _Child:
    pid: int
    line: socket.socket
    job: Job
    cut: bool = False  # we have killed it


class Processes(Model):
    """A process for each connection: a handler may crash, or hold the interpreter, and hurts nobody else.

    Each costs a fork and the memory that it changes, so it is for tens or hundreds of connections, and for handlers
    that compute or call what isn't trusted. A handler sees the server as it was when the connection came; what it
    changes, it changes for itself, ``server.connections`` is its own alone and ``broadcast`` reaches nobody else. Do
    not run other threads in a program that forks: a lock that one of them holds stays locked in the child.

    Args:
        most: how many at a time; the next connection is refused with 503.

    Attributes:
        farewell: what `stop` is told when the server gets a SIGTERM. It may be for a whole group of processes, so a
            child that gets one does the same. At first ``()``, which is at once.

    Raises:
        NotOnThisSystem: it has no fork.
        ValueError: less than one.
    """

    name: ClassVar[str] = "processes"
    in_process: ClassVar[bool] = False

    def __init__(self, most: int = 256) -> None:
        super().__init__()
        if not hasattr(os, "fork"):
            raise NotOnThisSystem("a process for each connection (fork)")
        if most < 1:
            raise ValueError(f"at least one process must be allowed, not {most}")
        self._most = most
        self.farewell: tuple[Any, ...] = ()
        self._children: dict[int, _Child] = {}  # by process
        self._lock = threading.RLock()
        self._own: Job | None = None  # in a child, its one

    def __repr__(self) -> str:
        return f"Processes({self._most})"

    def start(self, job: Job) -> None:
        with self._lock:
            self._reap()
            if len(self._children) >= self._most:
                self.refuse(job, f"all {self._most} processes are in use")
                return
            ours, theirs = socket.socketpair()
            for stream in (sys.stdout, sys.stderr):  # what it holds back would come out twice
                if stream is not None:
                    stream.flush()
            try:
                pid = os.fork()
            except BaseException:
                ours.close()
                theirs.close()
                raise
            if not pid:
                ours.close()
                self._be_the_child(job, theirs)
            theirs.close()
            job.forget()
            child = self._children[pid] = _Child(pid, ours, job)
            try:
                self.host.watch(ours, self._hear)
            except OSError:  # the listener was closed meanwhile: `join` waits for it
                pass
        self.host.logger.debug("process %d serves %s", child.pid, child.job)

    def _hear(self) -> None:
        """A child has closed its end of the line, which comes a moment before its own end."""
        if not self._reap():
            time.sleep(_SOON)

    def _reap(self) -> bool:
        """Learn which children have ended; whether any has."""
        before = len(self._children)
        with self._lock:
            for child in list(self._children.values()):
                try:
                    pid, status = os.waitpid(child.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else has waited for it
                    pid, status = child.pid, 0
                if pid:
                    self._ended(child, status)
        return len(self._children) < before

    def _ended(self, child: _Child, status: int) -> None:
        del self._children[child.pid]
        try:
            self.host.unwatch(child.line)
        except (OSError, KeyError, ValueError):
            pass  # it never was
        child.line.close()
        child.job.ended()
        if child.cut:
            self.host.logger.info("process %d, which served %s, was cut", child.pid, child.job)
        elif failed(status):
            self.host.logger.error("process %d, which served %s, %s", child.pid, child.job, explain_status(status))

    def jobs(self) -> list[Job]:
        return [] if self._own is None else [self._own]

    def count(self) -> int:
        self._reap()
        return len(self._children) if self._own is None else 1

    def stop(self, *how: Any) -> None:
        if self._own is not None:
            self._own.stop(*how)
            return
        text = json.dumps(how).encode() + b"\n"
        for child in self._alive():
            try:
                child.line.send(text)
            except OSError:
                pass  # it ends already

    def join(self) -> None:
        if self._own is None:
            while alive := self._alive():
                for child in alive:
                    # Not in waitpid: `abort` may come from another thread, and a signal handler may want the lock.
                    wait_for(child.line, True, False, 1.0)
                self._reap()

    def abort(self) -> None:
        super().abort()
        for child in self._alive():
            child.cut = True
            try:
                os.kill(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _alive(self) -> list[_Child]:
        with self._lock:
            return list(self._children.values())

    # The child.

    def _be_the_child(self, job: Job, line: socket.socket) -> NoReturn:
        status = 1
        try:
            self._own = job
            for child in self._children.values():
                child.line.close()
            self._children.clear()
            self.host.forget()
            _signals(job, self.farewell)
            threading.Thread(target=_obey, args=(job, line), name="websock-parent", daemon=True).start()
            job.run()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            self.host.logger.exception("process %d failed", os.getpid())
        finally:
            leave(status)


def _signals(job: Job, farewell: tuple[Any, ...]) -> None:
    """A child's own: Ctrl-C and a hang-up are the parent's to act on; SIGTERM is what the parent makes of its own."""
    if threading.current_thread() is not threading.main_thread():
        return  # there are none of the parent's either
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hows = iter([farewell])  # and then at once

    def terminate(*_: object) -> None:
        # In a thread, since the thread that is interrupted may hold the locks of the connection.
        threading.Thread(target=_stop, args=(job, next(hows, ())), daemon=True).start()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGQUIT, lambda *_: os._exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _stop(job: Job, how: Sequence[Any]) -> None:
    job.stop(*how)
    job.wait()


def _obey(job: Job, line: socket.socket) -> None:
    """The thread that reads what the parent says."""
    for how in _orders(line):
        threading.Thread(target=_stop, args=(job, how), daemon=True).start()
    threading.Timer(_PATIENCE, os._exit, (1,)).start()
    _stop(job, [])


def _orders(line: socket.socket) -> Iterator[list[Any]]:
    """What the parent says, one line of JSON each, until it is gone."""
    rest = b""
    while True:
        try:
            data = line.recv(_ORDER)
        except OSError:
            data = b""
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from map(json.loads, whole)


def leave(status: int) -> NoReturn:
    """End a forked process: what it has printed goes out, and nothing of the parent's is cleaned up twice."""
    try:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except Exception:
        pass  # nobody reads them any more
    finally:
        os._exit(status)
