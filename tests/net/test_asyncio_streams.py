"""What only streams of tasks have: cancellation, several loops, abandoned streams, TLS handshakes in the background."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import socket
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from websock.net.address import Address
from websock.net.asyncio import race
from websock.net.asyncio.accept import Acceptor
from websock.net.asyncio.connecting import connect
from websock.net.asyncio.listener import Listener, listen
from websock.net.asyncio.stream import Stream
from websock.net.errors import BusyError, ClosedError
from websock.net.options import SocketOptions
from websock.net.resolving import Target

from ..sockets import Logs
from .test_transport import LOOPS

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment,unused-ignore]

Main = Callable[[], Awaitable[None]]
MUCH = 8 * 2**20  # octets that fit into no buffer


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine function in one kind of loop; no task may be left when it returns."""

    def start(main: Main) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await main()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return start


def pair() -> tuple[Stream, Stream]:
    ours, theirs = socket.socketpair()
    return Stream(ours), Stream(theirs)


async def tls_pair(server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> tuple[Stream, Stream]:
    ours, theirs = socket.socketpair()
    return tuple(  # type: ignore[return-value]
        await asyncio.gather(
            Stream.secured(ours, client_ssl, server_hostname="localhost"),
            Stream.secured(theirs, server_ssl, server_side=True),
        )
    )


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Cancellation.


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_cancelled_receive_loses_nothing(
    run: Any, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await tls_pair(server_ssl, client_ssl) if secure else pair()
        async with ours, theirs:
            for wait in range(4):  # it comes before, with and after the cancellation
                receiving = asyncio.create_task(ours.receive())
                await turns()
                await theirs.send_all(b"hello")
                await turns(wait)
                receiving.cancel()
                await asyncio.wait([receiving])
                assert (await ours.receive() if receiving.cancelled() else receiving.result()) == b"hello"
            receiving = asyncio.create_task(ours.receive())
            await turns()
            receiving.cancel()  # another one comes before the first has seen that it is cancelled
            again = asyncio.create_task(ours.receive())
            await turns(1)
            await theirs.send_all(b"again")
            assert await again == b"again" and receiving.cancelled()

    run(main)


def test_a_cancelled_receive_exactly_keeps_its_part(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()
        async with ours, theirs:
            await theirs.send_all(b"half ")
            receiving = asyncio.create_task(ours.receive_exactly(10))
            await asyncio.sleep(0.01)
            await cancelled(receiving)
            await theirs.send_all(b"whole")
            assert await ours.receive(2) == b"ha"
            assert await ours.receive_exactly(8) == b"lf whole"

    run(main)


@pytest.mark.parametrize("of", [bytes, bytearray])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_what_a_cancelled_send_has_begun_goes_out(
    run: Any, of: Any, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await tls_pair(server_ssl, client_ssl) if secure else pair()
        async with ours, theirs:
            data = os.urandom(MUCH)
            sending = asyncio.create_task(ours.send_all(of(data)))
            await turns()
            waiting = ours._transport.get_write_buffer_size()
            assert 2**16 < waiting <= (MUCH if of is bytes and not secure else 2**19)
            await cancelled(sending)
            last = asyncio.create_task(ours.send_all(b"last"))
            assert await theirs.receive_exactly(MUCH + 4) == data + b"last"
            await last

    run(main)


def test_a_send_that_has_not_begun_sends_nothing(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()
        async with ours, theirs:
            await cancelled_in_a_turn(ours.send_all(bytes(MUCH)))
            second = asyncio.create_task(ours.send_all(b"second"))
            await turns()
            with pytest.raises(BusyError):
                await ours.send_all(b"third")
            await cancelled(second)
            assert await theirs.receive_exactly(MUCH) == bytes(MUCH)
            await ours.send_all(b"fourth")
            assert await theirs.receive() == b"fourth"

    run(main)


async def cancelled_in_a_turn(sending: Any) -> None:
    task = asyncio.create_task(sending)
    await turns()
    await cancelled(task)


def test_after_a_cancelled_file_nothing_more_goes_out(run: Any, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(bytes(MUCH))

    async def main() -> None:
        ours, theirs = pair()
        async with ours, theirs:
            with (tmp_path / "file").open("rb") as file:
                sending = asyncio.create_task(ours.send_file(file))
                assert await theirs.receive()
                await cancelled(sending)
            with pytest.raises(ClosedError, match="within a file"):
                await ours.send_all(b"x")

    run(main)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_after_the_first_piece_of_a_cancelled_file_nothing_more_goes_out(
    run: Any, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await tls_pair(server_ssl, client_ssl) if secure else pair()
        async with ours, theirs:
            ours.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**13)
            file = io.BytesIO(bytes(MUCH))
            sending = asyncio.create_task(ours.send_file(file))
            while not ours._link.full:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
            assert file.tell() == 2**18  # the first one waits
            await cancelled(sending)
            assert file.tell() == 2**18
            with pytest.raises(ClosedError, match="cancelled within a file"):
                await ours.send_all(b"x")
            assert await theirs.receive_exactly(2**18) == bytes(2**18)
        async with asyncio.timeout(5):
            ours, theirs = await tls_pair(server_ssl, client_ssl) if secure else pair()
            async with ours, theirs:
                await cancelled_in_a_turn(ours.send_all(bytes(MUCH)))
                await cancelled_in_a_turn(ours.send_file(file))  # of which nothing has gone out
                last = asyncio.create_task(ours.send_all(b"x"))
                assert await theirs.receive_exactly(MUCH + 1) == bytes(MUCH) + b"x"
                await last

    run(main)


@pytest.mark.parametrize("of_the_system", [False, True], ids=["read", "sendfile"])
def test_nobody_sends_within_a_file(run: Any, of_the_system: bool, tmp_path: Any) -> None:
    data = os.urandom(4 * 2**20)
    (tmp_path / "file").write_bytes(data)

    async def main() -> None:
        ours, theirs = pair()
        async with ours, theirs:
            receiving = asyncio.create_task(theirs.receive_exactly(len(data) + 1))
            with (tmp_path / "file").open("rb") if of_the_system else io.BytesIO(data) as file:
                sending = asyncio.create_task(ours.send_file(file))
                await turns(1)
                while not sending.done():
                    with pytest.raises(BusyError):
                        await ours.send_all(b"x")
                    await asyncio.sleep(0)
            await ours.send_all(b"x")
            assert await receiving == data + b"x"

    run(main)


def test_a_cancelled_close_does_not_wait_for_the_peer(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()
        await cancelled_in_a_turn(ours.send_all(bytes(MUCH)))
        await cancelled_in_a_turn(ours.close())
        await turns()
        assert ours.fileno() == -1
        await theirs.close()

    run(main)


def test_a_cancelled_body_does_not_wait_for_the_peer(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()

        async def body() -> None:
            async with ours:
                await ours.send_all(bytes(MUCH))

        async with theirs:
            await cancelled_in_a_turn(body())
            assert ours.fileno() == -1

    run(main)


def silent_listener() -> socket.socket:
    """One whose queue is full, so that who connects gets no answer."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    return listener


def test_a_cancelled_connect_leaves_no_socket(run: Any) -> None:
    async def main() -> None:
        with silent_listener() as listener:
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            first = await connect(address)
            connecting = [asyncio.create_task(connect(address)) for _ in range(3)]
            await asyncio.sleep(0.01)
            for task in connecting:
                task.cancel()
            done, _ = await asyncio.wait(connecting)
            for task in done:
                if not task.cancelled():
                    await task.result().close()
            assert any(task.cancelled() for task in done)
            with pytest.raises(TimeoutError, match=address):
                await connect(address, timeout=0.01)
            await first.close()

    run(main)


def test_a_connect_that_is_cancelled_in_the_turn_in_which_it_succeeds(run: Any) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener:
            for count in range(8):
                connecting = asyncio.create_task(connect(listener.addresses[0]))
                await turns(count)
                connecting.cancel()
                await asyncio.wait([connecting])
                if not connecting.cancelled():
                    await connecting.result().close()

    run(main)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_cancelled_accept_loses_no_connection(
    run: Any, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", tls=server_ssl if secure else None) as listener:
            address = listener.addresses[0]
            for count in range(6):
                accepting = asyncio.create_task(listener.accept())
                await turns()
                connecting = asyncio.create_task(connect(address, tls=client_ssl if secure else None))
                await turns(count)
                accepting.cancel()
                await asyncio.wait([accepting])
                server = await listener.accept() if accepting.cancelled() else accepting.result()
                async with server, await connecting as client:
                    await client.send_all(b"hello")
                    assert await server.receive() == b"hello"

    run(main)


# Happy eyeballs.


def targets_of(*addresses: tuple[str, int]) -> list[Target]:
    return [Target(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, one) for one in addresses]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    """What every name means."""
    found: list[Target] = []

    async def resolve(address: Address, **_: Any) -> list[Target]:
        return found

    monkeypatch.setattr(race, "resolve", resolve)
    return found


def test_a_silent_address_does_not_hold_up_the_next(run: Any, ways: list[Target]) -> None:
    async def main() -> None:
        with silent_listener() as silent, socket.create_server(("127.0.0.1", 0)) as good:
            fillers = [socket.socket() for _ in range(4)]
            for one in fillers:
                one.setblocking(False)
                one.connect_ex(silent.getsockname())
            ways[:] = targets_of(silent.getsockname(), good.getsockname())
            sock = await race.connected(Address("tcp", "host", 1), delay=0.01)
            with sock:
                assert sock.getpeername() == good.getsockname()
            for one in fillers:
                one.close()

    run(main)


def test_an_address_that_refuses_makes_way_at_once(run: Any, ways: list[Target]) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as bad:
            bad.bind(("127.0.0.1", 0))  # and does not listen
            ways[:] = targets_of(bad.getsockname(), bad.getsockname(), good.getsockname())
            with await race.connected(Address("tcp", "host", 1), delay=1000) as sock:
                assert sock.getpeername() == good.getsockname()
            ways[:] = targets_of(bad.getsockname(), bad.getsockname())
            with pytest.raises(ConnectionRefusedError, match="tcp://host:1") as caught:
                await race.connected(Address("tcp", "host", 1), delay=1000)
            assert len(caught.value.__notes__) == 2

    run(main)


def test_our_own_end(run: Any) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener:
            address = listener.addresses[0]
            async with await connect(address, local="tcp://127.0.0.2:0") as stream:
                assert stream.local.host == "127.0.0.2"
                assert stream.options().nodelay
            with pytest.raises(OSError, match=r"192\.0\.2\.1"):
                await connect(address, local="tcp://192.0.2.1:0")
            with pytest.raises(OSError, match="another family"):
                await connect(address, local="tcp://[::1]:0")
            with pytest.raises(ValueError, match="ttl"):
                await connect(f"unix:@{os.getpid()}", options=SocketOptions(ttl=3))

    run(main)


def test_a_unix_socket_whose_queue_is_full_is_waited_for(run: Any, short_path: str) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{short_path}/a")
            listener.listen(0)
            listener.setblocking(False)
            streams = [await connect(f"unix://{short_path}/a")]
            connecting = [asyncio.create_task(connect(f"unix://{short_path}/a")) for _ in range(4)]
            await asyncio.sleep(0.02)
            assert not all(one.done() for one in connecting)
            accepted: list[socket.socket] = []
            while len(accepted) < 5:
                try:
                    accepted.append(listener.accept()[0])
                except BlockingIOError:
                    await asyncio.sleep(0.001)
            streams += [await one for one in connecting]
            for one in accepted:
                one.close()
            for stream in streams:
                assert await stream.receive() == b""
                await stream.close()

    run(main)


# Reading ahead, and pausing.


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_what_nobody_takes_holds_the_peer_up(
    run: Any, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await tls_pair(server_ssl, client_ssl) if secure else pair()
        async with ours, theirs:
            data = os.urandom(MUCH)
            sending = asyncio.create_task(theirs.send_all(data))
            await asyncio.sleep(0.05)
            assert not sending.done()
            assert ours._link.size <= 2**17
            assert await ours.receive_exactly(MUCH) == data
            await sending

    run(main)


def test_a_busy_peer_leaves_others_their_turns(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()
        async with ours, theirs:
            await theirs.send_all(bytes(200))
            await asyncio.sleep(0.01)  # it is there before anybody asks
            others = 0

            async def count() -> None:
                nonlocal others
                while True:
                    others += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            for _ in range(200):
                assert await ours.receive(1) == b"\0"
            assert others > 3
            await cancelled(counting)

    run(main)


# Abandoned.


def test_an_abandoned_stream_warns_and_is_closed(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()
        receiving = asyncio.create_task(theirs.receive())
        await turns()
        with pytest.warns(ResourceWarning, match="unclosed <Stream"):
            del ours
        assert await receiving == b""
        await theirs.close()

    run(main)


def test_an_abandoned_stream_of_a_closed_loop_warns_and_is_closed() -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept.extend(pair())

    asyncio.run(main())
    sock = kept[0].sock
    with pytest.warns(ResourceWarning, match="unclosed <Stream"):
        kept.clear()
    assert sock.fileno() == -1


def test_a_closed_stream_does_not_warn(run: Any) -> None:
    async def main() -> None:
        ours, theirs = pair()
        await ours.close()
        theirs.abort()
        await theirs.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del ours, theirs
            gc.collect()

    run(main)


# Loops.


def test_two_loops_in_two_threads(server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> None:
    data = os.urandom(2**20)
    address: list[Address] = []
    listening = threading.Event()

    async def serve() -> None:
        async with await listen("tls://localhost:0", tls=server_ssl) as listener:
            address.extend(listener.addresses)
            listening.set()
            async with asyncio.timeout(20), await listener.accept() as stream:
                async for part in stream:
                    await stream.send_all(part)

    async def ask() -> None:
        async with asyncio.timeout(20), await connect(address[0].replace(host="localhost"), tls=client_ssl) as stream:
            sending = asyncio.create_task(stream.send_all(data))
            assert await stream.receive_exactly(len(data)) == data
            await sending

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(20)
    asyncio.run(ask())
    thread.join(20)


def test_without_watching_there_are_no_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Windows' proactor loop."""
    for module in ("stream", "listener"):
        monkeypatch.setattr(f"websock.net.asyncio.{module}.can_watch", lambda loop: False)

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(OSError, match="not on this system"):
            Stream(ours)
        with pytest.raises(OSError, match="not on this system"):
            await listen("tcp://127.0.0.1:0")

    asyncio.run(main())


# TLS handshakes in the background.


def test_a_silent_peer_holds_nobody_up(
    run: Any, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext, logs: Logs
) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", tls=server_ssl, handshake_timeout=0.2) as listener:
            address = listener.addresses[0]
            silent = socket.create_connection(("127.0.0.1", address.port))
            wrong = socket.create_connection(("127.0.0.1", address.port))
            wrong.sendall(b"GET / HTTP/1.1\r\n\r\n")
            accepting = asyncio.create_task(listener.accept())
            async with await connect(address, tls=client_ssl) as client, await accepting as server:
                await client.send_all(b"hello")
                assert await server.receive() == b"hello"
            silent.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(silent, 100) == b""
            silent.close()
            wrong.close()

    run(main)
    said = [record.getMessage() for record in logs.records if record.name == "websock.net"]
    assert len(said) == 2 and "timed out" in said[1] and "127.0.0.1" in said[1]


def test_closing_a_listener_ends_the_handshakes(run: Any, server_ssl: ssl.SSLContext) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", tls=server_ssl) as listener:
            silent = [socket.create_connection(("127.0.0.1", listener.addresses[0].port)) for _ in range(3)]
            accepting = asyncio.create_task(listener.accept())
            while len(listener._handshakes) < 3:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)
        with pytest.raises(ClosedError):
            await accepting
        for one in silent:
            one.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(one, 100) == b""
            one.close()

    run(main)


def test_a_cancelled_handshake_leaves_no_socket(run: Any, client_ssl: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            await cancelled_in_a_turn(Stream.secured(ours, client_ssl, server_hostname="localhost"))
            await turns()
            assert ours.fileno() == -1
            ours, other = socket.socketpair()
            with other, pytest.raises(TimeoutError, match="timed out"):
                await Stream.secured(ours, client_ssl, server_hostname="localhost", timeout=0.01)
        ours, theirs = socket.socketpair()
        with theirs, pytest.raises(ValueError, match="server_hostname"):
            await Stream.secured(ours, client_ssl)
        assert ours.fileno() == -1

    run(main)


# Accepting.


def test_connections_wait_in_the_kernel_until_somebody_asks(run: Any) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener:
            clients = [await connect(listener.addresses[0]) for _ in range(5)]
            assert not listener._ready
            served = [await listener.accept() for _ in range(2)]
            assert len(listener._ready) == 0
        for stream in served:
            await stream.close()
        for client in clients:
            await client.close()

    run(main)


def test_what_was_accepted_and_not_taken_is_closed(run: Any, server_ssl: ssl.SSLContext, client_ssl: Any) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", tls=server_ssl) as listener:
            accepting = asyncio.create_task(listener.accept())
            clients = await asyncio.gather(*[connect(listener.addresses[0], tls=client_ssl) for _ in range(3)])
            await (await accepting).close()
        for client in clients:
            try:
                assert await client.receive() == b""
            except ConnectionResetError:
                pass
            await client.close()

    run(main)


def test_several_accept_in_turn(run: Any) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener:
            accepting = [asyncio.create_task(listener.accept()) for _ in range(3)]
            await turns()
            clients = [await connect(listener.addresses[0]) for _ in range(3)]
            for task, client in zip(accepting, clients, strict=True):
                stream = await task
                assert stream.remote == client.local
                await stream.close()
                await client.close()

    run(main)


class Scripted:
    """A listening socket whose accept fails as it is told."""

    def __init__(self, sock: socket.socket, errors: list[int]) -> None:
        self.sock = sock
        self.errors = errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def accept(self) -> Any:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self.sock.accept()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_accepting_goes_on_when_there_is_room_again(number: int, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.net.asyncio.accept.BACK_OFF", 0.01)
    where: list[Address] = []

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            where.append(Address.of(sock))
            sock.setblocking(False)
            scripted: Any = Scripted(sock, [errno.ECONNABORTED, number, number])
            accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
            acceptor = Acceptor(asyncio.get_running_loop(), [scripted], lambda sock, peer: accepted.set_result(sock))
            acceptor.start()
            with socket.create_connection(sock.getsockname()):
                (await asyncio.wait_for(accepted, 10)).close()
            scripted.errors.extend([number] * 1000)  # on a busy machine nobody looks at the right moment
            with socket.create_connection(sock.getsockname()):
                while not acceptor._backing_off:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.001)
                await acceptor.stop()  # while it waits
                await asyncio.sleep(0.03)
            assert not acceptor._watched

    asyncio.run(main())
    said = [record.getMessage() for record in logs.records if record.name == "websock.net"]
    assert len(said) == 2 and all(f"can't accept on {where[0]}: " in one for one in said)


def test_what_happened_to_a_connection_before_holds_up_no_other(logs: Logs) -> None:
    """accept(2): it tells of the network's errors with the connection; the listener has none."""
    numbers = [errno.EPROTO, errno.ECONNRESET, errno.ECONNABORTED, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EPERM]

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            scripted: Any = Scripted(sock, numbers)
            accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
            acceptor = Acceptor(asyncio.get_running_loop(), [scripted], lambda sock, peer: accepted.set_result(sock))
            acceptor.start()
            with socket.create_connection(sock.getsockname()):
                (await asyncio.wait_for(accepted, 10)).close()
            assert not acceptor._backing_off and not numbers
            await acceptor.stop()

    asyncio.run(main())
    assert not logs.loud()


def test_an_option_that_does_not_fit_closes_the_connection(logs: Logs) -> None:
    async def main() -> None:
        sockets = [socket.socket(socket.AF_UNIX)]
        sockets[0].bind(f"\0websock-test-{os.getpid()}")
        sockets[0].listen()
        async with Listener(sockets, options=SocketOptions(user_timeout=1)) as listener:
            accepting = asyncio.create_task(listener.accept())
            async with await connect(listener.addresses[0]) as client:
                assert await client.receive() == b""
        with pytest.raises(ClosedError):
            await accepting

    asyncio.run(main())
    assert any("user_timeout" in record.getMessage() for record in logs.records)


def test_a_reset_is_no_end(run: Any) -> None:
    """Also for who has received before, and waits."""

    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener, await connect(listener.addresses[0]) as ours:
            theirs = await listener.accept()
            for _ in range(3):
                task = asyncio.create_task(ours.receive())
                await asyncio.sleep(0.01)
                await theirs.send_all(b"x")
                assert await task == b"x"
            task = asyncio.create_task(ours.receive())
            await asyncio.sleep(0.01)
            theirs.abort()
            with pytest.raises(ConnectionResetError, match="can't receive from tcp://"):
                await task
            with pytest.raises(ConnectionResetError):
                await ours.receive()

    run(main)


def test_a_connection_with_itself_is_none(run: Any) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            address = str(Address.of(sock))
        with pytest.raises(ConnectionRefusedError, match="nothing listens there"):
            await connect(address, local=address, timeout=5)

    run(main)


def test_descriptors_do_not_go_with_tls(run: Any, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        one, other = await asyncio.gather(
            Stream.secured(ours, server_ssl, server_side=True),
            Stream.secured(theirs, client_ssl, server_hostname="localhost"),
        )
        async with other, one:
            with pytest.raises(ValueError, match="TLS"):
                await one.send_fds(b"plain", [0])
            with pytest.raises(ValueError, match="TLS"):
                await one.receive_fds()

    run(main)


def test_who_was_accepted_is_known_when_it_is_gone(run: Any) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener:
            theirs = await connect(listener.addresses[0])
            where = theirs.local
            theirs.abort()
            await theirs.close()
            async with await listener.accept() as ours:
                assert ours.remote == where

    run(main)


def test_a_handshake_with_who_is_gone_names_them(run: Any, server_ssl: ssl.SSLContext, logs: Logs) -> None:
    where: list[str] = []

    async def main() -> None:
        async with await listen("tls://127.0.0.1:0", tls=server_ssl) as listener:
            theirs = await connect(listener.addresses[0].replace(scheme="tcp"))
            where.append(str(theirs.local.replace(scheme="tls")))
            theirs.abort()
            await theirs.close()
            accepting = asyncio.create_task(listener.accept())
            await asyncio.sleep(0.05)
        with pytest.raises(ClosedError):
            await accepting

    run(main)
    said = [record.getMessage() for record in logs.records if record.name == "websock.net"]
    assert len(said) == 1 and where[0] in said[0]


def test_a_loop_that_cannot_watch_one_more_leaves_no_socket(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """epoll_ctl(2): there is a limit for all that a user watches (ENOSPC)."""

    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener:
            with monkeypatch.context() as patched:

                def full(self: Any) -> None:
                    raise OSError(errno.ENOSPC, "No space left on device")

                patched.setattr("websock.net.asyncio.transport.SocketTransport._watch", full)
                with pytest.raises(OSError, match="No space"):
                    await connect(listener.addresses[0])
                with pytest.raises(OSError, match="No space"):
                    await connect(listener.addresses[0].replace(scheme="tls"))
            with monkeypatch.context() as patched:
                patched.setattr("websock.net.asyncio.stream.can_watch", lambda loop: False)
                with pytest.raises(OSError, match="not on this system"):
                    await connect(listener.addresses[0])
            await turns()
            for _ in range(3):
                async with await listener.accept() as stream:
                    assert await stream.receive() == b""

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main)
        gc.collect()


def test_closing_a_listener_ends_a_handshake_that_has_not_begun(run: Any, server_ssl: ssl.SSLContext) -> None:
    async def main() -> None:
        listener = await listen("tcp://127.0.0.1:0", tls=server_ssl)
        begun = asyncio.Event()
        accepted = listener._acceptor._accepted

        def and_close(sock: socket.socket, peer: Any) -> None:
            accepted(sock, peer)
            begun.set()
            closing.append(asyncio.ensure_future(listener.close()))
            for task in list(listener._handshakes):
                task.cancel()

        closing: list[Any] = []
        listener._acceptor._accepted = and_close
        accepting = asyncio.create_task(listener.accept())
        async with await connect(listener.addresses[0].replace(scheme="tcp")) as client:
            await begun.wait()
            await closing[0]
            with pytest.raises(ClosedError):
                await accepting
            try:
                assert await client.receive() == b""
            except ConnectionResetError:
                pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main)
        gc.collect()
