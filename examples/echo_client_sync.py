"""A client in blocking code: send one message, print the answer.

python examples/echo_client_sync.py ws://127.0.0.1:8765/ "Hello!"
"""

from __future__ import annotations

import argparse

from websock.sync import connect


def main(uri: str, message: str) -> None:
    with connect(uri) as ws:  # leaving the block closes the connection
        ws.send(message)
        print(ws.recv(timeout=10))  # the answer may take so long; a message that comes later is not lost


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:8765/", help="default: %(default)s")
    parser.add_argument("message", nargs="?", default="Hello!", help="default: %(default)s")
    main(**vars(parser.parse_args()))
