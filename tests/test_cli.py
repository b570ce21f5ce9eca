"""The command line as people use it: in a pipe, in a terminal, by signals; and how it ends."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import websock
from tests.programs import LIBRARY, PATIENCE, PEM, Program
from tests.terminal import COLUMNS, ROWS, Terminal
from websock.__main__ import main
from websock.cli.terminal import inert, printable
from websock.core.accelerate import ACCELERATED, REASON
from websock.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websock.sync import ServerConnection, connect, serve

GOODBYE = "closed: sent 1000 (OK); then received 1000 (OK)"
TERMINAL_CONTROLS = [*map(chr, [*range(0x20), *range(0x7F, 0xA0)])]
DIRECTION_CONTROLS = [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
LINE_ENDS = [*"\u2028\u2029"]


class Guest:
    """The server's end of a connection. A thread receives all the time, so pings and Closes are answered."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.send = ws.send
        self.close = ws.close
        self._received: queue.SimpleQueue[str | bytes | ConnectionClosed] = queue.SimpleQueue()

    def listen(self) -> None:
        try:
            while True:
                self._received.put(self.ws.recv())
        except ConnectionClosed as closed:
            self._received.put(closed)

    def recv(self, timeout: float = PATIENCE) -> str | bytes:
        received = self._received.get(timeout=timeout)
        if isinstance(received, ConnectionClosed):
            raise received
        return received

    def hears_nothing(self, seconds: float) -> bool:
        try:
            self.recv(seconds)
        except queue.Empty:
            return True
        return False

    def closed_with(self) -> tuple[int, str]:
        """Wait for the end; the code and the reason in the client's Close."""
        with pytest.raises(ConnectionClosed) as closed:
            self.recv()
        return closed.value.code, closed.value.reason


class Peer:
    """A server whose connections the test itself drives. A deaf one never receives."""

    def __init__(self, deaf: bool = False, **options: Any) -> None:
        self._deaf = deaf
        self._met: queue.SimpleQueue[Guest] = queue.SimpleQueue()
        self._release = threading.Event()
        self.server = serve(self._handle, "127.0.0.1", 0, close_timeout=1, **options)
        scheme = "wss" if "ssl" in options else "ws"
        self.uri = f"{scheme}://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def _handle(self, ws: ServerConnection) -> None:
        guest = Guest(ws)
        self._met.put(guest)
        if self._deaf:
            self._release.wait()
        else:
            guest.listen()

    def meet(self) -> Guest:
        """The next client."""
        return self._met.get(timeout=PATIENCE)

    def stop(self) -> None:
        self._release.set()
        self.server.shutdown()
        self._thread.join()


@pytest.fixture
def meeting() -> Iterator[Callable[..., Peer]]:
    """Make a `Peer`."""
    with contextlib.ExitStack() as stack:

        def meeting(**options: Any) -> Peer:
            peer = Peer(**options)
            stack.callback(peer.stop)
            return peer

        yield meeting


Meeting = Callable[..., Peer]


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start ``python -m websock``."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **environment: stack.enter_context(Program("-m", "websock", *arguments, **environment))


Start = Callable[..., Program]


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    """A server of raw bytes: it reads a request, and does with the socket what the test says. Gives its URI."""
    with contextlib.ExitStack() as stack:

        def scripted(act: Callable[[socket.socket], object]) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def run() -> None:
                with listener.accept()[0] as sock:
                    sock.settimeout(PATIENCE)
                    sock.recv(65536)
                    act(sock)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join)
            return f"ws://127.0.0.1:{listener.getsockname()[1]}/"

        yield scripted


# ---- connect in a pipe ----


def test_lines_go_out_and_messages_come_in(start: Start) -> None:
    echo = start("echo", "--port", "0")
    assert start("connect", echo.out()).run("a\nb\n") == (0, ["a", "b"], ["connected", GOODBYE])


def test_only_messages_are_on_standard_output(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--ping", "0")
    ws = peer.meet()
    assert program.err() == "connected"
    assert re.fullmatch(r"pong after \d+\.\d ms", program.err())
    ws.send("hello")
    assert program.out() == "hello"
    ws.close()
    assert program.end() == (0, [], ["closed: received 1000 (OK); then sent 1000 (OK)"])


@pytest.mark.parametrize(
    "text", ["last line without an end", "windows line\r\n", "\n", "äöü €\n", "x" * 100_000 + "\n"]
)
def test_a_line_is_a_message(meeting: Meeting, start: Start, text: str) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--wait", "0")
    assert program.run(text)[0] == 0
    assert peer.meet().recv() == text.rstrip("\r\n")


def test_no_answer_is_lost_that_comes_before_the_close(start: Start) -> None:
    lines = [str(number) for number in range(3000)]
    echo = start("echo", "--port", "0")
    program = start("connect", echo.out(), "--wait", "0")
    assert program.run("\n".join(lines)) == (0, lines, ["connected", GOODBYE])


def test_wait_is_for_answers_after_the_end_of_the_input(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--wait", "inf")
    program.say("question")
    program.input.close()
    ws = peer.meet()
    assert ws.recv() == "question"
    assert ws.hears_nothing(0.3)  # no Close
    ws.send("answer")
    assert program.out() == "answer"
    ws.close()
    assert program.end()[0] == 0


def test_wait_begins_again_with_every_message(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--wait", "2")
    program.input.close()
    ws = peer.meet()
    for number in range(5):  # 0.6 s each, 3 s in all
        assert ws.hears_nothing(0.6)
        ws.send(str(number))
    assert ws.closed_with() == (1000, "")
    assert program.end() == (0, list("01234"), ["connected", GOODBYE])


def test_the_end_of_the_connection_ends_the_program_while_its_input_is_open(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri)
    peer.meet().close(1001)
    assert program.end() == (0, [], ["connected", "closed: received 1001 (going away); then sent 1001 (going away)"])


def test_input_that_is_not_text(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri)
    program.input.write(b"good\n\xff\nnever sent\n")
    program.input.close()
    ws = peer.meet()
    assert ws.recv() == "good"
    assert ws.closed_with() == (1000, "")
    assert program.end() == (2, [], ["connected", GOODBYE, "websock connect: line 2 of the input is not UTF-8"])


def test_head_ends_it_quietly(start: Start) -> None:
    echo = start("echo", "--port", "0")
    command = f"seq 10000 | {sys.executable} -m websock connect {echo.out()} | head -1; echo ${{PIPESTATUS[1]}}"
    ran = subprocess.run(
        ["/bin/bash", "-c", command], cwd=LIBRARY, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert (ran.stdout, ran.stderr) == ("1\n0\n", "connected\n")


def test_closed_standard_input_is_an_empty_one(start: Start) -> None:
    echo = start("echo", "--port", "0")
    command = f"{sys.executable} -m websock connect {echo.out()} --wait 0 <&-"
    ran = subprocess.run(
        ["/bin/bash", "-c", command], cwd=LIBRARY, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", f"connected\n{GOODBYE}\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("command", "status"), [("info", 0), ("bench ws://127.0.0.1:1/ --connections 1", 1)])
def test_closed_standard_output_goes_nowhere(command: str, status: int, closed: str) -> None:
    line = f"{sys.executable} -W error -m websock {command} {closed}"
    ran = subprocess.run(["/bin/bash", "-c", line], cwd=LIBRARY, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == status
    assert "Traceback" not in ran.stderr


def test_an_ascii_terminal_shows_what_it_can(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, PYTHONIOENCODING="ascii")
    peer.meet().send("5 €")
    assert program.out() == "5 \\u20ac"


# ---- connect: what is sent with the request ----


def test_headers_origin_and_subprotocols(meeting: Meeting, start: Start) -> None:
    peer = meeting(subprotocols=["v1", "v2"], origins=["https://example.com"])
    program = start(
        *("connect", peer.uri, "--origin", "https://example.com", "--subprotocol", "v3", "--subprotocol", "v2"),
        *("--header", "X-One: 1", "--header", "X-Two:two: words"),
    )
    assert program.err() == "connected with subprotocol v2"
    request = peer.meet().ws.request
    assert request is not None
    assert request.headers["Origin"] == "https://example.com"
    assert request.headers["Sec-WebSocket-Protocol"] == "v3, v2"
    assert (request.headers["X-One"], request.headers["X-Two"]) == ("1", "two: words")


def test_ping_goes_on(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--ping", "0.05")
    ws = peer.meet()
    assert program.err() == "connected"
    for _ in range(3):
        assert re.fullmatch(r"pong after \d+\.\d ms", program.err())
    program.interrupt()
    assert ws.closed_with() == (1000, "")
    assert program.end()[0] == 0


# ---- connect: strangers write on your terminal ----


@pytest.mark.parametrize("character", TERMINAL_CONTROLS + DIRECTION_CONTROLS + LINE_ENDS, ids=lambda c: f"{ord(c):04x}")
def test_what_a_terminal_obeys_is_spelled(character: str) -> None:
    shown = inert(f"<{character}>")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown[1] == "\\"
    assert shown.encode().decode("unicode_escape") == f"<{character}>"


@pytest.mark.parametrize("text", ["", "plain", "äöü €", "日本", "👩‍👩‍👧", "a\\nb", '{"a": "\\u001b"}'])
def test_what_is_harmless_stays(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"", "<binary, 0 bytes>"),
        (b"\x1b[2J", "<binary, 4 bytes: 1b 5b 32 4a>"),
        (bytes(32), f"<binary, 32 bytes: {'00 ' * 31}00>"),
        (bytes(33), f"<binary, 33 bytes: {'00 ' * 31}00 ...>"),
    ],
)
def test_binary_is_summed_up(message: bytes, shown: str) -> None:
    assert printable(message) == shown


def test_control_characters_are_inert_in_every_way_to_the_screen(meeting: Meeting, start: Start) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e"
    spelled = r"\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e"
    peer = meeting()
    program = start("connect", peer.uri)
    ws = peer.meet()
    ws.send(evil)
    ws.send(evil.encode())
    assert program.out() == spelled
    assert program.out() == f"<binary, {len(evil.encode())} bytes: {evil.encode()[:32].hex(' ')}>"
    ws.close(4000, evil)
    status, out, err = program.end()
    assert (status, out) == (3, [])
    assert err[1] == f"closed: received 4000 (private use) {spelled}; then sent 4000 (private use) {spelled}"


def test_control_characters_of_a_refusal_are_inert(scripted: Callable[..., str], start: Start) -> None:
    body = b"\x1b[31mno\x1b[0m\nsecond line"
    uri = scripted(
        lambda sock: sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    )
    status, out, err = start("connect", uri).run()
    assert (status, out) == (1, [])
    assert len(err) == 1
    assert err[0].endswith(r"HTTP 403 Forbidden (\x1b[31mno\x1b[0m)")


@pytest.mark.parametrize(
    ("kind", "body", "end"),
    [
        (
            "text/html",
            "<html>\r\n<head><title>502 Bad Gateway</title></head>",
            "HTTP 502 Bad Gateway",
        ),  # as nginx has it
        ("text/plain; charset=utf-8", "\r\nno upstream\r\nsecond line", "HTTP 502 Bad Gateway (no upstream)"),
        ("text/plain", " \r\n", "HTTP 502 Bad Gateway"),
    ],
)
def test_the_body_of_a_refusal(scripted: Callable[..., str], start: Start, kind: str, body: str, end: str) -> None:
    """A line of text is for people, a page is for browsers."""
    answer = f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    status, _, err = start("connect", scripted(lambda sock: sock.sendall(answer.encode()))).run()
    assert status == 1
    assert err[0].endswith(end)


# ---- connect: how it ends ----


def one_line(program: Program, status: int, *parts: str) -> None:
    """It ended with `status` and one line that says why."""
    ended, out, err = program.run()
    assert (ended, out, len(err)) == (status, [], 1), err
    assert err[0].startswith("websock ")
    for part in parts:
        assert part in err[0]


def test_nobody_listens(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    one_line(start("connect", f"ws://127.0.0.1:{port}/"), 1, f"can't connect to tcp://127.0.0.1:{port}: Connection ref")


def test_no_unix_socket(start: Start, tmp_path: Path) -> None:
    one_line(start("connect", f"ws+unix://{tmp_path}/a.sock"), 1, f"can't connect to unix://{tmp_path}/a.sock: No such")


def test_no_such_host(start: Start) -> None:
    one_line(start("connect", "ws://no-such-host.invalid/"), 1, "can't resolve tcp://no-such-host.invalid:80: ")


def test_the_server_refuses(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--origin", "https://evil.example")
    one_line(program, 1, f"can't connect to {peer.uri[5:-1]}: server rejected WebSocket connection: HTTP 403 Forbidden")


def test_the_server_is_no_http_server(scripted: Callable[..., str], start: Start) -> None:
    one_line(start("connect", scripted(lambda sock: sock.sendall(b"220 mail\r\n\r\n"))), 1, "can't connect to 127.")


def test_the_server_says_nothing(scripted: Callable[..., str], start: Start) -> None:
    uri = scripted(lambda sock: sock.recv(1))
    one_line(start("connect", uri, "--timeout", "0.3"), 1, "can't connect to 127.", "timed out")


def test_the_server_hangs_up(scripted: Callable[..., str], start: Start) -> None:
    one_line(start("connect", scripted(lambda sock: None)), 1, "can't connect to 127.")


def test_a_certificate_that_is_not_trusted(meeting: Meeting, start: Start, tls: ssl.SSLContext) -> None:
    peer = meeting(ssl=tls)
    one_line(start("connect", peer.uri), 1, f"can't connect to {peer.uri[6:-1]}", "not trusted: self-signed", "--ca")


def test_a_certificate_for_another_name(start: Start, echo_tls: Program) -> None:
    uri = echo_tls.out().replace("0.0.0.0", "127.0.0.2")
    one_line(start("connect", uri, "--ca", PEM), 1, "not trusted: IP address mismatch")


def test_tls_to_a_server_without(start: Start) -> None:
    uri = start("echo", "--port", "0").out()
    one_line(
        start("connect", uri.replace("ws:", "wss:")),
        1,
        "TLS failed: wrong version number (no TLS is spoken at the other end)",
    )


def test_no_tls_to_a_server_with(start: Start, echo_tls: Program) -> None:
    one_line(start("connect", echo_tls.out().replace("wss:", "ws:")), 1, "can't connect to 0.0.0.0:")


@pytest.mark.parametrize("arguments", [["--ca", PEM], ["--insecure"]])
def test_a_certificate_that_is_trusted(start: Start, echo_tls: Program, arguments: list[str]) -> None:
    uri = echo_tls.out().replace("0.0.0.0", "127.0.0.1")
    assert start("connect", uri, *arguments).run("secret\n") == (0, ["secret"], ["connected", GOODBYE])


def test_insecure_trusts_every_name(start: Start, echo_tls: Program) -> None:
    uri = echo_tls.out().replace("0.0.0.0", "127.0.0.2")
    assert start("connect", uri, "--insecure", "--wait", "0").run()[0] == 0


@pytest.mark.parametrize("code", [1011, 3000, 4999])
def test_closed_with_a_code_that_tells_of_an_error(meeting: Meeting, start: Start, code: int) -> None:
    peer = meeting()
    program = start("connect", peer.uri)
    peer.meet().close(code, "because")
    status, out, err = program.end()
    assert (status, out) == (3, [])
    assert err[1].startswith(f"closed: received {code} (")
    assert "because" in err[1]


def test_lost_without_a_close(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri)
    assert program.err() == "connected"
    peer.meet().ws._stream.shutdown()
    status, out, err = program.end()
    assert (status, out, len(err)) == (3, [], 1)
    assert err[0].startswith("closed: no close frame received")


def test_a_message_that_is_too_big(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--max-size", "10")
    ws = peer.meet()
    ws.send("x" * 10)
    assert program.out() == "x" * 10
    with contextlib.suppress(ConnectionClosed):  # the client may have said no before this returns
        ws.send("x" * 11)
    assert ws.closed_with()[0] == 1009
    status, out, err = program.end()
    assert (status, out) == (3, [])
    assert "1009 (message too big)" in err[1]


def test_max_size_0_is_no_limit(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--max-size", "0")
    peer.meet().send("x" * (2**20 + 1))
    assert program.out() == "x" * (2**20 + 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes(meeting: Meeting, start: Start, number: signal.Signals) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--wait", "inf")
    assert program.err() == "connected"
    program.interrupt(number)
    assert peer.meet().closed_with() == (1000, "")
    assert program.end() == (0, [], [GOODBYE])


def test_a_signal_ends_the_wait(meeting: Meeting, start: Start) -> None:
    peer = meeting()
    program = start("connect", peer.uri, "--wait", "inf")
    program.input.close()
    ws = peer.meet()
    assert ws.hears_nothing(0.2)
    program.interrupt()
    assert ws.closed_with() == (1000, "")
    assert program.end()[0] == 0


def test_a_second_signal_does_not_wait_for_the_server(meeting: Meeting, start: Start) -> None:
    peer = meeting(deaf=True)
    program = start("connect", peer.uri, "--timeout", str(2 * PATIENCE))
    assert program.err() == "connected"
    program.interrupt()
    with pytest.raises(subprocess.TimeoutExpired):
        program.process.wait(0.5)
    program.interrupt()
    status, out, err = program.end()
    assert (status, out) == (3, [])
    assert len(err) == 1
    assert err[0].startswith("closed: sent 1000 (OK); no close frame received")


def test_a_signal_while_connecting(scripted: Callable[..., str], start: Start) -> None:
    asked = threading.Event()

    def act(sock: socket.socket) -> None:
        asked.set()
        sock.recv(1)

    uri = scripted(act)
    program = start("connect", uri)
    assert asked.wait(PATIENCE)
    program.interrupt()
    assert program.end() == (130, [], [])


# ---- wrong usage ----

WRONG = [
    ([], "COMMAND"),
    (["xyz"], "there is no command 'xyz': it is one of connect, echo, serve, reload, sockets, bench, info"),
    (["conect"], "there is no command 'conect'; is it connect?"),
    (["--verson"], "there is no option --verson; is it --version?"),
    (["connect", "--timout", "3", "ws://h/"], "there is no option --timout; is it --timeout?"),
    (["connect", "--timout=3", "ws://h/"], "there is no option --timout; is it --timeout?"),
    (["sockets", "--xyz"], "there is no option --xyz (try"),
    (["connect", "--", "--timout"], "argument URI"),
    (["connect"], "URI"),
    (["connect", "localhost:80"], "scheme isn't ws"),
    (["connect", "http://localhost"], "scheme isn't ws"),
    (["connect", "ws://"], "no host"),
    (["connect", "ws://h:99999/"], "Port out of range"),
    (["connect", "ws://h/#part"], "fragment"),
    (["connect", "ws://h/", "more"], "more"),
    (["connect", "ws://h/", "--head", "A: b"], "--head"),
    (["connect", "ws://h/", "--header", "no colon"], "'no colon' isn't 'Name: value'"),
    (["connect", "ws://h/", "--header", "Bad Name: x"], "'Bad Name' isn't a header name"),
    (["connect", "ws://h/", "--header", "A: b\r\nB: c"], "control characters"),
    (["connect", "ws://h/", "--header", "Upgrade: x"], "Upgrade"),
    (["connect", "ws://h/", "--header", "Sec-WebSocket-Protocol: x"], "Sec-WebSocket-Protocol"),
    (["connect", "ws://h/", "--subprotocol", "two words"], "'two words' isn't a token"),
    (["connect", "ws://h/", "--timeout", "soon"], "'soon' isn't a number of seconds"),
    (["connect", "ws://h/", "--timeout", "-1"], "'-1' isn't a number of seconds"),
    (["connect", "ws://h/", "--wait", "nan"], "'nan' isn't a number of seconds"),
    (["connect", "ws://h/", "--max-size", "1k"], "'1k' isn't a number of bytes"),
    (["connect", "ws://h/", "--insecure"], "wss://"),
    (["connect", "ws://h/", "--ca", PEM], "wss://"),
    (["connect", "wss://h/", "--ca", PEM, "--insecure"], "not allowed with"),
    (["connect", "wss://h/", "--ca", "/no/such.pem"], "--ca /no/such.pem: No such file or directory"),
    (["connect", "wss://h/", "--ca", __file__], f"--ca {__file__}: TLS failed"),
    (["connect", "\x1b[31mred"], r"\x1b[31mred"),
    (["echo", "--port", "65536"], "'65536' isn't a port"),
    (["echo", "--port", "http"], "'http' isn't a port"),
    (["echo", "--unix", "/x", "--port", "0"], "--unix goes without"),
    (["echo", "--tls", PEM], "--tls"),
    (["echo", "--tls", "/no/such.pem", PEM], "No such file or directory"),
    (["echo", "--tls", __file__, __file__], "TLS failed"),
]


@pytest.mark.parametrize(("arguments", "part"), WRONG, ids=[" ".join(map(ascii, case[0])) for case in WRONG])
def test_wrong_usage_is_one_clear_line(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.isprintable() or err[:-1].isprintable()
    assert part in err
    assert "--help" in err


def test_wrong_usage_is_one_clear_line_for_the_shell_too(start: Start) -> None:
    one_line(start("connect", "nonsense"), 2, "scheme isn't ws")


@pytest.mark.parametrize("command", ["connect", "echo"])
def test_help_tells_the_exit_status(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for status in {"connect": (0, 1, 2, 3, 130), "echo": (0, 1, 2)}[command]:
        assert re.search(rf"^  {status} +\w", out.partition("exit status:")[2], re.MULTILINE)


# ---- info ----


def test_info(start: Start) -> None:
    status, out, err = start("info").run()
    assert (status, err) == (0, [])
    told = dict(line.split(maxsplit=1) for line in out)
    assert told["websock"] == websock.__version__
    assert told["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert told["codec"] == ("native" if ACCELERATED else f"pure Python ({REASON})")
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", told["h11"])
    assert told["platform"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"websock {websock.__version__}\n"


# ---- echo ----


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


@pytest.fixture
def echo_tls(start: Start) -> Program:
    return start("echo", "--host", "0.0.0.0", "--port", "0", "--tls", PEM, PEM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_echo_says_goodbye(start: Start, number: signal.Signals) -> None:
    echo = start("echo", "--port", "0")
    uri = echo.out()
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/", uri)
    with connect(uri) as ws:
        ws.send("text")
        ws.send(b"binary")
        assert [ws.recv(timeout=PATIENCE), ws.recv(timeout=PATIENCE)] == ["text", b"binary"]
        echo.interrupt(number)
        with pytest.raises(ConnectionClosedOK) as closed:
            ws.recv(timeout=PATIENCE)
        assert closed.value.code == 1001
    assert echo.end() == (0, [], [])


def test_echo_does_not_wait_long_for_a_client_that_does_not_say_goodbye(start: Start) -> None:
    echo = start("echo", "--port", "0")
    with connect(echo.out()):
        echo.interrupt()
        echo.process.wait(8)  # the client is given 2 s
    assert echo.end() == (0, [], [])


def test_echo_on_a_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        one_line(start("echo", "--port", port), 1, f"can't listen on tcp://127.0.0.1:{port}: Address already")


def test_echo_on_an_address_of_nobody(start: Start) -> None:
    one_line(start("echo", "--host", "no-such-host.invalid"), 1, "can't resolve tcp://no-such-host.invalid:")


def test_echo_on_every_address(start: Start) -> None:
    uri = start("echo", "--host", "", "--port", "0").out()
    port = uri.rpartition(":")[2]
    assert start("connect", f"ws://127.0.0.3:{port}").run("all\n")[1] == ["all"]


def test_echo_on_ipv6(start: Start) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    uri = start("echo", "--host", "::1", "--port", "0").out()
    assert re.fullmatch(r"ws://\[::1\]:\d+/", uri)
    assert start("connect", uri).run("six\n")[1] == ["six"]


def test_echo_on_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "an odd:name%.sock"
    echo = start("echo", "--unix", str(path))
    uri = echo.out()
    assert start("connect", uri).run("hello\n") == (0, ["hello"], ["connected", GOODBYE])
    one_line(start("echo", "--unix", str(path)), 1, f"can't listen on unix://{path}: ")
    echo.interrupt()
    assert echo.end() == (0, [], [])
    assert not path.exists()


def test_echo_keeps_other_sites_out(start: Start) -> None:
    with pytest.raises(InvalidStatus):
        connect(start("echo", "--port", "0").out(), origin="https://evil.example")


# ---- connect in a terminal ----

WITHOUT_READLINE = (
    "-c", "import sys; sys.modules['readline'] = None; from websock.__main__ import main; sys.exit(main())"
)  # fmt: skip
EDITORS = [pytest.param(("-m", "websock"), id="readline"), pytest.param(WITHOUT_READLINE, id="no readline")]


@pytest.fixture(params=EDITORS)
def sit_down(request: pytest.FixtureRequest, meeting: Meeting) -> Iterator[Callable[..., Any]]:
    """Connect from a terminal; give it and the server's end of the connection."""
    with contextlib.ExitStack() as stack:

        def sit_down(*arguments: str, **environment: str) -> tuple[Terminal, Guest]:
            peer = meeting()
            terminal = stack.enter_context(Terminal(*request.param, "connect", peer.uri, *arguments, **environment))
            terminal.until("connected; Ctrl-D closes", typed="> ")
            return terminal, peer.meet()

        yield sit_down


SitDown = Callable[..., tuple[Terminal, Guest]]


def leave(terminal: Terminal, ws: Guest) -> None:
    """Ctrl-D; the terminal is as it was."""
    terminal.until(typed="> ")
    terminal.write("\x04")
    assert ws.closed_with() == (1000, "")
    assert terminal.end() == 0
    assert GOODBYE[: COLUMNS - 1] in terminal.screen.lines
    assert terminal.screen.current == ""
    assert terminal.mode_now() == terminal.mode


def test_typing(sit_down: SitDown) -> None:
    terminal, ws = sit_down()
    terminal.write("hello\n")
    assert ws.recv() == "hello"
    terminal.until("> hello", typed="> ")
    ws.send("answer")
    terminal.until("> hello", "answer", typed="> ")
    leave(terminal, ws)


def test_a_line_that_is_being_typed_survives_what_comes(sit_down: SitDown) -> None:
    terminal, ws = sit_down()
    terminal.write("half a li")
    terminal.until(typed="> half a li")
    ws.send("news")
    ws.send("x" * (COLUMNS + 10))
    ws.send("日" * COLUMNS)
    terminal.until("news", "x" * (COLUMNS - 1), "x" * 11, typed="> half a li")
    terminal.write("ne\n")
    assert ws.recv() == "half a line"
    leave(terminal, ws)


def test_the_prompt_stays_when_the_screen_scrolls(sit_down: SitDown) -> None:
    terminal, ws = sit_down()
    terminal.write("typed")
    terminal.until(typed="> typed")
    lines = [f"message {number}" for number in range(2 * ROWS)]
    for line in lines:
        ws.send(line)
    terminal.until(lines[-1], typed="> typed")
    assert terminal.screen.lines == [*lines[1 - ROWS :], "> typed"]
    terminal.write("\n")
    assert ws.recv() == "typed"
    leave(terminal, ws)


def test_a_stranger_cannot_write_on_the_terminal(sit_down: SitDown) -> None:
    terminal, ws = sit_down()
    ws.send("\x1b[2J\x1b]0;x\x07\r\x9b\u202e")
    terminal.until(r"\x1b[2J\x1b]0;x\x07\r\x9b\u202e", typed="> ")
    assert "\x1b[2J" not in terminal.raw
    leave(terminal, ws)


def test_ctrl_c_closes(sit_down: SitDown) -> None:
    terminal, ws = sit_down()
    terminal.write("half a line\x03")
    assert ws.closed_with() == (1000, "")
    assert terminal.end() == 0
    assert terminal.mode_now() == terminal.mode


def test_the_server_ends_it_while_you_type(sit_down: SitDown) -> None:
    terminal, ws = sit_down()
    terminal.write("half a line")
    terminal.until(typed="> half a line")
    ws.close(1011)
    assert terminal.end() == 3
    assert terminal.screen.current == ""
    assert any(line.startswith("closed: received 1011") for line in terminal.screen.lines)
    assert terminal.mode_now() == terminal.mode


def test_ping_does_not_disturb(sit_down: SitDown) -> None:
    terminal, ws = sit_down("--ping", "0")
    terminal.write("x")
    terminal.until(re.compile(r"pong after \d+\.\d ms"), typed="> x")
    terminal.write("\x7f")
    terminal.until(typed="> ")
    leave(terminal, ws)


def test_a_terminal_that_knows_no_sequences(sit_down: SitDown) -> None:
    terminal, ws = sit_down(TERM="dumb")
    ws.send("news")
    terminal.until("news", typed="> ")
    assert "\x1b" not in terminal.raw
    terminal.write("\x04")
    assert ws.closed_with() == (1000, "")
    assert terminal.end() == 0
    assert terminal.mode_now() == terminal.mode


def test_readline_edits(meeting: Meeting) -> None:
    pytest.importorskip("readline")
    peer = meeting()
    with Terminal("-m", "websock", "connect", peer.uri) as terminal:
        terminal.until("connected; Ctrl-D closes", typed="> ")
        ws = peer.meet()
        terminal.write("first\n")
        assert ws.recv() == "first"
        terminal.until("> first", typed="> ")
        terminal.write("\x1b[A")  # arrow up: the line before
        terminal.until(typed="> first")
        terminal.write("\x1b[D\x1b[D")  # two to the left
        terminal.until(typed="> fir")
        ws.send("news")
        terminal.until("news", typed="> fir")
        terminal.write("e\n")
        assert ws.recv() == "firest"
        leave(terminal, ws)
