"""Ended connections are freed at once: where many come and go, the garbage collector is late."""

from __future__ import annotations

import gc
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import websock.asyncio
import websock.sync
from websock.core.protocol import Protocol

from .drivers import until
from .raw import CLOSE, REQUEST, TEXT, Raw, close_payload, frame


def normally(peer: Raw) -> None:
    peer.close()
    assert peer.recv_close() == 1000


def by_us(peer: Raw) -> None:
    peer.send(TEXT, b"close")
    assert peer.recv_close() == 1001
    peer.close()


def without_a_word(peer: Raw) -> None:
    pass


def with_a_reset(peer: Raw) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def with_a_reset_while_we_send(peer: Raw) -> None:
    peer.send(TEXT, b"flood")
    peer.recv()
    with_a_reset(peer)


def with_a_broken_frame(peer: Raw) -> None:
    peer.send_bytes(frame(TEXT, b"x", rsv=4))
    assert peer.recv_close() == 1002


def with_text_that_is_none(peer: Raw) -> None:
    peer.send(TEXT, b"\xff")
    assert peer.recv_close() == 1007


def with_a_message_that_is_too_big(peer: Raw) -> None:
    peer.send(TEXT, bytes(5000))
    assert peer.recv_close() == 1009


def with_a_broken_close(peer: Raw) -> None:
    peer.send(CLOSE, close_payload(1005))
    assert peer.recv_close() == 1002


def with_a_handler_that_fails(peer: Raw) -> None:
    peer.send(TEXT, b"fail")
    assert peer.recv_close() == 1011


def with_a_peer_that_is_silent(peer: Raw) -> None:
    peer.send(TEXT, b"silence")
    while peer.recv()[0] != CLOSE:
        pass


def with_a_close_that_has_no_answer(peer: Raw) -> None:
    peer.send(TEXT, b"close")
    assert peer.recv_close() == 1001
    while peer.sock.recv(1000):
        pass


WAYS = [
    normally,
    by_us,
    without_a_word,
    with_a_reset,
    with_a_reset_while_we_send,
    with_a_broken_frame,
    with_text_that_is_none,
    with_a_message_that_is_too_big,
    with_a_broken_close,
    with_a_handler_that_fails,
    with_a_peer_that_is_silent,
    with_a_close_that_has_no_answer,
]


class Handled(Exception):
    """Of the handler."""


def handler(ws: Any) -> None:
    message = ws.recv()
    if message == "close":
        ws.close(1001)
    elif message == "fail":
        raise Handled
    elif message == "flood":
        for _ in range(1000):
            ws.send(bytes(2**16))
    else:
        ws.recv()


async def handler_in_a_task(ws: Any) -> None:
    message = await ws.recv()
    if message == "close":
        await ws.close(1001)
    elif message == "fail":
        raise Handled
    elif message == "flood":
        for _ in range(1000):
            await ws.send(bytes(2**16))
    else:
        await ws.recv()


def serve_in_tasks(adapter: Any, where: Any, request: pytest.FixtureRequest, **how: Any) -> None:
    async def start() -> Any:
        ssl = where.server_ssl if where.kind == "tls" else None
        return await websock.asyncio.serve(handler_in_a_task, where.host, 0, ssl=ssl, **how)

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    server = adapter.run(start())
    where.port = server.sockets[0].getsockname()[1]
    request.addfinalizer(lambda: adapter.run(stop()))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: str(way.__name__))
@pytest.mark.parametrize("kind", ["tcp4", "tls"])
@pytest.mark.parametrize("name", ["asyncio", "sync"])
def test_ended_connections_are_freed(
    bench: Any, request: pytest.FixtureRequest, name: str, kind: str, way: Callable[[Raw], None]
) -> None:
    where = bench.where(kind)
    options = {"ping_interval": 0.1, "ping_timeout": 0.1} if way is with_a_peer_that_is_silent else {}
    logger = logging.Logger("nobody")  # who keeps what is logged keeps the frames of a failed handler
    logger.addHandler(logging.NullHandler())
    how = {"max_size": 4096, "close_timeout": 0.2, "logger": logger, **options}
    if name == "sync":
        bench.serve("sync", where, handler, **how)
    else:  # the driver's handlers run in threads, whose futures keep their errors
        serve_in_tasks(bench.adapter("asyncio"), where, request, **how)

    def connections() -> list[str]:
        kinds = websock.asyncio.ServerConnection, websock.sync.ServerConnection, Protocol
        return [type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds)]

    gc.collect()
    assert connections() == []
    gc.disable()
    try:
        for _ in range(3):
            peer = where.raw_client()
            with peer.sock:
                peer.send_bytes(REQUEST)
                peer.until(b"\r\n\r\n")
                way(peer)
        until(lambda: not connections(), 10, "freed")
    finally:
        gc.enable()
