"""Drivers: one way to write a test of streams, for blocking ones and for those of tasks.

Every call is started, and gives a future. A blocking one has a thread, the others run in an event loop that has one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from websock.net.asyncio.connecting import connect as connect_task
from websock.net.asyncio.listener import listen as listen_task
from websock.net.asyncio.stream import Stream as TaskStream
from websock.net.connecting import connect
from websock.net.listener import listen
from websock.net.stream import Stream

__all__ = ["KINDS", "PATIENCE", "Blocking", "Driver", "End", "Tasks", "payload", "result_of"]

KINDS = ("tcp", "tls", "unix", "pair")
PATIENCE = 10  # seconds for what takes milliseconds


def result_of(future: concurrent.futures.Future[Any]) -> Any:
    """What a call gives; one that hangs is no TimeoutError, which is an OSError too."""
    done, _ = concurrent.futures.wait([future], PATIENCE)
    assert done, "it hangs"
    return future.result()


class End:
    """A stream, or a listener: its methods are started by the driver, and waited for unless by `start`."""

    def __init__(self, driver: Driver, it: Any) -> None:
        self.driver = driver
        self.it = it

    def start(self, name: str, *args: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        return self.driver.start(getattr(self.it, name), *args, **keywords)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.it, name)
        if not callable(found):
            return found
        return lambda *args, **keywords: result_of(self.driver.start(found, *args, **keywords))


class Driver:
    """See above."""

    name: str
    is_blocking = False

    def __init__(self, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext, directory: str) -> None:
        self.server_ssl = server_ssl
        self.client_ssl = client_ssl
        self.directory = directory
        self.ends: list[End] = []

    def start(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        raise NotImplementedError

    def do(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        return result_of(self.start(function, *args, **keywords))

    def end(self, it: Any) -> End:
        self.ends.append(End(self, it))
        return self.ends[-1]

    def address(self, kind: str) -> str:
        if kind in ("tcp", "tls"):
            return f"{kind}://127.0.0.1:0"
        return f"{kind}://{self.directory}/{kind}"

    def listen(self, address: str, **keywords: Any) -> End:
        raise NotImplementedError

    def connect(self, address: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        raise NotImplementedError

    def stream(self, sock: socket.socket) -> End:
        raise NotImplementedError

    def settled(self, end: End, call: concurrent.futures.Future[Any]) -> None:
        """Return when a call of this stream waits, or is done."""
        raise NotImplementedError

    def pair(self, kind: str, **keywords: Any) -> tuple[End, End]:
        """A client's end and a server's."""
        if kind in ("pair", "packetpair"):
            of = socket.SOCK_STREAM if kind == "pair" else socket.SOCK_SEQPACKET
            ours, theirs = socket.socketpair(socket.AF_UNIX, of)
            return self.stream(ours), self.stream(theirs)
        secure = kind == "tls"
        with self.listening(self.address(kind), **({"tls": self.server_ssl} if secure else {})) as listener:
            if secure:
                keywords.setdefault("tls", self.client_ssl)
            connecting = self.connect(listener.addresses[0], **keywords)
            server = self.end(listener.accept())
            if secure and self.is_blocking:
                server.handshake()
            return self.end(result_of(connecting)), server

    @contextlib.contextmanager
    def listening(self, address: str, **keywords: Any) -> Iterator[End]:
        listener = self.listen(address, **keywords)
        try:
            yield listener
        finally:
            listener.close()

    def finish(self) -> None:
        for end in self.ends:
            end.abort()
            end.close()


class Blocking(Driver):
    name = "blocking"
    is_blocking = True

    def start(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                result = function(*args, **keywords)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future

    def listen(self, address: str, **keywords: Any) -> End:
        return End(self, listen(address, **keywords))

    def connect(self, address: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        return self.start(connect, address, **keywords)

    def stream(self, sock: socket.socket) -> End:
        return self.end(Stream(sock))

    def settled(self, end: End, call: concurrent.futures.Future[Any]) -> None:
        while not (end.it._receiving.taken() or end.it._sending.taken() or call.done()):
            time.sleep(0.001)
        time.sleep(0.02)  # from there it is a few steps to the system call, which nobody can see


class Tasks(Driver):
    name = "asyncio"

    def __init__(self, *args: Any, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        super().__init__(*args)
        self.loop = new_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def start(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        async def run() -> Any:
            result = function(*args, **keywords)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop)

    def listen(self, address: str, **keywords: Any) -> End:
        return End(self, self.do(listen_task, address, **keywords))

    def connect(self, address: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        return self.start(connect_task, address, **keywords)

    def stream(self, sock: socket.socket) -> End:
        return self.end(self.do(TaskStream, sock))

    def settled(self, end: End, call: concurrent.futures.Future[Any]) -> None:
        for _ in range(5):
            self.do(asyncio.sleep, 0)

    def finish(self) -> None:
        try:
            super().finish()
            self.do(asyncio.sleep, 0)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


def payload(size: int) -> bytes:
    """Octets that are not the same anywhere."""
    return os.urandom(4096) * (size // 4096 + 1)
