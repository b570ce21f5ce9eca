"""Workers and their supervisor: deaths, reloads and stops, with real processes and real signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import websock.sync
from websock.exceptions import ConnectionClosed

from ..programs import PATIENCE, PEM
from .conftest import Serve, Served, Start, ended, processes_in, until

if sys.platform == "win32":
    pytest.skip("no fork", allow_module_level=True)

APP = """
def handler(ws):
    for message in ws:
        ws.send({answer!r})

async def task(ws):
    async for message in ws:
        await ws.send({answer!r})
"""
WORKERS = ("--workers", "2", "--model", "threads")


def write_app(directory: Path, answer: str) -> None:
    """A module whose answer is in its code. Its compiled form must not hide the next one: same size, same second."""
    (directory / "changing.py").write_text(APP.format(answer=answer))
    shutil.rmtree(directory / "__pycache__", ignore_errors=True)


def pid_of(ws: Any) -> int:
    ws.send("pid")
    return int(ws.recv(timeout=PATIENCE))


def ask(server: Served, message: str = "x") -> str:
    with server.connect() as ws:
        ws.send(message)
        answer: str = ws.recv(timeout=PATIENCE)
    return answer


def reload(server: Served) -> None:
    """Reload, and wait until those from before are gone."""
    old = {*server.workers()}
    server.tell(signal.SIGHUP)
    server.says("server reloaded")
    until(lambda: not old & {*server.workers()}, "the end of the old ones")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("model", ["asyncio", "threads", "pool", "processes"])
def test_a_worker_that_is_killed_is_replaced_and_hurts_nobody(served: Serve, model: str) -> None:
    app = "tasks" if model == "asyncio" else "plain"
    server = served(f"tests.serving.apps:{app}", "--workers", "2", "--model", model)
    server.says("server has 2 workers")
    clients = [server.connect() for _ in range(8)]
    pids = [pid_of(ws) for ws in clients]
    victim = server.workers()[0]
    parents = {pid: processes_in(server.pid)[pid][0] if model == "processes" else pid for pid in pids}
    os.kill(victim, signal.SIGKILL)
    assert server.says(r"worker \d \(process (\d+)\) was killed by SIGKILL")[1] == str(victim)
    until(lambda: len(server.workers()) == 2, "the new worker", seconds=5)
    for ws, pid in zip(clients, pids, strict=True):
        if parents[pid] == victim:
            assert ended(ws).code in (1001, 1006)
        else:
            ws.send("unhurt")
            assert ws.recv(timeout=PATIENCE) == "unhurt"
            ws.close()
    assert [ask(server) for _ in range(8)] == ["x"] * 8
    until(lambda: "Z" not in {state for _, state in processes_in(server.pid).values()}, "reaping")
    server.stop()


def test_service_is_back_within_a_second(served: Serve) -> None:
    """Also for whom the kernel has given to the dead one: the supervisor keeps its listener."""
    server = served("tests.serving.apps:plain", "--workers", "1")
    with server.connect() as ws:
        victim = pid_of(ws)
        os.kill(victim, signal.SIGKILL)
        before = time.monotonic()
        assert ended(ws).code == 1006
    assert ask(server) == "x"
    assert time.monotonic() - before < PATIENCE  # how long it takes is a matter of the machine: see BackOff
    server.stop()


def test_the_supervisor_is_killed(served: Serve) -> None:
    server = served("tests.serving.apps:plain", *WORKERS)
    with server.connect() as ws:
        pid_of(ws)
        server.tell(signal.SIGKILL)
        assert ended(ws).code == 1001
    server.program.end()
    until(lambda: not processes_in(server.pid), "the end of the workers")
    with pytest.raises(OSError, match="refused"):
        server.connect()


def test_a_worker_that_hangs_when_the_supervisor_is_killed(served: Serve) -> None:
    server = served("tests.serving.apps:tasks", "--workers", "1", "--model", "asyncio", "--grace", "0.2")
    with server.connect() as ws:
        ws.send("busy")  # it holds the event loop
        time.sleep(0.2)
        server.tell(signal.SIGKILL)
        assert ended(ws).code == 1006
    server.program.end()
    until(lambda: not processes_in(server.pid), "the end of the workers")


@pytest.mark.parametrize("model", ["asyncio", "uvloop", "threads", "pool", "processes"])
def test_reload_brings_new_code_and_refuses_nobody(served: Serve, tmp_path: Path, model: str) -> None:
    write_app(tmp_path, "old")
    app = "task" if model in ("asyncio", "uvloop") else "handler"
    server = served(f"changing:{app}", "--workers", "2", "--model", model, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    server.says("server has 2 workers")
    guest = server.connect()
    answers: list[str] = []
    closed: list[int] = []
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with server.connect() as ws:  # whatever this raises is in the way of the last assert
                try:
                    ws.send("x")
                    answers.append(ws.recv(timeout=PATIENCE))
                except ConnectionClosed as end:
                    closed.append(end.code)

    visitors = [threading.Thread(target=come_and_go) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    try:
        write_app(tmp_path, "new")
        before = descriptors(server.pid)
        old = {*server.workers()}
        server.tell(signal.SIGHUP)
        server.says("server reloaded: 2 new workers")
        assert ended(guest).code == 1012
        until(lambda: not old & {*server.workers()}, "the end of the old ones")
        count = len(answers)
        until(lambda: len(answers) > count + 20, "more visitors")
    finally:
        over.set()
        for visitor in visitors:
            visitor.join()
    assert answers[0] == "old"
    assert {*answers[count + len(visitors) :]} == {"new"}  # who was being answered then may have heard an old one
    assert {*closed} <= {1012}
    assert descriptors(server.pid) == before
    server.stop()


def test_reload_of_code_that_does_not_work(served: Serve, tmp_path: Path) -> None:
    write_app(tmp_path, "old")
    server = served("changing:handler", *WORKERS, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    server.says("server has 2 workers")
    old = {*server.workers()}
    with server.connect() as ws:
        (tmp_path / "changing.py").write_text("import this_is_not_there\n")
        server.tell(signal.SIGHUP)
        assert "this_is_not_there" in server.says("reload failed, the workers from before it stay: (.*)")[1]
        until(lambda: {*server.workers()} == old, "the end of the new ones")
        ws.send("x")
        assert ws.recv(timeout=PATIENCE) == "old"
    write_app(tmp_path, "new")
    reload(server)
    assert ask(server) == "new"
    server.stop()


def test_a_worker_that_cannot_start_again_is_tried_more_slowly(served: Serve, tmp_path: Path) -> None:
    write_app(tmp_path, "old")
    server = served("changing:handler", "--workers", "1", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    server.says("server has 1 workers")
    (tmp_path / "changing.py").write_text("1/0\n")
    os.kill(server.workers()[0], signal.SIGKILL)
    server.says("was killed by SIGKILL after .* another one starts now")
    waits = [server.says(r"did not start: .*ZeroDivisionError.*; the next try is in (.*) s")[1] for _ in range(3)]
    assert waits == ["0.1", "0.2", "0.4"]
    write_app(tmp_path, "new")
    assert ask(server) == "new"  # it waits at the listener for the next try
    server.stop()


@pytest.mark.parametrize("workers", [(), WORKERS], ids=["alone", "workers"])
def test_tls_files_are_read_again(served: Serve, tmp_path: Path, workers: Any, certificate: str) -> None:
    file = tmp_path / "tls.pem"
    shutil.copy(PEM, file)
    server = served("tests.serving.apps:plain", "--certfile", str(file), *workers)
    assert server.uri.startswith("wss://127.0.0.1:")

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=PATIENCE)

    def of(name: str) -> str:
        return Path(name).read_text()

    first = shown()
    assert first.strip() in of(PEM)
    context = ssl.create_default_context(cafile=PEM)
    with server.connect(ssl=context, server_hostname="localhost") as ws:
        file.write_text("nothing of the kind")
        server.tell(signal.SIGHUP)
        server.says(r"reload failed, the workers .*tls\.pem" if workers else r"the old ones stay in use: .*tls\.pem")
        assert shown() == first
        # A certificate that the key does not fit to is found out before it is taken.
        key = of(PEM)[of(PEM).index("-----BEGIN PRIVATE") :]
        file.write_text(of(certificate)[of(certificate).index("-----BEGIN CERT") :] + key)
        server.tell(signal.SIGHUP)
        server.says(r"reload failed, the workers .*tls\.pem" if workers else r"the old ones stay in use: .*tls\.pem")
        assert shown() == first
        shutil.copy(certificate, file)
        server.tell(signal.SIGHUP)
        server.says("server reloaded" if workers else "server has read its TLS files again")
        # The old workers are told in that moment; one that has not heard it yet may accept once more.
        until(lambda: shown().strip() in of(certificate), "the new certificate")
        if not workers:
            ws.send("open still")
            assert ws.recv(timeout=PATIENCE) == "open still"
    server.stop()


def test_a_unix_socket_outlives_its_workers(served: Serve, short_path: str) -> None:
    path = f"{short_path}/s"
    server = served("tests.serving.apps:plain", "--unix", path, "--unix-mode", "600", *WORKERS)
    assert os.stat(path).st_mode & 0o777 == 0o600

    def talk() -> None:
        with websock.sync.unix_connect(path) as ws:
            ws.send("x")
            assert ws.recv(timeout=PATIENCE) == "x"

    talk()
    os.kill(server.workers()[0], signal.SIGKILL)
    server.says("was killed by SIGKILL")
    talk()
    reload(server)
    talk()
    assert os.path.exists(path)
    server.stop()
    assert not os.path.exists(path)


def test_a_descriptor_is_served(served: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        server = served("tests.serving.apps:plain", "--fd", str(fd), *WORKERS, pass_fds=(fd,))
        assert server.port == listener.getsockname()[1]
        assert ask(server) == "x"
        server.stop()


def test_connections_are_shared_out(served: Serve) -> None:
    """By a hash of the addresses: each of two workers gets at least a quarter of 64, but for one time in 40,000."""
    server = served("tests.serving.apps:plain", *WORKERS)
    clients = [server.connect() for _ in range(64)]
    pids = [pid_of(ws) for ws in clients]
    for ws in clients:
        ws.close()
    server.stop()
    if sys.platform == "linux":
        assert min(pids.count(pid) for pid in {*pids}) >= 16
        assert len({*pids}) == 2


def test_another_server_does_not_share_the_port(served: Serve, start: Start) -> None:
    server = served("tests.serving.apps:plain", *WORKERS)
    again = start("-m", "websock", "serve", "tests.serving.apps:plain", "--port", str(server.port), *WORKERS)
    status, out, err = again.end()
    assert (status, out) == (1, [])
    assert err[-1].startswith(f"websock serve: can't listen on tcp://127.0.0.1:{server.port}: ")
    server.stop()


def test_a_worker_can_be_stopped_by_hand(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--workers", "1")
    with server.connect() as ws:
        os.kill(pid_of(ws), signal.SIGTERM)
        assert ended(ws).code == 1001
    server.says(r"worker 1 \(process \d+\) ended with exit status 0 after")
    assert ask(server) == "x"
    server.stop()


def test_reload_while_it_reloads_and_a_stop_meanwhile(served: Serve) -> None:
    server = served("tests.serving.apps:plain", *WORKERS)
    server.says("server has 2 workers")
    for _ in range(3):
        server.tell(signal.SIGHUP)
    server.says("server reloaded")
    server.tell(signal.SIGHUP)
    server.says("server reloading")
    server.stop()


def test_the_state_of_the_terminal_is_nobodys_business(served: Serve) -> None:
    """Ctrl-C comes to the whole group: the workers leave it to the supervisor."""
    server = served("tests.serving.apps:plain", *WORKERS)
    with server.connect() as ws:
        pid_of(ws)
        os.killpg(server.pid, signal.SIGINT)
        assert ended(ws).code == 1001
    status, _, err = server.program.end()
    assert status == 0
    assert not [line for line in err if "ERROR" in line or "WARNING" in line]


GROUPS = {
    "asyncio-workers": ("tests.serving.apps:tasks", "--model", "asyncio", "--workers", "2"),
    "threads-workers": ("tests.serving.apps:plain", "--model", "threads", "--workers", "2"),
    "processes-workers": ("tests.serving.apps:plain", "--model", "processes", "--workers", "2"),
    "processes": ("tests.serving.apps:plain", "--model", "processes"),
}


@pytest.mark.parametrize("form", GROUPS.values(), ids=GROUPS)
def test_a_stop_of_the_whole_group_is_one_order(served: Serve, tmp_path: Path, form: tuple[str, ...]) -> None:
    """SIGTERM for every process, as systemd's KillMode=control-group: who is busy has the grace all the same."""
    server = served(*form, "--grace", "600")
    done = tmp_path / "done"
    with server.connect() as idle, server.connect() as ws:
        pid_of(idle)
        pid_of(ws)
        ws.send(f"until {done}")
        assert ws.recv(timeout=PATIENCE) == "it begins"
        os.killpg(server.pid, signal.SIGTERM)
        assert ended(idle).code == 1001
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.1)  # long enough for a second order to show
        done.touch()
        assert ws.recv(timeout=PATIENCE) == f"until {done}"
        assert ended(ws).code == 1001
    status, _, err = server.program.end()
    assert status == 0
    assert not [line for line in err if "ERROR" in line or "WARNING" in line or "waits no longer" in line]


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [
        ("asyncio-workers", os.killpg, os.killpg),
        ("threads-workers", os.killpg, os.kill),
        ("processes-workers", os.killpg, os.kill),
        ("processes-workers", os.kill, os.kill),
    ],
)
def test_a_second_stop_is_a_second_order(served: Serve, tmp_path: Path, form: str, first: Any, second: Any) -> None:
    """For the whole group or for the supervisor alone, which is heard while workers drain."""
    server = served(*GROUPS[form], "--grace", "600")
    with server.connect() as idle, server.connect() as ws:
        pid_of(idle)
        pid_of(ws)
        ws.send(f"until {tmp_path / 'never'}")
        assert ws.recv(timeout=PATIENCE) == "it begins"
        first(server.pid, signal.SIGTERM)
        server.says("server stopping")  # before that the system may take two signals for one
        assert ended(idle).code == 1001
        second(server.pid, signal.SIGTERM)
        assert ended(ws).code == 1001
    status, _, err = server.program.end()
    assert status == 0
    if form == "processes-workers":  # a thread that does not end takes as long as the supervisor waits
        assert not [line for line in err if "is killed" in line]


def test_a_reload_of_the_whole_group_is_one_order(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--model", "processes", "--workers", "2")
    server.says("server has 2 workers")
    old = {*server.workers()}
    with server.connect() as ws:
        pid_of(ws)
        os.killpg(server.pid, signal.SIGHUP)
        assert ended(ws).code == 1012
    server.says("server reloaded")
    until(lambda: not old & {*server.workers()}, "the end of the old ones")
    assert len(server.workers()) == 2
    log = [*server.err, *server.stop()]
    assert sum("server reloading" in line for line in log) == 1


@pytest.mark.parametrize("form", ["asyncio-workers", "threads-workers", "processes-workers"])
@pytest.mark.parametrize("tell", [os.kill, os.killpg])
def test_a_stop_after_a_reload_is_a_first_order(served: Serve, tmp_path: Path, form: str, tell: Any) -> None:
    server = served(*GROUPS[form], "--grace", "600")
    done = tmp_path / "done"
    with server.connect() as ws:
        pid_of(ws)
        ws.send(f"until {done}")
        assert ws.recv(timeout=PATIENCE) == "it begins"
        server.tell(signal.SIGHUP)
        server.says("server reloaded")
        tell(server.pid, signal.SIGTERM)
        server.says("server stopping")
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.2)
        done.touch()
        assert ws.recv(timeout=PATIENCE) == f"until {done}"
        # Who gets the signal itself may hear that first: both are true.
        assert ended(ws).code in ((1001, 1012) if tell is os.killpg else (1012,))
    status, _, err = server.program.end()
    assert status == 0
    assert not [line for line in err if "ERROR" in line or "WARNING" in line or "waits no longer" in line]


def test_systemd_is_told(served: Serve, short_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{short_path}/notify")
        sock.settimeout(PATIENCE)
        server = served("tests.serving.apps:plain", *WORKERS, NOTIFY_SOCKET=f"{short_path}/notify")
        assert sock.recv(500).decode().split("\n") == ["READY=1", f"MAINPID={server.pid}"]
        server.tell(signal.SIGHUP)
        told = sock.recv(500).decode().split("\n")
        assert told[0] == "RELOADING=1"
        assert told[1].startswith("MONOTONIC_USEC=")
        assert sock.recv(500).startswith(b"READY=1")
        server.stop()
        assert sock.recv(500) == b"STOPPING=1"


def test_sockets_that_systemd_has_opened(start: Start) -> None:
    """It passes them from descriptor 3, to a process whose number it names."""
    code = (
        "import os, socket, sys; sock = socket.create_server(('127.0.0.1', 0)); fd = sock.detach(); os.dup2(fd, 3); "
        "os.set_inheritable(3, True); "
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
        "os.execv(sys.executable, [sys.executable, '-m', 'websock', 'serve', 'tests.serving.apps:plain'])"
    )
    server = Served(start("-c", code))
    assert server.port != 8765
    assert ask(server) == "x"
    server.stop()


def test_a_reload_by_command(served: Serve, start: Start, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    server = served("tests.serving.apps:plain", *WORKERS, "--pid-file", str(file))
    server.says("server has 2 workers")
    assert file.read_text() == f"{server.pid}\n"
    for target in (str(file), str(server.pid)):
        assert start("-m", "websock", "reload", target).end() == (0, [], [])
        server.says("server reloaded")
    another = start("-m", "websock", "serve", "tests.serving.apps:plain", "--port", "0", "--pid-file", str(file))
    status, _, err = another.end()
    assert (status, err) == (1, [f"websock serve: the server that wrote {file} runs"])
    server.stop()
    assert not file.exists()
    file.write_text(f"{os.getpid()}\n")  # left by one that was killed; now somebody else has its number
    status, _, err = start("-m", "websock", "reload", str(file)).end()
    assert (status, err) == (1, [f"websock reload: no server runs that has written {file}"])


def test_a_process_that_is_gone_cannot_reload(start: Start) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    status, _, err = start("-m", "websock", "reload", str(child.pid)).end()
    assert (status, err) == (1, [f"websock reload: there is no process {child.pid}"])
