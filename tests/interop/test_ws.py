"""Node's package ws, as server and as client; one process for all."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from websock.core import Deflate

from ..adapters.drivers import BOUND, Bench
from ..programs import missing
from .conversation import (
    ALIKE,
    COMPRESSIBLE,
    MESSAGES,
    OURS,
    Case,
    cases,
    connect,
    finish,
    serve_echo,
    talk,
    talk_alike,
    talk_choosing,
    talk_compressible,
)
from .meter import Meter

NODE = shutil.which("node")
PACKAGE = Path(__file__).parents[2] / ".venv/node/node_modules/ws"  # npm install --prefix .venv/node ws@8
PROGRAM = Path(__file__).with_name("ws_peer.cjs")
SAYINGS: dict[str, list[Any]] = {"all": MESSAGES, "alike": ALIKE, "compressible": COMPRESSIBLE}
ALWAYS = {"threshold": 0}  # else they leave short messages alone when they forget

pytestmark = pytest.mark.parametrize("ours", OURS)


class Node:
    """A process with ws in it, which takes orders."""

    def __init__(self, program: str, sayings: Path) -> None:
        self.process = subprocess.Popen(
            [program, str(PROGRAM), str(PACKAGE), str(sayings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._number = 0
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="node", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)

    def order(self, what: str, **details: Any) -> Any:
        assert self.process.stdin is not None
        self._number += 1
        print(json.dumps({"number": self._number, "do": what, **details}), file=self.process.stdin, flush=True)
        while True:
            number, told = json.loads(self._answers.get(timeout=BOUND))
            if number == self._number:  # else it answers a test that is over, and has failed
                return told

    @contextlib.contextmanager
    def server(self, **options: Any) -> Iterator[int]:
        """Their echo server: its port. Its one connection must be closed with 1000."""
        yield self.order("serve", options=options)["port"]
        assert self.order("stop") == {"closes": [1000]}

    def talk(self, port: int, say: str, **options: Any) -> str:
        """Let their client talk to an echo server: what that answered in the opening handshake."""
        told = self.order("talk", port=port, say=say, options=options)
        assert told["wrong"] == []
        return str(told["answer"])

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            status = self.process.wait(BOUND)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            self.process.stdout.close()
        assert status == 0


def _as_json(message: str | bytes) -> list[str]:
    return ["text", message] if isinstance(message, str) else ["binary", base64.b64encode(message).decode()]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if NODE is None:
        missing("node")
    if not PACKAGE.is_dir():
        missing("ws (of npm) in .venv/node")
    sayings = tmp_path_factory.mktemp("ws") / "sayings.json"
    sayings.write_text(json.dumps({name: [_as_json(one) for one in said] for name, said in SAYINGS.items()}))
    node = Node(NODE, sayings)
    try:
        yield node
    finally:
        node.end()


@cases(
    plain=Case(Deflate(), {}, "", client=(12, False)),
    server_forgets_as_asked=Case(
        Deflate(server_no_context_takeover=True), {}, "server_no_context_takeover", (15, True), (12, False)
    ),
    server_forgets_by_itself=Case(
        Deflate(), {"serverNoContextTakeover": True}, "server_no_context_takeover", (15, True), (12, False)
    ),
    client_forgets_as_told=Case(
        Deflate(), {"clientNoContextTakeover": True}, "client_no_context_takeover", client=(12, True)
    ),
    client_forgets_by_itself=Case(
        Deflate(client_no_context_takeover=True, client_max_window_bits=15),
        {},
        "client_no_context_takeover; client_max_window_bits=15",
        client=(15, True),
    ),
    all_at_once=Case(
        Deflate(True, True, 10, 10),
        {"serverMaxWindowBits": 9, "clientMaxWindowBits": 9},
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
        (9, True),
        (9, True),
    ),
    server_9_by_itself=Case(Deflate(), {"serverMaxWindowBits": 9}, "server_max_window_bits=9", (9, False), (12, False)),
    **{
        f"server_{bits}_as_asked": Case(
            Deflate(server_max_window_bits=bits), {}, f"server_max_window_bits={bits}", (bits, False), (12, False)
        )
        for bits in (8, 9, 10, 12, 15)
    },
    **{
        f"client_{bits}_as_told": Case(
            Deflate(client_max_window_bits=15 if bits > 8 else None),
            {"clientMaxWindowBits": bits},
            f"client_max_window_bits={bits}",
            client=(bits, False),
        )
        for bits in (8, 9, 10, 15)
    },
    **{
        f"client_{bits}_by_itself": Case(
            Deflate(client_max_window_bits=bits), {}, f"client_max_window_bits={bits}", client=(bits, False)
        )
        for bits in (8, 9, 12)
    },
)
def test_our_client(bench: Bench, node: Node, ours: str, case: Case) -> None:
    with node.server(**ALWAYS, **case.theirs) as port:
        end = connect(bench, ours, port, case.ours)
        case.check(end.ws, "client")
        talk(end.send, end.recv)
        finish(end)


@cases(
    plain=Case(Deflate(), {}, "server_max_window_bits=12; client_max_window_bits=12", (12, False), (12, False)),
    client_bits_not_offered=Case(
        Deflate(client_max_window_bits=9), {"clientMaxWindowBits": False}, "server_max_window_bits=12", (12, False)
    ),
    server_forgets_as_asked=Case(
        Deflate(server_max_window_bits=15, client_max_window_bits=15),
        {"serverNoContextTakeover": True},
        "server_no_context_takeover; client_max_window_bits=15",
        (15, True),
    ),
    server_forgets_by_itself=Case(
        Deflate(server_no_context_takeover=True, server_max_window_bits=8),
        {"clientMaxWindowBits": False},
        "server_no_context_takeover; server_max_window_bits=8",
        (8, True),
    ),
    client_forgets_as_told=Case(
        Deflate(client_no_context_takeover=True, server_max_window_bits=15),
        {},
        "client_no_context_takeover; client_max_window_bits=12",
        client=(12, True),
    ),
    client_forgets_by_itself=Case(
        Deflate(server_max_window_bits=15),
        {"clientNoContextTakeover": True, "clientMaxWindowBits": False},
        "client_no_context_takeover",
        client=(15, True),
    ),
    all_at_once=Case(
        Deflate(True, True, 10, 10),
        {"serverMaxWindowBits": 9, "clientMaxWindowBits": 9},
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
        (9, True),
        (9, True),
    ),
    **{
        f"server_{bits}_as_asked": Case(
            Deflate(server_max_window_bits=15),
            {"serverMaxWindowBits": bits},
            f"server_max_window_bits={bits}; client_max_window_bits=12",
            (bits, False),
            (12, False),
        )
        for bits in (8, 9, 12, 15)
    },
    **{
        f"client_{bits}_as_told": Case(
            Deflate(server_max_window_bits=9, client_max_window_bits=bits),
            {},
            f"server_max_window_bits=9; client_max_window_bits={bits}",
            (9, False),
            (bits, False),
        )
        for bits in (8, 9, 10, 15)
    },
)
def test_our_server(bench: Bench, node: Node, ours: str, case: Case) -> None:
    where, next_end = serve_echo(bench, ours, case.ours)
    answer = node.talk(where.port, "all", **ALWAYS, **case.theirs)
    ws = next_end().ws
    case.check(ws, "server")
    assert answer == ws.response.headers["Sec-WebSocket-Extensions"]


def test_each_message_has_its_choice(bench: Bench, node: Node, ours: str) -> None:
    with node.server() as port:
        end = connect(bench, ours, port, "deflate")
        talk_choosing(end)
        finish(end)


def test_octets_on_the_wire(bench: Bench, node: Node, ours: str) -> None:
    """Both directions are compressed, in both roles."""
    with node.server() as port, Meter(port) as one:
        end = connect(bench, ours, one.port, "deflate")
        talk_compressible(end.send, end.recv)
        finish(end)
    where, _ = serve_echo(bench, ours, "deflate")
    with Meter(where.port) as two:
        node.talk(two.port, "compressible")
    one.shows_compression(COMPRESSIBLE)
    two.shows_compression(COMPRESSIBLE)


def test_context_takeover_pays(bench: Bench, node: Node, ours: str) -> None:
    meters = []
    for forgets in (False, True):
        with node.server(**ALWAYS) as port, Meter(port) as meter:
            end = connect(bench, ours, meter.port, Deflate(forgets, forgets))
            talk_alike(end.send, end.recv)
            finish(end)
        meters.append(meter)
    meters[0].shows_takeover(meters[1])
