"""The pools over the streams that they are made for: TCP and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.net.asyncio.connecting import connect as connect_task
from websock.net.asyncio.pool import Pool as TaskPool
from websock.net.connecting import connect
from websock.net.pool import Pool


class Server:
    """It sends back what it gets; `drop` ends all connections."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.context = context
        self.accepted: list[socket.socket] = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    @property
    def address(self) -> str:
        scheme = "tls" if self.context else "tcp"
        return f"{scheme}://localhost:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=self.echo, args=(self.listener.accept()[0],))
                thread.start()
                self.threads.append(thread)

    def echo(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            if self.context is not None:
                sock = stack.enter_context(self.context.wrap_socket(sock, server_side=True))
            self.accepted.append(sock)
            while data := sock.recv(65536):
                sock.sendall(data)

    def drop(self) -> None:
        while self.accepted:
            socket.socket.shutdown(self.accepted.pop(), socket.SHUT_RDWR)  # without a word of TLS

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture(params=["tcp", "tls"])
def server(request: pytest.FixtureRequest, server_ssl: ssl.SSLContext) -> Iterator[Server]:
    server = Server(server_ssl if request.param == "tls" else None)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def options(server: Server, client_ssl: ssl.SSLContext) -> Callable[[Any], dict[str, Any]]:
    return lambda connect: {"connect": functools.partial(connect, tls=client_ssl)} if server.context else {}


Options = Callable[[Any], dict[str, Any]]


def test_blocking(server: Server, options: Options) -> None:
    with Pool(size=2, **options(connect)) as pool:
        for number in range(5):
            with pool.connection(server.address, timeout=20) as stream:
                stream.send_all(b"%d" % number)
                assert stream.receive_exactly(1) == b"%d" % number
        assert (pool.stats.opened, pool.stats.reused) == (1, 4)
        with pool.connection(server.address) as stream:
            server.drop()
            select.select([stream], [], [], 20)  # wait until that is here
        with pool.connection(server.address) as stream:
            stream.send_all(b"x")
            assert stream.receive_exactly(1) == b"x"
        assert pool.stats.dead == 1
        server.threads[1].join()


def test_asyncio(server: Server, options: Options) -> None:
    async def main() -> None:
        async with TaskPool(size=2, **options(connect_task)) as pool:

            async def ask(number: int) -> None:
                async with pool.connection(server.address, timeout=20) as stream:
                    await stream.send_all(b"%d" % number)
                    assert await stream.receive_exactly(1) == b"%d" % number

            await asyncio.gather(*map(ask, range(8)))
            assert (pool.stats.opened, pool.stats.reused) == (2, 6)
            await ask(8)
            reused = pool.stats.reused
            server.drop()
            for thread in server.threads[1:]:
                await asyncio.to_thread(thread.join)
            await ask(9)
            assert (pool.stats.reused, pool.stats.dead) == (reused, 2)

    asyncio.run(main())


def test_a_stream_that_was_only_written_to_is_used_again(server: Server, options: Options) -> None:
    """What TLS says for itself, such as a server's tickets, is not taken for an answer that nobody has read."""
    with Pool(size=1, **options(connect)) as pool:
        with pool.connection(server.address, timeout=30) as stream:
            stream.send_all(b"hello")
            first = stream
            assert stream.receive_exactly(5) == b"hello"
        with pool.connection(server.address, timeout=30) as stream:
            assert stream is first
            stream.send_all(b"an answer that nobody reads")
            select.select([stream.fileno()], [], [], 5)
        with pool.connection(server.address, timeout=30) as stream:
            assert stream is not first
            assert stream.quiet()
            stream.send_eof()
            assert not stream.quiet()
    with pytest.raises(OSError, match="closed"):
        first.quiet()

    async def main() -> None:
        async with TaskPool(size=1, **options(connect_task)) as pool:
            async with pool.connection(server.address, timeout=30) as stream:
                await stream.send_all(b"hello")
                first = stream
                assert await stream.receive_exactly(5) == b"hello"
            async with pool.connection(server.address, timeout=30) as stream:
                assert stream is first
                await stream.send_all(b"an answer that nobody reads")
                while stream.quiet():  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.001)
            async with pool.connection(server.address, timeout=30) as stream:
                assert stream is not first
        with pytest.raises(OSError, match="closed"):
            first.quiet()

    asyncio.run(main())


def test_what_one_user_left_is_not_the_next_ones(server: Server, options: Options) -> None:
    """Of TLS the rest of an answer is decrypted already, and the socket has nothing more to read."""
    with Pool(**options(connect)) as pool:
        for question in (b"one two", b"three"):
            with pool.connection(server.address, timeout=30) as stream:
                stream.send_all(question)
                assert stream.receive(3) == question[:3]
        assert pool.stats.dead == 1


def test_what_one_task_left_is_not_the_next_ones(server: Server, options: Options) -> None:
    async def main() -> None:
        async with TaskPool(**options(connect_task)) as pool:
            for question in (b"one two", b"three"):
                async with pool.connection(server.address, timeout=30) as stream:
                    await stream.send_all(question)
                    assert await stream.receive(3) == question[:3]
            assert pool.stats.dead == 1

    asyncio.run(main())


def test_a_peer_that_does_not_read_holds_up_no_pool() -> None:
    """The end of a connection waits for what was sent, and not for ever."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            async with TaskPool() as pool, pool.connection(address, timeout=30) as stream:
                sending = asyncio.create_task(stream.send_all(b"x" * 2**24))
                await asyncio.sleep(0)
                sending.cancel()
                await asyncio.wait([sending])
            peer, _ = listener.accept()
            peer.close()

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("asking", [connect, connect_task])
@pytest.mark.parametrize(
    ("settings", "kind", "complaint"),
    [
        ({"tls": "ca.pem"}, TypeError, "SSLContext or True"),
        ({"server_hostname": "x"}, ValueError, "goes with TLS"),
        ({"server_hostname": 5, "tls": True}, TypeError, "server_hostname is a name, not 5"),
        ({"server_hostname": "", "tls": True}, ValueError, "not an empty one"),
        ({"timeout": True}, TypeError, "timeout is a number of seconds"),
        ({"timeout": -1}, ValueError, "timeout is a number of seconds"),
        ({"timeout": "5"}, TypeError, "timeout is a number of seconds"),
    ],
)
def test_settings_that_say_nothing_are_refused(
    asking: Any, settings: dict[str, Any], kind: type[Exception], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        if asking is connect_task:
            asyncio.run(asking("tcp://127.0.0.1:1", **settings))
        else:
            asking("tcp://127.0.0.1:1", **settings)
