"""Two peers that talk over UDP, without a server: each of them is both ends.

    python examples/udp_peers.py --local udp://127.0.0.1:7001 udp://127.0.0.1:7002
    python examples/udp_peers.py --local udp://127.0.0.1:7002 udp://127.0.0.1:7001

A line that you type is a datagram. UDP may lose it, so each one has a number, and is sent again until the other has
said that it came; what came twice is shown once.
"""

from __future__ import annotations

import argparse
import itertools
import queue
import sys
import threading

from websock.net import Address, ClosedError, Datagram, bind_datagram, resolve

TRIES = 5
PATIENCE = 0.2  # seconds for the first answer, and twice as many each time after


def listen(datagrams: Datagram, peer: Address, arrived: queue.SimpleQueue[int]) -> None:
    """Show what comes, and acknowledge it."""
    shown = -1
    while True:
        try:
            data, address, *_ = datagrams.receive_from()
        except ClosedError:
            return
        kind, number, text = data[:1], int.from_bytes(data[1:5], "big"), data[5:]
        if address != peer:
            print(f"(ignored a stranger, {address})", file=sys.stderr)
        elif kind == b"A":
            arrived.put(number)
        elif kind == b"T":
            datagrams.send_to(b"A" + data[1:5], address)
            if number > shown:  # otherwise it was our answer that got lost
                shown = number
                print(text.decode(errors="replace"), flush=True)


def say(datagrams: Datagram, peer: Address, number: int, text: str, arrived: queue.SimpleQueue[int]) -> bool:
    """Send a line until the peer has it; whether it has."""
    data = b"T" + number.to_bytes(4, "big") + text.encode()
    for patience in (PATIENCE * 2**attempt for attempt in range(TRIES)):
        datagrams.send_to(data, peer)
        try:
            while arrived.get(timeout=patience) != number:
                pass  # an old answer
        except queue.Empty:
            continue
        return True
    return False


def main(local: str, name: str) -> None:
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
    with bind_datagram(local) as datagrams:  # closing it ends the listener, too
        target = resolve(name, family=datagrams.sock.family)[0]  # what comes has numbers, never a name
        peer = Address.from_sockaddr(target.sockaddr, target.family, target.kind)
        print(f"listening on {datagrams.local}", flush=True)
        listener = threading.Thread(target=listen, args=(datagrams, peer, arrived))
        listener.start()
        for number, line in zip(itertools.count(), sys.stdin):
            if not say(datagrams, peer, number, line.rstrip("\n"), arrived):
                print(f"(no answer from {peer})", file=sys.stderr)
    listener.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", help="the other one's address")
    parser.add_argument("--local", default="udp://127.0.0.1:0", help="our own; default: %(default)s")
    arguments = parser.parse_args()
    try:
        main(arguments.local, arguments.peer)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
