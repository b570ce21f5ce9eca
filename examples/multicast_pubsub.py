"""Publish and subscribe over multicast: no broker, and one datagram reaches all who want it.

    python examples/multicast_pubsub.py subscribe weather news
    python examples/multicast_pubsub.py publish weather "It rains."

Each topic is a group: who has not subscribed to it does not even receive it. Nothing is confirmed, so publish what the
next one makes good: measurements, positions, "I am here".
"""

from __future__ import annotations

import argparse
import hashlib
import sys

from websock.net.address import Address
from websock.net.datagram import bind_datagram
from websock.net.options import SocketOptions

PORT = 7654


def group_of(topic: str) -> str:
    """A group for a topic, in the range for use within a site (RFC 2365). Two topics may have the same one."""
    return "239.255.{}.{}".format(*hashlib.sha256(topic.encode()).digest()[:2])


def subscribe(topics: list[str], interface: str, port: int) -> None:
    # Several subscribers on one host share the port.
    with bind_datagram(f"udp://*:{port}", options=SocketOptions(reuse_address=True)) as datagrams:
        for group in sorted({group_of(topic) for topic in topics}):
            datagrams.join(group, interface=interface)
        print(f"subscribed to {', '.join(topics)}", flush=True)
        for data, address, truncated, _ in datagrams:
            topic, _, message = data.decode(errors="replace").partition("\n")
            if topic in topics and not truncated:
                print(f"{topic}: {message} (from {address.host})", flush=True)


def publish(topic: str, message: str, interface: str, port: int) -> None:
    # One hop: it stays in the local network. Our own host hears it, too.
    options = SocketOptions(multicast_interface=interface, multicast_ttl=1, multicast_loop=True)
    with bind_datagram("udp://*:0", options=options) as datagrams:
        datagrams.send_to(f"{topic}\n{message}".encode(), Address("udp", group_of(topic), port))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--interface", default="127.0.0.1", help="its name or address; default: %(default)s, this host only"
    )
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("subscribe")
    command.set_defaults(run=subscribe)
    command.add_argument("topics", nargs="+")
    command = commands.add_parser("publish")
    command.set_defaults(run=publish)
    command.add_argument("topic")
    command.add_argument("message")
    arguments = vars(parser.parse_args())
    try:
        arguments.pop("run")(**arguments)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
