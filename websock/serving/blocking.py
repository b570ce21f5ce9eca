"""Serving with blocking code, and a model that says where connections run."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from ..net.channel import wait_for
from ..sync.models import Model
from ..sync.server import Server, serve
from .orders import Do, Order, Orders
from .plan import QUICK, Plan, farewell, goodbye
from .processes import Processes

__all__ = ["Blocking"]


class Blocking:
    """Threads, a pool or processes.

    Args:
        model: a new one.
    """

    asynchronous: ClassVar[bool] = False

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name = model.name

    def __repr__(self) -> str:
        return repr(self._model)

    def check(self) -> None:
        """What the model lacks it has said when it was made."""

    def serve(self, plan: Plan, sockets: Sequence[socket.socket], orders: Orders, ready: Callable[[], object]) -> None:
        """Serve until ordered to stop."""
        if isinstance(self._model, Processes):
            self._model.farewell = farewell(plan.grace)
        server = serve(plan.handler, sock=sockets, model=self._model, **plan.keywords())
        _Run(plan, server, orders).run(ready)


class _Run:
    """Strategy: this thread accepts and takes orders; a helper waits for the end of the connections."""

    def __init__(self, plan: Plan, server: Server, orders: Orders) -> None:
        self._plan = plan
        self._server = server
        self._orders = orders
        self._deadline: float | None = None  # once it stops
        self._helper: threading.Thread | None = None
        self._over = False  # what the helper has to do
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)

    def run(self, ready: Callable[[], object]) -> None:
        server = self._server
        # A signal must end the wait for connections, whichever thread the system gives it to.
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False) if in_main else -1
        try:
            server.watch(self._woken, self._obey)
            if self._orders.line is not None:
                server.watch(self._orders.line, self._hear)
            self._orders.listen(self._nudge)
            ready()
            server.serve_forever()
            if self._orders.line is not None:
                self._orders.line.follow()  # nobody watches it any more, and nothing is forked
            while self._helper is not None and not self._over:
                left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                wait_for(self._woken, True, False, left)
                self._obey()
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._cut()
                    break
        finally:
            self._orders.listen(None)
            if self._helper is None:
                server.shutdown()  # something failed
            if in_main:
                signal.set_wakeup_fd(before)
            self._wake.close()
            self._woken.close()

    def _nudge(self) -> None:
        try:
            self._wake.send(b"\0")
        except OSError:
            pass  # as many as fit are there, or all is over

    def _hear(self) -> None:
        line = self._orders.line
        if line is not None and not line.read():
            self._orders.line = None
            self._server.unwatch(line)

    def _obey(self) -> None:
        """Do what is ordered; in the thread that accepts."""
        try:
            self._woken.recv(4096)
        except BlockingIOError:
            pass
        while (order := self._orders.take()) is not None:
            if order.do is Do.RELOAD:
                self._plan.reload()
                continue
            # What comes again is a person who does not want to wait.
            patience = QUICK if order.do is Do.QUIT or self._deadline is not None else self._plan.grace
            deadline = time.monotonic() + patience
            self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
            if self._helper is None:
                self._helper = threading.Thread(target=self._say_goodbye, args=(order, patience), daemon=True)
                self._helper.start()
            elif self._server.draining:
                goodbye(self._server, order, patience)  # which need not wait any longer

    def _say_goodbye(self, order: Order, patience: float) -> None:
        try:
            goodbye(self._server, order, patience)
        finally:
            self._over = True
            self._nudge()

    def _cut(self) -> None:
        model = self._server.model
        self._plan.logger.warning("server cut %d connections that were left", model.count())
        model.abort()
        if self._helper is not None:
            self._helper.join(QUICK)  # handlers that don't look at their connection end with the process
