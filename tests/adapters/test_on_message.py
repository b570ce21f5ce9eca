"""The callback API of the asyncio adapter: `on_message`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import websock.asyncio
from websock.accelerated import ACCELERATED
from websock.asyncio.shared import shared_of
from websock.exceptions import ConcurrencyError, ConnectionClosedError, ConnectionClosedOK

from .raw import BINARY, CLOSE, REQUEST, close_payload, frame
from .test_asyncio import LOOPS, run


@contextlib.asynccontextmanager
async def callbacks(
    on_message: Callable[[Any, Any], object], **options: Any
) -> AsyncIterator[tuple[Any, Callable[..., Any]]]:
    """A server that calls back, and a way to connect to it."""
    async with websock.asyncio.serve(None, "127.0.0.1", 0, on_message=on_message, **options) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield server, lambda **how: websock.asyncio.connect(f"ws://{host}:{port}/", **{**options, **how})


def echo(ws: Any, message: Any) -> None:
    ws.send(message)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_echo(loop: str, compression: str | None) -> None:
    async def main() -> None:
        async with callbacks(echo, compression=compression, max_size=None) as (_, connect), connect() as ws:
            messages: list[Any] = ["text", b"bytes", "", b"", "ü" * 1000, os.urandom(300_000), "x" * 2_000_000]
            for message in messages:
                await ws.send(message)
                assert await ws.recv() == message
            for number in range(1000):
                ws.send(f"{number}")
            assert [await ws.recv() for _ in range(1000)] == [f"{number}" for number in range(1000)]

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_client(loop: str) -> None:
    async def main() -> None:
        got: asyncio.Queue[Any] = asyncio.Queue()

        def on_message(ws: Any, message: Any) -> None:
            got.put_nowait((ws, message))
            if message != "last":
                ws.send("last")

        async with callbacks(echo) as (_, connect), connect(on_message=on_message) as ws:
            await ws.send("first")
            assert [await got.get(), await got.get()] == [(ws, "first"), (ws, "last")]
            with pytest.raises(ConcurrencyError, match="on_message"):
                await ws.recv()
            with pytest.raises(ConcurrencyError, match="on_message"):
                await anext(ws)

    run(main, loop)


def test_a_handler_may_stand_beside_it() -> None:
    async def main() -> None:
        seen = []

        async def handler(ws: Any) -> None:
            await ws.send("welcome")
            await ws.wait_closed()
            seen.append("gone")

        async with websock.asyncio.serve(handler, "127.0.0.1", 0, on_message=echo) as server:
            host, port = server.sockets[0].getsockname()[:2]
            async with websock.asyncio.connect(f"ws://{host}:{port}/") as ws:
                assert await ws.recv() == "welcome"
                await ws.send("x")
                assert await ws.recv() == "x"
        assert seen == ["gone"]

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_it_raises_closes_its_connection_and_no_other(loop: str, logs: Any) -> None:
    def fragile(ws: Any, message: Any) -> None:
        if message == "bad":
            raise LookupError("mine")
        ws.send(message)

    async def main() -> None:
        async with callbacks(fragile) as (_, connect), connect() as one, connect() as other:
            for message in ("good", "bad", "never"):
                one.send(message)
            assert await one.recv() == "good"
            with pytest.raises(ConnectionClosedError) as caught:
                await one.recv()
            assert caught.value.rcvd == websock.Close(1011)
            await other.send("still there?")
            assert await other.recv() == "still there?"

    logs.expected = 1
    run(main, loop)
    assert "LookupError: mine" in logs.text(logs.tracebacks()[0])


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_does_not_read_is_not_read_from(loop: str) -> None:
    """Nobody awaits what a callback sends: reading pauses instead, and nothing grows."""

    async def main() -> None:
        async with callbacks(echo, max_size=None, compression=None) as (server, connect), connect(max_queue=1) as ws:
            message = os.urandom(100_000)
            sent = 0
            sending = None
            while True:
                sending = asyncio.ensure_future(ws.send(message))
                sent += 1
                done, _ = await asyncio.wait([sending], timeout=0.3)
                if not done:
                    break
                assert sent < 1000
            (other,) = server.connections
            assert other._protocol.queued + other.transport.get_write_buffer_size() < 2**21
            assert sum(map(len, list(other._inbox))) < 6 * 2**20
            for _ in range(sent):
                assert await ws.recv() == message
            await sending

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_messages_before_a_close_are_answered_before_it(loop: str) -> None:
    async def main() -> None:
        async with callbacks(echo) as (server, _):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            end = frame(CLOSE, close_payload(1000))
            writer.write(REQUEST + frame(BINARY, b"a") * 200 + end)  # with the request: all is there at once
            data = await reader.read()
            assert data.endswith(frame(BINARY, b"a", mask=False) * 200 + frame(CLOSE, close_payload(1000), mask=False))
            writer.close()

    run(main, loop)


def test_closing_from_within() -> None:
    async def main() -> None:
        closing: list[Any] = []

        def once(ws: Any, message: Any) -> None:
            ws.send(message)
            closing.append(asyncio.ensure_future(ws.close(3000, "enough")))

        async with callbacks(once) as (_, connect), connect() as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.rcvd == websock.Close(3000, "enough")

    run(main)


@pytest.mark.parametrize("wrong", [1, "f"])
def test_wrong_callbacks(wrong: Any) -> None:
    async def coroutine(ws: Any, message: Any) -> None: ...

    for bad in (wrong, coroutine):
        with pytest.raises(TypeError, match="on_message must be an ordinary function"):
            websock.asyncio.serve(None, "127.0.0.1", 0, on_message=bad)
        with pytest.raises(TypeError, match="on_message must be an ordinary function"):
            websock.asyncio.connect("ws://127.0.0.1:1/", on_message=bad)
    with pytest.raises(TypeError, match="handler"):
        websock.asyncio.serve(None, "127.0.0.1", 0)


def test_it_ends_normally() -> None:
    async def main() -> None:
        async with callbacks(echo) as (_, connect):
            ws = await connect()
            await ws.close()
            with pytest.raises(ConnectionClosedOK):
                await ws.recv()

    run(main)


def kept() -> list[int]:
    """The sizes of the messages that the connections of this loop keep though a callback has seen them."""
    shared = shared_of(asyncio.get_running_loop())
    return [len(one) for one in gc.get_referents(shared) if isinstance(one, bytes | str)]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_large_message_is_kept_until_something_small_comes(loop: str) -> None:
    """So that the next one gets its memory. The Python twin keeps none; neither may keep more than one."""

    async def main() -> None:
        seen: asyncio.Queue[int] = asyncio.Queue()

        def on_message(ws: Any, message: Any) -> None:
            seen.put_nowait(len(message))

        async with callbacks(on_message, max_size=None, compression=None) as (_, connect):
            for size, stays in [
                (2**17 - 1, False),  # that is small enough for the allocator to keep it by itself
                (2**17, True),
                (2**20, True),
                (2**22, True),
                (2**22 + 1, False),  # and that is more than may lie about
            ]:
                for message in (bytes(size), "x" * size):
                    async with connect() as ws:
                        ws.send(message)
                        assert await seen.get() == size
                        await asyncio.sleep(0)
                        assert kept() == [size] * (stays and ACCELERATED)
                        ws.send(b"small")
                        assert await seen.get() == 5
                        assert kept() == []
            async with connect() as ws:
                for size in (2**18, 2**19, 2**17 + 1):
                    ws.send(bytes(size))
                    assert await seen.get() == size
                await asyncio.sleep(0)
                assert kept() == ([2**17 + 1] if ACCELERATED else [])
                ws.send(b"small")
                assert await seen.get() == 5
            assert kept() == []

    run(main, loop)
