"""The unit files of examples/deploy: what systemd does with them is done here, but for its sandbox."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import websock.sync
from websock.core.options import Options
from websock.serving.plan import QUICK

from ..programs import PATIENCE
from ..serving.conftest import Served, Start, ended, until
from .proxies import CLIENT, DEPLOY, HANDLER, fresh, nginx, same, who

UNITS = ("websock.socket", "websock.service")


class Systemd:
    """What systemd does for websock.socket and websock.service: the socket stays with it."""

    def __init__(self, start: Start, folder: str) -> None:
        self._start = start
        socket_unit, self.service = (unit(name) for name in UNITS)
        assert socket_unit["ListenStream"] == "/run/websock.sock"
        self.path = f"{folder}/websock.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, int(socket_unit["SocketMode"], 8))
        self.listener.listen(int(socket_unit["Backlog"]))
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(f"{folder}/notify")
        self.notified.settimeout(PATIENCE)
        self._environment = {"NOTIFY_SOCKET": f"{folder}/notify", "PWD": folder}

    def run(self) -> Served:
        """Type=notify: what ExecStart says, with the socket as descriptor 3."""
        python, *arguments = shlex.split(self.service["ExecStart"])
        assert python == f"{self.service['WorkingDirectory']}/.venv/bin/python"
        arguments[arguments.index("chat:handler")] = HANDLER
        code = (
            f"import os, sys; os.dup2({self.listener.fileno()}, 3); "
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='websock.socket'); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        fd = self.listener.fileno()
        server = Served(self._start("-c", code, *arguments, pass_fds=(fd,), **self._environment))
        assert self.told() == ["READY=1", f"MAINPID={server.pid}"]
        return server

    def told(self) -> list[str]:
        return self.notified.recv(1000).decode().split("\n")

    def close(self) -> None:
        self.listener.close()
        self.notified.close()


def unit(name: str) -> dict[str, str]:
    """The settings of a unit file, which has each once."""
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if "=" in line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines)
    return found


@pytest.fixture
def systemd(start: Start, short_path: str) -> Iterator[Systemd]:
    with contextlib.closing(Systemd(start, short_path)) as found:
        yield found


def test_the_units_of_systemd_behind_nginx(systemd: Systemd, short_path: str) -> None:
    """A reload and a restart, with a socket that is always there."""
    server = systemd.run()
    assert f"ws+unix://{systemd.path}" == server.uri
    with nginx(f"unix:{systemd.path}", fresh(short_path)) as proxy:
        with proxy.connect() as ws:
            found = who(ws)
            assert (found["client"], found["proto"]) == (CLIENT, "https")
            assert systemd.service["ExecReload"] == "/bin/kill -HUP $MAINPID"
            old = set(server.workers())
            server.tell(signal.SIGHUP)
            assert systemd.told()[0] == "RELOADING=1"
            assert systemd.told()[0] == "READY=1"
            assert ended(ws).code == 1012
        until(lambda: not old & set(server.workers()))  # until then one of them may take a connection, and end it
        assert systemd.service["KillMode"] == "mixed"  # SIGTERM is for the first process alone
        with proxy.connect() as ws:
            same(ws, "new")
            server.stop()
            assert systemd.told() == ["STOPPING=1"]
            assert ended(ws).code == 1001
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(systemd.path)  # while there is no server
        server = systemd.run()
        with websock.sync.connect("ws://localhost/", sock=waiting, open_timeout=PATIENCE, ping_interval=None) as ws:
            same(ws, "nobody was refused")
        with proxy.connect() as ws:
            same(ws, "after the restart")
        server.stop()
    assert os.path.exists(systemd.path)  # which is not ours to remove


def test_numbers_that_belong_together() -> None:
    """What waits for what: each must have a little more time than what it waits for."""
    service = unit("websock.service")
    defaults = Options()
    assert defaults.ping_interval is not None
    assert defaults.ping_timeout is not None
    given_up = defaults.ping_interval + defaults.ping_timeout
    texts = {name: (DEPLOY / name).read_text() for name in ("nginx.conf", "haproxy.cfg")}
    found = [*re.findall(r"proxy_(?:read|send)_timeout (\d+)s;", texts["nginx.conf"])]
    found += re.findall(r"timeout tunnel +(\d+)s", texts["haproxy.cfg"])
    assert len(found) == 3
    assert all(int(seconds) > given_up for seconds in found)
    grace = float(re.findall(r"--grace (\d+)", service["ExecStart"])[0])
    assert float(service["TimeoutStopSec"]) > grace + 2 * QUICK
    assert "--health /healthz" in service["ExecStart"]
    assert "uri /healthz " in texts["haproxy.cfg"]


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    command = shutil.which("systemd-analyze")
    if command is None:
        pytest.skip("systemd is not installed, nor needed for anything else")
    for name in UNITS:
        text = (DEPLOY / name).read_text().replace("/opt/chat/.venv/bin/python", sys.executable)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [command, "verify", "--recursive-errors=no", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
