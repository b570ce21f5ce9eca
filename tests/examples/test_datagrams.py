"""The examples of datagrams, run as their users run them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import LIBRARY, Program
from websock.net.datagram import bind_datagram

EXAMPLES = LIBRARY / "examples"


def example(name: str, *arguments: str) -> Program:
    return Program(str(EXAMPLES / name), *arguments)


def free_port(family: int = socket.AF_INET) -> int:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        return int(sock.getsockname()[1])


def stop(program: Program) -> None:
    program.interrupt(signal.SIGINT)
    assert program.end() == (0, [], [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_udp_peers(host: str) -> None:
    family = socket.getaddrinfo(host, 0)[0][0]
    addresses = [f"udp://{host}:{free_port(family)}" for _ in range(2)]
    with (
        example("udp_peers.py", "--local", addresses[0], addresses[1]) as ada,
        example("udp_peers.py", "--local", addresses[1], addresses[0]) as bob,
    ):
        for one, address in ((ada, addresses[0]), (bob, addresses[1])):
            assert one.out().rpartition(":")[2] == address.rpartition(":")[2]
        ada.say("Hello, Bob!", "Are you there?")
        assert [bob.out(), bob.out()] == ["Hello, Bob!", "Are you there?"]
        bob.say("Grüße!")
        assert ada.out() == "Grüße!"
        with bind_datagram(f"udp://{host}:0") as stranger:
            stranger.send_to(b"T\0\0\0\7forged", addresses[1])
            assert bob.err() == f"(ignored a stranger, {stranger.local})"
        ada.input.close()
        bob.input.close()
        assert ada.end() == bob.end() == (0, [], [])


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["udp_peers.py", "udp://127.0.0.1:70000"], 1, "a port is at most 65535"),
        (["udp_peers.py", "--local", "tcp://127.0.0.1:0", "udp://127.0.0.1:9"], 1, "datagrams have udp"),
        (["multicast_pubsub.py", "--interface", "nonet0", "subscribe", "x"], 1, "nonet0"),
        (["multicast_pubsub.py", "--interface", "10.9.9.9", "publish", "x", "y"], 1, "10.9.9.9"),
        (["icmp_ping.py", "no..host"], 1, "no..host"),
        (["icmp_ping.py", "--timeout", "-1", "localhost"], 2, "invalid seconds value"),
        (["icmp_ping.py", "--count", "0", "localhost"], 2, "invalid count value"),
    ],
)
def test_an_ordinary_mistake_is_told_in_a_line(arguments: list[str], status: int, said: str) -> None:
    with example(*arguments) as program:
        found, out, err = program.end()
    assert (found, out) == (status, [])
    assert said in err[-1] and "Traceback" not in "\n".join(err) and (status == 2 or len(err) == 1)


def test_udp_peers_send_again() -> None:
    with bind_datagram("udp://127.0.0.1:0") as peer:
        local = f"udp://127.0.0.1:{free_port()}"
        with example("udp_peers.py", "--local", local, str(peer.local)) as program:
            program.out()
            program.say("lost")
            first = peer.receive()
            assert peer.receive() == first == b"T\0\0\0\0lost"
            peer.send_to(b"A\0\0\0\0", local)
            for _ in range(2):  # our answer is lost, too
                peer.send_to(b"T\0\0\0\0twice", local)
                while (data := peer.receive()) == first:
                    pass
                assert data == b"A\0\0\0\0"
            program.input.close()
            assert program.end() == (0, ["twice"], [])


def test_multicast_pubsub() -> None:
    port = ["--port", str(free_port())]
    with (
        example("multicast_pubsub.py", *port, "subscribe", "weather", "news") as both,
        example("multicast_pubsub.py", *port, "subscribe", "weather") as one,
    ):
        assert both.out() == "subscribed to weather, news"
        assert one.out() == "subscribed to weather"
        for topic, message in (("news", "None."), ("sports", "0:0"), ("weather", "It rains.")):
            with example("multicast_pubsub.py", *port, "publish", topic, message) as publisher:
                assert publisher.end() == (0, [], [])
        assert [both.out(), both.out()] == ["news: None. (from 127.0.0.1)", "weather: It rains. (from 127.0.0.1)"]
        assert one.out() == "weather: It rains. (from 127.0.0.1)"
        stop(both)
        stop(one)


def may_ping() -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        except PermissionError:
            continue
        return True
    return False


@pytest.mark.skipif(not may_ping(), reason="needs the privilege to ping")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_icmp_ping(host: str) -> None:
    with example("icmp_ping.py", "--count", "2", "--timeout", "0.5", host) as program:
        status, out, err = program.end()
    assert (status, err) == (0, [])
    assert [bool(re.fullmatch(r"\d: \S+ answered in \d+\.\d{3} ms", line)) for line in out] == [True, True]


@pytest.mark.skipif(not may_ping(), reason="needs the privilege to ping")
def test_icmp_ping_is_interrupted() -> None:
    with example("icmp_ping.py", "127.0.0.1") as program:
        program.out()
        program.interrupt(signal.SIGINT)
        assert program.end()[::2] == (0, [])


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_icmp_ping_without_the_privilege() -> None:
    allowed = Path("/proc/sys/net/ipv4/ping_group_range").read_text().split()
    if int(allowed[0]) <= 65534 <= int(allowed[1]):
        pytest.skip("here everybody may")
    code = (  # all that is imported is, before the user changes who may not read it
        "import importlib.util, os, sys; 'x'.encode('idna')\n"
        "spec = importlib.util.spec_from_file_location('icmp_ping', 'examples/icmp_ping.py')\n"
        "program = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(program)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(program.main('127.0.0.1', 1, 1.0))"
    )
    done = subprocess.run([sys.executable, "-Bc", code], cwd=LIBRARY, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr == (
        'ping is not permitted to this user: be root, or let root run sysctl net.ipv4.ping_group_range="65534 65534"\n'
    )


def test_announced_chat() -> None:
    discovery = ["--discovery", str(free_port())]
    with example("announced_chat.py", *discovery, "server", "Kitchen") as server:
        port = server.out().removeprefix("listening on ")
        with (
            example("announced_chat.py", *discovery, "client", "Kitchen", "Ada") as ada,
            example("announced_chat.py", *discovery, "client", "Kitchen", "Bob") as bob,
        ):
            assert ada.out() == bob.out() == f"found ws://127.0.0.1:{port}/"
            bob.say("Hello!")
            assert bob.out() == "Bob: Hello!"
            ada.say("Hello, Bob!")
            assert ada.out() in ("Bob: Hello!", "Ada: Hello, Bob!")  # she came in before or after that
            assert bob.out() == "Ada: Hello, Bob!"
            for guest in (ada, bob):
                guest.input.close()
                assert guest.end()[::2] == (0, [])
        stop(server)


def test_a_chat_that_is_not_there() -> None:
    arguments = ["--discovery", str(free_port()), "client", "Cellar", "Ada", "--timeout", "0.2"]
    with example("announced_chat.py", *arguments) as client:
        assert client.end() == (1, [], ["there is no chat 'Cellar' in this network"])
