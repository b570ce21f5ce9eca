"""Two clients who have no part in an attack: ``python bystanders.py HOST PORT`` echoes 64 octets on each every 5 ms.

They send by the clock, whether the last echo has come or not, and count from when a message was due: who waits for the
server to go on would measure only that one wait. Each line on the input is answered with the number of echoes since
the last one, their 99th percentile and the longest, in ms; echoes that are still to come count with their age.
"""

from __future__ import annotations

import select
import sys
import time

from attacks import FIN, TEXT, Peer, frame

EVERY = 0.005  # seconds
MOST_WAITING = 4000  # messages that are sent ahead
MESSAGE = frame(FIN | TEXT, b"b" * 64)


class Bystander:
    def __init__(self, host: str, port: int) -> None:
        self.peer = Peer(host, port)
        self.peer.open()
        self.peer.sock.setblocking(False)
        self.due: list[float] = []  # when what waits for its echo was due
        self.answered = 0
        self.unsent = b""

    def send(self, due: float) -> None:
        if self.peer.over or len(self.due) >= MOST_WAITING:
            return
        self.due.append(due)
        self.unsent += MESSAGE
        try:
            self.unsent = self.unsent[self.peer.sock.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.peer.over = True

    def read(self, now: float) -> list[float]:
        self.peer.read(0)
        new, self.answered = self.peer.messages - self.answered, self.peer.messages
        done, self.due = self.due[:new], self.due[new:]
        return [now - due for due in done]


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    clients = [Bystander(host, port) for _ in range(2)]
    latencies: list[float] = []
    print("ready", flush=True)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    for client in clients:
        poll.register(client.peer.sock, select.POLLIN)
    due = time.perf_counter()
    while True:
        now = time.perf_counter()
        while due <= now:
            for client in clients:
                client.send(due)
            due += EVERY
        ready = dict(poll.poll(max((due - time.perf_counter()) * 1000, 0)))
        now = time.perf_counter()
        for client in clients:
            if client.peer.sock.fileno() in ready:
                latencies += client.read(now)
                if client.peer.over:
                    poll.unregister(client.peer.sock)
        if sys.stdin.fileno() in ready:
            if not sys.stdin.readline():
                return
            waiting = [now - due for client in clients for due in client.due]
            found = sorted(latencies + waiting) or [0.0]
            p99 = found[min(int(len(found) * 0.99), len(found) - 1)]
            lost = sum(client.peer.over for client in clients)
            print(f"{len(found)} {p99 * 1000:.3f} {found[-1] * 1000:.3f} {lost}", flush=True)
            latencies.clear()


if __name__ == "__main__":
    main()
