"""A chat that nobody has to know the address of: its server is announced on the local network, and found there.

    python examples/announced_chat.py server "Kitchen"
    python examples/announced_chat.py client "Kitchen" Ada

The server says by multicast every few seconds where it is, and at once when a client asks. A client takes the port
from the answer and the host from where that came from, and opens a WebSocket there. Whoever is in the same network can
announce anything: what must not be forged needs TLS, and a name that is certified.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import websock
from websock.asyncio.server import ServerConnection, broadcast, serve
from websock.net.address import Address
from websock.net.asyncio.datagram import Datagram, bind_datagram
from websock.net.options import SocketOptions

GROUP = "239.255.77.99"  # within a site (RFC 2365)
PORT = 7699
EVERY = 5.0  # seconds between two announcements


async def announce(name: str, port: int, interface: str, discovery: int) -> None:
    """Answer who asks for this server, and say from time to time that it is here."""
    group = Address("udp", GROUP, discovery)
    here = json.dumps({"chat": name, "port": port}).encode()
    options = SocketOptions(reuse_address=True, multicast_interface=interface, multicast_ttl=1)
    async with await bind_datagram(f"udp://*:{discovery}", options=options) as datagrams:
        datagrams.join(GROUP, interface=interface)
        while True:
            await datagrams.send_to(here, group)
            try:
                async with asyncio.timeout(EVERY):
                    async for data, address, *_ in datagrams:
                        if data == b"who is there?":
                            await datagrams.send_to(here, address)
            except TimeoutError:
                pass


async def find(name: str, interface: str, discovery: int, patience: float) -> str:
    """The URI of the server of that name.

    Raises:
        TimeoutError: there is none.
    """
    options = SocketOptions(multicast_interface=interface, multicast_ttl=1)
    async with await bind_datagram("udp://*:0", options=options) as datagrams, asyncio.timeout(patience):
        asking = asyncio.create_task(ask(datagrams, Address("udp", GROUP, discovery)))
        try:
            async for data, address, *_ in datagrams:
                try:
                    found = json.loads(data)
                    if found["chat"] == name:
                        return f"ws://{address.host}:{int(found['port'])}/"
                except (ValueError, KeyError, TypeError):
                    pass  # somebody else's
        finally:
            asking.cancel()
    raise TimeoutError


async def ask(datagrams: Datagram, group: Address) -> None:
    while True:  # a datagram may get lost
        await datagrams.send_to(b"who is there?", group)
        await asyncio.sleep(0.5)


async def server(name: str, host: str, interface: str, discovery: int) -> None:
    guests: set[ServerConnection] = set()

    async def chat(guest: ServerConnection) -> None:
        guests.add(guest)
        try:
            async for message in guest:
                broadcast(guests, message)
        finally:
            guests.discard(guest)

    async with serve(chat, host, 0) as chats:
        port = chats.sockets[0].getsockname()[1]
        print(f"listening on {port}", flush=True)
        await announce(name, port, interface, discovery)


async def client(name: str, nick: str, interface: str, discovery: int, patience: float) -> None:
    try:
        uri = await find(name, interface, discovery, patience)
    except TimeoutError:
        sys.exit(f"there is no chat {name!r} in this network")
    print(f"found {uri}", flush=True)
    async with websock.connect(uri) as chat:
        showing = asyncio.create_task(show(chat))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await chat.send(f"{nick}: {line.rstrip()}")
        await chat.close()
        await showing


async def show(chat: websock.ClientConnection) -> None:
    async for message in chat:
        print(message, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--interface", default="127.0.0.1", help="its name or address; default: %(default)s, this host only"
    )
    parser.add_argument("--discovery", type=int, default=PORT, help="the port of announcements; default: %(default)s")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("server")
    command.set_defaults(run=server)
    command.add_argument("name")
    command.add_argument("--host", default="127.0.0.1", help="where to listen; default: %(default)s")
    command = commands.add_parser("client")
    command.set_defaults(run=client)
    command.add_argument("name")
    command.add_argument("nick")
    command.add_argument(
        "--timeout", dest="patience", type=float, default=5.0, help="seconds to look for it; default: %(default)s"
    )
    arguments = vars(parser.parse_args())
    try:
        asyncio.run(arguments.pop("run")(**arguments))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
