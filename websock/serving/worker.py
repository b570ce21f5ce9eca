"""The inside of a pre-forked process: from the fork to its end.

Two pipes connect it with its supervisor. On `line` come orders, and its end means that the supervisor is gone. On
`status` it says once that it serves, or why it cannot; its end means that this process is gone.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from ..typing import LoggerLike
from .loading import LoadError
from .orders import Do, Order, Orders
from .plan import QUICK
from .processes import leave

__all__ = ["Line", "work"]

Work = Callable[[Orders, Callable[[], object]], None]


class Line:
    """The orders of the supervisor.

    Args:
        fd: the reading end of its pipe.
        orders: where they go.
        grace: seconds that this process has when the supervisor is gone.
    """

    def __init__(self, fd: int, orders: Orders, grace: float) -> None:
        self._fd = fd
        self._orders = orders
        self._grace = grace
        self._rest = b""

    def fileno(self) -> int:
        """The descriptor, to wait for."""
        return self._fd

    def read(self) -> bool:
        """Wait for something, and pass it on; whether the supervisor is there."""
        data = os.read(self._fd, 4096)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._orders.give(Order.from_line(line), passed_on=True)
        if data:
            return True
        # A process that does not stop by itself, since a handler holds it, ends all the same.
        timer = threading.Timer(self._grace + 2 * QUICK, os._exit, (1,))
        timer.daemon = True
        timer.start()
        self._orders.give(Order(Do.STOP), passed_on=True)
        return False

    def follow(self) -> None:
        """Read in a thread."""

        def run() -> None:
            while self.read():
                pass

        threading.Thread(target=run, name="websock-supervisor", daemon=True).start()


def work(run: Work, line: int, status: int, grace: float, logger: LoggerLike) -> NoReturn:
    """Be a worker, right after the fork; does not return.

    Args:
        run: serves; is given the orders and whom to tell that it is ready.
        line, status: our ends of the pipes.
        grace: seconds for a graceful stop.
        logger: whom to tell of what went wrong.
    """
    code = 1
    try:
        orders = Orders()
        _signals(orders)
        # Whatever this process forks must not keep the supervisor from seeing its end.
        os.register_at_fork(after_in_child=lambda: os.close(status))
        orders.line = Line(line, orders, grace)
        try:
            run(orders, lambda: _tell(status, ready=True))
            code = 0
        except (LoadError, TypeError, ValueError, ImportError, OSError) as error:
            if error.__cause__ is not None:
                logger.error("%s", error, exc_info=error.__cause__)
            usage = not isinstance(error, OSError) and error.__cause__ is None
            said = error.strerror if isinstance(error, OSError) and error.filename is None else None  # ours say all
            _tell(status, failed=said or str(error) or type(error).__name__, usage=usage)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        logger.exception("worker %d failed", os.getpid())
    finally:
        leave(code)


def _tell(status: int, **what: Any) -> None:
    try:
        os.write(status, json.dumps(what).encode() + b"\n")
    except OSError:
        pass  # the supervisor is gone, as the other pipe will tell


def _signals(orders: Orders) -> None:
    """The supervisor acts on Ctrl-C and on a hang-up, which come to all of us, and then tells us.

    SIGTERM may be for this worker alone; where it came to all, the supervisor's word is the same order: see `Orders`.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # there are none of the supervisor's either
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: orders.give(Order(Do.STOP)))
    signal.signal(signal.SIGQUIT, lambda *_: orders.give(Order(Do.QUIT)))
