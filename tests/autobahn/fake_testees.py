"""Servers and clients for the stand-in for wstest; each has a habit per case: "ok", "hang" or "exit"."""

from __future__ import annotations

import sys

from testees import Testee

SERVER = """
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.accept()[0].close()  # somebody asks whether we listen
for habit in sys.argv[2:]:
    connection, _ = listener.accept()
    if habit != "ok":
        listener.close()  # or the next connection may slip in while this process ends
    if habit == "hang":
        signal.pause()
    if habit == "exit":
        sys.exit(7)
    connection.close()
signal.pause()
"""

CLIENT = """
import signal, socket, sys
from urllib.parse import urlsplit
url, agent, *habits = sys.argv[1:]
for case, habit in zip(("1.1.1", "2.1", "10.1.1"), habits):
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
    connection.sendall(case.encode())
    if habit == "hang":
        signal.pause()
    if habit == "exit":
        sys.exit(7)
    connection.close()
"""


def server(*habits: str) -> Testee:
    """Return a server with these habits."""
    return Testee("server", "server", (sys.executable, "-c", SERVER, "{port}", *habits))


def client(*habits: str) -> Testee:
    """Return a client with these habits."""
    return Testee("client", "client", (sys.executable, "-c", CLIENT, "{url}", "{agent}", *habits))
