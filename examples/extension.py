"""An extension of one's own: every message carries a checksum, which the other end verifies.

    python examples/extension.py server --port 8765
    python examples/extension.py client ws://127.0.0.1:8765/ "Hello!"

It is negotiated as any other one (RFC 6455 section 9): a peer that does not know it is served without it. Beside
compression it works too: what is sent gets its checksum first, and is compressed then.
"""

from __future__ import annotations

import argparse
import asyncio
import zlib
from collections.abc import Iterable

from websock import Extension, ServerConnection, Transform, connect, serve
from websock.core.extensions import Parameters
from websock.exceptions import NegotiationError, ProtocolError
from websock.typing import Buffer

SIZE = 4  # octets of a CRC-32


class Checked(Transform):
    """Puts a CRC-32 behind the messages that are sent, and takes it off those that are received."""

    rsv = 0x20  # RSV2 says that a message has a checksum; permessage-deflate uses RSV1

    def __init__(self) -> None:
        self.sent = 0  # the checksum of what was sent of the present message
        self.received = 0
        self.held = b""  # the last octets that came: the checksum, if nothing follows

    def encode(self, payload: Buffer, last: bool) -> Buffer:
        self.sent = zlib.crc32(payload, self.sent)
        if not last:
            return payload
        checksum, self.sent = self.sent, 0
        return bytes(payload) + checksum.to_bytes(SIZE, "big")

    def decode(self, data: bytes, last: bool) -> Iterable[bytes]:
        data = self.held + data
        cut = max(0, len(data) - SIZE)
        payload, self.held = data[:cut], data[cut:]
        self.received = zlib.crc32(payload, self.received)
        if last:
            if self.received.to_bytes(SIZE, "big") != self.held:
                raise ProtocolError("a message and its checksum differ", code=1007)
            self.received, self.held = 0, b""
        return (payload,)


class Checksum(Extension):
    """Negotiates it: there is nothing to agree on but the algorithm."""

    name = "x-checksum"

    def offer(self) -> Parameters:
        return [("algorithm", "crc32")]

    def accept(self, offered: Parameters) -> tuple[Parameters, Transform] | None:
        return (offered, Checked()) if offered == self.offer() else None

    def agree(self, answered: Parameters) -> Transform:
        if answered != self.offer():
            raise NegotiationError(f"{self.name}: the server answered {answered}")
        return Checked()


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def server(host: str, port: int) -> None:
    async with serve(echo, host, port, extensions=[Checksum()]) as server:
        port = server.sockets[0].getsockname()[1]  # with --port 0, the system has chosen one
        print(f"listening on ws://{host}:{port}/", flush=True)
        await server.serve_forever()


async def client(uri: str, message: str) -> None:
    async with connect(uri, extensions=[Checksum()]) as ws:
        await ws.send(message)
        print(await ws.recv())
        print("checked by:", *(type(extension).__name__ for extension in ws.extensions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("server")
    command.set_defaults(run=server)
    command.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    command.add_argument("--port", default=8765, type=int, help="default: %(default)s; 0 for any free one")
    command = commands.add_parser("client")
    command.set_defaults(run=client)
    command.add_argument("uri", nargs="?", default="ws://127.0.0.1:8765/", help="default: %(default)s")
    command.add_argument("message", nargs="?", default="Hello!", help="default: %(default)s")
    arguments = vars(parser.parse_args())
    try:
        asyncio.run(arguments.pop("run")(**arguments))
    except KeyboardInterrupt:
        pass  # the way to stop the server, which has said goodbye to its clients


if __name__ == "__main__":
    main()
