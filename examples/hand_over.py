"""A server that a newer one takes over from, without a moment in which nobody listens.

    python examples/hand_over.py tcp://localhost:7030 /tmp/hand_over.sock      # the first one
    python examples/hand_over.py tcp://localhost:7030 /tmp/hand_over.sock      # takes over; the first one ends

The old server waits at a Unix socket. Who connects there gets the listening socket itself (a descriptor that is sent
over the Unix socket), and the old one stops accepting. Connections that wait in the socket's queue are not lost.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading

from websock.net import ClosedError, Listener, connect, listen


def take_over(path: str) -> Listener | None:
    """The listening socket of the server that is there, if one is."""
    try:
        with connect(f"unix://{path}", timeout=5) as old:
            old.receive_timeout = 5
            _, [descriptor] = old.receive_fds()
            return Listener([socket.socket(fileno=descriptor)])
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def hand_over(listener: Listener, door: Listener) -> None:
    """Wait for a successor, and give it the listening socket."""
    with contextlib.suppress(ClosedError), door.accept() as new:
        door.close()  # first, since the successor opens its own in the same place
        new.send_fds(b"listener", [listener.sockets[0].fileno()])
        listener.close()  # ours; the successor's copy goes on


def main(address: str, path: str) -> None:
    path = os.path.abspath(path)
    listener = take_over(path) or listen(address)
    with listener, listen(f"unix://{path}", mode=0o600) as door, contextlib.suppress(KeyboardInterrupt):
        waiting = threading.Thread(target=hand_over, args=[listener, door], daemon=True)
        waiting.start()
        print(f"listening on {listener.addresses[0]}", flush=True)
        for stream in listener:
            with stream:
                stream.send_all(b"This is process %d.\n" % os.getpid())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("path", help="of the Unix socket where the successor asks")
    options = parser.parse_args()
    try:
        main(options.address, options.path)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
