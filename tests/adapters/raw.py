"""A peer made by hand: HTTP and frames as octets on a socket, so that it can do what no library does."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from typing import Any

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True, rsv: int = 0) -> bytes:
    """One frame (RFC 6455 section 5.2)."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = mask << 7
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if not mask:
        return head + payload
    key = os.urandom(4)
    pad = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return head + key + (int.from_bytes(payload, "big") ^ pad).to_bytes(size, "big")


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


class Raw:
    """A connected socket, blocking with a bound on each call."""

    def __init__(self, sock: socket.socket, *, client: bool) -> None:
        sock.settimeout(30)
        self.sock = sock
        self.client = client  # we are the client: we mask
        self.buffer = b""
        self.head = b""

    # The opening.

    def ask(self, request: bytes = REQUEST) -> bytes:
        """Send a request; the head of the answer."""
        self.sock.sendall(request)
        self.head = self.until(b"\r\n\r\n")
        return self.head

    def answer(self, more: str = "") -> bytes:
        """Read a request and accept it; the request."""
        self.head = self.until(b"\r\n\r\n")
        key = next(
            line.partition(b":")[2].strip()
            for line in self.head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.sock.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n".encode()
        )
        return self.head

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(mark)
        return head + mark

    # Frames.

    def frame(self, opcode: int, payload: bytes = b"", **how: Any) -> bytes:
        return frame(opcode, payload, **{"mask": self.client, **how})

    def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        self.sock.sendall(self.frame(opcode, payload, **how))

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close."""
        self.send(CLOSE, close_payload(code, reason))

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"{len(self.buffer)} of {size} octets")
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def recv(self) -> tuple[int, bytes]:
        """The next frame: opcode (with 0x80 when FIN is not set), payload."""
        first, second = self.exactly(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(self.exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(self.exactly(8), "big")
        masked = bool(second & 0x80)
        assert masked is not self.client, "wrong masking"
        key = self.exactly(4) if masked else b""
        payload = self.exactly(size)
        if masked:
            pad = int.from_bytes((key * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(payload, "big") ^ pad).to_bytes(size, "big")
        return first & 0x0F | (0 if first & 0x80 else 0x80), payload

    def recv_close(self) -> int:
        """The code of the next frame, which must be a Close; 1005 when it has none."""
        opcode, payload = self.recv()
        assert opcode == CLOSE, (opcode, payload[:100])
        return int.from_bytes(payload[:2], "big") if payload else 1005

    def recv_eof(self) -> None:
        """The peer's end of the stream, and nothing before it."""
        assert self.buffer == b""
        data = self.sock.recv(100)
        assert data == b"", data

    def all(self) -> bytes:
        """Everything until the end of the stream; a reset is an error."""
        while data := self.sock.recv(65536):
            self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    def shutdown_write(self) -> None:
        """End our direction without a Close and, under TLS, without close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Close the socket, and wake whoever uses it; under TLS without close_notify."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exception: object) -> None:
        self.drop()
