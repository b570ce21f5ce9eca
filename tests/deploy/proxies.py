"""nginx, HAProxy and Caddy with the files of examples/deploy, on free ports of this machine.

Strategy: a file is used as it is, but for the addresses, paths and times that it documents, which are replaced by the
test's; one that is not there any more is an error, so what runs is what users get.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import grp
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import websock.sync

from ..programs import LIBRARY, PEM, missing
from ..serving.conftest import processes_in, until

__all__ = [
    "CLIENT",
    "DEPLOY",
    "HANDLER",
    "Proxy",
    "caddy",
    "checked",
    "fresh",
    "haproxy",
    "nginx",
    "order",
    "same",
    "who",
]

HANDLER = "tests.deploy.app:handler"
DEPLOY = LIBRARY / "examples" / "deploy"
CLIENT = "127.0.0.2"  # where clients come from: the proxies are 127.0.0.1
ROOT = os.geteuid() == 0
_PATH = re.compile(r"(?<![\w.-])/(etc|run|var|dev)/\S+")
_TRIES = 5  # with other ports, when somebody has taken one in between
_PORTS = range(10_000, 32_000)  # below those that the kernel gives to whoever asks for any: nobody takes them meanwhile
SOON = 20  # seconds of patience here: less than what a test may take in all, so that it can tell what it waited for


def program(name: str) -> str:
    """Where a program is; without it, the test is skipped, but not in CI, which installs it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        missing(name)
    return found


def filled(name: str, values: Mapping[str, str], keep: Sequence[str] = ()) -> str:
    """A file of examples/deploy with other values; no path of the system is left in it, but for those to keep."""
    text = (DEPLOY / name).read_text()
    for old, new in values.items():
        assert old in text, f"{name} has no {old!r} any more"
        text = text.replace(old, new)
    lines = [line.partition("# ")[0] for line in text.splitlines()]
    left = [found[0] for line in lines for found in _PATH.finditer(line)]
    left = [one for one in left if one not in keep and one not in "".join(values.values())]
    assert not left, f"{name}: the test would use {left}"
    return text


class Proxy:
    """A proxy that runs.

    Attributes:
        port, plain: where it takes connections with TLS, and without.
        folder: where its files are.

    Args:
        ready: a file that it makes when it listens; else that somebody takes connections there has to do.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        ports: Sequence[int],
        ready: str | None = None,
        **environment: str,
    ) -> None:
        self.folder = folder
        self.port, self.plain, *_ = *ports, 0
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        try:
            if ready is not None:
                until(functools.partial(self._made, folder / ready), f"making {ready}", SOON)
            for port in ports:
                until(functools.partial(self._takes, port), f"listening on {port}", SOON)
        except BaseException:
            self.end()
            raise

    def _made(self, file: Path) -> bool:
        if self.process.poll() is not None:
            raise ChildProcessError(self.log.read_text())
        if not file.is_socket():
            return file.exists()
        with socket.socket(socket.AF_UNIX) as sock:  # which is there for a moment before it listens
            return sock.connect_ex(str(file)) == 0

    def _takes(self, port: int) -> bool:
        self._made(self.log)
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    def workers(self) -> set[int]:
        """The processes that the first one has made."""
        master = self.process.pid
        return {pid for pid, (parent, _) in processes_in(master).items() if parent == master}

    def reload(self, number: signal.Signals) -> None:
        """Let it read its configuration again, and wait until it has a process that did."""
        before = self.workers()
        for _ in range(SOON // 4):
            self.process.send_signal(number)
            with contextlib.suppress(AssertionError):  # HAProxy may miss a signal right after its start
                until(lambda: self.workers() - before, seconds=4)
                return
        raise AssertionError(f"no reload: {self.log.read_text()}")

    def connect(self, *, tls: bool = True, path: str = "/", **options: Any) -> Any:
        """A WebSocket through it, from an address that is not the proxy's."""
        port = self.port if tls else self.plain
        how: dict[str, Any] = {"ping_interval": None, "close_timeout": 5, "open_timeout": SOON, **options}
        if tls:
            how["ssl"] = ssl.create_default_context(cafile=PEM)
        sock = socket.create_connection(("127.0.0.1", port), SOON, source_address=(CLIENT, 0))
        return websock.sync.connect(f"{'wss' if tls else 'ws'}://localhost:{port}{path}", sock=sock, **how)

    def end(self) -> None:
        """Stop it, and all processes that it has made."""
        self.process.terminate()
        try:
            self.process.wait(SOON)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            left: set[int] = set()
            with contextlib.suppress(AssertionError):
                until(lambda: not processes_in(self.process.pid), seconds=10)
            for pid in processes_in(self.process.pid):
                left.add(pid)
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes left behind: {left}"


@contextlib.contextmanager
def _running(make: Any, many: int) -> Iterator[Proxy]:
    """What `make` starts, given so many free ports."""
    for tries in range(_TRIES, 0, -1):
        ports = random.sample(_PORTS, many)
        try:
            for port in ports:
                socket.create_server(("127.0.0.1", port)).close()
            proxy = make(ports)
        except (ChildProcessError, OSError) as error:
            if tries == 1 or "ddress already in use" not in str(error):
                raise
        else:
            break
    try:
        yield proxy
    finally:
        proxy.end()


@contextlib.contextmanager
def nginx(upstream: str, folder: Path, *, plain: bool = False, **times: str) -> Iterator[Proxy]:
    """nginx with nginx.conf.

    Args:
        upstream: where websock is: ``host:port``, or ``unix:/path``.
        plain: without the redirect to https.
        times: other values of directives.
    """
    command = program("nginx")
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getegid()).gr_name};"
    parts = "".join(f"{one}_temp_path {folder}; " for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))

    def make(ports: Sequence[int]) -> Proxy:
        values = {
            "user www-data;": user if ROOT else "",
            "/run/nginx.pid": f"{folder}/pid",
            "/var/log/nginx/error.log": "stderr",
            "/var/log/nginx/access.log": f"{folder}/access.log",
            "worker_rlimit_nofile 65536;": "",
            "worker_connections 32768;": "worker_connections 256;",
            "http {": f"http {{ {parts}",
            "unix:/run/websock.sock": upstream,
            "listen 443": f"listen 127.0.0.1:{ports[0]}",
            "listen 80": f"listen 127.0.0.1:{ports[1]}",
            "/etc/ssl/chat.example.pem": PEM,
            "/etc/ssl/private/chat.example.key": PEM,
            **({"if ($scheme = http) { return 301 https://$host$request_uri; }": ""} if plain else {}),
            **{f"{name} 75s;": f"{name} {value};" for name, value in times.items()},
        }
        (folder / "nginx.conf").write_text(filled("nginx.conf", values))
        where = ["-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
        return Proxy([command, *where, "-g", "daemon off;"], folder, ports, "pid")

    with _running(make, 2) as proxy:
        yield proxy


@contextlib.contextmanager
def haproxy(
    servers: Sequence[str],
    folder: Path,
    *,
    through: Sequence[str] = (),
    v1: bool = False,
    plain: bool = False,
    fall: int = 1000,
    **times: str,
) -> Iterator[Proxy]:
    """HAProxy with haproxy.cfg.

    Args:
        servers: where websock is, one or two times ``host:port``.
        folder: its path must be short, since it has a Unix socket.
        through: the same for the part where TLS goes through, whose ports are `port` and `plain` then.
        v1: with version 1 of the PROXY protocol.
        plain: without the redirect to https.
        fall: after how many bad checks a server is down; a machine that stands still is no reason.
        times: other values: ``tunnel="2s"``.
    """
    command = program("haproxy")
    nowhere = "127.0.0.1:1"  # nobody listens there

    def make(ports: Sequence[int]) -> Proxy:
        a, b = ([*some, nowhere, nowhere][:2] for some in (servers, through))
        values = {
            "    log /dev/log local0": "    log stdout format raw local0",
            "/run/haproxy/admin.sock": f"{folder}/admin.sock",
            "maxconn 50000": "maxconn 100",
            "bind :443": f"bind 127.0.0.1:{ports[0]}",
            "bind :80\n": f"bind 127.0.0.1:{ports[1]}\n",
            "bind :8443": f"bind 127.0.0.1:{ports[2]}",
            "/etc/haproxy/chat.example.pem": PEM,
            "10.0.0.11:8000": a[0],
            "10.0.0.12:8000": a[1],
            "10.0.0.11:8443": b[0],
            "10.0.0.12:8443": b[1],
            "inter 2s fall 2": f"inter 500ms fall {fall}",
            **({"send-proxy-v2": "send-proxy"} if v1 else {}),
            **({"http-request redirect scheme https unless { ssl_fc }": ""} if plain else {}),
            **{f"timeout {name} 75s": f"timeout {name} {value}" for name, value in times.items()},
        }
        if not ROOT:
            values |= {"    user haproxy\n    group haproxy\n    chroot /var/lib/haproxy\n": ""}
        (folder / "haproxy.cfg").write_text(filled("haproxy.cfg", values, ["/var/lib/haproxy"]))
        proxy = Proxy([command, "-W", "-db", "-f", str(folder / "haproxy.cfg")], folder, ports, "admin.sock")
        if through:
            proxy.port, proxy.plain = ports[2], 0
        return proxy

    with _running(make, 3) as proxy:
        for backend, some in (("websock", servers), ("tls-through", through)):
            for server in "ab"[: len(some)]:
                until(functools.partial(checked, proxy, backend, server), "a good health check", SOON)
        yield proxy


@contextlib.contextmanager
def caddy(upstream: str, folder: Path) -> Iterator[Proxy]:
    """Caddy with the Caddyfile, but with a certificate of ours, and so that it asks nobody on the Internet."""
    command = program("caddy")

    def make(ports: Sequence[int]) -> Proxy:
        head = f"{{\n\tadmin off\n\tauto_https disable_redirects\n\thttp_port {ports[1]}\n}}\n"
        values = {
            "chat.example {": f"{head}https://localhost:{ports[0]} {{\n\tbind 127.0.0.1\n\ttls {PEM} {PEM}",
            "unix//run/websock.sock": upstream,
        }
        (folder / "Caddyfile").write_text(filled("Caddyfile", values))
        arguments = ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        return Proxy([command, *arguments], folder, ports[:1], **home)

    with _running(make, 2) as proxy:
        yield proxy


def order(proxy: Proxy, command: str) -> str:
    """What HAProxy answers to a command on its own socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(SOON)
        sock.connect(f"{proxy.folder}/admin.sock")
        sock.sendall(command.encode() + b"\n")
        answer = b""
        deadline = time.monotonic() + SOON
        while data := sock.recv(65536):
            answer += data
            assert time.monotonic() < deadline
        return answer.decode()


def fresh(folder: str) -> Path:
    """A new folder in it, with a short name."""
    path = Path(folder) / secrets.token_hex(3)
    path.mkdir()
    return path


def checked(proxy: Proxy, backend: str, server: str) -> bool:
    """Whether HAProxy's health checks like a server."""
    head, *lines = order(proxy, "show stat").splitlines()
    rows = [dict(zip(head.removeprefix("# ").split(","), line.split(","), strict=True)) for line in lines if line]
    row = next(row for row in rows if (row["pxname"], row["svname"]) == (backend, server))
    return (row["status"], row["check_status"].removeprefix("* ")) == ("UP", "L7OK")  # "* ": the next one is under way


def who(ws: Any) -> dict[str, Any]:
    """Whom the handler takes us for, and what it is."""
    ws.send("who")
    found: dict[str, Any] = json.loads(ws.recv(timeout=SOON))
    return found


def same(ws: Any, message: str | bytes) -> None:
    """The echo of a message."""
    ws.send(message)
    assert ws.recv(timeout=SOON) == message
