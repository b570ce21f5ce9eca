"""Decoding and encoding without sockets: ``python sansio.py NAME``, told on standard input what to do.

A line "decode|encode SIZE SECONDS" asks for a run; the answer is "COUNT SECONDS CPU", or "error: " and why. Decoding is
what a server does: masked texts, in reads of 64 KiB, become ``str``. Encoding is what a client does: ``str`` becomes
masked frames. Each library is used as a program without input and output of its own would use it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

READ = 65536  # octets of one read
Step = Callable[[], int]
"""Decode or encode some messages; returns how many."""


def text_of(size: int) -> str:
    return ("abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1))[:size]


def reads(size: int) -> tuple[list[bytes], int]:
    """Some reads of frames, and how many messages are in them."""
    payload, key = text_of(size).encode(), b"\x37\xfa\x21\x3d"
    pad = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 65536 else b"\xff" + size.to_bytes(8, "big")
    count = max(4, 2 * READ // size)
    stream = (b"\x81" + length + key + masked) * count
    return [stream[i : i + READ] for i in range(0, len(stream), READ)], count


def websock(what: str, size: int) -> Step:
    from websock.core import Options, Protocol

    protocol = Protocol(server=what == "decode", options=Options(max_size=None))
    text, (chunks, count) = text_of(size), reads(size)

    def decode() -> int:
        messages = [message for chunk in chunks for message in protocol.receive(chunk)]
        assert messages[-1] == text
        return len(messages)

    def encode() -> int:
        octets = 0
        for _ in range(count):
            protocol.send(text)
            octets += sum(map(len, protocol.outgoing()))
        assert octets >= count * size
        return count

    return decode if what == "decode" else encode


def websockets(what: str, size: int) -> Step:
    from websockets.frames import Frame
    from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

    protocol = Protocol(SERVER if what == "decode" else CLIENT, state=OPEN, max_size=None)
    text, (chunks, count) = text_of(size), reads(size)

    def decode() -> int:
        messages = []
        for chunk in chunks:
            protocol.receive_data(chunk)
            for frame in protocol.events_received():
                assert isinstance(frame, Frame)
                messages.append(str(frame.data, "utf-8"))
        assert messages[-1] == text
        return len(messages)

    def encode() -> int:
        octets = 0
        for _ in range(count):
            protocol.send_text(text.encode())
            octets += sum(map(len, protocol.data_to_send()))
        assert octets >= count * size
        return count

    return decode if what == "decode" else encode


def wsproto(what: str, size: int) -> Step:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import TextMessage

    connection = Connection(ConnectionType.SERVER if what == "decode" else ConnectionType.CLIENT)
    text, (chunks, count) = text_of(size), reads(size)

    def decode() -> int:
        messages, parts = [], []
        for chunk in chunks:
            connection.receive_data(chunk)
            for event in connection.events():
                assert isinstance(event, TextMessage)
                parts.append(event.data)
                if event.message_finished:
                    messages.append("".join(parts))
                    parts.clear()
        assert messages[-1] == text
        return len(messages)

    def encode() -> int:
        octets = 0
        for _ in range(count):
            octets += len(connection.send(TextMessage(data=text)))
        assert octets >= count * size
        return count

    return decode if what == "decode" else encode


LIBRARIES: dict[str, Callable[[str, int], Step]] = {"websock": websock, "websockets": websockets, "wsproto": wsproto}


def measure(step: Step, seconds: float) -> tuple[int, float, float]:
    count = step()  # warm
    count, used, start = 0, time.process_time(), time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        count += step()
    return count, took, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description="The codec of one library; it is told on standard input what to do.")
    parser.add_argument("name", choices=LIBRARIES)
    name: Any = parser.parse_args().name
    for line in sys.stdin:
        what, size, seconds = line.split()
        try:
            count, took, used = measure(LIBRARIES[name](what, int(size)), float(seconds))
        except Exception as error:
            print(f"error: {error!r}", flush=True)
        else:
            print(f"{count} {took:.6f} {used:.6f}", flush=True)


if __name__ == "__main__":
    main()
