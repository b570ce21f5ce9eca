"""permessage-deflate in the adapters: what compressed data may cost, and that senders do not mix."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

import websock
from websock.core import Deflate
from websock.core.deflate import DeflateTransform
from websock.exceptions import ConnectionClosed, ConnectionClosedOK, PayloadTooBig

from .drivers import Background, until
from .raw import BINARY, CLOSE, CONT, REQUEST, close_payload, frame
from .test_asyncio import LOOPS
from .test_asyncio import pair as asyncio_pair
from .test_asyncio import run as run_asyncio

RSV1 = 4
MIB = 2**20
JSON = json.dumps([{"id": i, "name": f"instrument {i}", "price": 100.5 + i} for i in range(20)])

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "small": {"compression": Deflate(server_max_window_bits=9, client_max_window_bits=9, memory_level=1)},
    "least": {"compression": Deflate(server_max_window_bits=8, client_max_window_bits=8)},
    "large": {"compression": Deflate(server_max_window_bits=15, client_max_window_bits=15, level=9)},
    "shared": {"compression": Deflate(server_no_context_takeover=True, client_no_context_takeover=True)},
    "none": {"compression": None},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_messages_of_all_kinds(few_pairs: Any, settings: str) -> None:
    client, server = few_pairs(**SETTINGS[settings])
    for end in (client, server):
        assert [type(one) for one in end.extensions] == ([] if settings == "none" else [DeflateTransform])
    messages: list[Any] = ["", b"", "short", JSON, JSON, JSON.encode(), random.Random(1).randbytes(70_000), JSON * 100]
    for one, other in ((client, server), (server, client)):
        for compress in (None, True, False):
            for message in messages:
                one.send(message, compress=compress)
                assert other.recv() == message
        one.send(iter([JSON, "", JSON]))
        one.send(iter([JSON.encode(), b""]), compress=False)
        one.send(JSON)
        assert [other.recv(), other.recv(), other.recv()] == [JSON * 2, JSON.encode(), JSON]


def test_it_may_be_declined_by_either(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, compression=None)
    client = bench.connect(name, where)
    server = ends.get(timeout=30)
    assert client.extensions == server.extensions == ()
    assert "Sec-WebSocket-Extensions" in client.request.headers
    assert "Sec-WebSocket-Extensions" not in client.response.headers
    client.send(JSON, compress=True)
    assert server.recv() == JSON


@pytest.mark.parametrize("name", ["asyncio", "sync"])
def test_a_broadcast_to_connections_of_all_kinds(bench: Any, name: str) -> None:
    clients: list[Any] = []
    servers: list[Any] = []
    for number, options in enumerate(SETTINGS.values()):
        where = bench.where("tcp4", f"s{number}")
        _, ends = bench.serve_parked(name, where)
        for _ in range(2):
            clients.append(bench.connect(name, where, **options))
            servers.append(ends.get(timeout=30))
    package: Any = getattr(websock, name)
    for text in (JSON, "short", JSON):

        async def send(text: str = text) -> None:
            package.broadcast([server.ws for server in servers], text)

        if name == "asyncio":
            bench.adapter(name).run(send())
        else:
            package.broadcast([server.ws for server in servers], text)
        for server, client in zip(servers, clients, strict=True):
            server.send(f"{text} for one")
            assert [client.recv(), client.recv()] == [text, f"{text} for one"]


# What compressed data may cost.


def bomb(size: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    packed = b"".join(compressor.compress(bytes(MIB)) for _ in range(size // MIB))
    return packed + compressor.compress(bytes(size % MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


class Peak:
    """How far the process's memory grows within the block, in bytes. Linux can forget what it was at most before."""

    def __enter__(self) -> Peak:
        if not os.path.exists("/proc/self/clear_refs"):
            pytest.skip("needs Linux")
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self.read("VmRSS")
        return self

    def __exit__(self, *exception: object) -> None:
        self.growth = self.read("VmHWM") - self.before

    def read(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024


def deflating(bench: Any, request: str, **options: Any) -> tuple[Any, Any]:
    name, role = request.split("-")
    end, raw = bench.raw(name, role, "tcp4", deflate=True, **options)
    assert [type(one) for one in end.extensions] == [DeflateTransform]
    return end, raw


ENDS = pytest.mark.parametrize(
    "which", ["asyncio-server", "asyncio-client", "sync-server", "sync-client", "uvloop-server"]
)


@ENDS
@pytest.mark.parametrize("fragments", [1, 50])
def test_a_bomb(bench: Any, which: str, fragments: int) -> None:
    end, raw = deflating(bench, which)
    payload = bomb(200_000_000)
    assert len(payload) < 195_000
    size = len(payload) // fragments + 1
    data = b"".join(
        raw.frame(CONT if i else BINARY, payload[i : i + size], rsv=0 if i else RSV1, fin=i + size >= len(payload))
        for i in range(0, len(payload), size)
    )
    raw.send(BINARY, b"before")
    with Peak() as peak:
        sending = Background(raw.send_bytes, data)
        assert end.recv() == b"before"
        with pytest.raises(ConnectionClosed) as caught:
            end.recv()
        assert raw.recv_close() == 1009
    assert peak.growth < 5_000_000
    assert isinstance(caught.value.__cause__, PayloadTooBig)
    raw.drop()
    sending.thread.join(5)


@ENDS
def test_many_messages_that_are_small_on_the_wire(bench: Any, which: str) -> None:
    """200 messages of 1 MiB are 200 kB, and come in one read: what the application does not take stays compressed."""
    end, raw = deflating(bench, which)
    data = raw.frame(BINARY, bomb(MIB), rsv=RSV1) * 200 + raw.frame(CLOSE, close_payload(1000))
    assert len(data) < 230_000
    end.send("hello")
    raw.recv()
    with Peak() as peak:
        raw.send_bytes(data)
        for number in range(200):
            assert len(end.recv()) == MIB
            if number == 0:
                threading.Event().wait(0.3)  # for what is wrong to happen
    assert peak.growth < 20_000_000
    with pytest.raises(ConnectionClosedOK):
        end.recv()
    assert raw.recv_close() == 1000


@ENDS
def test_nothing_is_lost_at_the_end_of_the_stream(bench: Any, which: str) -> None:
    end, raw = deflating(bench, which)
    raw.send_bytes(raw.frame(BINARY, bomb(MIB), rsv=RSV1) * 30)
    raw.shutdown_write()
    for _ in range(30):
        assert len(end.recv()) == MIB
    with pytest.raises(ConnectionClosed):
        end.recv()


@ENDS
def test_closing_does_not_wait_for_an_application_that_reads_no_more(bench: Any, which: str) -> None:
    end, raw = deflating(bench, which)
    raw.send_bytes(raw.frame(BINARY, bomb(MIB), rsv=RSV1) * 100 + raw.frame(CLOSE, close_payload(1000)))
    assert len(end.recv()) == MIB

    def leave() -> None:
        assert raw.recv_close() == 1000
        raw.drop()

    leaving = Background(leave)
    with Peak() as peak:
        end.close()
    assert peak.growth < 20_000_000
    assert end.close_code == 1000
    leaving.result()


@ENDS
def test_parts_of_a_message_without_a_limit(bench: Any, which: str) -> None:
    """Streaming needs no more memory than a part, whatever a read holds."""
    end, raw = deflating(bench, which, max_size=None)
    data = raw.frame(BINARY, bomb(200 * MIB), rsv=RSV1)
    with Peak() as peak:
        sending = Background(raw.send_bytes, data)
        size = sum(map(len, end.stream()))
    assert size == 200 * MIB
    assert peak.growth < 60_000_000
    sending.result()


def test_others_have_their_turn_while_much_is_inflated(bench: Any) -> None:
    where = bench.where("tcp4")
    turns = 0

    def count(end: Any) -> None:
        nonlocal turns
        loop = end.adapter.loop
        over = threading.Event()

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not over.is_set():
                loop.call_soon(turn)

        loop.call_soon_threadsafe(turn)
        try:
            end.recv()
        finally:
            over.set()

    bench.serve("asyncio", where, count, max_size=None)
    client = bench.connect("asyncio", where)
    client.send(bytes(100 * MIB))
    with pytest.raises(ConnectionClosedOK):
        client.recv()
    assert turns > 20


# Senders.


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_sends_do_not_spoil_the_context(loop: str) -> None:
    """aiohttp#11725: with context takeover, a message that is compressed and not sent spoils all that follow."""
    rng = random.Random(1)

    async def main() -> None:
        async with asyncio_pair(max_size=None, write_limit=100) as (ws, other):
            expected = []

            async def receive() -> list[Any]:
                return [await other.recv() for _ in range(300)]

            receiving = asyncio.create_task(receive())
            for number in range(300):
                message = f"{number} {JSON} {rng.randbytes(rng.randrange(3000)).hex()}"
                sending = asyncio.ensure_future(ws.send(message))
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(0)
                sending.cancel()
                await asyncio.wait([sending])
                expected.append(message)  # send() queues at once: it is sent wholly, whatever becomes of the waiting
            assert await receiving == expected

    run_asyncio(main, loop)


def test_32_tasks_send_at_once() -> None:
    async def main() -> None:
        async with asyncio_pair(max_size=None) as (ws, other):

            async def send(number: int) -> None:
                for i in range(20):
                    message = f"{number}:{i}:{JSON}"
                    await ws.send(message if i % 3 else iter([message[:100], message[100:]]))

            async with asyncio.TaskGroup() as group:
                for number in range(32):
                    group.create_task(send(number))
                messages = [await other.recv() for _ in range(32 * 20)]
            assert sorted(messages) == sorted(f"{n}:{i}:{JSON}" for n in range(32) for i in range(20))

    run_asyncio(main)


def test_8_threads_send_at_once(bench: Any) -> None:
    one, other = bench.pair("sync", "sync", "tcp4", max_size=None)

    def send(number: int) -> None:
        for i in range(50):
            message = f"{number}:{i}:{JSON}"
            one.send(message if i % 3 else iter([message[:100], message[100:]]))

    senders = [Background(send, number) for number in range(8)]
    messages = [other.recv() for _ in range(8 * 50)]
    for sender in senders:
        sender.result()
    assert sorted(messages) == sorted(f"{n}:{i}:{JSON}" for n in range(8) for i in range(50))
    until(lambda: all(sender.done for sender in senders))


# What comes when nobody expects it: found by hostile reading.


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("compressed", [False, True])
def test_messages_behind_the_request_hold_the_peer_too(loop: str, compressed: bool) -> None:
    """They may fill the inbox before the connection is open: then reading must stay paused."""

    async def main() -> None:
        opened: asyncio.Queue[Any] = asyncio.Queue()
        over = asyncio.Event()

        async def handler(ws: Any) -> None:
            await opened.put(ws)
            await over.wait()

        one = frame(BINARY, bomb(MIB), rsv=RSV1) if compressed else frame(BINARY, bytes(60_000))
        async with websock.asyncio.serve(handler, "127.0.0.1", 0, close_timeout=0.5) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            head = REQUEST.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
            writer.write(head + frame(BINARY, b"x") * 20 * (not compressed) + one * 8)
            ws = await opened.get()
            for _ in range(50):
                writer.write(one * 8)
                await asyncio.sleep(0.002)
            assert not ws.transport.is_reading()
            assert sum(len(message) for message in list(ws._inbox)) < 12 * MIB
            over.set()
            writer.transport.abort()
            await asyncio.sleep(0)

    run_asyncio(main, loop)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("client", ["asyncio", "uvloop", "sync"])
def test_a_client_that_only_waits_sees_the_end_behind_a_full_inbox(bench: Any, client: str, compressed: bool) -> None:
    where = bench.where("tcp4")
    options: dict[str, Any] = {"max_size": None} if compressed else {"compression": None}

    def burst(end: Any) -> None:
        for _ in range(40):
            end.send(bytes(MIB) if compressed else b"x")

    bench.serve("asyncio", where, burst, **options)
    end = bench.connect(client, where, close_timeout=20, **options)
    for _ in range(40):
        end.recv()
    with pytest.raises(ConnectionClosedOK):
        end.recv()
    end.wait_closed(5)


@pytest.mark.parametrize("how", ["eof", "reset"])
@pytest.mark.parametrize("which", ["asyncio-server", "uvloop-server", "sync-server", "asyncio-client"])
@pytest.mark.parametrize("kind", ["tcp4", "tls"])
def test_what_was_read_is_delivered_when_the_connection_is_lost(bench: Any, which: str, kind: str, how: str) -> None:
    """Over TLS the end of the transport is told while reading is paused."""
    name, role = which.split("-")
    end, raw = bench.raw(name, role, kind, deflate=True)
    # In one record of TLS: all of it is read, and a few messages are decoded.
    raw.send_bytes(raw.frame(BINARY, bomb(MIB), rsv=RSV1) * 12 + raw.frame(CLOSE, close_payload(1000)))
    assert len(end.recv()) == MIB
    until(lambda: end.ws._protocol.behind)
    if how == "reset":
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.sock.close()
    else:
        raw.drop()
    threading.Event().wait(0.1)
    for _ in range(11):
        assert len(end.recv()) == MIB
    with pytest.raises(ConnectionClosed) as caught:
        end.recv()
    assert caught.value.rcvd == websock.Close(1000)
    with pytest.raises(ConnectionClosed):
        end.send("x")


def test_a_lost_connection_that_nobody_reads_is_over(bench: Any, name: str) -> None:
    end, raw = bench.raw(name, "server", "tls", deflate=True)
    raw.send_bytes(raw.frame(BINARY, bomb(MIB), rsv=RSV1) * 30)
    assert len(end.recv()) == MIB
    raw.drop()
    end.close()
    assert end.is_over and end.close_code == 1006


def test_others_learn_of_room_while_a_message_is_streamed(bench: Any) -> None:
    end, raw = bench.raw("sync", "client", "tcp4", max_queue=1)
    for _ in range(3):
        raw.send(BINARY, b"x")
    raw.close()
    until(lambda: len(end.ws._inbox) > 1 or end.ws._pump(None))
    waiting = Background(end.ws.wait_closed, 8)
    threading.Event().wait(0.1)
    assert [b"".join(end.stream()) for _ in range(3)] == [b"x"] * 3
    raw.recv_close()
    raw.drop()
    assert waiting.result()
