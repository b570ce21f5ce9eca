"""An echo server and a client on a Unix socket, as between a web server and the program behind it.

    python examples/unix_echo.py server /tmp/echo.sock
    python examples/unix_echo.py client /tmp/echo.sock "Hello!"

Who may connect is a matter of file permissions: put the socket into a directory that others cannot enter.
"""

from __future__ import annotations

import argparse

from websock.sync import ServerConnection, unix_connect, unix_serve


def echo(ws: ServerConnection) -> None:
    for message in ws:
        ws.send(message)


def server(path: str) -> None:
    # The file that a server left when it crashed is replaced; that of a running one is not. At the end it is removed.
    with unix_serve(echo, path) as server:
        print(f"listening on {path}", flush=True)
        server.serve_forever()


def client(path: str, message: str) -> None:
    # The same in one address: connect("ws+unix:///tmp/echo.sock"), with ":/chat?room=1" behind it for a resource.
    with unix_connect(path) as ws:
        ws.send(message)
        print(ws.recv(timeout=10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("server")
    command.set_defaults(run=server)
    command.add_argument("path")
    command = commands.add_parser("client")
    command.set_defaults(run=client)
    command.add_argument("path")
    command.add_argument("message", nargs="?", default="Hello!", help="default: %(default)s")
    arguments = vars(parser.parse_args())
    try:
        arguments.pop("run")(**arguments)
    except KeyboardInterrupt:
        pass  # the way to stop the server, which has said goodbye to its clients


if __name__ == "__main__":
    main()
