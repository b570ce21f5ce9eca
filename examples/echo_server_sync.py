"""An echo server in blocking code, with a thread for each client.

python examples/echo_server_sync.py --host 127.0.0.1 --port 8765
"""

from __future__ import annotations

import argparse
import signal

from websock.sync import ServerConnection, serve


def echo(ws: ServerConnection) -> None:
    """Serve one client. It runs in a thread of its own, so it may block."""
    # The loop ends when the client closes the connection. If it vanishes instead, ConnectionClosedError leaves this
    # function: the server takes that for the ordinary end that it is, so there is no need to catch it.
    for message in ws:  # text is str, binary is bytes
        ws.send(message)


def main(host: str, port: int) -> None:
    with serve(echo, host, port) as server:  # at the end: tells all clients "going away" (1001) and waits for them
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # systemd and Docker: the same as Ctrl-C
        port = server.sockets[0].getsockname()[1]  # with --port 0, the system has chosen one
        print(f"listening on ws://{host}:{port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    parser.add_argument("--port", default=8765, type=int, help="default: %(default)s; 0 for any free one")
    main(**vars(parser.parse_args()))
