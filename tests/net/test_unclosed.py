"""What nobody has closed is told once, by its name and address, and closed; and how the objects show themselves."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from websock import net
from websock.net import datagram as blocking_datagram

MAKERS: list[tuple[str, Callable[[Any], Any]]] = [
    ("<Listener tcp://127.0.0.1:", lambda form: form.listen("tcp://127.0.0.1:0")),
    ("<Datagram udp://127.0.0.1:", lambda form: form.bind_datagram("udp://127.0.0.1:0")),
]


def told(make: Callable[[], Any]) -> list[str]:
    """The warnings when what `make` gives is lost."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
        gc.collect()
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(("shown", "make"), MAKERS)
@pytest.mark.parametrize("wakes", [True, False])
def test_blocking(shown: str, make: Callable[[Any], Any], wakes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_datagram, "_SHUTDOWN_WAKES", wakes)
    [only] = told(lambda: make(net))
    assert only.startswith(f"unclosed {shown}")
    assert told(lambda: make(net).close()) == []


@pytest.mark.parametrize(("shown", "make"), MAKERS)
def test_asyncio(shown: str, make: Callable[[Any], Any]) -> None:
    async def lose() -> None:
        await make(net.asyncio)

    [only] = told(lambda: asyncio.run(lose()))
    assert only.startswith(f"unclosed {shown}")


def test_a_blocking_stream() -> None:
    with net.listen("tcp://127.0.0.1:0") as listener:
        where = listener.addresses[0]
        [only] = told(lambda: net.connect(where))
        assert only.startswith(f"unclosed <Stream {where} fd=")
        assert told(lambda: net.connect(where).detach().close()) == []
        sock = socket.create_connection(("127.0.0.1", where.port))
        stream = net.Stream(sock)
        sock.close()  # behind its back
        del stream
        assert told(gc.collect) == []
        for _ in range(3):
            listener.accept().close()


def test_how_they_show_themselves() -> None:
    async def of_tasks() -> list[str]:
        async with await net.asyncio.listen("tcp://127.0.0.1:0") as listener:
            address = listener.addresses[0]
            async with await net.asyncio.connect(address) as stream, net.asyncio.Pool() as pool:
                shown = [repr(listener), repr(stream).replace(f"fd={stream.fileno()}", "fd=FD"), repr(pool)]
            shown += [repr(stream), repr(pool)]
            (await listener.accept()).abort()
        return [one.replace(str(address), "WHERE") for one in [*shown, repr(listener)]]

    with net.listen("tcp://127.0.0.1:0") as listener:
        address = listener.addresses[0]
        with net.connect(address) as stream, net.Pool() as pool:
            shown = [repr(listener), repr(stream).replace(f"fd={stream.fileno()}", "fd=FD"), repr(pool)]
        shown += [repr(stream), repr(pool)]
        listener.accept().close()
    shown = [one.replace(str(address), "WHERE") for one in [*shown, repr(listener)]]
    assert shown == [
        "<Listener WHERE>", "<Stream WHERE fd=FD>", "<Pool>", "<Stream WHERE closed>", "<Pool closed>",
        "<Listener WHERE closed>",
    ]  # fmt: skip
    assert asyncio.run(of_tasks()) == shown
    with net.listen("tcp://127.0.0.1:0") as listener, net.Pool() as pool, pool.connection(listener.addresses[0]):
        assert repr(pool) == "<Pool out=1>"
        listener.accept().close()
