"""A client on the sans-IO core: the library thinks, this program does the I/O, here with a plain blocking socket.

    python examples/sansio_client.py ws://127.0.0.1:8765/ "Hello!"

The same calls carry WebSocket over anything else: another event loop, a serial line, a test without any network.
"""

from __future__ import annotations

import argparse
import socket
import time

from websock.core import ClientHandshake, parse_uri


def main(uri: str, message: str) -> None:
    address = parse_uri(uri)
    with socket.create_connection((address.host, address.port), timeout=10) as sock:
        # Phase 1, the opening handshake: bytes out, bytes in, until there is a connection. A wrong answer raises.
        handshake = ClientHandshake(address)
        while (protocol := handshake.protocol) is None:
            for buffer in handshake.outgoing():
                sock.sendall(buffer)
            if data := sock.recv(65536):
                handshake.receive(data)
            else:
                handshake.receive_eof()

        # Phase 2, the open connection: the same, and the time, for pings and for a peer that never closes.
        protocol.send(message)
        messages = protocol.receive(handshake.leftover)  # what came in the same read as the end of the handshake
        while True:
            for answer in messages:
                print(answer)
                protocol.close()
            protocol.settle()  # all messages are dealt with: a Close that came behind them may act
            now = time.monotonic()
            due = protocol.tick(now)  # when to tell it the time again, at the latest
            for buffer in protocol.outgoing():
                sock.sendall(buffer)
            if protocol.wants_eof:
                sock.shutdown(socket.SHUT_WR)
            if protocol.wants_close:
                break
            if protocol.behind:  # so much was in what came that it is handed out bit by bit
                messages = protocol.receive(b"")
                continue
            sock.settimeout(None if due is None else max(due - now, 0.001))  # 0 would mean: do not wait
            messages = []
            try:
                if data := sock.recv(65536):
                    messages = protocol.receive(data)
                else:
                    protocol.receive_eof()
            except TimeoutError:
                pass  # `tick` does what is due
    print(protocol.closed())  # the exception that says how it ended


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:8765/", help="default: %(default)s")
    parser.add_argument("message", nargs="?", default="Hello!", help="default: %(default)s")
    main(**vars(parser.parse_args()))
