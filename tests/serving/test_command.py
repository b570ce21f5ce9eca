"""``websock serve``: what it refuses, in one line and with the right exit status."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from websock.__main__ import main
from websock.core.endpoint import Endpoint
from websock.datastructures import Headers
from websock.http11 import Request
from websock.serving.health import answering

from ..programs import PATIENCE
from .conftest import Serve, Start, ended

WRONG = [
    (["nowhere:handler"], 2, "there is no module 'nowhere'"),
    (["tests.serving.nowhere:handler"], 2, "there is no module 'tests.serving.nowhere'"),
    (["tests.serving.apps:plian"], 2, "tests.serving.apps has no 'plian'; did you mean 'plain'?"),
    (["tests.serving.apps:Deep.handle"], 2, "tests.serving.apps.Deep has no 'handle'; did you mean 'handler'?"),
    (["tests.serving.apps:number"], 2, "tests.serving.apps:number is no function: 5"),
    (["tests.serving.apps"], 2, "'tests.serving.apps' is no name of a handler, which is MODULE:NAME"),
    (["app.py"], 2, "a file is imported by its name: app:NAME"),
    (["app.py:plain"], 2, "is it app:plain?"),
    (["tests.serving.apps:plain", "--certfile", "/nowhere/cert.pem"], 1, "can't read /nowhere/cert.pem: No such file"),
    (["tests.serving.apps:plain", "--certfile", "pyproject.toml"], 1, "can't use pyproject.toml: "),
    (["tests.serving.apps:plain", "--host", "no-such-host.invalid"], 1, "can't resolve tcp://no-such-host.invalid:"),
    (["tests.serving.apps:plain", "--fd", "99"], 1, "can't use fd://99: Bad file descriptor"),
    (["tests.serving.apps:plain", "--subprotocol", "a b"], 2, "subprotocol 'a b' isn't a token"),
    (["tests.serving.apps:plain", "--trusted-proxy", "10.0.0.1/8"], 2, "10.0.0.1/8 has host bits set"),
    (["tests.serving.apps:plain", "--health", "healthz"], 2, "health is a path such as '/healthz', not 'healthz'"),
    (["tests.serving.apps:plain", "--pid-file", "/nowhere/pid"], 1, "(there is no such folder)"),
]


@pytest.mark.parametrize(("arguments", "expected", "words"), WRONG, ids=[" ".join(one[0]) for one in WRONG])
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_what_cannot_be_served(
    start: Start, arguments: list[str], expected: int, words: str, workers: tuple[str, ...]
) -> None:
    where = () if "--fd" in arguments else ("--port", "0")
    status, out, err = start("-m", "websock", "serve", *arguments, *where, *workers, "--log-level", "error").end()
    assert (status, out, len(err)) == (expected, [], 1), err
    assert err[0].startswith("websock serve: ")
    assert words in err[0]
    assert "[Errno" not in err[0]


@pytest.mark.parametrize(
    "arguments",
    [["--trusted-proxy", "10.0.0.1/8"], ["--trusted-proxy", "proxy"], ["--subprotocol", "a b"]],
    ids=" ".join,
)
def test_a_wrong_value_is_refused_before_anything_is_forked(start: Start, arguments: list[str]) -> None:
    status, out, err = start("-m", "websock", "serve", "tests.serving.apps:tasks", "--workers", "2", *arguments).end()
    assert (status, out, len(err)) == (2, [], 1), err


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_module_that_raises_is_shown_with_its_traceback(
    start: Start, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    (tmp_path / "faulty.py").write_text("def f():\n    return 1 / 0\nf()\n")
    status, out, err = start("-m", "websock", "serve", "faulty:f", "--port", "0", *workers, cwd=tmp_path).end()
    assert (status, out) == (1, [])
    assert any("in f" in line for line in err)
    assert err[-1] == (
        f"websock serve: can't import 'faulty': ZeroDivisionError: division by zero ({tmp_path}/faulty.py, line 2)"
    )


def test_a_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        status, _, err = start("-m", "websock", "serve", "tests.serving.apps:plain", "--port", str(port)).end()
    assert status == 1
    assert err[-1].startswith(f"websock serve: can't listen on tcp://127.0.0.1:{port}: Address already in use")
    if sys.platform == "linux":
        assert "has it)" in err[-1]


USAGE = [
    (["--wokers", "2"], "there is no option --wokers; is it --workers?"),
    (["--model", "thread"], "there is no model 'thread'; did you mean 'threads'?"),
    (["--model", "x"], "there is no model 'x'; there are auto, asyncio, uvloop, threads, pool, processes"),
    (["--workers", "0"], "'0' isn't a number of workers"),
    (["--fd", "x"], "'x' isn't the number of a descriptor"),
    (["--unix", "s", "--port", "1"], "on one of them"),
    (["--unix-mode", "600"], "--unix-mode goes with --unix"),
    (["--unix", "s", "--unix-mode", "999"], "'999' isn't a mode such as 660"),
    (["--keyfile", "x"], "--keyfile goes with --certfile"),
    (["--grace", "-1"], "'-1' isn't a number of seconds"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(one[0]) for one in USAGE])
def test_wrong_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["serve", "m:h", *arguments])
    assert raised.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("websock serve: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "reload"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([command, "--help"])
    assert raised.value.code == 0
    assert "exit status:" in capsys.readouterr().out


def test_options_reach_the_connections(served: Serve) -> None:
    server = served("tests.serving.apps:Deep.handler", "--subprotocol", "b", "--max-size", "10",
                    "--compression", "none", "--origin", "https://a.example")  # fmt: skip
    with server.connect(subprotocols=["a", "b"], origin="https://a.example") as ws:
        assert ws.subprotocol == "b"
        assert ws.extensions == ()
        ws.send("x" * 11)
        assert ended(ws).code == 1009
    server.stop()


@pytest.mark.parametrize("handler", ["tests.serving.apps:plain", "tests.serving.apps:tasks"])
def test_health(served: Serve, handler: str) -> None:
    """Any number of checks is no news; what is refused is."""
    server = served(handler, "--health", "/healthz")
    for path, status in (("/healthz", 200), ("/healthz?from=a", 200), ("/healthz/", 426), ("/", 426)):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read() == b"OK\n") == (status, status == 200)
    with server.connect() as ws:
        ws.send("x")
        assert ws.recv() == "x"
    err = server.stop()
    assert len([line for line in err if "rejected (426)" in line]) == 2
    assert not [line for line in err if "(200)" in line]


def test_a_program_has_its_own_pages_beside_the_health_check() -> None:
    def own(connection: Any, request: Request) -> str:
        return f"its own: {request.path}"

    hook = answering("/healthz", own)
    connection = Endpoint(logging.getLogger("test"))
    assert hook(connection, Request("/page", Headers())) == "its own: /page"
    assert hook(connection, Request("/healthz", Headers())).status_code == 200
    assert answering("/healthz", None)(connection, Request("/page", Headers())) is None
    for path in ("", "healthz", "/a b", "/ä", "/a?b", "/a#b", "/a\n"):
        with pytest.raises(ValueError, match="health is a path"):
            answering(path, None)
    with pytest.raises(TypeError, match="health is a path"):
        answering(b"/healthz", None)  # type: ignore[arg-type]
