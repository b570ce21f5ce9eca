"""What the kernel tells of sockets, and the check for those that stay open."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.net import info
from websock.net.address import Address
from websock.net.errors import ClosedError, NotOnThisSystem
from websock.net.info import SocketRow, TCPInfo, sockets_of, tcp_info, who_has
from websock.net.leaks import LeakCheck
from websock.net.listener import listen
from websock.net.sockets import listening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into Linux' /proc and struct tcp_info")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def pair(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_connection(listener.getsockname()) as ours, listener.accept()[0] as theirs:
        yield ours, theirs


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# ---- tcp_info ----


def test_of_a_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.sendall(b"x" * 1000)
    until(lambda: tcp_info(theirs).receive_queue == 1000)
    until(lambda: tcp_info(ours).send_queue == 0)
    found = tcp_info(ours)
    assert found.state == "ESTABLISHED"
    assert found.rtt is not None and 0 < found.rtt < 1
    assert found.rtt_variance is not None and 0 <= found.rtt_variance < 1
    assert (found.retransmits, found.retransmits_total, found.lost, found.unacknowledged) == (0, 0, 0, 0)
    assert found.congestion_window is not None and found.congestion_window >= 1000
    assert found.pmtu is not None and found.pmtu >= 576
    assert found.bytes_acked is not None and found.bytes_acked >= 1000
    assert tcp_info(theirs).bytes_received == 1000


def test_what_the_peer_does_not_read_stays_in_the_queue(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    ours.setblocking(False)
    sent = 0
    try:
        while True:
            sent += ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    assert tcp_info(ours).send_queue


def test_states(listener: socket.socket) -> None:
    with socket.socket() as ours:
        assert tcp_info(ours).state == "CLOSED"
        ours.connect(listener.getsockname())
        assert tcp_info(listener) == TCPInfo("LISTEN", receive_queue=1)
        theirs = listener.accept()[0]
        assert tcp_info(listener).receive_queue == 0
        with theirs:
            theirs.shutdown(socket.SHUT_WR)
            until(lambda: tcp_info(ours).state == "CLOSE-WAIT")
            until(lambda: tcp_info(theirs).state == "FIN-WAIT-2")
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: tcp_info(ours).state == "CLOSED")  # a reset


def test_every_state_has_its_name() -> None:
    names = {
        "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING",
        "LAST-ACK", "TIME-WAIT", "CLOSED",
    }  # fmt: skip
    assert set(info._LINUX_STATES) - {""} == set(info._BSD_STATES) == names
    assert info._name(info._BSD_STATES, 99) == "state 99"


def test_an_older_kernel_gives_less(pair: tuple[socket.socket, socket.socket]) -> None:
    raw = pair[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1024)
    whole, old, oldest = (info._from_linux(raw[:size]) for size in (1024, 104, 64))
    assert whole.bytes_acked is not None
    assert (old.bytes_acked, old.bytes_received, old.rtt, old.retransmits_total) == (None, None, whole.rtt, 0)
    assert (oldest.state, oldest.rtt, oldest.congestion_window, oldest.pmtu) == ("ESTABLISHED", None, None, whole.pmtu)
    assert info._from_linux(b"\1") == TCPInfo("ESTABLISHED")


def test_as_macos_gives_it() -> None:
    words = [0] * 14
    words[6], words[8], words[11], words[12] = 14480, 77, 25, 4
    raw = struct.pack("=14I7Q", *words, 10, 1000, 99, 20, 2000, 0, 3)
    found = info._from_macos(b"\4" + raw[1:])
    assert found == TCPInfo(
        "ESTABLISHED", rtt=0.025, rtt_variance=0.004, retransmits_total=3, congestion_window=14480, send_queue=77,
        bytes_received=2000,
    )  # fmt: skip
    with pytest.raises(NotOnThisSystem):
        info._from_macos(raw[:60])


def test_elsewhere(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(NotOnThisSystem, match="TCP_INFO"):
        tcp_info(listener)


@pytest.mark.parametrize(
    "make", [lambda: socket.socketpair(), lambda: (socket.socket(type=socket.SOCK_DGRAM),)], ids=["unix", "udp"]
)
def test_not_tcp(make: Callable[[], tuple[socket.socket, ...]]) -> None:
    socks = make()
    with pytest.raises(ValueError, match="is not TCP"):
        tcp_info(socks[0])
    for sock in socks:
        sock.close()


def test_closed(listener: socket.socket) -> None:
    listener.close()
    with pytest.raises(ClosedError):
        tcp_info(listener)


# ---- sockets_of ----


def by_fd() -> dict[int, SocketRow]:
    return {row.fd: row for row in sockets_of()}


@pytest.fixture(params=["with /proc", "without"])
def proc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "without":
        monkeypatch.setattr(info, "_has_proc", lambda: False)
    return bool(request.param == "with /proc")


def test_own(proc: bool, listener: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc")
    until(lambda: by_fd()[ours.fileno()].receive_queue == 3)
    rows = by_fd()
    row = rows[ours.fileno()]
    assert (row.kind, row.state, row.send_queue) == ("tcp", "ESTABLISHED", 0)
    assert (row.local, row.remote) == (Address.of(ours), Address.of_peer(ours))
    assert row.inode == os.fstat(ours.fileno()).st_ino
    row = rows[listener.fileno()]
    assert (row.state, row.local, row.remote) == ("LISTEN", Address.of(listener), None)
    assert (row.receive_queue, row.send_queue) == (0, None)


def test_own_of_other_kinds(proc: bool, short_path: str) -> None:
    path = f"{short_path}/a b.sock"
    udp, six, unix, gram, _, other = socks = [
        socket.socket(type=socket.SOCK_DGRAM),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        socket.socket(socket.AF_UNIX),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        socket.socket(),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    ]
    try:
        udp.bind(("127.0.0.1", 0))
        six.bind(("::1", 0))
        udp.connect(udp.getsockname())
        unix.bind(path)
        unix.listen()
        gram.bind("\0" + path)
        rows = by_fd()
        found = [(rows[one.fileno()].kind, rows[one.fileno()].state) for one in socks]
        assert found == [
            ("udp", "CONNECTED"), ("udp", "UNCONNECTED"), ("unix", "LISTEN"), ("unixgram", "UNCONNECTED"),
            ("tcp", "CLOSED"), ("netlink", "UNCONNECTED"),
        ]  # fmt: skip
        for one in (udp, six, unix, gram):
            assert rows[one.fileno()].local == Address.of(one)
        assert rows[udp.fileno()].remote == Address.of(udp)
        assert rows[other.fileno()].local is None
    finally:
        for one in socks:
            one.close()


CHILD = """
import socket, sys
sock = socket.create_server(("127.0.0.1", 0))
fresh = socket.socket(socket.AF_INET6)
print(sock.getsockname()[1], sock.fileno(), fresh.fileno(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[tuple[int, list[int]]]:
    """A process with a socket that listens and one that is not bound: its number, and port and both descriptors."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, [int(one) for one in process.stdout.readline().split()]
        process.communicate()


def test_of_another_process(child: tuple[int, list[int]]) -> None:
    pid, (port, fd, fresh) = child
    rows = {row.fd: row for row in sockets_of(pid)}
    assert rows[fd].local == Address("tcp", "127.0.0.1", port)
    assert (rows[fd].kind, rows[fd].state) == ("tcp", "LISTEN")
    assert (rows[fresh].kind, rows[fresh].state, rows[fresh].local) == ("tcp", "UNCONNECTED", None)


def test_of_another_process_without_proc(monkeypatch: pytest.MonkeyPatch, child: tuple[int, list[int]]) -> None:
    monkeypatch.setattr(info, "_has_proc", lambda: False)
    with pytest.raises(NotOnThisSystem, match="another process"):
        sockets_of(child[0])


@pytest.mark.parametrize("pid", [0, -1, True, 1.5, "1"])
def test_no_number_of_a_process(pid: Any) -> None:
    with pytest.raises(ValueError, match="a process has a number from 1"):
        sockets_of(pid)


def test_no_such_process() -> None:
    with pytest.raises(ProcessLookupError, match="no process 4194305"):  # above the most that Linux has
        sockets_of(4194305)


def test_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(PermissionError, match="not permitted to see the sockets of process 1"):
        sockets_of(1)


def test_a_process_that_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert sockets_of(process.pid) == []  # it is not yet collected
    process.wait()
    with pytest.raises(ProcessLookupError):
        sockets_of(process.pid)


def test_lines_that_nobody_understands(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    real = info._lines

    def lines(path: str) -> list[str]:
        return ["", "nonsense", "1: X:Y Z 0", "a b c d 7 e f g", *real(path)]

    monkeypatch.setattr(info, "_lines", lines)
    assert by_fd()[listener.fileno()].state == "LISTEN"


# ---- who_has ----


def test_who_has(child: tuple[int, list[int]]) -> None:
    pid, (port, *_) = child
    for host in ("127.0.0.1", "localhost", "*"):
        assert (found := who_has(f"tcp://{host}:{port}")) is not None, host
        assert found.endswith(f" (pid {pid})")
    assert who_has(Address("tls", "127.0.0.1", port)) == found
    assert who_has(f"udp://127.0.0.1:{port}") is None
    assert who_has(f"tcp://127.0.0.2:{port}") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_has_what_is_bound_and_does_not_listen(host: str) -> None:
    """The kernel has it in no table, and it is as much in the way."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        address = Address.of(sock)
        assert str(who_has(address)).endswith(f" (pid {os.getpid()})")
        assert by_fd()[sock.fileno()].local == address
        with pytest.raises(OSError, match=rf"\(.* \(pid {os.getpid()}\) has it\)"):
            listening(address)
    assert who_has(address) is None


def test_who_has_a_unix_socket(short_path: str) -> None:
    path = f"{short_path}/s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        assert who_has(f"unix:{path}") == who_has(f"unix:{short_path}/../{os.path.basename(short_path)}/s")
        assert str(who_has(f"unix:{path}")).endswith(f"(pid {os.getpid()})")
        assert who_has(f"unixgram:{path}") is None
        assert who_has(f"unix:@{path}") is None


@pytest.mark.parametrize("address", ["tcp://*:0", "nonsense", "fd://3", "bluetooth://00:11:22:33:44:55:1", None, 7])
def test_nobody_has(address: Any) -> None:
    assert who_has(address) is None


# ---- LeakCheck ----


def opened() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_no_leak(listener: socket.socket) -> None:
    original = socket.socket.__init__
    with LeakCheck(), LeakCheck():
        opened().close()
        listener.close()  # it was there before
    assert socket.socket.__init__ is original


def test_a_leak() -> None:
    original = socket.socket.__init__
    with pytest.raises(AssertionError) as failed, LeakCheck():
        sock = opened()
    address = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    first, second, *place = str(failed.value).splitlines()
    assert first == "1 socket was opened here and never closed:"
    assert second == f"  fd {sock.fileno()}: tcp {address} (LISTEN)"
    assert place[0] == "  opened at:"
    assert any(line.endswith("in opened") for line in place)
    assert socket.socket.__init__ is original
    sock.close()


def test_a_leak_in_the_place_of_one_that_was_there() -> None:
    before = opened()
    fd = before.fileno()
    with pytest.raises(AssertionError, match=f"fd {fd}: ") as failed, LeakCheck():
        before.close()
        sock = opened()
        assert sock.fileno() == fd
    del failed
    sock.close()


def test_without_a_trace() -> None:
    with pytest.raises(AssertionError) as failed, LeakCheck(trace=False):
        pair = socket.socketpair()
    assert str(failed.value).startswith("2 sockets were opened here")
    assert "opened at" not in str(failed.value)
    for sock in pair:
        sock.close()


def test_with_tracemalloc() -> None:
    tracemalloc.start(8)
    try:
        with pytest.raises(AssertionError, match="opened at:") as failed, LeakCheck(trace=False):
            sock = opened()
    finally:
        tracemalloc.stop()
    assert __file__ in str(failed.value)
    sock.close()


def test_an_exception_from_inside_goes_through() -> None:
    with pytest.raises(ZeroDivisionError), LeakCheck():
        sock = opened()
        raise ZeroDivisionError
    sock.close()


def users_line() -> Any:
    return listen("tcp://127.0.0.1:0")


def check_place(place: list[str]) -> None:
    assert place[-1].strip() == 'return listen("tcp://127.0.0.1:0")' and __file__ in place[-2]
    assert f"{os.sep}websock{os.sep}net{os.sep}" not in "\n".join(place).replace(__file__, "")


def test_a_leaked_listener_is_one_with_the_line_of_its_user() -> None:
    with pytest.raises(AssertionError) as failed, LeakCheck():
        listener = users_line()
    first, _, _, *place = str(failed.value).splitlines()
    assert first == "1 socket was opened here and never closed:"
    check_place(place)
    listener.close()


def test_the_line_of_a_listener_s_user_by_tracemalloc() -> None:
    tracemalloc.start(12)
    try:
        with users_line() as listener:
            check_place("".join(LeakCheck.place(listener.sockets[0])).splitlines())
    finally:
        tracemalloc.stop()


def test_what_a_listener_of_before_has_for_itself_is_no_leak() -> None:
    with users_line(), LeakCheck():
        pass
