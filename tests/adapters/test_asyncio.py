"""What only asyncio has: cancellation, pausing, one loop for many connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import websock
from websock.asyncio import connect, serve
from websock.asyncio.shared import shared_of
from websock.core.gate import Ticket
from websock.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    KeepaliveTimeout,
)

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment,unused-ignore]

LOOPS = ["asyncio", "uvloop"]


def run(main: Callable[[], Awaitable[Any]], loop: str = "asyncio", bound: float = 60) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(bound):
            result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(50):
            if not left:
                break
            await asyncio.sleep(0.01)
            left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"
        return result

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bounded())


@contextlib.asynccontextmanager
async def pair(server: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A client and the server's end of its connection."""
    ends: asyncio.Queue[Any] = asyncio.Queue()
    over = asyncio.Event()

    async def handler(ws: Any) -> None:
        await ends.put(ws)
        await over.wait()

    options = {"ping_interval": None, "close_timeout": 1, **options}
    async with serve(handler, "127.0.0.1", 0, **{**options, **(server or {})}) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", **options) as ws:
            other = await ends.get()
            try:
                yield ws, other
            finally:
                over.set()


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_receives_lose_nothing(loop: str) -> None:
    """recv is cancelled at every moment that there is: before, while and after its message comes."""

    async def main() -> None:
        async with pair() as (ws, other):
            sent = 0
            got: list[int] = []
            for turns in list(range(12)) * 12:
                receiving = asyncio.ensure_future(other.recv())
                ws.send(str(sent))
                sent += 1
                for _ in range(turns):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    got.append(int(await receiving))
                except asyncio.CancelledError:
                    pass
            while len(got) < sent:
                got.append(int(await other.recv()))
            assert got == list(range(sent))

    run(main, loop)


@given(schedule=st.lists(st.sampled_from(["send", "recv", "cancel", "turn", "timeout", "both"]), max_size=60))
def test_schedules_of_receiving(schedule: list[str]) -> None:
    """Any order of sends, receives, cancellations and turns of the loop: each message once and in order."""

    async def main() -> None:
        async with pair() as (ws, other):
            sent = 0
            got: list[int] = []
            waiting: asyncio.Task[Any] | None = None

            async def collect(cancel: bool) -> None:
                nonlocal waiting
                if waiting is None:
                    return
                if cancel:
                    waiting.cancel()
                elif not waiting.done():
                    return
                try:
                    got.append(int(await waiting))
                except asyncio.CancelledError:
                    pass
                waiting = None

            for step in schedule:
                if step in ("send", "both"):
                    ws.send(str(sent))
                    sent += 1
                if step in ("recv", "both") and waiting is None:
                    waiting = asyncio.create_task(other.recv())
                if step == "cancel":
                    await collect(True)
                if step == "turn":
                    await asyncio.sleep(0)
                    await collect(False)
                if step == "timeout" and waiting is None:
                    try:
                        async with asyncio.timeout(0):
                            got.append(int(await other.recv()))
                    except TimeoutError:
                        pass
            await collect(True)
            while len(got) < sent:
                got.append(int(await other.recv()))
            assert got == list(range(sent))

    run(main)


def test_receive_driven_by_hand() -> None:
    """At each of its await points recv is thrown out; the message is still there."""

    async def main() -> None:
        async with pair() as (ws, other):
            for depth in range(3):
                await ws.send(f"message {depth}")
                coroutine = other.recv()
                try:
                    for _ in range(depth):
                        waiting = coroutine.send(None)
                        waiting._asyncio_future_blocking = False
                    with pytest.raises(asyncio.CancelledError):
                        coroutine.throw(asyncio.CancelledError())
                except StopIteration as stop:
                    assert stop.value == f"message {depth}"  # noqa: PT017
                    continue
                except RuntimeError:
                    pass
                finally:
                    coroutine.close()
                assert await other.recv() == f"message {depth}"

    run(main)


@given(
    messages=st.lists(
        st.one_of(
            st.text(max_size=20),
            st.binary(max_size=20),
            st.integers(0, 200000).map(lambda n: b"x" * n),
            st.lists(st.text(max_size=5), min_size=1, max_size=4),
        ),
        max_size=8,
    ),
    turns=st.lists(st.integers(0, 4), min_size=8, max_size=8),
)
def test_cancelled_sends(messages: list[Any], turns: list[int]) -> None:
    """Each message arrives wholly or not at all; only a message in parts that was begun fails the connection."""

    async def main() -> None:
        async with pair() as (ws, other):
            expected = []
            broken = False

            async def receive() -> list[Any]:
                got = []
                try:
                    while True:
                        got.append(await other.recv())
                except ConnectionClosed:
                    return got

            receiving = asyncio.create_task(receive())
            for message, turn in zip(messages, turns, strict=False):
                sending = asyncio.ensure_future(ws.send(message))
                for _ in range(turn):
                    await asyncio.sleep(0)
                done = sending.done()
                sending.cancel()
                try:
                    await sending
                    done = True
                except asyncio.CancelledError:
                    pass
                except ConnectionClosed:
                    broken = True
                    break
                if not isinstance(message, list):
                    expected.append(message)
                elif done:
                    expected.append("".join(message))
                elif ws.state is not websock.State.OPEN:
                    broken = True
                    break
            await ws.close()
            got = await receiving
            assert got == expected
            assert (ws.close_code == 1000) or broken

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_many_senders_some_cancelled(loop: str) -> None:
    async def main() -> None:
        async with pair(max_size=None) as (ws, other):

            async def send(number: int) -> None:
                for i in range(10):
                    if number % 3:
                        await ws.send(f"{number}:{i}:" + "x" * (number * 900))
                    else:
                        await ws.send(f"{number}:{i}:" + "", text=True)
                        await ws.send(iter([f"{number}", f":{i}p", ":" + "y" * 5000]))

            senders = [asyncio.create_task(send(n)) for n in range(32)]
            seen: dict[tuple[str, str], int] = {}
            got = 0
            while not all(s.done() for s in senders) or got < sum(20 if n % 3 == 0 else 10 for n in range(32)):
                number, i, filling = (await other.recv()).split(":")
                assert set(filling) <= {"x", "y"}
                seen[number, i] = seen.get((number, i), 0) + 1
                got += 1
            assert all(count == 1 for count in seen.values())

    run(main, loop)


def test_part_of_none_is_an_error() -> None:
    async def main() -> None:
        async with pair() as (ws, other):
            with pytest.raises(TypeError):
                await ws.send(["a", None])
            with pytest.raises(ConnectionClosedError):
                await other.recv()

    run(main)


def test_asynchronous_iterables() -> None:
    async def main() -> None:
        async with pair() as (ws, other):

            async def parts() -> AsyncIterator[str]:
                for part in ("a", "b", "c"):
                    await asyncio.sleep(0)
                    yield part

            sending = asyncio.create_task(ws.send(parts()))
            await asyncio.sleep(0)
            await asyncio.gather(ws.send("meanwhile"), sending)
            assert {await other.recv(), await other.recv()} == {"abc", "meanwhile"}

    run(main)


def test_send_queues_at_once() -> None:
    """A send that nobody awaits is sent; and so is one whose task is cancelled before it runs."""

    async def main() -> None:
        async with pair() as (ws, other):
            ws.send("not awaited")
            task = asyncio.create_task(ws.send("cancelled"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [await other.recv(), await other.recv()] == ["not awaited", "cancelled"]

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_backpressure(loop: str) -> None:
    """A consumer that does not read pauses its peer; what waits is bounded; all comes when it reads again."""

    async def main() -> None:
        async with pair(max_queue=4, max_size=None) as (ws, other):
            message = os.urandom(100_000)  # which cannot be compressed
            sent = 0
            sending: Any = None
            while True:
                sending = asyncio.ensure_future(ws.send(message))
                sent += 1
                done, _ = await asyncio.wait([sending], timeout=0.3)
                if not done:
                    break
                assert sent < 1000
            assert sum(map(len, other._inbox)) < 4 * 2**20
            assert ws._protocol.queued + ws.transport.get_write_buffer_size() < 2**20
            for _ in range(sent):
                assert await other.recv() == message
            await sending
            await ws.send("on it goes")
            assert await other.recv() == "on it goes"

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_shared_read_buffer(loop: str) -> None:
    """20 connections at once, messages up to 600 kB: nothing of one shows in another."""

    async def main() -> None:
        async def echo(ws: Any) -> None:
            async for message in ws:
                await ws.send(message)

        async with serve(echo, "127.0.0.1", 0, ping_interval=None) as server:
            port = server.sockets[0].getsockname()[1]

            async def talk(number: int) -> None:
                async with connect(f"ws://127.0.0.1:{port}", ping_interval=None) as ws:
                    for size in (1, 70, 200, 70_000, 600_000, 130_000):
                        message = bytes([number]) * (size + number)
                        await ws.send(message)
                        assert await ws.recv() == message

            await asyncio.gather(*map(talk, range(20)))

    run(main, loop)


# Keepalive.


@pytest.mark.parametrize("loop", LOOPS)
def test_keepalive_of_a_peer_that_answers(loop: str) -> None:
    async def main() -> None:
        async with pair(ping_interval=0.02, ping_timeout=0.3) as (ws, other):
            receiving = [asyncio.create_task(one.recv()) for one in (ws, other)]
            done, _ = await asyncio.wait(receiving, timeout=0.5)
            assert not done
            assert ws.latency > 0
            ws.send("x")
            other.send("y")
            await asyncio.gather(*receiving)

    run(main, loop)


async def _silent(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    from .raw import REQUEST

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("loop", LOOPS)
def test_keepalive_of_a_silent_peer(loop: str) -> None:
    async def main() -> None:
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def handler(ws: Any) -> None:
            try:
                await ws.recv()
            except ConnectionClosed as error:
                outcome.set_result(error)

        async with serve(handler, "127.0.0.1", 0, ping_interval=0.05, ping_timeout=0.1) as server:
            _, writer = await _silent(server.sockets[0].getsockname()[1])
            error = await asyncio.wait_for(outcome, 3)
            assert isinstance(error, ConnectionClosedError)
            assert isinstance(error.__cause__, KeepaliveTimeout)
            assert error.sent is not None
            assert error.sent.code == 1011
            writer.close()
            await writer.wait_closed()

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_paused_reading_is_not_held_against_the_peer(loop: str) -> None:
    """The consumer is away for many ping_timeouts with a full queue: every message is still there."""

    async def main() -> None:
        async with pair({"ping_interval": 0.05, "ping_timeout": 0.05, "max_queue": 2}) as (ws, other):
            sending = asyncio.create_task(_send_all(ws, 60))
            answering = asyncio.create_task(ws.recv())
            await asyncio.sleep(0.5)
            got = [await other.recv() for _ in range(60)]
            assert [int(m[:4]) for m in got] == list(range(60))
            await sending
            assert other.state is websock.State.OPEN
            other.send("x")
            await answering

    run(main, loop)


async def _send_all(ws: Any, count: int) -> None:
    for i in range(count):
        await ws.send(f"{i:04}" + "x" * 40_000)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_blocked_loop_is_not_held_against_the_peer(loop: str) -> None:
    """Our own program holds the loop longer than ping_timeout; the Pong is in the socket all the time."""
    import threading

    async def main() -> None:
        blocked = threading.Event()

        def client(port: int) -> None:
            import websock.sync

            with websock.sync.connect(f"ws://127.0.0.1:{port}", ping_interval=None) as ws:
                try:
                    while ws.recv() != "end":
                        pass
                except ConnectionClosed:
                    pass

        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def handler(ws: Any) -> None:
            receiving = asyncio.create_task(ws.recv())
            for _ in range(3):
                await asyncio.sleep(0.25)
                blocked.wait(0.9)  # the loop stands still
            await asyncio.sleep(0.02)
            outcome.set_result(ws.close_exc)
            ws.send("end")
            with contextlib.suppress(ConnectionClosed):
                await receiving

        async with serve(handler, "127.0.0.1", 0, ping_interval=0.2, ping_timeout=0.6) as server:
            port = server.sockets[0].getsockname()[1]
            thread = threading.Thread(target=client, args=(port,), daemon=True)
            thread.start()
            assert await outcome is None
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    run(main, loop)


# Streams.


def test_a_second_receiver_that_streams_does_not_disturb_the_first() -> None:
    async def main() -> None:
        async with pair() as (ws, other):
            receiving = asyncio.create_task(other.recv())
            await asyncio.sleep(0)
            parts = other.recv_streaming()
            with pytest.raises(ConcurrencyError):
                await anext(parts)
            await ws.send("for the first")
            assert await receiving == "for the first"

    run(main)


def test_receive_after_a_stream_that_was_cut_by_the_end() -> None:
    """In the except block the iterator still lives in the traceback: recv must say ConnectionClosed all the same."""

    async def main() -> None:
        async with pair() as (ws, other):
            closing = asyncio.create_task(ws.close())
            try:
                async for _ in other.recv_streaming():
                    pass
            except ConnectionClosedOK:
                with pytest.raises(ConnectionClosedOK):
                    await other.recv()
            await closing

    run(main)


def test_receive_after_a_stream_that_was_left_by_a_timeout() -> None:
    async def main() -> None:
        async with pair() as (ws, other):
            try:
                async with asyncio.timeout(0.01):
                    async for _ in other.recv_streaming():
                        pass
            except TimeoutError:
                await ws.send("next")
                assert await other.recv() == "next"

    run(main)


# Clients.


def test_reconnecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """``async for`` connects again after ConnectionClosed and after errors of the network."""
    import websock.asyncio.client as module

    monkeypatch.setattr(module, "backoff", lambda: iter([0.01] * 100))

    async def main() -> None:
        async def handler(ws: Any) -> None:
            await ws.send("hello")
            await ws.close(1011)

        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.close()
        server: Any = None
        rounds = 0
        task: asyncio.Task[Any] | None = None

        async def start() -> Any:
            await asyncio.sleep(0.05)
            return await serve(handler, "127.0.0.1", port)

        task = asyncio.create_task(start())  # refused at first
        connections = aiter(connect(f"ws://127.0.0.1:{port}"))
        async for ws in connections:
            try:
                assert await ws.recv() == "hello"
                await ws.recv()
            except ConnectionClosed:
                rounds += 1
                if rounds == 3:
                    break
                continue
        await connections.aclose()  # type: ignore[attr-defined]
        server = await task
        server.close()
        await server.wait_closed()

    run(main)


def test_reconnecting_stops_at_what_will_not_change() -> None:
    async def main() -> None:
        def refuse(connection: Any, request: Any) -> Any:
            return connection.respond(403, "no")

        async def handler(ws: Any) -> None:
            pass

        async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
            with pytest.raises(websock.InvalidStatus):
                async for _ in connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"):
                    pass

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("turns", [*range(8), 12, 20])
def test_cancelled_connect_leaves_nothing(loop: str, turns: int) -> None:
    async def main() -> None:
        async def handler(ws: Any) -> None:
            await ws.wait_closed()

        async with serve(handler, "127.0.0.1", 0, open_timeout=1) as server:
            port = server.sockets[0].getsockname()[1]

            async def go() -> None:
                async with connect(f"ws://127.0.0.1:{port}"):
                    await asyncio.sleep(10)

            task = asyncio.create_task(go())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main, loop)


def test_transport_abort() -> None:
    async def main() -> None:
        async with pair() as (ws, other):
            ws.transport.abort()
            with pytest.raises(ConnectionClosedError):
                await ws.recv()
            with pytest.raises(ConnectionClosedError):
                await other.recv()

    run(main)


def test_server_is_closed_when_serve_forever_is_cancelled() -> None:
    async def main() -> None:
        async def handler(ws: Any) -> None:
            async for message in ws:
                await ws.send(message)

        async with serve(handler, "127.0.0.1", 0) as server:
            serving = asyncio.create_task(server.serve_forever())
            async with connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as ws:
                await ws.send("x")
                assert await ws.recv() == "x"
                serving.cancel()
                with pytest.raises(ConnectionClosedOK) as caught:
                    await ws.recv()
                assert caught.value.rcvd == websock.Close(1001, "")
            with pytest.raises(asyncio.CancelledError):
                await serving

    run(main)


def test_busy_peer_does_not_starve_other_tasks() -> None:
    async def main() -> None:
        async with pair(max_queue=None) as (ws, other):
            for i in range(2000):
                ws.send(str(i))
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            for i in range(2000):
                assert await other.recv() == str(i)
            assert turns > 10
            counting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await counting

    run(main)


def test_pings_without_answer_are_bounded_in_time() -> None:
    """Pings whose waiters were cancelled are forgotten with the next Pong, and with the connection."""

    async def main() -> None:
        async with pair() as (ws, _):
            for _ in range(10):
                waiter = await ws.ping()
                waiter.cancel()
            started = time.monotonic()
            assert await (await ws.ping()) > 0
            assert time.monotonic() - started < 2
            assert not ws._protocol._pings

    run(main)


def test_time_that_runs_out_in_the_tls_handshake_ends_the_connection() -> None:
    """The TLS handshake ends just after the time did: nobody would ever end this connection."""
    from websock.asyncio.opening import Opening

    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    async def main() -> None:
        async with serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0) as server:
            opening = Opening(server, asyncio.get_running_loop(), Ticket(None))
            opening.timeout()
            transport = Transport()
            opening.connection_made(transport)
            assert transport.aborted
            opening.connection_lost(None)

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_receiving_again_right_after_cancelling(loop: str) -> None:
    """As programs do that wait for the first of several: the cancelled task has not run yet."""

    async def main() -> None:
        async with pair() as (ws, other):
            for number in range(3):
                waiting = asyncio.create_task(other.recv())
                await asyncio.sleep(0.01)
                waiting.cancel()
                asyncio.get_running_loop().call_later(0.05, ws.send, f"message {number}")
                assert await other.recv() == f"message {number}"
                assert waiting.cancelled()

    run(main, loop, bound=5)


def test_one_recv_awaited_twice_is_an_error() -> None:
    async def main() -> None:
        async with pair() as (ws, other):
            receiving = other.recv()

            async def wait() -> Any:
                return await receiving

            one, two = asyncio.create_task(wait()), asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            await ws.send("x")
            results = await asyncio.gather(one, two, return_exceptions=True)
            assert results[0] == "x" and isinstance(results[1], RuntimeError | ConcurrencyError)

    run(main, bound=5)


def test_a_flush_that_raises_does_not_keep_the_others_of_its_turn_from_theirs() -> None:
    async def main() -> None:
        shared = shared_of(asyncio.get_running_loop())
        async with contextlib.AsyncExitStack() as stack:
            pairs = [await stack.enter_async_context(pair()) for _ in range(4)]
            ends = [other for _, other in pairs]
            complaints: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

            def broken() -> None:
                raise LookupError("mine")

            ends[1]._flush_rest = broken
            for end in ends:
                end._protocol.pong(b"queued")
                shared.flush_later(end)
            await asyncio.sleep(0.05)
            assert [end._protocol.has_outgoing for end in ends] == [False, True, False, False]
            assert [type(one["exception"]) for one in complaints] == [LookupError]
            del ends[1]._flush_rest

    run(main)


@pytest.mark.parametrize("secure", [False, True])
def test_a_loop_that_cannot_watch_sockets_uses_its_own_transports(
    monkeypatch: pytest.MonkeyPatch, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    """As Windows' proactor loop is."""
    for module in ("asyncio.client", "asyncio.server", "net.asyncio.accept", "net.asyncio.race"):
        monkeypatch.setattr(f"websock.{module}.can_watch", lambda loop: False)

    async def handler(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)
        assert ws.close_code == 4000

    async def main() -> None:
        async with serve(handler, "localhost", 0, ssl=server_ssl if secure else None) as server:
            port = server.sockets[0].getsockname()[1]
            uri = f"{'wss' if secure else 'ws'}://localhost:{port}/"
            async with connect(uri, ssl=client_ssl if secure else None, max_size=None) as ws:
                for message in ("text", b"x" * 1_000_000, ["in", "parts"]):
                    await ws.send(message)
                assert [len(await ws.recv()) for _ in range(3)] == [4, 1_000_000, 7]
                await ws.close(4000)
            with pytest.raises(OSError if secure else websock.InvalidHandshake):
                reader, writer = await asyncio.open_connection("localhost", port)
                writer.write(b"nonsense\r\n\r\n")
                answer = await reader.read()
                writer.close()
                assert b"400" in answer or secure
                await connect(uri, ssl=True if secure else None, additional_headers={"Origin": "https://elsewhere"})

    run(main)


def test_a_socket_that_has_tls_already_is_refused(client_ssl: ssl.SSLContext) -> None:
    """What is written past it, to its descriptor, would not be encrypted."""

    async def main() -> None:
        here, there = socket.socketpair()
        wrapped = client_ssl.wrap_socket(here, server_hostname="localhost", do_handshake_on_connect=False)
        with there, pytest.raises(TypeError, match="SSLSocket"):
            await connect("ws://localhost/", sock=wrapped)
        assert wrapped.fileno() == -1

    run(main)


def test_a_connection_that_cannot_begin_is_forgotten(logs: Any) -> None:
    """With TLS settings for clients, which is a common mistake, the server can still be closed."""

    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

        async def handler(ws: Any) -> None: ...

        async with serve(handler, "127.0.0.1", 0, ssl=ssl.create_default_context()) as server:
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                assert await reader.read() == b""
                writer.close()
        assert [type(one["exception"]) for one in complaints] == [ssl.SSLError] * 2
        assert len([one for one in logs.records if "before a handshake" in one.getMessage()]) == 2

    run(main, bound=5)


def _eagerly(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """A task whose first step has run: what asyncio.eager_task_factory does, since Python 3.12."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    first = loop._ready.pop()
    present = asyncio.current_task(loop)
    if present is not None:
        asyncio.tasks._leave_task(loop, present)
    try:
        first._run()
    finally:
        if present is not None:
            asyncio.tasks._enter_task(loop, present)
    return task


@pytest.mark.parametrize("slow", [False, True])
def test_tasks_that_begin_at_once(slow: bool) -> None:
    async def allow(connection: Any, request: Any) -> None:
        await asyncio.sleep(0.01 if slow else 0)

    async def handler(ws: Any) -> None:
        assert ws.state.name == "OPEN"
        async for message in ws:
            await ws.send(message)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", _eagerly))
        for hook in (None, allow):
            async with contextlib.AsyncExitStack() as stack:
                server = await stack.enter_async_context(serve(handler, "127.0.0.1", 0, process_request=hook))
                ws = await stack.enter_async_context(connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
                await ws.send("x")
                assert await asyncio.wait_for(ws.recv(), 2) == "x"

    run(main)


def test_who_waits_for_the_end_with_a_timeout_leaves_nothing() -> None:
    async def main() -> None:
        async with pair() as (ws, other):
            for _ in range(20):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0):
                        await other.wait_closed()
            waiting = [asyncio.create_task(other.wait_closed()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[1].cancel()
            await asyncio.sleep(0)
            assert len(other._closed) == 2
            await ws.close()
            assert len(await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 2)) == 3

    run(main)


@pytest.mark.parametrize("raises", [False, True])
def test_a_hook_that_goes_on_when_it_is_cancelled(raises: bool, logs: Any) -> None:
    """Time runs out while it is awaited: the request is answered once."""

    async def stubborn(connection: Any, request: Any) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            if raises:
                raise LookupError("mine") from None

    async def handler(ws: Any) -> None: ...

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0, process_request=stubborn, open_timeout=0.1) as server:
            with pytest.raises(websock.InvalidStatus, match="408"):
                await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    logs.expected = int(raises)
    run(main)
    assert len([one for one in logs.records if "rejected (408)" in one.getMessage()]) == 1


@pytest.mark.parametrize("size", [1, 20_000])
def test_what_a_reset_does_to_a_write_is_told(size: int) -> None:
    """By its name, though the system tells it once and the native pump writes by itself."""

    async def main() -> None:
        async with pair(compression=None) as (ws, other):
            other.transport.stop_watching()
            linger = struct.pack("ii", 1, 0)
            ws.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            ws.transport.abort()
            await ws.wait_closed()
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionClosedError) as caught:
                for _ in range(2):
                    await other.send("x" * size)
                    await asyncio.sleep(0.01)
            assert isinstance(caught.value.__cause__, ConnectionResetError)

    run(main)


@pytest.mark.parametrize("size", [1, 20_000])
def test_sending_without_a_transport(size: int) -> None:
    async def main() -> None:
        async with pair(compression=None) as (ws, other):
            transport = other.transport
            del other.transport
            with pytest.raises(AttributeError):
                other.send("x" * size)
            other.transport = transport
            transport.abort()
            await ws.wait_closed()

    run(main)


def test_a_server_closes_at_any_moment_where_the_loop_cannot_watch_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.asyncio.server.can_watch", lambda loop: False)

    async def handler(ws: Any) -> None: ...

    async def main() -> None:
        for turns in range(10):
            async with serve(handler, "127.0.0.1", 0) as server:
                with socket.create_connection(server.sockets[0].getsockname()) as client:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    server.close()
                    client.close()
                    await asyncio.wait_for(server.wait_closed(), 2)

    run(main, bound=10)


def test_who_waits_behind_a_message_in_parts_learns_of_the_end(bench: Any) -> None:
    """The one who sends the parts may never go on."""
    end, raw = bench.raw("asyncio", "server", "tcp4")

    async def main() -> None:
        over = asyncio.Event()

        async def parts() -> Any:
            yield "a"
            yield "b"
            await over.wait()

        sending = asyncio.create_task(end.ws.send(parts()))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(asyncio.wait_for(end.ws.send("behind"), 5))
        await asyncio.sleep(0)
        raw.drop()
        try:
            with pytest.raises(ConnectionClosed):
                await waiting
        finally:
            over.set()
            with pytest.raises(ConnectionClosed):
                await sending

    bench.adapter("asyncio").run(main())
