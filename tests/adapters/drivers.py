"""The same calls for both adapters, on either side, so that one test body talks to all of them.

An `End` is one connection. All calls block, with a bound: for asyncio they run in an event loop in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import websock.asyncio
import websock.sync

from .raw import REQUEST, Raw

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment,unused-ignore]

BOUND = 30.0  # seconds that anything may take; a busy machine may stand still for many


def until(condition: Callable[[], Any], bound: float = BOUND, what: str = "") -> Any:
    """Wait for a condition that nothing can be waited on for."""
    deadline = time.monotonic() + bound
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {bound} s: {what or condition}"
        time.sleep(0.002)  # the one place
    return value


class Background:
    """A call in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.value = function(*args, **kwargs)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, name=f"background-{function}", daemon=True)
        self.thread.start()

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()

    def result(self, bound: float = BOUND) -> Any:
        self.thread.join(bound)
        assert self.done, f"still running after {bound} s: {self.thread.name}"
        if self.error is not None:
            raise self.error
        return self.value


@dataclasses.dataclass
class Where:
    """A way to reach a server."""

    kind: str
    directory: str
    server_ssl: ssl.SSLContext
    client_ssl: ssl.SSLContext
    port: int = 0
    path: str = ""
    name: str = "s"

    @property
    def host(self) -> str:
        return "::1" if self.kind == "tcp6" else "127.0.0.1"

    @property
    def uri(self) -> str:
        if self.kind == "unix":
            return "ws://localhost/"
        host = "[::1]" if self.kind == "tcp6" else "127.0.0.1"
        return f"{'wss' if self.kind == 'tls' else 'ws'}://{host}:{self.port}/"

    def listen(self) -> socket.socket:
        """A listening socket."""
        if self.kind == "unix":
            self.path = f"{self.directory}/{self.name}"
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(self.path)
        else:
            sock = socket.socket(socket.AF_INET6 if self.kind == "tcp6" else socket.AF_INET)
            sock.bind((self.host, 0))
            self.port = sock.getsockname()[1]
        sock.listen(100)
        sock.settimeout(BOUND)
        return sock

    def reach(self) -> socket.socket:
        """A connected socket, before TLS."""
        if self.kind == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(BOUND)
            sock.connect(self.path)
            return sock
        return socket.create_connection((self.host, self.port), timeout=BOUND)

    def raw_client(self) -> Raw:
        """A raw client before the opening handshake."""
        sock = self.reach()
        if self.kind == "tls":
            sock = self.client_ssl.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=True)
        return Raw(sock, client=True)

    def raw_server(self, listener: socket.socket) -> Raw:
        """The raw server's end of the next connection, before the opening handshake."""
        sock, _ = listener.accept()
        sock.settimeout(BOUND)
        if self.kind == "tls":
            sock = self.server_ssl.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
        return Raw(sock, client=False)


class SyncEnd:
    """A connection of the blocking adapter."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ws, name)

    def recv(self, timeout: float | None = BOUND, **how: Any) -> Any:
        return self.ws.recv(timeout=timeout, **how)

    def send(self, message: Any, **how: Any) -> None:
        self.ws.send(message, **how)

    def stream(self, **how: Any) -> Iterator[Any]:
        yield from self.ws.recv_streaming(**how)

    def latency_of(self, data: Any = None, timeout: float = BOUND) -> float:
        """Ping, and wait for the Pong."""
        pong = self.ws.ping(data) if data is not None else self.ws.ping()
        assert pong.wait(timeout)
        latency: float = pong.latency
        return latency

    def start_ping(self, data: Any = None) -> None:
        self.ws.ping(data)

    def pong(self, data: Any = b"") -> None:
        self.ws.pong(data)

    def close(self, *args: Any) -> None:
        self.ws.close(*args)

    def fail(self, *args: Any) -> None:
        self.ws.fail(*args)

    def wait_closed(self, timeout: float = BOUND) -> None:
        assert self.ws.wait_closed(timeout)

    def kill(self) -> None:
        """End it, whatever state it is in."""
        self.ws._stream.shutdown()
        Background(self.ws.close).result()

    @property
    def is_over(self) -> bool:
        """The socket is closed."""
        return bool(self.ws._stream.sock.fileno() < 0)


class AsyncioEnd:
    """A connection of the asyncio adapter."""

    def __init__(self, adapter: AsyncioAdapter, ws: Any) -> None:
        self.adapter = adapter
        self.ws = ws

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ws, name)

    def recv(self, timeout: float | None = BOUND, **how: Any) -> Any:
        async def recv() -> Any:
            return await asyncio.wait_for(self.ws.recv(**how), timeout)

        return self.adapter.run(recv())

    def send(self, message: Any, **how: Any) -> None:
        async def send() -> None:
            await self.ws.send(message, **how)

        self.adapter.run(send())

    def stream(self, **how: Any) -> Iterator[Any]:
        async def begin() -> Any:
            return self.ws.recv_streaming(**how)

        async def leave() -> None:
            await parts.aclose()

        parts = self.adapter.run(begin())
        try:
            while True:
                try:
                    part = self.adapter.run(anext(parts))
                except StopAsyncIteration:
                    return
                yield part
        finally:
            self.adapter.run(leave())

    def latency_of(self, data: Any = None, timeout: float = BOUND) -> float:
        """Ping, and wait for the Pong."""

        async def ping() -> float:
            waiter = await (self.ws.ping(data) if data is not None else self.ws.ping())
            return float(await asyncio.wait_for(waiter, timeout))

        return float(self.adapter.run(ping()))

    def start_ping(self, data: Any = None) -> None:
        self.adapter.run(self.ws.ping(data))

    def pong(self, data: Any = b"") -> None:
        self.adapter.run(self.ws.pong(data))

    def close(self, *args: Any) -> None:
        self.adapter.run(self.ws.close(*args))

    def fail(self, *args: Any) -> None:
        async def fail() -> None:
            self.ws.fail(*args)

        self.adapter.run(fail())

    def wait_closed(self, timeout: float = BOUND) -> None:
        self.adapter.run(asyncio.wait_for(self.ws.wait_closed(), timeout))

    def kill(self) -> None:
        """End it, whatever state it is in."""

        async def kill() -> None:
            if not self.ws._lost:
                self.ws.transport.abort()
            await self.ws.wait_closed()

        self.adapter.run(kill())

    @property
    def is_over(self) -> bool:
        """The transport is gone."""
        return bool(self.ws._lost)


End = SyncEnd | AsyncioEnd
Handler = Callable[[Any], None]


class SyncServer:
    def __init__(self, server: Any) -> None:
        self.server = server
        self.thread = threading.Thread(target=server.serve_forever, name="acceptor", daemon=True)
        self.thread.start()

    def close(self, *args: Any, **how: Any) -> None:
        Background(self.server.shutdown, *args, **how).result()
        self.thread.join(BOUND)
        assert not self.thread.is_alive()


class AsyncioServer:
    def __init__(self, adapter: AsyncioAdapter, server: Any) -> None:
        self.adapter = adapter
        self.server = server

    def close(self, *args: Any, **how: Any) -> None:
        async def close() -> None:
            self.server.close(*args, **how)
            await self.server.wait_closed()

        self.adapter.run(close())


class SyncAdapter:
    """Makes servers and clients of the blocking adapter."""

    name = "sync"

    def serve(self, handler: Handler | None, where: Where, **options: Any) -> SyncServer:
        def run(ws: Any) -> None:
            assert handler is not None
            handler(SyncEnd(ws))

        if where.kind == "unix":
            where.path = f"{where.directory}/{where.name}"
            server = websock.sync.unix_serve(run, where.path, **options)
        elif where.kind == "sock":
            server = websock.sync.serve(run, sock=where.listen(), **options)
        else:
            if where.kind == "tls":
                options = {"ssl": where.server_ssl, **options}
            server = websock.sync.serve(run, where.host, 0, **options)
            where.port = server.sockets[0].getsockname()[1]
        return SyncServer(server)

    def connect(self, where: Where, uri: str | None = None, **options: Any) -> SyncEnd:
        if where.kind == "unix":
            return SyncEnd(websock.sync.unix_connect(where.path, uri, **options))
        if where.kind == "tls":
            options = {"ssl": where.client_ssl, **options}
        elif where.kind == "sock":
            options = {"sock": where.reach(), **options}
        return SyncEnd(websock.sync.connect(uri or where.uri, **options))

    def stop(self) -> None:
        pass


class AsyncioAdapter:
    """Makes servers and clients of the asyncio adapter, in a loop of its own."""

    def __init__(self, name: str = "asyncio") -> None:
        self.name = name
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop() if name == "uvloop" else asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=f"{name}-loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, Any], bound: float = BOUND + 5) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(bound)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise AssertionError(f"still running after {bound} s: {coroutine}") from None

    def serve(self, handler: Handler | None, where: Where, **options: Any) -> AsyncioServer:
        async def run(ws: Any) -> None:
            # A thread for each, and no pool, whose threads would outlive the test.
            outcome = asyncio.get_running_loop().create_future()

            def body() -> None:
                result: BaseException | None = None
                try:
                    assert handler is not None
                    handler(AsyncioEnd(self, ws))
                except BaseException as error:
                    result = error
                with contextlib.suppress(RuntimeError):  # a server that drained has left it to itself, and all is over
                    self.loop.call_soon_threadsafe(done, result)

            def done(error: BaseException | None) -> None:
                if not outcome.done():
                    outcome.set_result(error)

            threading.Thread(target=body, name="handler", daemon=True).start()
            error = await outcome
            if error is not None:
                raise error

        served = None if handler is None else run  # for on_message alone

        async def serve() -> Any:
            if where.kind == "unix":
                where.path = f"{where.directory}/{where.name}"
                return await websock.asyncio.unix_serve(served, where.path, **options)
            if where.kind == "sock":
                return await websock.asyncio.serve(served, sock=where.listen(), **options)
            if where.kind == "tls":
                return await websock.asyncio.serve(served, where.host, 0, **{"ssl": where.server_ssl, **options})
            return await websock.asyncio.serve(served, where.host, 0, **options)

        server = self.run(serve())
        if where.kind != "unix":
            where.port = server.sockets[0].getsockname()[1]
        return AsyncioServer(self, server)

    def connect(self, where: Where, uri: str | None = None, **options: Any) -> AsyncioEnd:
        async def connect() -> Any:
            if where.kind == "unix":
                return await websock.asyncio.unix_connect(where.path, uri, **options)
            how = dict(options)
            if where.kind == "tls":
                how.setdefault("ssl", where.client_ssl)
            elif where.kind == "sock":
                how.setdefault("sock", where.reach())
            return await websock.asyncio.connect(uri or where.uri, **how)

        return AsyncioEnd(self, self.run(connect()))

    def stop(self) -> None:
        """Stop the loop; nothing may be left in it."""

        async def others() -> set[Any]:
            return asyncio.all_tasks() - {asyncio.current_task()}

        left: set[Any] = set()
        try:
            deadline = time.monotonic() + 5
            while (left := self.run(others())) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert not left, f"tasks left: {left}"
        finally:
            for task in left:
                self.loop.call_soon_threadsafe(task.cancel)
            self.run(self.loop.shutdown_asyncgens())
            self.run(self.loop.shutdown_default_executor())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(BOUND)
            self.loop.close()


Adapter = SyncAdapter | AsyncioAdapter


def adapter(name: str) -> Adapter:
    return SyncAdapter() if name == "sync" else AsyncioAdapter(name)


class Bench:
    """Servers, clients and raw peers of one test, and their end."""

    def __init__(self, where: Callable[..., Where]) -> None:
        self._where = where
        self._adapters: dict[str, Adapter] = {}
        self._stack = contextlib.ExitStack()

    def adapter(self, name: str) -> Adapter:
        if name not in self._adapters:
            self._adapters[name] = adapter(name)
        return self._adapters[name]

    def close(self) -> None:
        try:
            self._stack.close()
        finally:
            for one in self._adapters.values():
                one.stop()

    def where(self, kind: str, name: str = "s") -> Where:
        return self._where(kind, name)

    def serve(self, name: str, where: Where, handler: Handler | None, **options: Any) -> Any:
        """A server, closed at the end of the test."""
        server = self.adapter(name).serve(handler, where, **options)
        self._stack.callback(server.close)
        return server

    def connect(self, name: str, where: Where, uri: str | None = None, **options: Any) -> Any:
        """A client, killed at the end of the test."""
        end = self.adapter(name).connect(where, uri, **options)
        self._stack.callback(end.kill)
        return end

    def serve_parked(self, name: str, where: Where, **options: Any) -> tuple[Any, queue.Queue[Any]]:
        """A server whose handler hands its connections to the test and stays until its end."""
        ends: queue.Queue[Any] = queue.Queue()
        over = threading.Event()

        def handler(end: Any) -> None:
            ends.put(end)
            over.wait(60)

        server = self.serve(name, where, handler, **options)
        self._stack.callback(over.set)  # called before the server's end, which waits for handlers
        server.release = over.set
        return server, ends

    def pair(self, server: str, client: str, kind: str, **options: Any) -> tuple[Any, Any]:
        """A client's end and the server's end of one connection; `options` are those of both."""
        where = self.where(kind)
        options = {"ping_interval": None, "close_timeout": 5, **options}
        _, ends = self.serve_parked(server, where, **options)
        end = self.connect(client, where, **options)
        other = ends.get(timeout=BOUND)
        self._stack.callback(other.kill)
        return end, other

    def raw(self, name: str, role: str, kind: str, *, deflate: bool = False, **options: Any) -> tuple[Any, Raw]:
        """Our end of a connection in `role`, and a raw peer; `deflate`: it wants compression, or agrees to it."""
        more = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        where = self.where(kind)
        options = {"ping_interval": None, "close_timeout": 5, **options}
        if role == "server":
            _, ends = self.serve_parked(name, where, **options)
            peer = where.raw_client()
            self._stack.callback(peer.drop)
            request = REQUEST.replace(b"\r\n\r\n", b"\r\n" + more.encode() + b"\r\n")
            assert peer.ask(request).startswith(b"HTTP/1.1 101 ")
            end = ends.get(timeout=BOUND)
            self._stack.callback(end.kill)
            return end, peer
        with where.listen() as listener:

            def accept() -> Raw:
                peer = where.raw_server(listener)
                self._stack.callback(peer.drop)
                peer.answer(more)
                return peer

            accepting = Background(accept)
            end = self.connect(name, where, **options)
            return end, accepting.result()
