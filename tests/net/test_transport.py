"""The transports of the event loop: plain and TLS, on asyncio's loop and on uvloop, against ordinary sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from websock.net.asyncio import SocketTransport, TLSTransport, transport_for

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment,unused-ignore]

LOOPS = ["asyncio", "uvloop"]


class Notes(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self, keep_open: bool = False) -> None:
        self.data = bytearray()
        self.events: list[str] = []
        self.error: Exception | None = None
        self.keep_open = keep_open
        self.made = asyncio.Event()
        self.eof = asyncio.Event()
        self.lost = asyncio.Event()
        self.resumed = asyncio.Event()
        self.on_data: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.eof.set()
        return self.keep_open

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.error = exc
        self.lost.set()

    async def has(self, size: int) -> bytes:
        while len(self.data) < size and not self.lost.is_set():  # noqa: ASYNC110 - it also counts
            await asyncio.sleep(0.001)
        return bytes(self.data)


class IntoBuffer(Notes, asyncio.BufferedProtocol):
    """The same with a small buffer of its own."""

    def __init__(self, keep_open: bool = False) -> None:
        super().__init__(keep_open)
        self.buffer = memoryview(bytearray(1000))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


class Peer:
    """The other end: an ordinary socket, or a TLS one, whose blocking calls run in threads."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def do(self, method: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(self.sock, method), *arguments)

    async def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (part := await self.do("recv", size - len(found))):
            found += part
        return found

    def end(self) -> None:
        """End this direction without a word, and without the reset that unread octets would bring."""
        self.sock.shutdown(socket.SHUT_WR)

    async def at_end(self) -> bytes:
        return await self.read(2**30)


def run(main: Callable[[], Awaitable[None]], loop: str = "asyncio") -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())


Pair = Callable[..., Awaitable[tuple[SocketTransport, Any, Peer]]]


@pytest.fixture(params=[(kind, loop) for kind in ("plain", "tls", "tls1.2") for loop in LOOPS], ids="-".join)
def scene(request: pytest.FixtureRequest, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> Any:
    """``scene(main)`` runs ``main(pair)``, where ``await pair(protocol)`` gives transport, protocol and peer."""
    kind, loop = request.param

    def start(main: Callable[[Pair], Awaitable[None]]) -> None:
        async def with_pair() -> None:
            with contextlib.ExitStack() as stack:

                async def pair(protocol: Any = None, small: bool = False) -> tuple[SocketTransport, Any, Peer]:
                    protocol = Notes() if protocol is None else protocol
                    ours, theirs = _connected()
                    if small:
                        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
                        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
                    ours.setblocking(False)
                    context = None if kind == "plain" else server_ssl
                    transport = transport_for(
                        asyncio.get_running_loop(), ours, protocol, "the peer", context=context, server_side=True
                    )
                    transport.start()
                    if context is not None:
                        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
                        if kind == "tls1.2":
                            client.maximum_version = ssl.TLSVersion.TLSv1_2
                        plain, theirs = theirs, await asyncio.to_thread(client.wrap_socket, theirs)
                        assert plain.fileno() == -1
                    theirs.settimeout(30)
                    stack.callback(theirs.close)
                    await protocol.made.wait()
                    return transport, protocol, Peer(theirs)

                await main(pair)

        run(with_pair, loop)

    start.kind = kind  # type: ignore[attr-defined]
    return start


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return server, client


@pytest.mark.parametrize("protocol", [Notes, IntoBuffer])
def test_octets_go_both_ways(scene: Any, protocol: type[Notes]) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(protocol())
        sent = bytes(range(256)) * 1000
        sending = asyncio.create_task(peer.do("sendall", sent))
        assert await notes.has(len(sent)) == sent
        await sending
        transport.write(b"one ")
        transport.writelines([b"", b"two ", bytearray(b"three "), memoryview(b"four")])
        assert await peer.read(18) == b"one two three four"[:18]
        transport.close()
        assert transport.is_closing()
        await notes.lost.wait()
        assert notes.events == ["made", "lost"] and notes.error is None
        assert await peer.at_end() == b"r"[:0]

    scene(main)


def test_what_the_socket_does_not_take_waits_and_the_protocol_is_told(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(small=True)
        transport.set_write_buffer_limits(high=100_000, low=50_000)
        assert transport.get_write_buffer_limits() == (50_000, 100_000)
        changing = bytearray(b"x" * 500_000)
        expected = bytes(changing) * 6
        for _ in range(3):
            transport.write(changing)
            transport.writelines([b"x" * 250_000, b"x" * 250_000])
        changing[:] = b"y" * 500_000  # it was copied
        assert notes.events == ["made", "pause"] and transport.get_write_buffer_size() > 100_000
        assert await peer.read(len(expected)) == expected
        await notes.resumed.wait()
        assert notes.events == ["made", "pause", "resume"]
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.001)
        transport.abort()
        await notes.lost.wait()

    scene(main)


@pytest.mark.parametrize("how", ["close", "write_eof"])
def test_what_waits_is_written_before_the_end(scene: Any, how: str) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(Notes(keep_open=True), small=True)
        sent = b"z" * 1_000_000
        transport.write(sent)
        getattr(transport, how)()
        assert transport.get_write_buffer_size()
        assert await peer.at_end() == sent
        if how == "write_eof":
            with pytest.raises(RuntimeError, match="write_eof"):
                transport.write(b"more")
            with pytest.raises(RuntimeError, match="write_eof"):
                transport.writelines([b"more"])
            transport.close()
        await notes.lost.wait()
        assert notes.error is None

    scene(main)


def test_our_direction_ends_and_the_other_goes_on(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(Notes(keep_open=True))
        transport.write(b"the last")
        transport.write_eof()
        transport.write_eof()
        assert transport.can_write_eof()
        assert await peer.read(8) == b"the last"
        if scene.kind == "plain":  # Python's blocking TLS sockets answer a close_notify only with their own
            assert await peer.at_end() == b""
        await peer.do("sendall", b"still here")
        assert await notes.has(10) == b"still here"
        peer.sock.shutdown(socket.SHUT_WR)
        await notes.eof.wait()
        transport.close()
        await notes.lost.wait()
        assert notes.events == ["made", "eof", "lost"] and notes.error is None

    scene(main)


def test_the_peers_end_is_told_once_and_ours_may_go_on(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(Notes(keep_open=True))
        await peer.do("sendall", b"bye")
        if scene.kind == "plain":
            peer.sock.shutdown(socket.SHUT_WR)
        else:
            peer.sock.settimeout(0)
            with contextlib.suppress(ssl.SSLError, OSError):
                peer.sock.unwrap()  # type: ignore[attr-defined]
        await notes.eof.wait()
        assert notes.data == b"bye"
        transport.pause_reading()
        transport.resume_reading()
        transport.write(b"goodbye")
        transport.close()
        await notes.lost.wait()
        assert notes.events == ["made", "eof", "lost"]
        if scene.kind == "plain":
            assert await peer.at_end() == b"goodbye"

    scene(main)


def test_the_end_closes_a_connection_that_does_not_want_it_otherwise(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        _, notes, peer = await pair()
        peer.end()
        await notes.lost.wait()
        assert notes.events == ["made", "eof", "lost"] and notes.error is None

    scene(main)


def test_a_reset_is_told(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        await notes.lost.wait()
        assert isinstance(notes.error, ConnectionResetError)
        transport.write(b"too late")
        transport.close()
        transport.abort()

    scene(main)


def test_writing_to_a_peer_that_is_gone(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(Notes(keep_open=True))
        transport.pause_reading()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        while not notes.lost.is_set():
            transport.write(b"x" * 1000)
            await asyncio.sleep(0)
        assert isinstance(notes.error, BrokenPipeError | ConnectionResetError)

    scene(main)


@pytest.mark.parametrize("protocol", [Notes, IntoBuffer])
def test_a_pause_holds_what_comes_and_loses_nothing(scene: Any, protocol: type[Notes]) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(protocol())
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await peer.do("sendall", b"a" * 3000)
        await asyncio.sleep(0.05)
        assert not notes.data
        transport.resume_reading()
        assert await notes.has(3000) == b"a" * 3000
        # Paused from within: what is decrypted already waits too.
        notes.on_data = lambda data: transport.pause_reading()
        await peer.do("sendall", b"b" * 20_000)
        await asyncio.sleep(0.05)
        first = len(notes.data)
        assert 3000 < first < 23_000 or protocol is Notes
        await asyncio.sleep(0.02)
        assert len(notes.data) == first
        for _ in range(1000):
            transport.resume_reading()
            await asyncio.sleep(0)
            if len(notes.data) == 23_000:
                break
        assert notes.data[3000:] == b"b" * 20_000
        notes.on_data = None
        transport.pause_reading()
        await peer.do("sendall", b"c" * 10)
        peer.end()
        await asyncio.sleep(0.02)
        assert notes.events == ["made"]
        transport.resume_reading()
        await notes.lost.wait()
        assert notes.data[23_000:] == b"c" * 10 and notes.events == ["made", "eof", "lost"]

    scene(main)


def test_another_protocol_takes_over_with_what_comes_next(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, first, peer = await pair()
        second = IntoBuffer()

        def switch(data: bytes) -> None:
            transport.set_protocol(second)

        first.on_data = switch
        await peer.do("sendall", b"one")
        assert await first.has(3) == b"one"
        assert transport.get_protocol() is second
        await peer.do("sendall", b"two")
        assert await second.has(3) == b"two"
        transport.abort()
        await second.lost.wait()
        assert not first.lost.is_set()

    scene(main)


def test_abort_leaves_what_waits(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(small=True)
        transport.write(b"z" * 5_000_000)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await notes.lost.wait()
        assert notes.events[-1] == "lost" and notes.error is None
        with contextlib.suppress(OSError):  # in TLS, an end without close_notify
            assert len(await peer.at_end()) < 5_000_000

    scene(main)


def test_a_protocol_that_fails_ends_its_connection_and_is_reported(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        for method in ("data_received", "eof_received", "resume_writing"):
            transport, notes, peer = await pair(small=True)

            def fail(*arguments: Any) -> None:
                raise LookupError(method)  # noqa: B023 - it is called in this round

            setattr(notes, method, fail)
            if method == "resume_writing":
                transport.write(b"z" * 1_000_000)
                with contextlib.suppress(OSError):
                    await peer.at_end()
            elif method == "data_received":
                await peer.do("sendall", b"x")
            else:
                peer.end()
            await notes.lost.wait()
            assert str(notes.error) == method and transport.is_closing()
        assert [str(one["exception"]) for one in reports] == ["data_received", "eof_received", "resume_writing"]

    scene(main)


def test_what_it_knows_of_itself(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair()
        assert transport.get_extra_info("peername") == "the peer"
        assert transport.get_extra_info("socket").fileno() == transport.fileno()
        assert transport.get_extra_info("nothing", 5) == 5
        assert ("open" in repr(transport)) and (scene.kind == "plain") != isinstance(transport, TLSTransport)
        if scene.kind != "plain":
            assert transport.get_extra_info("ssl_object").version() == peer.sock.version()  # type: ignore[attr-defined]
            assert transport.get_extra_info("sslcontext") is not None
            assert transport.get_extra_info("cipher") and not transport.get_extra_info("peercert")
            assert transport.get_extra_info("compression") is None
        with pytest.raises(ValueError, match="must be at least"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        transport.close()
        await notes.lost.wait()
        assert "closed" in repr(transport)
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"

    scene(main)


def test_the_peers_name_is_looked_up_when_it_is_not_given() -> None:
    async def main() -> None:
        ours, theirs = _connected()
        ours.setblocking(False)
        notes = Notes()
        transport = SocketTransport(asyncio.get_running_loop(), ours, notes)
        transport.start()
        name = theirs.getsockname()
        theirs.close()
        await notes.lost.wait()
        assert transport.get_extra_info("peername") in (name, None)
        assert transport.get_extra_info("sockname") is not None

    run(main)


def test_a_transport_that_is_forgotten_says_so() -> None:
    async def main() -> None:
        ours, theirs = _connected()
        SocketTransport(asyncio.get_running_loop(), ours, Notes())  # it refers to itself
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            gc.collect()
        assert ours.fileno() == -1
        theirs.close()

    run(main)


# TLS alone.


def tls_pair(loop: str, server: ssl.SSLContext, main: Callable[[Any, Any, socket.socket], Awaitable[None]]) -> None:
    """A TLS transport whose peer's octets the test makes."""

    async def start() -> None:
        ours, theirs = _connected()
        ours.setblocking(False)
        notes = Notes()
        transport = transport_for(asyncio.get_running_loop(), ours, notes, context=server, server_side=True)
        transport.start()
        with theirs:
            theirs.settimeout(30)
            await main(transport, notes, theirs)
            transport.abort()
            await notes.lost.wait()

    run(start, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 100])
def test_what_is_not_tls_is_refused_with_an_alert(loop: str, said: bytes, server_ssl: ssl.SSLContext) -> None:
    async def main(transport: Any, notes: Notes, peer: socket.socket) -> None:
        await asyncio.to_thread(peer.sendall, said)
        await notes.lost.wait()
        assert isinstance(notes.error, ssl.SSLError) and notes.events == ["lost"]

    tls_pair(loop, server_ssl, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_leaves_in_the_handshake(loop: str, server_ssl: ssl.SSLContext) -> None:
    async def main(transport: Any, notes: Notes, peer: socket.socket) -> None:
        peer.close()
        await notes.lost.wait()
        assert notes.events == ["lost"] and isinstance(notes.error, OSError)

    tls_pair(loop, server_ssl, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_in_front_of_a_damaged_record_is_delivered(loop: str, server_ssl: ssl.SSLContext) -> None:
    async def main(transport: Any, notes: Notes, peer: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = context.wrap_bio(incoming, outgoing)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await asyncio.to_thread(peer.sendall, outgoing.read())
                incoming.write(await asyncio.to_thread(peer.recv, 2**16))
        client.write(b"good")
        good = outgoing.read()
        client.write(b"bad")
        bad = bytearray(outgoing.read())
        bad[-1] ^= 1
        await asyncio.to_thread(peer.sendall, good + bad)
        await notes.lost.wait()
        assert notes.data == b"good" and isinstance(notes.error, ssl.SSLError)
        incoming.write(await asyncio.to_thread(peer.recv, 2**16))
        with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
            while client.read(100):
                pass

    tls_pair(loop, server_ssl, main)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("name", "wrong"), [("localhost", None), ("elsewhere", "Hostname mismatch"), ("", "empty")])
def test_a_client_verifies_the_name(
    loop: str, name: str, wrong: str | None, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    async def main() -> None:
        here, there = _connected()
        running = asyncio.get_running_loop()
        ends = []
        here.setblocking(False)
        there.setblocking(False)
        server = transport_for(running, there, Notes(), context=server_ssl, server_side=True)
        try:
            client = transport_for(running, here, Notes(), context=client_ssl, server_side=False, server_hostname=name)
        except ValueError:
            assert wrong == "empty"
            ends = [server]
            here.close()
        else:
            ends = [server, client]
        notes: list[Any] = [one.get_protocol() for one in ends]
        for one in ends:
            one.start()
        if len(ends) == 2:
            await (notes[1].lost if wrong else notes[1].made).wait()
            if wrong:
                assert wrong in str(notes[1].error)
                await notes[0].lost.wait()
            else:
                assert client.get_extra_info("peercert")["subject"]
        for one in ends:
            one.abort()
        for one in notes:
            await one.lost.wait()

    run(main, loop)


def test_two_ends_talk_while_both_are_full(server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> None:
    """Both write more than the sockets take, and read: nothing is lost, nothing waits for ever."""

    async def main() -> None:
        here, there = _connected()
        running = asyncio.get_running_loop()
        for sock in (here, there):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        server = transport_for(running, there, Notes(), context=server_ssl, server_side=True)
        client = transport_for(
            running, here, IntoBuffer(), context=client_ssl, server_side=False, server_hostname="localhost"
        )
        ends = [server, client]
        notes: list[Any] = [one.get_protocol() for one in ends]
        for one in ends:
            one.start()
        for one in notes:
            await one.made.wait()
        data = bytes(range(250)) * 4000
        for one in ends:
            for start in range(0, len(data), 7777):
                one.write(memoryview(data)[start : start + 7777])
        for one in notes:
            assert await one.has(len(data)) == data
        for one in ends:
            one.close()
        for one in notes:
            await one.lost.wait()
            assert one.error is None

    run(main)


def test_threads_do_not_share_the_read_buffer(server_ssl: ssl.SSLContext) -> None:
    """Two loops in two threads, each with a TLS connection that is busy."""
    failures: list[BaseException] = []

    def in_thread() -> None:
        try:
            test = test_two_ends_talk_while_both_are_full
            test(server_ssl, _trusting())
        except BaseException as error:
            failures.append(error)

    def _trusting() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    threads = [threading.Thread(target=in_thread) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failures


@pytest.mark.parametrize("loop", LOOPS)
def test_pauses_do_not_let_what_is_encrypted_pile_up(loop: str, server_ssl: ssl.SSLContext) -> None:
    """A protocol that takes a record and pauses for a little: no more is read before what was read is taken."""

    async def main(transport: Any, notes: Any, theirs: socket.socket) -> None:
        running = asyncio.get_running_loop()
        most = 0

        def pause(data: bytes) -> None:
            nonlocal most
            most = max(most, transport._incoming.pending)
            transport.pause_reading()
            running.call_soon(running.call_soon, transport.resume_reading)

        notes.on_data = pause
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        theirs.settimeout(30)
        peer = await asyncio.to_thread(client.wrap_socket, theirs)
        data = bytes(range(256)) * 40_000
        writing = asyncio.create_task(asyncio.to_thread(peer.sendall, data))
        assert await notes.has(len(data)) == data
        await writing
        peer.close()
        assert most < 2**18

    tls_pair(loop, server_ssl, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_answers_do_not_pile_up_for_a_peer_who_does_not_read(loop: str, server_ssl: ssl.SSLContext) -> None:
    """TLS 1.3 answers each request for new keys (RFC 8446 section 4.6.3); here each octet is one."""

    async def main(transport: Any, notes: Any, theirs: socket.socket) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        theirs.settimeout(30)
        peer = await asyncio.to_thread(client.wrap_socket, theirs)
        peer.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            peer.recv(1)  # the tickets

        class Answering:
            """What is in front of OpenSSL's end."""

            def __init__(self, tls: ssl.SSLObject) -> None:
                self.tls = tls

            def __getattr__(self, name: str) -> Any:
                return getattr(self.tls, name)

            def read(self, *_: Any) -> bytes:
                transport._outgoing.write(transport._incoming.read())
                raise ssl.SSLWantReadError

        transport._tls = Answering(transport._tls)
        transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        data = os.urandom(2**20)
        with socket.socket(fileno=os.dup(peer.fileno())) as raw:
            raw.settimeout(30)
            for _ in range(2):  # and it reads on when they have gone out
                writing = asyncio.create_task(asyncio.to_thread(raw.sendall, data))
                for _ in range(1000):
                    await asyncio.sleep(0.01)
                    if transport.get_write_buffer_size() and not transport._watching:
                        break
                await asyncio.sleep(0.05)  # in which nothing more is taken
                assert 0 < transport.get_write_buffer_size() < 2**18 and not transport._watching
                got = 0
                while got < len(data):
                    got += len(await asyncio.to_thread(raw.recv, 2**16))
                await writing
        transport.abort()
        peer.close()

    tls_pair(loop, server_ssl, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_writes_while_the_peer_renegotiates_is_paused(loop: str, server_ssl: ssl.SSLContext) -> None:
    async def main(transport: Any, notes: Any, theirs: socket.socket) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        theirs.settimeout(30)
        peer = await asyncio.to_thread(client.wrap_socket, theirs)

        class Renegotiating:
            """What is in front of OpenSSL's end."""

            def __init__(self, tls: ssl.SSLObject) -> None:
                self.tls = tls

            def __getattr__(self, name: str) -> Any:
                return getattr(self.tls, name)

            def write(self, data: Any) -> int:
                raise ssl.SSLWantReadError

        tls = transport._tls
        transport._tls = Renegotiating(tls)
        transport.write(bytearray(b"hello "))
        transport.write(b"peer")
        assert notes.events[-1] == "pause" and notes.events.count("pause") == 1
        transport._tls = tls
        await asyncio.to_thread(peer.sendall, b"x")
        assert await notes.has(1) == b"x"
        await asyncio.sleep(0)
        assert notes.events[-1] == "resume"
        assert await asyncio.to_thread(peer.makefile("rb").read, 10) == b"hello peer"
        transport.abort()
        peer.close()

    tls_pair(loop, server_ssl, main)


def test_very_many_small_writes_wait_without_work_for_each_other(scene: Any) -> None:
    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(small=True)
        small = [b"%06d" % number for number in range(200_000)]
        started = time.monotonic()
        transport.write(b"first!" * 100_000)
        transport.writelines(small)
        assert await peer.read(600_000) == b"first!" * 100_000
        assert await peer.read(1_200_000) == b"".join(small)
        assert time.monotonic() - started < 5
        transport.abort()
        await notes.lost.wait()

    scene(main)


def test_a_system_without_sendmsg(scene: Any) -> None:
    """As Windows is."""

    class Without:
        def __init__(self, sock: socket.socket) -> None:
            self.__sock = sock

        def __getattr__(self, name: str) -> Any:
            if name == "sendmsg":
                raise AttributeError(name)
            return getattr(self.__sock, name)

    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(small=True)
        transport._sock = Without(transport._sock)  # type: ignore[assignment]
        parts = [b"%06d" % number * 1000 for number in range(500)]
        for start in range(0, len(parts), 50):
            transport.writelines(parts[start : start + 50])
        transport.close()
        assert await peer.at_end() == b"".join(parts)
        await notes.lost.wait()

    scene(main)


def test_our_end_leaves_what_waits_while_we_pause(scene: Any) -> None:
    """A protocol with a small buffer has taken a part of what came, pauses, and ends its own direction."""

    async def main(pair: Pair) -> None:
        transport, notes, peer = await pair(IntoBuffer(keep_open=True))

        def pause_and_end(data: bytes) -> None:
            notes.on_data = None
            transport.pause_reading()
            transport.write_eof()

        notes.on_data = pause_and_end
        data = bytes(range(250)) * 40
        await peer.do("sendall", data)
        await asyncio.sleep(0.05)
        assert len(notes.data) == 1000
        transport.resume_reading()
        assert await notes.has(len(data)) == data
        assert await peer.at_end() == b"" and "eof" not in notes.events
        transport.abort()
        await notes.lost.wait()

    scene(main)


@pytest.mark.parametrize("name", [None, ""])
def test_a_name_that_is_to_be_verified_is_not_left_out(name: str | None, client_ssl: ssl.SSLContext) -> None:
    """OpenSSL would verify none."""

    async def main() -> None:
        ours, theirs = _connected()
        with ours, theirs, pytest.raises(ValueError, match="server_hostname"):
            transport_for(
                asyncio.get_running_loop(), ours, Notes(), context=client_ssl, server_side=False, server_hostname=name
            )

    run(main)
