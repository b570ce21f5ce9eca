"""`Serving` as part of a program: what it refuses, and its orders."""

from __future__ import annotations

import functools
import gc
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import websock.sync
from websock.core.service import handler_kind
from websock.exceptions import ConnectionClosed
from websock.serving import EventLoop, Pool, Serving, Threads
from websock.serving.orders import Do, Order, Orders

from ..programs import LIBRARY, PATIENCE
from . import apps


def wrapper(ws: Any) -> Any:
    return apps.tasks(ws)


class Callables:
    def __call__(self, ws: Any) -> None: ...

    async def method(self, ws: Any) -> None: ...


class AsyncCallable:
    async def __call__(self, ws: Any) -> None: ...


async def async_generator(ws: Any) -> Any:
    yield ws


KINDS: list[tuple[Any, str]] = [
    (apps.plain, "function"),
    (apps.tasks, "coroutine"),
    (functools.partial(apps.plain), "function"),
    (functools.partial(functools.partial(apps.tasks)), "coroutine"),
    (Callables(), "function"),
    (Callables().method, "coroutine"),
    (AsyncCallable(), "coroutine"),
    (lambda ws: None, "function"),
    (functools.wraps(apps.tasks)(wrapper), "either"),
    (apps.generator, "generator"),
    (async_generator, "generator"),
    (print, "function"),
]


@pytest.mark.parametrize(("handler", "kind"), KINDS)
def test_kinds(handler: Any, kind: str) -> None:
    assert handler_kind(handler) == kind


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (apps.tasks, {"model": "threads"}, TypeError, "handler tasks is a coroutine function.*'threads'"),
    (apps.tasks, {"model": Pool()}, TypeError, "handler tasks is a coroutine function.*'pool'"),
    (apps.plain, {"model": EventLoop("asyncio")}, TypeError, "handler plain is an ordinary function.*'asyncio'"),
    (apps.plain, {"model": "uvloop"}, TypeError, "handler plain is an ordinary function.*'uvloop'"),
    (5, {}, TypeError, "the handler must be a function, not 5"),
    (None, {}, TypeError, "the handler must be a function, not None"),
    (apps.plain, {"model": "thread"}, ValueError, "there is no model 'thread'; did you mean 'threads'"),
    (apps.plain, {"model": Threads}, TypeError, "a model is a name or an object"),
    ("nowhere:handler", {"trusted_proxies": ["x"]}, ValueError, "trusted_proxies: .x. does not appear"),
    ("nowhere:handler", {"trusted_proxies": "10.0.0.0/8"}, TypeError, "must be a list of networks"),
    (apps.plain, {"worker": 2}, TypeError, "has no option 'worker'; did you mean 'workers'"),
    (apps.plain, {"ping_intervall": 2}, TypeError, "has no option 'ping_intervall'; did you mean 'ping_interval'"),
    (apps.plain, {"on_message": print}, TypeError, "ordinary function"),
    (apps.plain, {"max_size": -1}, ValueError, "max_size must be at least 0"),
    (apps.plain, {"workers": 0}, ValueError, "workers is a number from 1"),
    (apps.plain, {"workers": True}, ValueError, "workers is a number from 1"),
    (apps.plain, {"grace": -1}, ValueError, "grace is a number of seconds"),
    (apps.plain, {"grace": float("nan")}, ValueError, "grace is a number of seconds"),
    (apps.plain, {"keyfile": "k"}, ValueError, "keyfile goes with certfile"),
    ("a:b", {"model": "threads", "wokers": 2}, TypeError, "did you mean 'workers'"),
]


@pytest.mark.parametrize(("handler", "how", "error", "words"), REFUSED, ids=str)
def test_refused_at_once(handler: Any, how: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Serving(handler, "127.0.0.1", 0, **how)


def test_the_blocking_adapter_refuses_coroutine_functions() -> None:
    with pytest.raises(TypeError, match="handler tasks is a coroutine function"):
        websock.sync.serve(apps.tasks, "127.0.0.1", 0)  # type: ignore[arg-type]


MODELS: list[tuple[Any, Callable[[], Any]]] = [
    (apps.tasks, lambda: "asyncio"),
    (apps.tasks, lambda: "auto"),
    (apps.tasks, lambda: EventLoop("asyncio")),
    (apps.plain, lambda: "auto"),
    (apps.plain, lambda: "threads"),
    (apps.plain, lambda: Pool(2)),
]


@pytest.mark.parametrize(("handler", "model"), MODELS)
def test_in_a_thread_of_a_program(handler: Any, model: Callable[[], Any]) -> None:
    ready: queue.SimpleQueue[int] = queue.SimpleQueue()
    serving = Serving(
        handler, "127.0.0.1", 0, model=model(), on_ready=lambda socks: ready.put(socks[0].getsockname()[1])
    )
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        with websock.sync.connect(f"ws://127.0.0.1:{ready.get(timeout=PATIENCE)}/") as ws:
            ws.send("x")
            assert ws.recv(timeout=PATIENCE) == "x"
            serving.reload()
            ws.send("y")
            assert ws.recv(timeout=PATIENCE) == "y"
            serving.stop(1012, "a new version")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=PATIENCE)
            assert (closed.value.code, closed.value.reason) == (1012, "a new version")
    finally:
        serving.stop()
        thread.join()


@pytest.mark.parametrize(("handler", "model"), MODELS)
def test_two_orders_to_stop_at_once(handler: Any, model: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    def ready(sockets: Any) -> None:
        serving.stop()
        serving.stop()

    serving = Serving(handler, "127.0.0.1", 0, model=model(), on_ready=ready)
    thread = threading.Thread(target=serving.run)
    thread.start()
    thread.join()
    gc.collect()
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def test_on_message_alone() -> None:
    ready: queue.SimpleQueue[int] = queue.SimpleQueue()
    serving = Serving(
        None,
        "127.0.0.1",
        0,
        on_message=lambda ws, message: ws.send(message),
        on_ready=lambda socks: ready.put(socks[0].getsockname()[1]),
    )
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        with websock.sync.connect(f"ws://127.0.0.1:{ready.get(timeout=PATIENCE)}/") as ws:
            ws.send("x")
            assert ws.recv(timeout=PATIENCE) == "x"
    finally:
        serving.stop()
        thread.join()


def test_orders_travel() -> None:
    for order in (Order(Do.STOP), Order(Do.RELOAD), Order(Do.STOP, 1012, "späť\n", False)):
        line = order.to_line()
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert Order.from_line(line) == order


def test_orders_wait_for_who_listens() -> None:
    orders, woken = Orders(), []
    orders.give(Order(Do.STOP))
    orders.listen(lambda: woken.append(1))
    orders.give(Order(Do.RELOAD))
    assert len(woken) == 2
    assert [orders.take(), orders.take(), orders.take()] == [Order(Do.STOP), Order(Do.RELOAD), None]


def test_a_stop_by_two_ways_is_one() -> None:
    """The nth that comes by itself and the nth that the supervisor passes on are the same, whichever is first."""
    stop, quick, reload = Order(Do.STOP), Order(Do.QUIT), Order(Do.RELOAD)
    for ways, count in (
        ("d", 1),
        ("p", 1),
        ("dp", 1),
        ("pd", 1),
        ("dd", 2),
        ("pp", 2),
        ("dppd", 2),
        ("pdpd", 2),
        ("ppdd", 2),
    ):
        orders = Orders()
        for way in ways:
            orders.give(stop, passed_on=way == "p")
        assert list(iter(orders.take, None)) == [stop] * count, ways
    orders = Orders()
    for passed_on in (False, True):
        for order in (reload, stop, quick):
            orders.give(order, passed_on=passed_on)
    assert list(iter(orders.take, None)) == [reload, stop, quick, reload, quick]


def test_a_system_without_fork() -> None:
    """As Windows: all can be imported; what needs fork says so."""
    code = """
import os, signal, sys
import asyncio, importlib.util, ssl, subprocess, tempfile, uuid  # the library's own are not like Windows'
sys.modules["uvloop"] = None
for module, names in ((os, ["fork", "register_at_fork", "WNOHANG", "waitpid", "WCOREDUMP", "pwrite"]),
                      (signal, ["SIGHUP", "SIGQUIT", "SIGKILL", "SIGCHLD", "SIGUSR1"])):
    for name in names:
        delattr(module, name)
sys.modules["fcntl"] = None
import websock.__main__
from websock.net.errors import NotOnThisSystem
from websock.serving import Processes, Serving
for make in (Processes, lambda: Serving(print, model="threads", workers=2), lambda: Serving(print, model="processes")):
    try:
        make()
    except NotOnThisSystem as error:
        print(error)
serving = Serving(print, "127.0.0.1", 0, on_ready=lambda socks: serving.stop())
serving.run()

"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=LIBRARY, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stderr == ""
    assert done.stdout.count("not on this system") == 3
