"""Workers: processes that are forked before connections come, and the supervisor that keeps them there.

Strategy: the supervisor listens and never accepts, imports nothing of the user's and has one thread, so that what it
forks is clean and loads the code and the TLS files that are there then. It waits in one place for orders, for what
workers say and for their ends. Each worker has a slot with its listeners; on reload every slot has two for a moment,
and the old ones are stopped when all the new ones serve.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..net.errors import NotOnThisSystem
from ..spec import CloseCode
from ..typing import LoggerLike
from .backoff import BackOff
from .notify import notify
from .orders import Do, Order, Orders
from .outcome import explain_status
from .plan import QUICK
from .worker import work

__all__ = ["StartError", "Supervisor"]

START_TIME: Final = 60.0
"""Seconds from a worker's fork until it must serve."""
_SOON: Final = 0.02  # seconds between a worker's last word and its end

Work = Callable[[Sequence[socket.socket], Orders, Callable[[], object]], None]


class StartError(Exception):
    """No worker could serve; the message is what the first one said.

    Attributes:
        usage: whether it was asked for something that cannot be, rather than that the system refused.
    """

    def __init__(self, text: str, usage: bool) -> None:
        super().__init__(text)
        self.usage = usage


@dataclasses.dataclass(eq=False)
class _Worker:
    slot: _Slot
    pid: int
    line: int
    status: int
    born: float
    act_by: float | None  # when it is killed, unless it is ready or has ended until then
    said: bytes = b""
    ready: bool = False
    leaving: bool = False
    told_at: float = 0.0  # when it was first told to leave
    gone: bool = False  # its pipe has ended
    failure: str = ""
    usage: bool = False

    def __str__(self) -> str:
        return f"worker {self.slot.number} (process {self.pid})"


@dataclasses.dataclass(eq=False)
class _Slot:
    number: int
    sockets: Sequence[socket.socket]
    worker: _Worker | None = None
    back_off: BackOff = dataclasses.field(default_factory=BackOff)
    start_at: float | None = 0.0  # when its next one is started, if it has none


class Supervisor:
    """Keeps as many workers as there are lists of sockets.

    Args:
        sockets: those of each worker, the same list where they share. They are closed at the end.
        serve: what a worker does: it is given its sockets, its orders, and whom to tell that it serves.
        orders: to stop and to reload.
        grace: seconds for a graceful stop; then workers cut what is left, and are killed if they do not.
        logger: whom it tells.
        ready: called once, when all workers serve.

    Raises:
        NotOnThisSystem: it has no fork.
    """

    def __init__(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        serve: Work,
        *,
        orders: Orders,
        grace: float,
        logger: LoggerLike,
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        if not hasattr(os, "fork"):
            raise NotOnThisSystem("workers (fork)")
        self._slots = [_Slot(number, some) for number, some in enumerate(sockets, 1)]
        self._serve = serve
        self._orders = orders
        self._grace = grace
        self._logger = logger
        self._ready = ready
        self._workers: list[_Worker] = []  # all that run
        self._fresh: list[_Worker] | None = None  # those of a reload, until all of them serve
        self._again = False  # an order to reload came meanwhile
        self._starting = True  # not all have served yet
        self._stopping = False
        self._failed: StartError | None = None

    def run(self) -> None:
        """Serve until ordered to stop.

        Raises:
            StartError: no worker can serve.
        """
        self._wake, self._woken = socket.socketpair()
        for sock in (self._wake, self._woken):
            sock.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False) if in_main else -1
        try:
            self._orders.listen(self._nudge)
            while self._tend(time.monotonic()):
                self._wait()
        finally:
            self._orders.listen(None)
            if in_main:
                signal.set_wakeup_fd(before)
            self._end()
        if self._failed is not None:
            raise self._failed

    def _end(self) -> None:
        """Whatever happened, nothing stays behind."""
        for worker in self._workers:
            self._kill(worker)
        for worker in list(self._workers):
            _wait_for(worker, 0)
            self._forget(worker)
        self._close_listeners()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _nudge(self) -> None:
        try:
            self._wake.send(b"\0")
        except OSError:
            pass  # as many as fit are there, or all is over

    def _wait(self) -> None:
        now = time.monotonic()
        times = [worker.act_by for worker in self._workers if worker.act_by is not None]
        times += [now + _SOON for worker in self._workers if worker.gone]
        if self._fresh is None and not self._stopping:
            times += [slot.start_at for slot in self._slots if slot.start_at is not None]
        for key, _ in self._selector.select(max(0.0, min(times) - now) if times else None):
            if key.data is None:
                self._woken.recv(4096)
            else:
                self._hear(key.data)

    def _tend(self, now: float) -> bool:
        """All that is due now; whether there is more to come."""
        while (order := self._orders.take()) is not None:
            if order.do is not Do.RELOAD:
                self._stop(order, now)
            elif not self._stopping:
                self._reload(now)
        for worker in list(self._workers):
            if worker.gone or worker.act_by is not None:
                self._look_after(worker, now)
        if self._fresh is not None and all(worker.ready for worker in self._fresh):
            self._replace(self._fresh, now)
        if not self._stopping and self._fresh is None:
            for slot in self._slots:
                if slot.start_at is not None and slot.start_at <= now and not self._stopping:
                    self._start(slot, now)
            if self._again:
                self._again = False
                self._reload(now)
        if self._starting and not self._stopping and all(s.worker is not None and s.worker.ready for s in self._slots):
            self._starting = False
            self._logger.info("server has %d workers", len(self._slots))
            self._ready()
        return not self._stopping or bool(self._workers)

    def _look_after(self, worker: _Worker, now: float) -> None:
        if worker.gone:
            status = _wait_for(worker, os.WNOHANG)
            if status is not None:
                self._ended(worker, status, now)
                return
        if worker.act_by is not None and worker.act_by <= now:
            worker.act_by = None
            if not worker.leaving and not worker.ready:
                worker.failure = f"it did not serve within {START_TIME:g} s"
            elif worker.leaving:
                self._logger.warning("%s did not stop within %.0f s, and is killed", worker, now - worker.told_at)
            self._kill(worker)

    # Starting.

    def _start(self, slot: _Slot, now: float) -> None:
        slot.start_at = None
        try:
            slot.worker = self._fork(slot, now)
        except OSError as error:
            slot.start_at = now + max(1.0, slot.back_off.died(0))
            self._logger.error("can't start worker %d: %s; trying again", slot.number, error)

    def _fork(self, slot: _Slot, now: float) -> _Worker:
        for stream in (sys.stdout, sys.stderr):  # what it holds back would come out twice
            if stream is not None:
                stream.flush()
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            pid = os.fork()
        except BaseException:
            for fd in pipes:
                os.close(fd)
            raise
        read_line, write_line, read_status, write_status = pipes
        if not pid:
            self._be_a_worker(slot, read_line, write_line, read_status, write_status)
        os.close(read_line)
        os.close(write_status)
        worker = _Worker(slot, pid, write_line, read_status, now, now + START_TIME)
        self._workers.append(worker)
        os.set_blocking(read_status, False)
        self._selector.register(read_status, selectors.EVENT_READ, worker)
        self._logger.debug("%s starts", worker)
        return worker

    def _be_a_worker(self, slot: _Slot, line: int, write_line: int, read_status: int, status: int) -> None:
        """The child: what is the supervisor's or another worker's is closed, above all the ends of pipes."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        self._orders.listen(None)
        self._selector.close()
        for sock in (self._wake, self._woken):
            sock.close()
        for fd in (write_line, read_status, *(fd for one in self._workers for fd in (one.line, one.status))):
            os.close(fd)
        for sock in {sock for one in self._slots for sock in one.sockets} - {*slot.sockets}:
            sock.close()
        work(lambda orders, ready: self._serve(slot.sockets, orders, ready), line, status, self._grace, self._logger)

    def _hear(self, worker: _Worker) -> None:
        """A worker says something, or ends."""
        try:
            data = os.read(worker.status, 65536)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(worker.status)
            worker.gone = True
            if worker.act_by is None:
                worker.act_by = time.monotonic() + QUICK  # it ends now, unless its code has closed the pipe
            return
        *lines, worker.said = (worker.said + data).split(b"\n")
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            if said.get("ready"):
                worker.ready = True
                if not worker.leaving:
                    worker.act_by = None
            else:
                worker.failure, worker.usage = said["failed"], said["usage"]

    # Ending.

    def _ended(self, worker: _Worker, status: int, now: float) -> None:
        """A worker is gone: the one that takes its place, if any."""
        slot, how = worker.slot, explain_status(status)
        self._forget(worker)
        if slot.worker is worker:
            slot.worker = None
        fresh = self._fresh is not None and worker in self._fresh
        if worker.leaving:
            self._logger.info("%s %s, as it was told to", worker, how)
            return
        why = "" if worker.ready else worker.failure or f"{worker} {how} before it served"
        if self._starting:
            if not self._stopping:
                self._failed = StartError(why or f"{worker} {how}", worker.usage)
                self._stop(Order(Do.QUIT), now)
        elif fresh:
            self._give_up(why or f"{worker} {how}", now)
        else:
            wait = slot.back_off.died(now - worker.born)
            slot.start_at = now + wait
            when = f"in {wait:g} s" if wait else "now"
            if why:
                self._logger.error("%s did not start: %s; the next try is %s", worker, why, when)
            else:
                self._logger.error("%s %s after %.1f s; another one starts %s", worker, how, now - worker.born, when)

    def _forget(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        if not worker.gone:
            self._selector.unregister(worker.status)
        os.close(worker.line)
        os.close(worker.status)

    def _kill(self, worker: _Worker) -> None:
        try:
            os.kill(worker.pid, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
        except ProcessLookupError:
            pass  # but for a system that was told not to keep it (SIGCHLD ignored)

    def _dismiss(self, worker: _Worker, order: Order, now: float) -> None:
        """Stop a worker; it is killed when it takes too long."""
        again = worker.leaving
        if not again:
            worker.leaving, worker.told_at = True, now
        if not worker.ready:
            self._kill(worker)  # it has no connections, and may be busy with an import
            return
        # A little longer than the worker has, who cuts what is left by itself.
        end = now + QUICK + (QUICK if order.do is Do.QUIT or again else self._grace)
        worker.act_by = end if worker.act_by is None else min(worker.act_by, end)
        try:
            os.write(worker.line, order.to_line())
        except OSError:
            pass  # it is gone, which its other pipe tells

    def _stop(self, order: Order, now: float) -> None:
        first = not self._stopping
        if first:
            self._logger.info("server stopping")
            notify("STOPPING")
        self._stopping = True
        self._fresh = None
        self._close_listeners()  # who comes now is refused, rather than kept waiting for nobody
        for worker in list(self._workers):
            # Who leaves since a reload has its time yet: it is the second order to stop that is for at once.
            if not (first and worker.leaving and order.do is Do.STOP):
                self._dismiss(worker, order, now)

    def _close_listeners(self) -> None:
        for sock in {sock for slot in self._slots for sock in slot.sockets}:
            sock.close()

    # Reloading.

    def _reload(self, now: float) -> None:
        """Start new workers beside the old ones."""
        if self._fresh is not None or self._starting:
            self._again = True
            return
        self._logger.info("server reloading")
        notify("RELOADING")
        self._fresh = []
        try:
            for slot in self._slots:
                self._fresh.append(self._fork(slot, now))
        except OSError as error:
            self._give_up(str(error), now)

    def _give_up(self, why: str, now: float) -> None:
        """The new ones can't; the old ones stay."""
        self._logger.error("reload failed, the workers from before it stay: %s", why)
        fresh, self._fresh = self._fresh or [], None
        for worker in fresh:
            if worker in self._workers:
                self._dismiss(worker, Order(Do.STOP, CloseCode.SERVICE_RESTART, refuse=False), now)
        notify("READY")

    def _replace(self, fresh: list[_Worker], now: float) -> None:
        """All new ones serve: the old ones say goodbye, and open what they have accepted before that."""
        self._fresh = None
        order = Order(Do.STOP, CloseCode.SERVICE_RESTART, refuse=False)
        for worker in fresh:
            slot = worker.slot
            if slot.worker is not None:
                self._dismiss(slot.worker, order, now)
            slot.worker, slot.start_at, slot.back_off = worker, None, BackOff()
        self._logger.info("server reloaded: %d new workers", len(fresh))
        notify("READY")


def _wait_for(worker: _Worker, flags: int) -> int | None:
    """The status with which it ended; None if it has not. Where the system does not keep it (SIGCHLD ignored), 0."""
    try:
        pid, status = os.waitpid(worker.pid, flags)
    except ChildProcessError:
        return 0
    return status if pid else None
