"""The files of Unix sockets: made, replaced when dead, never when living, removed by who made them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from websock.net import sockets as sockets_module
from websock.net.address import Address
from websock.net.connecting import connect
from websock.net.listener import listen
from websock.net.options import SocketOptions
from websock.net.sockets import UnixSocket, bound, listening

from .making import ROOT, at, closing

UNIX = [(listening, "unix"), (listening, "unixpacket"), (bound, "unixgram")]


@pytest.mark.parametrize(("make", "scheme"), UNIX)
def test_the_file_goes_with_the_socket(make: Any, scheme: str, short_path: str) -> None:
    path = f"{short_path}/a"
    with closing(make(f"{scheme}://{path}")):
        assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert not os.path.exists(path)


@pytest.mark.parametrize(("make", "scheme"), UNIX)
@pytest.mark.parametrize("left", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_dead_file_is_replaced(make: Any, scheme: str, left: int, short_path: str) -> None:
    path = f"{short_path}/a"
    with socket.socket(socket.AF_UNIX, left) as dead:
        dead.bind(path)
    assert os.path.exists(path)
    with closing(make(f"{scheme}://{path}")) as sockets, socket.socket(socket.AF_UNIX, sockets[0].type) as client:
        client.connect(path)
        assert os.listdir(short_path) == ["a"]
    assert os.listdir(short_path) == []


@pytest.mark.parametrize(("make", "scheme"), UNIX)
@pytest.mark.parametrize(("other", "living"), UNIX)
def test_a_living_one_never(make: Any, scheme: str, other: Any, living: str, short_path: str) -> None:
    path = f"{short_path}/a"
    with closing(other(f"{living}://{path}")) as sockets:
        before = os.stat(path)
        with pytest.raises(OSError, match=f"{path}: a server is listening there") as caught:
            make(f"{scheme}://{path}")
        assert caught.value.errno == errno.EADDRINUSE
        assert os.path.samestat(before, os.stat(path))
        with socket.socket(socket.AF_UNIX, sockets[0].type) as client:
            client.connect(path)


def test_a_living_one_whose_backlog_is_full(short_path: str) -> None:
    path = f"{short_path}/a"
    with closing(listening(f"unix://{path}", SocketOptions(backlog=0))), contextlib.ExitStack() as stack:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        with pytest.raises(OSError, match="a server is listening there"):
            listening(f"unix://{path}")


@pytest.mark.parametrize("what", ["file", "directory", "link", "dangling link"])
def test_other_files_stay(what: str, short_path: str) -> None:
    path = f"{short_path}/a"
    if what == "file":
        Path(path).write_bytes(b"precious")
    elif what == "directory":
        os.mkdir(path)
    else:
        os.symlink("nowhere" if what == "dangling link" else "/etc/hostname", path)
    with pytest.raises(FileExistsError, match=f"can't listen on unix://{path}: a file that isn't a socket is there"):
        listening(f"unix://{path}")
    assert os.listdir(short_path) == ["a"]


def test_a_server_that_came_meanwhile_keeps_its_file(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question whether the old one lives and its removal, another process replaces it."""
    path, rename, came = f"{short_path}/a", os.rename, []
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    def late(source: str, to: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        came.extend(listening(f"unix://{path}"))
        os.utime(path, ns=(1, 1))  # the number of the file may be that of the dead one, its time is not
        rename(source, to)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(OSError, match="a server is listening there"):
        listening(f"unix://{path}")
    with closing(came), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert os.listdir(short_path) == ["a"]
    assert os.listdir(short_path) == []


def test_a_dead_file_that_goes_away_meanwhile(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename = f"{short_path}/a", os.rename
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    def gone(source: str, to: str) -> None:
        os.unlink(path)
        rename(source, to)

    monkeypatch.setattr(os, "rename", gone)
    with closing(listening(f"unix://{path}")):
        assert os.listdir(short_path) == ["a"]


@pytest.mark.parametrize("scheme", ["unix", "unixpacket"])
def test_many_servers_race_for_a_dead_file_and_one_gets_it(scheme: str, short_path: str) -> None:
    """What is bound and does not listen yet refuses connections, as the dead do."""
    path = f"{short_path}/a"
    won: list[socket.socket] = []
    lost: list[OSError] = []
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        try:
            won.extend(listening(f"{scheme}://{path}"))
        except OSError as error:
            lost.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(won), socket.socket(socket.AF_UNIX, won[0].type) as client:
        client.connect(path)
        assert len(won) == 1
        assert [error.errno for error in lost] == [errno.EADDRINUSE] * 7
        assert os.listdir(short_path) == ["a"]


def test_a_directory_that_somebody_else_has_locked(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets_module, "_LOCKED", 0.02)
    number = os.open(short_path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        listening(f"unix://{short_path}/a")[0].close()
    finally:
        os.close(number)


def test_the_mode_is_there_before_the_first_peer(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chmod, path = os.chmod, f"{short_path}/a"

    def before(name: str, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(path)
        chmod(name, mode)

    monkeypatch.setattr(os, "chmod", before)
    for mode in (0o600, 0o666, 0):
        with closing(listening(f"unix://{path}", mode=mode)):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode


@pytest.mark.parametrize(
    ("text", "mode", "kind", "said"),
    [
        ("unix://{tmp}/a", 0o1000, ValueError, "mode is 0 to 0o777, not 0o1000"),
        ("unix://{tmp}/a", -1, ValueError, "mode is 0 to 0o777"),
        ("unix://{tmp}/a", "600", TypeError, "mode is a number"),
        ("unix://{tmp}/a", True, TypeError, "mode is a number"),
        ("unix:@mode", 0o600, ValueError, "unix:@mode has no file"),
        ("tcp://127.0.0.1:0", 0o600, ValueError, "has no file"),
        ("fd://0", 0o600, ValueError, "has no file"),
    ],
)
def test_modes_that_cannot_be(text: str, mode: Any, kind: type[Exception], said: str, short_path: str) -> None:
    with pytest.raises(kind, match=said):
        listening(at(text, short_path), mode=mode)
    assert os.listdir(short_path) == []


def test_a_mode_that_is_refused(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(name: str, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", chmod)
    with pytest.raises(PermissionError, match=f"can't listen on unix://{short_path}/a: "):
        listening(f"unix://{short_path}/a", mode=0o600)
    assert os.listdir(short_path) == []


@pytest.mark.skipif(not ROOT, reason="there are no privileges to give up")
def test_a_living_one_that_we_may_not_ask(short_path: str) -> None:
    path = f"{short_path}/a"
    os.chmod(short_path, 0o755)  # noqa: S103 - the other user is to come to the socket, and no further
    with closing(listening(f"unix://{path}", mode=0o600)):
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match=f"can't listen on unix://{path}: "):
                listening(f"unix://{path}")
        finally:
            os.seteuid(0)
        assert os.path.exists(path)


def test_a_file_that_is_no_longer_ours_stays(short_path: str) -> None:
    path = f"{short_path}/a"
    with closing(listening(f"unix://{path}")):
        os.unlink(path)
        Path(path).write_bytes(b"another's")
    assert os.path.exists(path)


def test_a_relative_path_is_removed_from_elsewhere(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(short_path)
    with closing(listening("unix:a")):
        monkeypatch.chdir("/")
        assert os.listdir(short_path) == ["a"]
    assert os.listdir(short_path) == []


def test_the_file_stays_when_another_process_has_the_socket(short_path: str) -> None:
    path = f"{short_path}/a"
    with closing(listening(f"unix://{path}")) as sockets:
        child = os.fork()
        if not child:
            sockets[0].close()
            os._exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        assert os.path.exists(path)
        copy = sockets[0].dup()
        copy.close()
        assert os.path.exists(path)
        detached = UnixSocket(fileno=sockets[0].detach())
        detached.close()
    assert os.path.exists(path)


def test_closing_twice_removes_once(short_path: str) -> None:
    path = f"{short_path}/a"
    first = listening(f"unix://{path}")[0]
    first.close()
    with closing(listening(f"unix://{path}")):
        first.close()
        assert os.path.exists(path)


def test_no_name_is_the_system_s_choice() -> None:
    with closing(listening(Address("unix"))) as sockets:
        assert Address.of(sockets[0]).path.startswith("\0")


def test_the_file_of_a_client_goes_with_it(short_path: str) -> None:
    there, own = f"unix://{short_path}/there", f"unix://{short_path}/own"
    with pytest.raises(FileNotFoundError):
        connect(there, local=own)
    assert not os.path.exists(f"{short_path}/own")
    with listen(there):
        connect(there, local=own).close()
        assert not os.path.exists(f"{short_path}/own")
