"""One list for any stream: TCP, TLS, Unix, a pair of sockets; blocking and for tasks.

What only one of the forms has is in ``test_blocking_streams.py`` and ``test_asyncio_streams.py``.
"""

from __future__ import annotations

import concurrent.futures
import errno
import io
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from websock.net.errors import BusyError, ClosedError
from websock.net.stream import IncompleteError

from .streams import KINDS, Blocking, Driver, End, Tasks, payload, result_of

Pair: TypeAlias = tuple[End, End]
FORMS = ("blocking", "asyncio", "uvloop")
MUCH = 16 * 2**20  # octets that fit into no buffer


@pytest.fixture(params=FORMS)
def driver(
    request: pytest.FixtureRequest, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext, short_path: str
) -> Iterator[Driver]:
    made: Driver
    if request.param == "blocking":
        made = Blocking(server_ssl, client_ssl, short_path)
    elif request.param == "asyncio":
        made = Tasks(server_ssl, client_ssl, short_path)
    else:
        uvloop = pytest.importorskip("uvloop")
        made = Tasks(server_ssl, client_ssl, short_path, new_loop=uvloop.new_event_loop)
    try:
        yield made
    finally:
        made.finish()


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, driver: Driver) -> Pair:
    return driver.pair(request.param)


@pytest.fixture(params=["unix", "pair"])
def unix_pair(request: pytest.FixtureRequest, driver: Driver) -> Pair:
    return driver.pair(request.param)


@pytest.fixture(params=["unixpacket", "packetpair"])
def packets(request: pytest.FixtureRequest, driver: Driver) -> Pair:
    return driver.pair(request.param)


def receive_all(end: End) -> bytes:
    parts = []
    while data := end.receive(2**18):
        parts.append(data)
    return b"".join(parts)


def fill(end: End, driver: Driver) -> concurrent.futures.Future[Any]:
    """Start to send what the peer does not take."""
    sending = end.start("send_all", bytes(MUCH))
    driver.settled(end, sending)
    assert not sending.done()
    return sending


# Octets.


def test_what_is_sent_is_received(pair: Pair) -> None:
    for sender, receiver in (pair, pair[::-1]):
        sender.send_all(b"hello")
        assert receiver.receive() == b"hello"


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_any_buffer_is_sent(pair: Pair, of: Callable[[bytes], Any]) -> None:
    pair[0].send_all(of(b"hello"))
    pair[0].send_buffers([of(b" "), of(b""), of(b"world")])
    assert pair[1].receive_exactly(11) == b"hello world"


def test_receiving_gives_no_more_than_asked_for(pair: Pair) -> None:
    pair[0].send_all(b"0123456789")
    got = [pair[1].receive(3) for _ in range(4)]
    assert b"".join(got) == b"0123456789" and max(map(len, got)) == 3


def test_receiving_into_a_buffer(pair: Pair) -> None:
    pair[0].send_all(b"0123456789")
    buffer = bytearray(4)
    assert pair[1].receive_into(buffer) == 4 and buffer == b"0123"
    assert pair[1].receive_into(memoryview(buffer)[1:3]) == 2 and buffer == b"0453"
    assert pair[1].receive_exactly(4) == b"6789"
    pair[0].send_eof()
    assert pair[1].receive_into(buffer) == 0


def test_receiving_nothing_is_a_mistake(pair: Pair) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        pair[0].receive(0)
    with pytest.raises(ValueError, match="buffer"):
        pair[0].receive_into(bytearray())
    with pytest.raises(ValueError):
        pair[0].receive_exactly(-1)
    assert pair[0].receive_exactly(0) == b""


def test_much_goes_both_ways_at_once(pair: Pair) -> None:
    data = payload(MUCH // 4)
    calls = [end.start("send_all", data) for end in pair] + [end.start("receive_exactly", len(data)) for end in pair]
    assert [result_of(call) for call in calls] == [None, None, data, data]


def test_many_buffers_go_out_in_order(pair: Pair) -> None:
    buffers = [bytes([index % 256]) * (index * 7 % 3000) for index in range(1500)]
    sending = pair[0].start("send_buffers", iter(buffers))
    assert pair[1].receive_exactly(sum(map(len, buffers))) == b"".join(buffers)
    result_of(sending)


def test_large_buffers_go_out_in_parts(pair: Pair) -> None:
    buffers = [payload(2**20), b"-", payload(3 * 2**20)]
    sending = pair[0].start("send_buffers", buffers)
    assert pair[1].receive_exactly(sum(map(len, buffers))) == b"".join(buffers)
    result_of(sending)


def test_receiving_exactly_takes_the_pieces_together(pair: Pair, driver: Driver) -> None:
    receiving = pair[1].start("receive_exactly", 9)
    for piece in (b"one", b"two", b"three"):
        pair[0].send_all(piece)
        driver.settled(pair[1], receiving)
    assert result_of(receiving) == b"onetwothr"
    assert pair[1].receive() == b"ee"


def test_the_end_before_all_is_told_with_the_number(pair: Pair) -> None:
    pair[0].send_all(b"abc")
    pair[0].send_eof()
    with pytest.raises(IncompleteError, match=r"3 of 10") as caught:
        pair[1].receive_exactly(10)
    assert isinstance(caught.value, EOFError) and caught.value.partial == b"abc"
    assert pair[1].receive() == b""


# Ending.


def test_half_close(pair: Pair) -> None:
    pair[0].send_all(b"question")
    pair[0].send_eof()
    pair[0].send_eof()
    assert receive_all(pair[1]) == b"question"
    assert pair[1].receive() == b""
    pair[1].send_all(b"answer")
    pair[1].send_eof()
    assert receive_all(pair[0]) == b"answer"
    for data in (b"more", b""):
        with pytest.raises(ClosedError):
            pair[0].send_all(data)


def test_half_close_comes_behind_what_was_sent(pair: Pair) -> None:
    data = payload(2**20)
    sending = pair[0].start("send_all", data)
    receiving = pair[1].driver.start(lambda: pair[1].it.receive_exactly(len(data)))
    result_of(sending)
    pair[0].send_eof()
    assert result_of(receiving) == data
    assert pair[1].receive() == b""


def test_closing_is_the_end_for_the_peer(pair: Pair) -> None:
    pair[0].send_all(b"last words")
    pair[0].close()
    assert receive_all(pair[1]) == b"last words"


def test_closing_wakes_who_receives(pair: Pair, driver: Driver) -> None:
    receiving = pair[0].start("receive")
    driver.settled(pair[0], receiving)
    pair[0].close()
    with pytest.raises(ClosedError):
        result_of(receiving)
    assert pair[0].fileno() == -1
    assert pair[1].receive() == b""


def test_closing_wakes_who_sends(pair: Pair, driver: Driver) -> None:
    sending = fill(pair[0], driver)
    closing = pair[0].start("close")
    with pytest.raises(ClosedError):
        result_of(sending)
    pair[1].abort()
    result_of(closing)
    assert pair[0].fileno() == -1


def test_aborting_wakes_both(pair: Pair, driver: Driver) -> None:
    receiving = pair[0].start("receive")
    sending = fill(pair[0], driver)
    pair[0].abort()
    for call in (receiving, sending):
        with pytest.raises(ClosedError):
            result_of(call)
    pair[0].close()
    assert pair[0].fileno() == -1


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_closed_stream_does_nothing(pair: Pair, ending: str) -> None:
    getattr(pair[0], ending)()
    calls: list[tuple[Any, ...]] = [
        ("send_all", b"x"), ("send_all", b""), ("send_buffers", [b"x"]), ("send_buffers", []), ("receive",),
        ("receive_into", bytearray(1)), ("receive_exactly", 1), ("send_eof",), ("send_file", io.BytesIO(b"x")),
    ]  # fmt: skip
    for name, *args in calls:
        with pytest.raises(ClosedError):
            getattr(pair[0], name)(*args)
    with pytest.raises(OSError):
        pair[0].options()
    pair[0].close()
    pair[0].abort()
    pair[0].close()


def test_addresses_stay_known(pair: Pair) -> None:
    assert pair[0].local == pair[1].remote or pair[0].local.is_unix
    assert pair[0].remote == pair[1].local
    local, remote = pair[0].local, pair[0].remote
    for end in pair:
        end.close()
    assert (pair[0].local, pair[0].remote) == (local, remote)


def test_a_reset_names_the_peer(driver: Driver) -> None:
    for kind in ("tcp", "tls"):
        client, server = driver.pair(kind)
        peer = str(client.remote)
        receiving = client.start("receive")
        driver.settled(client, receiving)
        server.abort()
        with pytest.raises(ConnectionResetError) as caught:
            result_of(receiving)
        assert peer in str(caught.value)
        with pytest.raises(OSError):
            client.send_all(b"x")


def test_sending_to_a_peer_that_is_gone_fails(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises(ConnectionError) as caught:
        for _ in range(1000):
            pair[0].send_all(bytes(2**16))
    assert caught.value.errno is not None and "can't" in str(caught.value)


# One at a time.


def test_two_cannot_receive(pair: Pair, driver: Driver) -> None:
    receiving = pair[0].start("receive")
    driver.settled(pair[0], receiving)
    for call in (("receive",), ("receive_into", bytearray(1)), ("receive_exactly", 1)):
        with pytest.raises(BusyError):
            getattr(pair[0], call[0])(*call[1:])
    pair[1].send_all(b"for the first")
    assert result_of(receiving) == b"for the first"


def test_two_cannot_send(pair: Pair, driver: Driver) -> None:
    sending = fill(pair[0], driver)
    for call in (("send_all", b"x"), ("send_buffers", [b"x"]), ("send_eof",)):
        with pytest.raises(BusyError):
            getattr(pair[0], call[0])(*call[1:])
    assert pair[1].receive_exactly(MUCH) == bytes(MUCH)
    result_of(sending)


def test_one_receives_while_the_other_sends(pair: Pair, driver: Driver) -> None:
    sending = fill(pair[0], driver)
    pair[1].send_all(b"hello")
    assert pair[0].receive() == b"hello"
    assert pair[1].receive_exactly(MUCH) == bytes(MUCH)
    result_of(sending)


# Files.


@pytest.mark.parametrize(
    ("offset", "count", "found"),
    [
        (0, None, slice(None)),
        (5, None, slice(5, None)),
        (3, 4, slice(3, 7)),
        (0, 0, slice(0, 0)),
        (0, 10**9, slice(None)),
    ],
)
def test_files(pair: Pair, tmp_path: Any, offset: int, count: int | None, found: slice) -> None:
    data = payload(3 * 2**20)
    path = tmp_path / "file"
    path.write_bytes(data)
    for file in (path.open("rb"), io.BytesIO(data)):
        with file:
            sending = pair[0].start("send_file", file, offset, count)
            assert pair[1].receive_exactly(len(data[found])) == data[found]
            assert result_of(sending) == len(data[found])
            assert file.tell() == offset + len(data[found])


def test_a_file_that_the_kernel_makes_up(pair: Pair) -> None:
    if not os.path.exists("/proc/version"):
        pytest.skip("no /proc")
    with open("/proc/version", "rb") as file:
        size = pair[0].send_file(file)
    assert size > 0
    with open("/proc/version", "rb") as file:
        assert pair[1].receive_exactly(size) == file.read()


def test_what_is_no_file_to_send(pair: Pair, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("text")
    with (tmp_path / "file").open() as text, pytest.raises(ValueError, match="binary"):
        pair[0].send_file(text)
    for offset, count in ((-1, None), (0, -1)):
        with pytest.raises(ValueError, match="at least 0"):
            pair[0].send_file(io.BytesIO(b"abc"), offset, count)


class Failing(io.BytesIO):
    """A file of which a part can be read."""

    def __init__(self, size: int, error: Exception) -> None:
        super().__init__(bytes(4 * size))
        self.left = size
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.left <= 0:
            raise self.error
        data = super().read(min(size or 0, self.left))
        self.left -= len(data)
        return data


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("closed")], ids=repr)
def test_nothing_follows_half_of_a_file(pair: Pair, error: Exception) -> None:
    size = 2**12
    with pytest.raises(type(error), match=r"error|closed"):
        pair[0].send_file(Failing(size, error))
    assert pair[1].receive_exactly(size) == bytes(size)
    with pytest.raises(ClosedError, match="file"):
        pair[0].send_all(b"the rest")
    pair[1].send_all(b"the other way")
    assert pair[0].receive() == b"the other way"


def test_a_file_of_which_nothing_can_be_read_ends_nothing(pair: Pair) -> None:
    with pytest.raises(OSError, match="error"):
        pair[0].send_file(Failing(0, OSError(errno.EIO, "Input/output error")))
    pair[0].send_all(b"x")
    assert pair[1].receive() == b"x"


def test_a_file_that_cannot_be_gone_back_in(pair: Pair) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as file:
        with open(writer, "wb") as end:
            end.write(b"hello")
        assert pair[0].send_file(file) == 5
    assert pair[1].receive_exactly(5) == b"hello"


# What it tells.


@pytest.mark.parametrize("said", [True, False])
def test_how_it_ended(pair: Pair, said: bool) -> None:
    one, other = pair
    secure = one.tls is not None
    assert one.ended_properly is (False if secure else None)
    other.send_all(b"hello")
    other.send_eof() if said else other.sock.shutdown(socket.SHUT_WR)
    assert receive_all(one) == b"hello"
    assert one.ended_properly is (said if secure else None)
    one.send_eof()
    if secure and said:
        assert receive_all(other) == b"" and other.ended_properly
    one.close()
    assert one.ended_properly is (said if secure else None)


def test_what_it_is(pair: Pair) -> None:
    assert pair[0].fileno() == pair[0].sock.fileno() > 0
    assert repr(pair[0].it).startswith("<")
    assert pair[0].options().receive_buffer > 0


def test_tls_tells_of_itself(driver: Driver) -> None:
    driver.server_ssl.set_alpn_protocols(["two", "one"])
    context = ssl.create_default_context(cafile=None)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["one"])
    client, server = driver.pair("tls", tls=context)
    assert client.alpn_protocol == server.alpn_protocol == "one"
    assert client.peer_certificate is None and client.tls.getpeercert(True)
    client, server = driver.pair("tls", server_hostname="localhost")
    assert client.peer_certificate["subject"] == ((("commonName", "localhost"),),)
    assert str(client.remote).startswith("tls://127.0.0.1:") and client.tls.version() == "TLSv1.3"
    plain, _ = driver.pair("tcp")
    assert plain.tls is None and plain.alpn_protocol is None and plain.peer_certificate is None
    assert plain.info().state == "ESTABLISHED"


def test_a_peer_who_shakes_hands_again(driver: Driver, certificate: str) -> None:
    """TLS 1.2 only (RFC 5246 section 7.4.1.1), and never begun by Python; what is sent meanwhile waits for it."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certificate, "-tls1_2", "-naccept", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            said = b""
            while not (found := re.search(rb"ACCEPT .*:(\d+)\n", said)):
                said += server.stdout.read(1)
            client = driver.end(result_of(driver.connect(f"tls://localhost:{int(found[1])}", tls=driver.client_ssl)))
            receiving = client.start("receive")
            reading = threading.Thread(target=server.stdout.readall, daemon=True)  # type: ignore[attr-defined]
            reading.start()
            for _ in range(10):
                sending = client.start("send_all", b"x" * (MUCH // 4))
                server.stdin.write(b"r\n")
                result_of(sending)
                assert not receiving.done()
            server.stdin.write(b"hello\n")
            assert result_of(receiving) == b"hello\n"
        finally:
            server.kill()
        reading.join()


def test_a_peer_who_is_not_who_it_should_be(driver: Driver) -> None:
    for keywords in ({"server_hostname": "example.org"}, {"tls": True}):
        with driver.listening("tcp://127.0.0.1:0", tls=driver.server_ssl) as listener:
            connecting = driver.connect(listener.addresses[0], **{"tls": driver.client_ssl, **keywords})
            accepting = listener.start("accept")
            if driver.is_blocking:
                server = result_of(accepting)
                with server, pytest.raises(ssl.SSLError):
                    server.handshake()
            with pytest.raises(ssl.SSLCertVerificationError, match=str(listener.addresses[0].port)) as caught:
                result_of(connecting)
            assert caught.value.verify_code
        if not driver.is_blocking:
            with pytest.raises(ClosedError):
                result_of(accepting)


# Unix.


def test_descriptors(unix_pair: Pair) -> None:
    reading, writing = os.pipe()
    unix_pair[0].send_fds(b"two", [reading, writing])
    data, fds = unix_pair[1].receive_fds(10, 5)
    assert data == b"two" and len(fds) == 2 and not any(os.get_inheritable(fd) for fd in fds)
    os.write(fds[1], b"through")
    assert os.read(reading, 10) == b"through"
    for fd in (reading, writing, *fds):
        os.close(fd)
    unix_pair[0].send_all(b"none")
    assert unix_pair[1].receive_fds(10, 5) == (b"none", [])


def test_more_descriptors_than_asked_for_are_closed(unix_pair: Pair) -> None:
    with open("/proc/self/stat", "rb") as file:
        unix_pair[0].send_fds(b"x", [file.fileno()] * 4)
    with pytest.raises(OSError, match="more than 3"):
        unix_pair[1].receive_fds(10, 3)


def test_descriptors_go_with_data_over_unix(driver: Driver) -> None:
    unix, _ = driver.pair("pair")
    with pytest.raises(ValueError, match="data"):
        unix.send_fds(b"", [0])
    tcp, _ = driver.pair("tcp")
    for call in (("send_fds", b"x", [0]), ("receive_fds", 1, 1), ("peer_credentials",)):
        with pytest.raises((ValueError, OSError)):
            getattr(tcp, call[0])(*call[1:])


def test_credentials(unix_pair: Pair) -> None:
    for end in unix_pair:
        assert tuple(end.peer_credentials()) == (os.getpid(), os.getuid(), os.getgid())


def test_packets_are_kept_apart(packets: Pair) -> None:
    packets[0].send_all(b"one")
    packets[0].send_all(b"")
    packets[0].send_buffers([b"t", b"w", b"o"])
    packets[0].send_buffers([bytes([index]) for index in range(200)])
    assert [packets[1].receive() for _ in range(3)] == [b"one", b"two", bytes(range(200))]
    packets[0].close()
    assert packets[1].receive() == b""


def test_closing_wakes_who_receives_packets(packets: Pair, driver: Driver) -> None:
    receiving = packets[0].start("receive")
    driver.settled(packets[0], receiving)
    packets[0].close()
    with pytest.raises(ClosedError):
        result_of(receiving)


# Listening.


def test_many_connect(driver: Driver) -> None:
    with driver.listening("tcp://127.0.0.1:0") as listener:
        address = listener.addresses[0]
        for _ in range(20):
            connecting = driver.connect(address)
            client, server = driver.end(result_of(connecting)), driver.end(listener.accept())
            server.send_all(b"hello")
            assert client.receive() == b"hello"


def test_a_host_with_both_families(driver: Driver) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    with driver.listening("tcp://*:0") as listener:
        for host in ("127.0.0.1", "::1"):
            connecting = driver.connect(listener.addresses[0].replace(host=host))
            client, server = driver.end(result_of(connecting)), driver.end(listener.accept())
            assert client.remote.host == server.local.host == host


def test_closing_wakes_who_accepts(driver: Driver) -> None:
    for address in ("tcp://127.0.0.1:0", f"unix:{driver.directory}/x", "unix:@websock-test-streams"):
        with driver.listening(address) as listener:
            accepting = [listener.start("accept") for _ in range(2)]
            driver.do(lambda: None)
            listener.close()
            for call in accepting:
                with pytest.raises(ClosedError):
                    result_of(call)
            with pytest.raises(ClosedError):
                listener.accept()
    assert os.listdir(driver.directory) == []


def test_nobody_listens(driver: Driver) -> None:
    with driver.listening("tcp://127.0.0.1:0") as listener:
        gone = listener.addresses[0]
    for address, wrong in (
        (str(gone), ConnectionRefusedError),
        (f"unix://{driver.directory}/nothing", FileNotFoundError),
        ("unix:@websock-test-nothing", ConnectionRefusedError),
    ):
        with pytest.raises(wrong, match=address.rpartition("/")[2]):
            result_of(driver.connect(address))


def test_a_socket_is_taken_over(driver: Driver) -> None:
    ours, theirs = socket.socketpair()
    end = driver.end(result_of(driver.connect(f"fd://{ours.detach()}")))
    with theirs:
        theirs.send(b"hello")
        assert end.receive() == b"hello"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("unix:@nobody-{pid}", "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:1", "tcp://[::1]:0"),
        ("tcp://127.0.0.1:1", "unix:@x"),
    ],
)
def test_an_end_of_another_family(driver: Driver, address: str, local: str) -> None:
    address = address.format(pid=os.getpid())
    with pytest.raises(OSError, match=r"another family$") as caught:
        result_of(driver.connect(address, local=local))
    said = str(caught.value)
    assert said.count(address) == 1 and said.count("can't") == 1 and local in said


def test_an_end_that_is_taken(driver: Driver, short_path: str) -> None:
    with driver.listening(f"unix://{short_path}/a") as listener, socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"{short_path}/b")
        address, local = str(listener.addresses[0]), f"unix://{short_path}/b"
        with pytest.raises(OSError, match=f"can't connect to {address}: can't bind {local}: ") as caught:
            result_of(driver.connect(address, local=local))
        assert caught.value.errno == errno.EADDRINUSE and str(caught.value).count("(") == 1


def test_tls_over_unix_verifies_localhost(driver: Driver) -> None:
    """Or the name that is given: nobody is taken at their word for the place that they listen at."""
    with driver.listening(driver.address("unix"), tls=driver.server_ssl) as listener:
        accepting = listener.start("accept")
        connecting = driver.connect(listener.addresses[0], tls=driver.client_ssl)
        server = driver.end(result_of(accepting))
        server.handshake() if driver.is_blocking else None
        client = driver.end(result_of(connecting))
        assert client.tls.server_hostname == "localhost"
        accepting = listener.start("accept")
        connecting = driver.connect(listener.addresses[0], tls=driver.client_ssl, server_hostname="example.org")
        if driver.is_blocking:
            with result_of(accepting) as server, pytest.raises(ssl.SSLError):
                server.handshake()
        with pytest.raises(ssl.SSLCertVerificationError, match=r"unix:.*example\.org"):
            result_of(connecting)
    if not driver.is_blocking:
        with pytest.raises(ClosedError):
            result_of(accepting)
