"""Who is examined: our server and our client, each in both adapters, or anyone's."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import LOCALHOST

_HERE = Path(__file__).resolve().parent

OURS = ("server-asyncio", "server-sync", "client-asyncio", "client-sync")


@dataclass(frozen=True)
class Testee:
    """One server or client."""

    __test__ = False  # or pytest takes it for a class of tests

    name: str
    """What the reports call it: Autobahn's "agent"."""
    role: str
    """"server" or "client"."""
    command: tuple[str, ...]
    """What starts it, with {port}, {url} and {agent} to fill in; empty for a server that runs already."""
    url: str = f"ws://{LOCALHOST}:{{port}}"
    """Where a server listens, or where a client finds wstest."""
    env: Mapping[str, str] | None = None

    def address(self, port: int) -> str:
        """Return its URL, when `port` is the port of this run."""
        return self.url.replace("{port}", str(port))

    def start(self, port: int) -> list[str]:
        """Return what starts it, when `port` is the port of this run."""
        return [
            word.replace("{port}", str(port)).replace("{url}", self.address(port)).replace("{agent}", self.name)
            for word in self.command
        ]


def ours(name: str) -> Testee:
    """Return the testee of that name in `OURS`."""
    role, adapter = name.split("-")
    where = ("--port", "{port}") if role == "server" else ("--url", "{url}", "--agent", "{agent}")
    script = str(_HERE / f"testee_{role}.py")
    # The checkout that this folder is in comes first: it is what is examined, whatever is installed.
    search_path = os.pathsep.join(filter(None, (str(_HERE.parent), os.environ.get("PYTHONPATH"))))
    return Testee(
        name,
        role,
        (sys.executable, script, "--adapter", adapter, *where),
        env={**os.environ, "PYTHONPATH": search_path},
    )


def server_at(url: str) -> Testee:
    """Return anyone's echo server, which runs already."""
    if not url.startswith(("ws://", "wss://")):
        raise ValueError(f"not a WebSocket URL: {url!r}")
    return Testee("server", "server", (), url=url)


def client_by(command: str) -> Testee:
    """Return anyone's client, as a command with {url} and {agent} in it."""
    for placeholder in ("{url}", "{agent}"):
        if placeholder not in command:
            raise ValueError(f"the client's command needs {placeholder}: {command!r}")
    return Testee("client", "client", tuple(shlex.split(command)))
