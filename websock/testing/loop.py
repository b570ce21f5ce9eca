"""An event loop in virtual time: it never waits, and its sockets are those of the network in memory."""

from __future__ import annotations

import asyncio
import random
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .network import MemoryNetwork
from .scheduler import Scheduler

__all__ = ["VirtualLoop"]


class _Selector(selectors.BaseSelector):
    """Tells which sockets of a network are ready; when none is, time goes on."""

    def __init__(self, network: MemoryNetwork, chance: random.Random) -> None:
        self._network = network
        self._chance = chance
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._found: list[tuple[selectors.SelectorKey, int]] = []
        self.woken = False  # by another thread

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = _number(fileobj)
        if number not in self._network.open:
            raise ValueError(f"{fileobj!r} belongs to the system: a simulation has sockets in memory only (mem://name)")
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(_number(fileobj))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self.unregister(fileobj)
        return self.register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._network.scheduler.wait(self._happened, timeout)  # which leaves what it has found
        self.woken = False
        ready = self._found
        if len(ready) > 1:
            self._chance.shuffle(ready)
        return ready

    def _happened(self) -> bool:
        self._found = self._ready()
        return self.woken or bool(self._found)

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        found = []
        for number, key in self._keys.items():
            sock = self._network.open.get(number)
            if sock is None:
                continue  # it is closed
            events = selectors.EVENT_READ if key.events & selectors.EVENT_READ and sock.readable() else 0
            if key.events & selectors.EVENT_WRITE and sock.writable():
                events |= selectors.EVENT_WRITE
            if events:
                found.append((key, events))
        return found

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return _Map(self._keys)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[_number(fileobj)]

    def close(self) -> None:
        self._keys.clear()


class _Map(dict[int, selectors.SelectorKey]):
    """By descriptor, or by what has one."""

    def get(self, fileobj: Any, default: Any = None) -> Any:
        return super().get(_number(fileobj), default)


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop of a simulation.

    Names cannot be looked up and the system's sockets cannot be used in it; ``run_in_executor`` makes a thread of the
    simulation for each call; signals are those that `Simulation.signal` sends.
    """

    simulated = True

    def __init__(self, scheduler: Scheduler, network: MemoryNetwork, chance: random.Random) -> None:
        self._scheduler = scheduler
        self._virtual = _Selector(network, chance)
        self.handlers: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._scheduler.now

    # asyncio wakes its loop by a pair of sockets; here a flag does.

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        self._virtual.woken = True

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()

        def done(value: Any, error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

        def run() -> None:
            value, error = None, None
            try:
                value = func(*args)
            except Exception as raised:
                error = raised
            if not self.is_closed():
                self.call_soon_threadsafe(done, value, error)

        threading.Thread(target=run, name=f"executor {getattr(func, '__name__', func)}").start()
        return future

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"there is no name service in a simulation: {host!r}")

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self.handlers[signal.Signals(sig)] = callback, args

    def remove_signal_handler(self, sig: int) -> bool:
        return self.handlers.pop(sig, None) is not None
