"""What only blocking streams have: timeouts, threads, a descriptor whose number is not given again too early; and
happy eyeballs, with the ways that a name has made up for the test."""

from __future__ import annotations

import array
import contextlib
import errno
import functools
import gc
import os
import resource
import selectors
import signal
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.accelerated import ACCELERATED
from websock.net.address import Address
from websock.net.connecting import connect, connected, no_way
from websock.net.errors import AddressError, BusyError, ClosedError
from websock.net.listener import listen
from websock.net.options import SocketOptions
from websock.net.resolving import Target
from websock.net.stream import IncompleteError, Stream
from websock.net.tls_stream import TLSStream

from ..sockets import Logs
from .streams import Blocking, payload, result_of

MUCH = 16 * 2**20
connect_module = sys.modules["websock.net.connecting"]


@pytest.fixture
def driver(server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext, short_path: str) -> Iterator[Blocking]:
    made = Blocking(server_ssl, client_ssl, short_path)
    try:
        yield made
    finally:
        made.finish()


@pytest.fixture(params=["tcp", "tls", "unix", "pair"])
def pair(request: pytest.FixtureRequest, driver: Blocking) -> tuple[Stream, Stream]:
    one, other = driver.pair(request.param)
    return one.it, other.it


# Timeouts.


def test_receiving_times_out_and_loses_nothing(pair: tuple[Stream, Stream]) -> None:
    one, other = pair
    one.receive_timeout = 0.02
    for call in (one.receive, lambda: one.receive_into(bytearray(3))):
        with pytest.raises(TimeoutError, match="can't receive from"):
            call()
    other.send_all(b"abc")
    with pytest.raises(TimeoutError):
        one.receive_exactly(5)
    other.send_all(b"de")
    assert one.receive_exactly(5) == b"abcde"
    other.send_all(b"f")
    with pytest.raises(TimeoutError):
        one.receive_exactly(5)
    assert one.receive() == b"f"
    other.close()
    assert one.receive() == b""


def test_a_send_that_times_out_half_way_is_the_last(pair: tuple[Stream, Stream], tmp_path: Any) -> None:
    one, other = pair
    one.send_timeout = 0.02
    one.send_all(b"small")
    with pytest.raises(TimeoutError, match=r"after \d+ octets"):
        one.send_all(bytes(MUCH))
    with pytest.raises(ClosedError, match="half way"):
        one.send_all(b"")
    other.send_all(b"the other way")
    assert one.receive() == b"the other way"


def test_a_file_that_times_out(pair: tuple[Stream, Stream], tmp_path: Any) -> None:
    one, _ = pair
    (tmp_path / "file").write_bytes(bytes(MUCH))
    one.send_timeout = 0.02
    with (tmp_path / "file").open("rb") as file:
        with pytest.raises(TimeoutError):
            one.send_file(file)
        assert 0 < file.tell() < MUCH
    assert os.get_blocking(one.fileno())
    with pytest.raises(ClosedError, match="half way"):
        one.send_all(b"x")


@pytest.mark.parametrize("value", [-1, "1", True, float("nan")])
def test_what_is_no_timeout(value: Any) -> None:
    one, other = map(Stream, socket.socketpair())
    wrong = TypeError if isinstance(value, str | bool) else ValueError
    with one, other:
        with pytest.raises(wrong, match="receive_timeout"):
            one.receive_timeout = value
        with pytest.raises(wrong, match="send_timeout"):
            one.send_timeout = value


@pytest.mark.parametrize("value", [2.1e6, 1e12, float("inf")])
def test_a_timeout_that_is_too_long_for_poll(driver: Blocking, value: float) -> None:
    one, other = (end.it for end in driver.pair("pair"))
    one.receive_timeout = one.send_timeout = value
    receiving = driver.start(one.receive)
    time.sleep(0.02)
    other.send_all(b"hello")
    assert result_of(receiving) == b"hello"
    sending = driver.start(one.send_all, data := payload(MUCH))
    assert other.receive_exactly(len(data)) == data
    result_of(sending)


@pytest.mark.parametrize("timeout", [None, 10])
def test_a_signal_that_ends_a_send_half_way(pair: tuple[Stream, Stream], timeout: float | None) -> None:
    one, other = pair
    one.send_timeout = timeout

    class Stop(BaseException):
        pass

    def stop(*args: object) -> None:
        raise Stop

    def interrupt() -> None:
        other.receive(1)  # a part is on its way
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGALRM)

    main = threading.get_ident()
    before = signal.signal(signal.SIGALRM, stop)
    interrupting = threading.Thread(target=interrupt)
    try:
        interrupting.start()
        with pytest.raises(Stop):
            one.send_all(bytes(MUCH))
    finally:
        interrupting.join()
        signal.signal(signal.SIGALRM, before)
    if ACCELERATED or timeout is not None:  # elsewhere the socket does not tell how much it was
        with pytest.raises(ClosedError, match="half way"):
            one.send_all(b"x")


@pytest.mark.parametrize("timeout", [None, 10])
def test_a_signal_whose_handler_returns_ends_nothing(driver: Blocking, timeout: float | None) -> None:
    one, other = (end.it for end in driver.pair("pair"))
    one.receive_timeout = one.send_timeout = timeout
    seen: list[object] = []
    before = signal.signal(signal.SIGALRM, lambda *args: seen.append(args))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        later = threading.Timer(0.1, other.send_all, [b"hello"])
        later.start()
        assert one.receive() == b"hello" and seen
        later.join()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        data = payload(MUCH)
        result: list[bytes] = []
        later = threading.Timer(0.1, lambda: result.append(other.receive_exactly(len(data))))
        later.start()
        one.send_all(data)
        later.join()
        assert result == [data] and len(seen) == 2
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("timeout", [None, 10])
def test_any_buffer_is_sent(pair: tuple[Stream, Stream], timeout: float | None) -> None:
    one, other = pair
    one.send_timeout = timeout
    numbers = array.array("I", range(5))
    for data in (b"abc", bytearray(b"abc"), memoryview(numbers), memoryview(numbers)[1:2], b""):
        one.send_all(data)
        whole = bytes(memoryview(data))
        assert other.receive_exactly(len(whole)) == whole
    for wrong in ("text", 1, memoryview(b"abcdef")[::2]):
        with pytest.raises(TypeError):
            one.send_all(wrong)  # type: ignore[arg-type]
    one.send_all(b"goes on")
    assert other.receive() == b"goes on"


def test_the_kernels_own_timeouts_are_timeouts() -> None:
    one, other = map(Stream, socket.socketpair())
    with one, other:
        SocketOptions(nodelay=None, kernel_receive_timeout=0.02, kernel_send_timeout=0.02).apply(
            one.sock, stage="connect"
        )
        with pytest.raises(TimeoutError):
            one.receive()
        with pytest.raises(TimeoutError):
            one.send_all(bytes(MUCH))


def test_a_descriptor_that_somebody_made_non_blocking(driver: Blocking) -> None:
    one, other = (end.it for end in driver.pair("pair"))
    os.set_blocking(one.fileno(), False)
    receiving = driver.start(one.receive)
    sending = driver.start(one.send_all, data := payload(MUCH // 4))
    other.send_all(b"hello")
    assert result_of(receiving) == b"hello"
    assert other.receive_exactly(len(data)) == data
    result_of(sending)


# Ending.


def test_the_descriptor_stays_while_someone_is_in_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.net.guard._PATIENCE", 0.01)
    one, other = map(Stream, socket.socketpair())
    with other:
        assert one._receiving.take()  # as a thread in receive, which has not woken yet
        one.close()
        assert one.fileno() >= 0 and one.closed
        for call in (one.receive, lambda: one.send_all(b"x")):
            with pytest.raises(ClosedError):
                call()
        one._receiving.give()
        one._finish()
        assert one.fileno() == -1


def test_closing_waits_until_who_was_woken_has_left(driver: Blocking) -> None:
    for _ in range(20):
        one, other = map(Stream, socket.socketpair())
        receiving = driver.start(one.receive)
        while not one._receiving.taken():
            time.sleep(0.001)
        one.close()
        assert one.fileno() == -1
        with pytest.raises(ClosedError):
            result_of(receiving)
        other.close()


@contextlib.contextmanager
def at_alarm(call: Callable[[], Any]) -> Iterator[None]:
    """A signal handler runs `call` in a moment, within what this thread does then."""
    before = signal.signal(signal.SIGALRM, lambda *_: call())
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_closes_does_not_wait_for_its_own_thread() -> None:
    (one, peer), (other, its_peer) = (map(Stream, socket.socketpair()) for _ in range(2))
    listener = listen("tcp://127.0.0.1:0")
    calls: list[tuple[Any, Callable[[], Any]]] = [
        (one, one.receive), (other, lambda: other.receive_exactly(9)), (listener, listener.accept),
    ]  # fmt: skip
    with peer, its_peer:
        for end, call in calls:
            took: list[float] = []

            def close(end: Any = end, took: list[float] = took) -> None:
                start = time.monotonic()
                end.close()
                took.append(time.monotonic() - start)

            with at_alarm(close), pytest.raises(ClosedError):
                call()
            assert took[0] < 0.5
    assert one.fileno() == other.fileno() == listener.sockets[0].fileno() == -1


def test_closing_leaves_a_copy_alone() -> None:
    """A child that has the socket too goes on with it."""
    ours, theirs = socket.socketpair()
    with ours.dup() as copy, theirs:
        Stream(ours).close()
        copy.send(b"hello")
        assert theirs.recv(10) == b"hello"


def caught_by(call: Callable[[], Any], wrong: list[BaseException]) -> None:
    try:
        call()
    except OSError as error:
        wrong.append(error)


def test_many_close_at_once() -> None:
    for _ in range(50):
        one, other = map(Stream, socket.socketpair())
        wrong: list[BaseException] = []
        receive = functools.partial(caught_by, one.receive, wrong)
        threads = [threading.Thread(target=receive)] + [threading.Thread(target=one.close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.fileno() == -1 and [type(error) for error in wrong] == [ClosedError]
        other.close()


def test_detaching() -> None:
    ours, theirs = socket.socketpair()
    stream = Stream(ours)
    sock = stream.detach()
    with sock, theirs:
        theirs.send(b"hello")
        assert sock.recv(10) == b"hello" and sock.family == socket.AF_UNIX
        with pytest.raises(ClosedError):
            stream.receive()
        stream.close()


def test_incomplete_has_what_came() -> None:
    one, other = map(Stream, socket.socketpair())
    with one:
        with other:
            other.send_all(b"abc")
        with pytest.raises(IncompleteError) as caught:
            one.receive_exactly(5)
        assert (caught.value.partial, caught.value.expected) == (b"abc", 5)


def test_a_packet_that_is_too_long_is_told() -> None:
    one, other = map(Stream, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with one, other:
        one.send_all(b"0123456789")
        with pytest.raises(OSError, match="more than 4") as caught:
            other.receive(4)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(ValueError, match="packets"):
            other.receive_exactly(1)


def test_iterating() -> None:
    one, other = map(Stream, socket.socketpair())
    with one:
        with other:
            other.send_all(b"hello")
        assert list(one) == [b"hello"]


# TLS.


def test_a_peer_who_does_not_shake_hands(driver: Blocking) -> None:
    with driver.listening("tcp://127.0.0.1:0", tls=driver.server_ssl, handshake_timeout=0.05) as listener:
        silent, good = (connect(listener.addresses[0].replace(scheme="tcp")) for _ in range(2))
        with silent, good, listener.it.accept() as first:
            with pytest.raises(TimeoutError, match="TLS handshake"):
                first.receive()
            with pytest.raises(TimeoutError, match="TLS handshake"):
                first.handshake(0.01)
            good.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with listener.it.accept() as second, pytest.raises(ssl.SSLError, match="127"):
                second.receive()
        silent = connect(listener.addresses[0].replace(scheme="tcp"))
        silent.close()
        with listener.it.accept() as third, pytest.raises(OSError, match="127"):
            third.receive()


def silent_tls(driver: Blocking, **keywords: Any) -> tuple[TLSStream, TLSStream]:
    """A client, and a server that says nothing yet."""
    ours, theirs = socket.socketpair()
    client = TLSStream(ours, driver.client_ssl, server_hostname="localhost", **keywords)
    return client, TLSStream(theirs, driver.server_ssl, server_side=True)


def test_an_end_for_which_there_was_no_time_is_none(driver: Blocking, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = silent_tls(driver, handshake_timeout=0.02)
    with client, server:
        with pytest.raises(TimeoutError, match="TLS handshake"):
            client.send_eof()
        client.handshake_timeout = None
        shaking = driver.start(server.handshake)
        client.send_all(b"hello")
        result_of(shaking)

        def full(deadline: float | None) -> None:
            raise TimeoutError

        monkeypatch.setattr(TLSStream, "_send_records", lambda self, deadline: full(deadline))
        with pytest.raises(TimeoutError):
            client.send_eof()
        monkeypatch.undo()
        with pytest.raises(ClosedError, match="it is being ended"):
            client.send_all(b"x")
        for _ in range(2):
            client.send_eof()
        assert server.receive() == b"hello" and server.receive() == b"" and server.ended_properly
        with pytest.raises(ClosedError, match="it was ended"):
            client.send_all(b"x")


@pytest.mark.parametrize("call", ["receive", "send_all"])
def test_the_handshake_is_in_the_time_of_the_first_call(driver: Blocking, call: str) -> None:
    client, server = silent_tls(driver, receive_timeout=0.5, send_timeout=0.5)
    with client, server:

        def shake() -> None:
            time.sleep(0.4)
            server.handshake()

        shaking = driver.start(shake)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            client.receive() if call == "receive" else client.send_all(bytes(MUCH))
        assert time.monotonic() - begun < 0.8
        result_of(shaking)
    client, server = silent_tls(driver, send_timeout=0.02)
    with client, server, pytest.raises(TimeoutError, match="TLS handshake"):
        client.send_all(b"x")


@pytest.fixture
def answering(driver: Blocking) -> Iterator[tuple[TLSStream, socket.socket]]:
    """A stream whose TLS answers each octet, as OpenSSL does a request for new keys; and the peer's socket."""
    client, server = silent_tls(driver)
    shaking = driver.start(client.handshake)
    server.handshake()
    result_of(shaking)
    server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def answer(data: Any) -> bytes:
        server._engine._outgoing.write(data)
        return b""

    server._engine.receive = answer  # type: ignore[method-assign]
    with client, server, client.sock.dup() as peer:
        client.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.sock.recv(2**16)  # the tickets
        peer.settimeout(30)
        yield server, peer


@pytest.mark.parametrize("sends", [False, True])
def test_answers_do_not_pile_up_for_a_peer_who_does_not_read(
    driver: Blocking, answering: tuple[TLSStream, socket.socket], sends: bool
) -> None:
    server, peer = answering
    calls = [driver.start(server.send_all, bytes(2**19))] if sends else []
    if sends:
        driver.settled(driver.end(server), calls[0])
    calls.append(driver.start(server.receive))
    data = bytes(2**21)
    writing = driver.start(peer.sendall, data)
    time.sleep(0.2)
    assert not writing.done()
    waiting = server._engine.outgoing_size + sum(map(len, server._unsent))
    assert 2**16 < waiting < 2**18 + sends * 2**19
    got = 0
    while got < len(data) + (2**19 if sends else 0):
        got += len(peer.recv(2**18))
    result_of(writing)
    server.close()
    with pytest.raises(ClosedError):
        result_of(calls[-1])
    for call in calls[:-1]:
        result_of(call)


@pytest.mark.parametrize("size", [2**15, 2**20])
def test_answers_that_do_not_go_out_have_their_time(
    driver: Blocking, answering: tuple[TLSStream, socket.socket], size: int
) -> None:
    server, peer = answering
    server.receive_timeout = 0.1
    writing = driver.start(peer.sendall, bytes(size))
    with pytest.raises(TimeoutError, match="can't receive from"):
        result_of(driver.start(server.receive))
    server.abort()
    with contextlib.suppress(OSError):
        result_of(writing)


def test_nobody_sees_to_a_new_handshake(driver: Blocking, answering: tuple[TLSStream, socket.socket]) -> None:
    server, _ = answering

    def send(buffers: Any) -> None:
        raise ssl.SSLWantReadError

    server._engine.send = send  # type: ignore[method-assign]
    server.handshake_timeout = 0.02
    with pytest.raises(TimeoutError, match="somebody must receive"):
        server.send_all(b"x")
    server.handshake_timeout = None
    sending = driver.start(server.send_all, b"x")
    time.sleep(0.02)
    server.close()
    with pytest.raises(ClosedError):
        result_of(sending)


def test_two_threads_shake_hands_at_first_use(driver: Blocking) -> None:
    ours, theirs = socket.socketpair()
    client = TLSStream(ours, driver.client_ssl, server_hostname="localhost")
    server = TLSStream(theirs, driver.server_ssl, server_side=True)
    with client, server:
        data = payload(MUCH // 8)
        calls = [driver.start(end.send_all, data) for end in (client, server)]
        calls += [driver.start(end.receive_exactly, len(data)) for end in (client, server)]
        assert [result_of(call) for call in calls] == [None, None, data, data]
        client.close()
        assert server.receive() == b"" and server.ended_properly


def test_the_other_side_s_settings(driver: Blocking) -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(ValueError, match="side"):
            TLSStream(one, driver.client_ssl, server_side=True)
        with pytest.raises(ValueError, match="server_hostname"):
            TLSStream(one, driver.client_ssl)


# Connecting.


def refusing() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()  # type: ignore[no-any-return]


@contextlib.contextmanager
def silence() -> Iterator[tuple[str, int]]:
    """Where connections are neither accepted nor refused: the queue is full."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        yield server.getsockname()


def ways(monkeypatch: pytest.MonkeyPatch, *names: tuple[str, int]) -> None:
    targets = [Target(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, name) for name in names]
    monkeypatch.setattr(connect_module, "resolve", lambda *args, **keywords: targets)


def test_a_way_that_fails_makes_room_for_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("tcp://127.0.0.1:0") as listener:
        ways(monkeypatch, refusing(), refusing(), listener.sockets[0].getsockname())
        with connected(Address.parse("tcp://name:1"), delay=60) as sock:
            assert sock.getpeername() == listener.sockets[0].getsockname()


def test_a_way_that_is_silent_has_company_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with silence() as nowhere, listen("tcp://127.0.0.1:0") as listener:
        ways(monkeypatch, nowhere, nowhere, listener.sockets[0].getsockname())
        with connected(Address.parse("tcp://name:1"), delay=0.02) as sock:
            assert sock.getpeername() == listener.sockets[0].getsockname()


def test_no_way_tells_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = refusing(), refusing()
    ways(monkeypatch, one, two)
    with pytest.raises(ConnectionRefusedError, match="tcp://name:1") as caught:
        connect("tcp://name:1")
    assert all(str(port) in note for (_, port), note in zip((one, two), caught.value.__notes__, strict=True))
    assert isinstance(caught.value.__cause__, ExceptionGroup) and len(caught.value.__cause__.exceptions) == 2
    with silence() as nowhere:
        ways(monkeypatch, one, nowhere)
        with pytest.raises(TimeoutError, match="tcp://name:1") as late:
            connect("tcp://name:1", timeout=0.05)
        assert len(late.value.__notes__) == 1


def test_the_most_telling_error_is_chosen() -> None:
    address = Address.parse("tcp://name:1")
    target = Target(socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", 1))
    failures = [(target, OSError(number, os.strerror(number))) for number in (errno.ENETUNREACH, errno.ECONNREFUSED)]
    assert isinstance(no_way(address, failures), ConnectionRefusedError)
    assert no_way(address, failures[:1]).errno == errno.ENETUNREACH


def test_our_own_end() -> None:
    with listen("tcp://127.0.0.1:0") as listener:
        with connect(listener.addresses[0], local="tcp://127.0.0.2:0") as stream:
            assert stream.local.host == "127.0.0.2"
        for wrong in ("tcp://[::1]:0", "tcp://192.0.2.1:0"):
            with pytest.raises(OSError, match="can't"):
                connect(listener.addresses[0], local=wrong)


def test_a_unix_server_that_accepts_nobody(short_path: str) -> None:
    with (
        listen(f"unix:{short_path}/x", options=SocketOptions(backlog=0)),
        contextlib.ExitStack() as stack,
        pytest.raises(TimeoutError, match="/x"),
    ):
        for _ in range(10):
            stack.enter_context(connect(f"unix:{short_path}/x", timeout=0.05))


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("udp://127.0.0.1:1", AddressError), ("unixgram:x", AddressError), ("nothing", AddressError),
        ("fd://999999", OSError), ("tcp://127.0.0.1:0", OSError), ("unix:/" + "x" * 100, OSError),
    ],
)  # fmt: skip
def test_where_nothing_can_be_connected_to(address: str, wrong: type[Exception]) -> None:
    with pytest.raises(wrong, match=address[-12:]):
        connect(address)


def test_tls_settings_that_do_not_fit(client_ssl: ssl.SSLContext) -> None:
    with pytest.raises(ValueError, match="TLS"):
        connect("tls://localhost:1", tls=False)
    with pytest.raises(ValueError, match="tls="):
        listen("tls://localhost:0")


# Listening.


def test_accepting_times_out() -> None:
    with listen("tcp://127.0.0.1:0") as listener, pytest.raises(TimeoutError, match="127"):
        listener.accept(0.01)


def test_iterating_ends_with_the_listener() -> None:
    with listen("tcp://127.0.0.1:0") as listener:
        connect(listener.addresses[0]).close()
        for stream in listener:
            stream.close()
            listener.close()
    assert listener.closed and repr(listener).endswith(" closed>")


@pytest.mark.parametrize("name", ["accept", "__iter__"])
def test_who_has_closed_can_listen_there_again(driver: Blocking, name: str, short_path: str) -> None:
    for text in ["tcp://127.0.0.1:0"] * 20 + [f"unix://{short_path}/x"] * 5:
        listener = listen(text)
        accepting = driver.start(lambda one: list(one) if name == "__iter__" else one.accept(), listener)
        while not listener._users:
            time.sleep(0.001)
        listener.close()
        assert listener.sockets[0].fileno() == -1
        assert not os.listdir(short_path)
        if name == "accept":
            with pytest.raises(ClosedError):
                result_of(accepting)
        else:
            assert result_of(accepting) == []
        listen(listener.addresses[0]).close()


def test_no_room_to_accept_is_told_once_and_got_over(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.net.listener.BACK_OFF", 0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listen("tcp://127.0.0.1:0") as listener, connect(listener.addresses[0]):
        used = max(map(int, os.listdir("/proc/self/fd"))) + 1
        held = [os.dup(0) for _ in range(used - len(os.listdir("/proc/self/fd")) + 1)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        try:
            with pytest.raises(TimeoutError):
                listener.accept(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
        listener.accept(5).close()
    told = [logs.text(one) for one in logs.records if one.name == "websock.net"]
    assert len(told) == 1 and "too many open files" in told[0]


def test_closing_while_there_is_no_room(driver: Blocking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.net.guard._PATIENCE", 0.01)
    listener = listen("tcp://127.0.0.1:0")
    full = OSError(errno.EMFILE, "full")

    class Full:
        def accept(self) -> Any:
            raise full

    monkeypatch.setattr("websock.net.listener.BACK_OFF", 60)
    with listener, connect(listener.addresses[0]):
        accepting = driver.start(listener._accept, Full())
        while not listener._full:
            time.sleep(0.001)
        listener._users += 1  # as accept_socket does
        listener.close()
        with pytest.raises(ClosedError):
            result_of(accepting)
        listener._users -= 1
        listener._finish()


def test_options_reach_what_is_accepted() -> None:
    options = SocketOptions(keepalive_idle=77)
    with (
        listen("tcp://127.0.0.1:0", options=options) as listener,
        connect(listener.addresses[0], options=options) as client,
        listener.accept() as server,
    ):
        assert client.options().keepalive_idle == server.options().keepalive_idle == 77
        assert client.options().nodelay and server.options().nodelay


def test_a_listener_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*args: Any) -> Any:
        raise OSError(errno.EMFILE, "full")

    monkeypatch.setattr(socket, "socketpair", no)
    with pytest.raises(OSError, match="full"):
        listen("tcp://127.0.0.1:0")


def test_busy_is_told_with_the_address() -> None:
    one, other = map(Stream, socket.socketpair())
    with one, other:
        assert one._sending.take()
        with pytest.raises(BusyError, match="sends"):
            one.send_all(b"x")
        with pytest.raises(BusyError):
            one.detach()
        one._sending.give()


def test_a_signal_does_not_end_the_wait_for_a_full_unix_server(short_path: str) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGALRM, before)
        server.bind(f"{short_path}/s")
        server.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(f"{short_path}/s")
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            connect(f"unix://{short_path}/s", timeout=0.2)


def test_what_came_before_a_signal_is_not_lost() -> None:
    class Interrupt(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupt

    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with theirs, Stream(ours) as stream:
            theirs.sendall(b"abc")
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interrupt):
                stream.receive_exactly(5)
            theirs.sendall(b"de")
            assert stream.receive_exactly(5) == b"abcde"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_buffers_of_larger_items_go_out_whole() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Stream(ours) as stream:
        stream.send_buffers([memoryview(bytes(12)).cast("I") for _ in range(128)])
        stream.send_all(memoryview(bytes(12)).cast("I"))
        stream.send_eof()
        assert sum(map(len, iter(lambda: theirs.recv(65536), b""))) == 129 * 12


def test_a_full_process_accepts_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.net.listener.BACK_OFF", 60.0)
    with listen("tcp://127.0.0.1:0") as listener, connect(listener.addresses[0]):
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, most))  # poll wants room for what it is asked
        try:
            with pytest.raises(TimeoutError):
                listener.accept(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


def test_a_listener_that_cannot_be_watched_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(selectors.DefaultSelector, "register", full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(OSError, match="No space"):
            listen("tcp://127.0.0.1:0")
        gc.collect()
