"""The socket layer for tasks is opened both ways, and says what the blocking one says."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from websock import net
from websock.net.errors import BusyError, ClosedError

from .streams import Blocking, result_of
from .test_asyncio_streams import run, turns  # noqa: F401 - a fixture

Run = Callable[[Callable[[], Awaitable[None]]], None]

HERE = "tcp://127.0.0.1:0"


def test_awaited_or_entered(run: Run) -> None:  # noqa: F811
    async def main() -> None:
        async with net.asyncio.listen(HERE) as listener:
            where = listener.addresses[0]
            async with net.asyncio.connect(where) as stream, net.asyncio.bind_datagram("udp://127.0.0.1:0") as datagram:
                async with net.asyncio.connect_datagram(datagram.local) as client:
                    await client.send(b"x")
                    assert await datagram.receive() == b"x"
                again = await net.asyncio.connect(where)
                third = await asyncio.create_task(net.asyncio.connect(where))
                async with asyncio.timeout(5), again, third:
                    for _ in range(3):
                        await (await listener.accept()).close()
        assert stream.closed and datagram.closed and client.closed
        with pytest.raises(ClosedError):
            await listener.accept()

    run(main)


def test_what_cannot_be_opened_is_not_entered(run: Run) -> None:  # noqa: F811
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                async with net.asyncio.connect(f"tcp://127.0.0.1:{sock.getsockname()[1]}"):
                    pass
        with pytest.raises(net.AddressError):
            async with net.asyncio.listen("nowhere"):
                pass

    run(main)


def test_a_task_that_opens_is_cancelled(run: Run) -> None:  # noqa: F811
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            where = f"tls://127.0.0.1:{sock.getsockname()[1]}"  # and nobody does the TLS handshake
            opening = asyncio.create_task(net.asyncio.connect(where))
            await turns()
            assert "connect() running at" in repr(opening) and opening.get_stack()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    run(main)


def test_one_that_nobody_awaits_is_told() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.asyncio.connect(HERE)
        gc.collect()
    assert ["coroutine 'connect' was never awaited" in str(one.message) for one in caught] == [True]
    net.asyncio.connect(HERE).close()


def test_listening_takes_a_time_as_the_blocking_form_does(run: Run) -> None:  # noqa: F811
    async def main() -> None:
        for wrong, kind in ((-1, ValueError), ("1", TypeError)):
            with pytest.raises(kind, match="handshake_timeout is a number of seconds"):
                await net.asyncio.listen(HERE, handshake_timeout=wrong)  # type: ignore[arg-type]
            with pytest.raises(kind, match="handshake_timeout is a number of seconds"):
                net.listen(HERE, handshake_timeout=wrong)  # type: ignore[arg-type]

    run(main)


def test_errors_have_the_address(run: Run) -> None:  # noqa: F811
    async def main() -> None:
        async with net.asyncio.listen(HERE) as listener, net.asyncio.bind_datagram("udp://127.0.0.1:0") as datagram:
            where = listener.addresses[0]
            async with net.asyncio.connect(where) as stream:
                receivers: list[Any] = [stream, datagram]
                for one in receivers:
                    address = where if one is stream else datagram.local
                    waiting = asyncio.create_task(one.receive())
                    await turns()
                    with pytest.raises(BusyError, match=f"another task receives: {address}"):
                        await one.receive()
                    waiting.cancel()
                    await asyncio.wait([waiting])
                await (await listener.accept()).close()
            for call in (stream.info, stream.options):
                with pytest.raises(ClosedError, match=f"the stream to {where} is closed"):
                    call()

    run(main)
    with net.bind_datagram("udp://127.0.0.1:0") as blocking:
        blocking._receiving = True
        with pytest.raises(BusyError, match=f"another thread receives: {blocking.local}"):
            blocking.receive()


def test_iterating_ends_when_a_task_closes(run: Run) -> None:  # noqa: F811
    async def all_of(it: Any) -> list[Any]:
        return [one async for one in it]

    async def main() -> None:
        listener, datagram = await net.asyncio.listen(HERE), await net.asyncio.bind_datagram("udp://127.0.0.1:0")
        stream = await net.asyncio.connect(listener.addresses[0])
        async with listener, datagram, stream, await listener.accept() as peer:
            iterating = [asyncio.create_task(all_of(one)) for one in (listener, datagram, stream)]
            await peer.send_all(b"x")
            await asyncio.sleep(0.05)
            for one in (listener, datagram, stream):
                await one.close()
            assert [await one for one in iterating] == [[], [], [b"x"]]

    run(main)


def test_iterating_ends_when_a_thread_closes() -> None:
    start: Any = Blocking.start
    listener, datagram = net.listen(HERE), net.bind_datagram("udp://127.0.0.1:0")
    with listener, datagram, net.connect(listener.addresses[0]) as stream, listener.accept() as peer:
        iterating = [start(None, list, one) for one in (listener, datagram, stream)]
        peer.send_all(b"x")
        while not (listener._users and datagram._users and stream._receiving.taken()):
            time.sleep(0.001)
        time.sleep(0.05)
        for one in (listener, datagram, stream):
            one.close()
        assert list(map(result_of, iterating)) == [[], [], [b"x"]]
