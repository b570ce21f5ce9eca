"""Ping a host: ICMP echo (RFC 792, RFC 4443) over a socket that carries no UDP and no TCP.

    python examples/icmp_ping.py --count 3 localhost

It needs a privilege: on Linux to be in the group range of net.ipv4.ping_group_range, or root (CAP_NET_RAW).
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time

from websock.net.address import Address
from websock.net.datagram import Datagram
from websock.net.resolving import resolve

ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}  # types of a request and of its reply


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[index : index + 2], "big") for index in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def open_ping(family: int, sockaddr: tuple[object, ...]) -> tuple[Datagram, bool]:
    """A socket for ICMP with that peer, and whether it is a raw one.

    Raises:
        PermissionError: neither kind is allowed.
    """
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):  # the first is for ping alone, and needs less
        try:
            sock = socket.socket(family, kind, protocol)
        except PermissionError:
            continue
        try:
            sock.connect(sockaddr)
            return Datagram(sock), kind == socket.SOCK_RAW
        except BaseException:
            sock.close()
            raise
    raise PermissionError(
        "ping is not permitted to this user: be root, or let root run"
        f' sysctl net.ipv4.ping_group_range="{os.getgid()} {os.getgid()}"'
    )


def ping(datagrams: Datagram, raw: bool, family: int, number: int, timeout: float) -> float:
    """Seconds until the reply.

    Raises:
        TimeoutError: there was none.
    """
    request, reply = ECHO[socket.AddressFamily(family)]
    body = (os.getpid() & 0xFFFF).to_bytes(2, "big") + number.to_bytes(2, "big") + os.urandom(32)
    head = bytes((request, 0))
    # The kernel fills in IPv6's checksum, and that of a socket for ping.
    datagrams.send(head + checksum(head + b"\0\0" + body).to_bytes(2, "big") + body)
    start = time.monotonic()
    while (left := start + timeout - time.monotonic()) > 0:
        datagrams.receive_timeout = left
        data = datagrams.receive()
        if raw and family == socket.AF_INET:
            data = data[(data[0] & 15) * 4 :]  # behind the header of IP
        # A raw socket gets all that comes. One for ping gets its own, with an identifier that the kernel has chosen.
        if data[:1] == bytes((reply,)) and data[6:] == body[2:] and (not raw or data[4:6] == body[:2]):
            return time.monotonic() - start
    raise TimeoutError


def main(host: str, count: int, timeout: float) -> int:
    try:
        target = resolve(Address("udp", host))[0]
        datagrams, raw = open_ping(target.family, target.sockaddr)
    except PermissionError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:  # no such host
        print(error, file=sys.stderr)
        return 1
    answered = 0
    with datagrams:
        for number in range(1, count + 1):
            try:
                seconds = ping(datagrams, raw, target.family, number, timeout)
            except TimeoutError:
                print(f"{number}: no answer from {target.sockaddr[0]} within {timeout:g} s", flush=True)
                continue
            except OSError as error:  # a router says that there is no way to it
                print(f"{number}: {error}", flush=True)
                continue
            answered += 1
            print(f"{number}: {target.sockaddr[0]} answered in {seconds * 1000:.3f} ms", flush=True)
            if number < count:
                time.sleep(min(1.0, timeout))
    return 0 if answered else 1


def count(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def seconds(text: str) -> float:
    if not (number := float(text)) > 0:
        raise ValueError
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("--count", type=count, default=3, help="default: %(default)s")
    parser.add_argument("--timeout", type=seconds, default=1.0, help="seconds for an answer; default: %(default)s")
    arguments = parser.parse_args()
    try:
        sys.exit(main(**vars(arguments)))
    except KeyboardInterrupt:
        pass
