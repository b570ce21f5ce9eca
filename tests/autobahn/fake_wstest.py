"""Stands in for wstest: its command line, what it prints and its report, but a case is just a TCP connection.

A case is over when the testee closes the connection. Like the real one, it waits for that for ever, and writes its
report at the end only.
"""

from __future__ import annotations

import json
import socket
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit


def argument(name: str) -> str:
    """Return what follows `name` on the command line."""
    return sys.argv[sys.argv.index(name) + 1]


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def start(case: str) -> None:
    """Say what the real one says as a case starts."""
    say(f"Running test case ID {case} for agent someone from peer tcp4:127.0.0.1:9")


def write_report(folder: str, agent: str, cases: list[str]) -> None:
    """Find everything in order that has run."""
    found = {
        case: {"behavior": "OK", "behaviorClose": "OK", "reportfile": f"{agent}_case_{case}.json"} for case in cases
    }
    Path(folder, "index.json").write_text(json.dumps({agent: found}))


def be_client(url: str, cases: list[str]) -> list[str]:
    """Connect once for each case; return those that could be run."""
    address = urlsplit(url)
    for number, case in enumerate(cases):
        try:
            connection = socket.create_connection((address.hostname, address.port))
        except OSError as error:
            say(f"Connection to {url} failed ({error})")
            return cases[:number]
        start(case)
        with connection, suppress(ConnectionError):
            connection.recv(1)
    return cases


def be_server(url: str) -> list[str]:
    """Take a connection that says a case for that case; return those that ran, when asked for the report."""
    address = urlsplit(url)
    ran: list[str] = []
    with socket.create_server((address.hostname, address.port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                said = connection.recv(1000).decode()
                if "shutdownOnComplete=true" in said:
                    return ran
                if said:
                    start(said)
                    ran.append(said)
                    connection.recv(1)


spec = json.loads(Path(argument("--spec")).read_text())
if argument("--mode") == "fuzzingclient":
    [server] = spec["servers"]
    write_report(spec["outdir"], server["agent"], be_client(server["url"], spec["cases"]))
else:
    write_report(spec["outdir"], "client", be_server(spec["url"]))
