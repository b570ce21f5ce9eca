"""The clients of `soak.py`: ``python soakers.py HOST PORT CONNECTIONS SECONDS SEED PATIENCE [--no-broadcasts]``.

One thread and one epoll for all of its connections, and sockets without any WebSocket library. It prints a line when
all are open, begins at a line of its input, and prints what it counted when the time is over and every answer is here.
"""

from __future__ import annotations

import collections
import heapq
import json
import random
import resource
import select
import socket
import struct
import sys
import time

from attacks import BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, Peer, frame

PACE = 400.0  # messages a second, of all connections together
LIFE = 60.0  # seconds that a connection lives, on average
BROADCAST = 15.0  # seconds between two broadcasts of the first connection

NUMBERS = struct.Struct("!cIII")  # kind, process, connection, number of the message


def size_of(random_: random.Random) -> int:
    """Heavy-tailed: half are below 64 octets, few are long, 64 KiB at most."""
    return min(int(32 * random_.paretovariate(0.7)) - 32, 65536)


class Soaker:
    """One connection after the other, in one place."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.waiting: collections.deque[tuple[int, int]] = collections.deque()  # numbers and sizes, in their order
        self.sent = self.heard = 0
        self.unsent = b""
        self.pings = 0
        self.pinged = 0  # answers to them
        self.peer: Peer | None = None
        self.input = bytearray()
        self.closing = False


class Soakers:
    def __init__(self, host: str, port: int, connections: int, seed: int, broadcasts: bool) -> None:
        self.host, self.port, self.seed = host, port, seed
        self.random = random.Random(seed)
        self.broadcasts = broadcasts
        self.counts = dict.fromkeys(
            ("sent", "answered", "lost", "doubled", "disordered", "wrong", "failed", "opened", "dropped", "pings"), 0
        )
        self.epoll = select.epoll()
        self.by_fd: dict[int, Soaker] = {}
        self.soakers = [Soaker(number) for number in range(connections)]
        for soaker in self.soakers:
            self.open(soaker)

    def open(self, soaker: Soaker) -> None:
        """A new connection; it is a failure when there is none."""
        try:
            peer = Peer(self.host, self.port)
            peer.open()
        except OSError as error:
            self.counts["failed"] += 1
            sys.stderr.write(f"connection {soaker.name}: {error}\n")
            soaker.peer = None
            return
        peer.sock.setblocking(False)
        soaker.name = self.counts["opened"] = self.counts["opened"] + 1  # each connection counts its messages anew
        soaker.peer, soaker.input, soaker.closing = peer, peer.input, False
        soaker.sent = soaker.heard = soaker.pings = soaker.pinged = 0
        soaker.waiting.clear()
        soaker.unsent = b""
        self.by_fd[peer.sock.fileno()] = soaker
        self.epoll.register(peer.sock.fileno(), select.EPOLLIN)

    def forget(self, soaker: Soaker) -> None:
        if soaker.peer is not None:
            del self.by_fd[soaker.peer.sock.fileno()]
            self.epoll.unregister(soaker.peer.sock.fileno())
            soaker.peer.close()
            soaker.peer = None

    # What is sent.

    def write(self, soaker: Soaker, data: bytes) -> None:
        assert soaker.peer is not None
        first = not soaker.unsent
        soaker.unsent += data
        try:
            soaker.unsent = soaker.unsent[soaker.peer.sock.send(soaker.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            return  # the reader sees the end
        if soaker.unsent and first:
            self.epoll.modify(soaker.peer.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def message(self, soaker: Soaker, kind: bytes = b"E") -> None:
        size = 0 if kind == b"B" else size_of(self.random)
        soaker.sent += 1
        payload = NUMBERS.pack(kind, self.seed, soaker.name, soaker.sent) + bytes(size)
        if kind == b"E":
            soaker.waiting.append((soaker.sent, len(payload)))
            self.counts["sent"] += 1
        self.write(soaker, frame(FIN | BINARY, payload))

    def step(self, soaker: Soaker) -> None:
        """Something that a client does."""
        if soaker.peer is None:
            self.open(soaker)
            return
        if soaker.closing:
            return
        chance = self.random.random()
        if chance < 0.05:
            soaker.pings += 1
            self.counts["pings"] += 1
            self.write(soaker, frame(FIN | PING, b"%d" % soaker.pings))
        else:
            self.message(soaker)

    def leave(self, soaker: Soaker) -> None:
        """In order, with all answers; or without a word, which makes what is under way nobody's."""
        if soaker.peer is None:
            self.open(soaker)
        elif self.random.random() < 0.5:
            if self.random.random() < 0.5:
                soaker.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.counts["dropped"] += 1
            self.counts["sent"] -= len(soaker.waiting)
            self.forget(soaker)
            self.open(soaker)
        elif not soaker.closing:
            soaker.closing = True
            self.write(soaker, frame(FIN | CLOSE, b"\x03\xe8"))

    # What comes.

    def read(self, soaker: Soaker) -> None:
        assert soaker.peer is not None
        try:
            data = soaker.peer.sock.recv(2**18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended(soaker)
            return
        soaker.input += data
        at, have = 0, soaker.input
        while len(have) >= at + 2:
            size, start = have[at + 1] & 0x7F, at + 2
            if size >= 126:
                octets = 2 if size == 126 else 8
                if len(have) < start + octets:
                    break
                size = int.from_bytes(have[start : start + octets], "big")
                start += octets
            if len(have) < start + size:
                break
            opcode = have[at] & 0x0F
            if opcode == PING:
                self.write(soaker, frame(FIN | PONG, bytes(have[start : start + size])))
            elif opcode == PONG:
                soaker.pinged += 1
            elif opcode == CLOSE and not soaker.closing:  # which nobody asked for
                self.write(soaker, frame(FIN | CLOSE, bytes(have[start : start + size])))
            elif opcode in (TEXT, BINARY, CONT):
                self.came(soaker, bytes(have[start : start + NUMBERS.size]), size, have[at])
            at = start + size
        del have[:at]

    def came(self, soaker: Soaker, head: bytes, size: int, first: int) -> None:
        if len(head) < NUMBERS.size or first != FIN | BINARY:
            self.counts["wrong"] += 1
            return
        kind, seed, name, number = NUMBERS.unpack(head)
        if kind == b"B":
            return
        if (seed, name) != (self.seed, soaker.name):
            self.counts["wrong"] += 1
        elif number <= soaker.heard:
            self.counts["doubled"] += 1
        elif not soaker.waiting or soaker.waiting[0][0] != number:
            while soaker.waiting and soaker.waiting[0][0] < number:
                soaker.waiting.popleft()
                self.counts["disordered"] += 1
            soaker.heard = number
        else:
            _, expected = soaker.waiting.popleft()
            soaker.heard = number
            self.counts["answered" if size == expected else "wrong"] += 1

    def ended(self, soaker: Soaker) -> None:
        """The server's end: right after our Close, and nothing may be unanswered."""
        if not soaker.closing:
            self.counts["failed"] += 1
        self.counts["lost"] += len(soaker.waiting)
        self.forget(soaker)
        self.open(soaker)

    # The run.

    def run(self, seconds: float, patience: float) -> None:
        """For `seconds`, and `patience` at most for the last answers."""
        began = now = time.perf_counter()
        end = began + seconds
        each = LIFE / max(len(self.soakers), 1)
        plan = [(began, 0), (began + each, 1)]
        if self.broadcasts:
            plan.append((began + 1, 2))
        heapq.heapify(plan)
        while now < end:
            due, what = plan[0]
            if due <= now:
                soaker = self.random.choice(self.soakers)
                if what == 0:
                    self.step(soaker)
                    after = 1 / PACE
                elif what == 1:
                    self.leave(soaker)
                    after = each
                else:
                    first = next((one for one in self.soakers if one.peer is not None and not one.closing), None)
                    if first is not None:
                        self.message(first, b"B")
                    after = BROADCAST
                # Who falls behind goes on from now: a slow machine makes less traffic, not a burst.
                heapq.heapreplace(plan, (max(due + after, now - 0.2), what))
            self.poll(max(min(plan[0][0] - time.perf_counter(), 0.1), 0))
            now = time.perf_counter()
        over = time.perf_counter() + patience
        while any(one.waiting for one in self.soakers) and time.perf_counter() < over:
            self.poll(0.1)
        self.counts["lost"] += sum(len(one.waiting) for one in self.soakers)

    def poll(self, timeout: float) -> None:
        for fd, events in self.epoll.poll(timeout):
            soaker = self.by_fd.get(fd)
            if soaker is None:
                continue
            if events & select.EPOLLOUT:
                self.write(soaker, b"")
                if soaker.peer is not None and not soaker.unsent:
                    self.epoll.modify(fd, select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                self.read(soaker)


def main() -> None:
    host, port, connections, seconds, seed, patience = sys.argv[1:7]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    soakers = Soakers(host, int(port), int(connections), int(seed), "--no-broadcasts" not in sys.argv)
    print("open", flush=True)
    sys.stdin.readline()
    soakers.run(float(seconds), float(patience))
    print(json.dumps(soakers.counts), flush=True)
    sys.stdin.readline()  # the connections stay until nobody looks at the server any more


if __name__ == "__main__":
    main()
