"""What signals order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from .orders import Do, Order, Orders

__all__ = ["obeying"]

_ORDERS = {"SIGTERM": Do.STOP, "SIGINT": Do.STOP, "SIGBREAK": Do.STOP, "SIGQUIT": Do.QUIT, "SIGHUP": Do.RELOAD}


@contextlib.contextmanager
def obeying(orders: Orders) -> Iterator[None]:
    """SIGTERM and SIGINT stop gracefully, a second time at once, as SIGQUIT; SIGHUP reloads.

    In a thread that is not the main one there are no signals, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for name, do in _ORDERS.items():
        if (number := getattr(signal, name, None)) is not None:
            before[number] = signal.signal(number, lambda *_, do=do: orders.give(Order(do)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
