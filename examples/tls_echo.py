"""wss://: an echo server with a certificate, and a client that trusts it.

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \\
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem
    python examples/tls_echo.py server cert.pem key.pem --port 8765
    python examples/tls_echo.py client cert.pem wss://localhost:8765/ "Hello!"

A certificate of one's own, as made above, is good for tests. With one of a public authority a client needs no ssl=.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl

from websock.asyncio import ServerConnection, connect, serve


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def server(cert: str, key: str, host: str, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with serve(echo, host, port, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]  # with --port 0, the system has chosen one
        print(f"listening on wss://{host}:{port}/", flush=True)
        await server.serve_forever()


async def client(ca: str, uri: str, message: str) -> None:
    # Trusts what `ca` has signed, and nothing else. The certificate must also name the host in the URI; never turn
    # that off to get rid of an error, since then anybody on the way can read along.
    context = ssl.create_default_context(cafile=ca)
    async with connect(uri, ssl=context) as ws:
        await ws.send(message)
        print(await ws.recv())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("server")
    command.set_defaults(run=server)
    command.add_argument("cert", help="certificate, with those between it and its authority (PEM)")
    command.add_argument("key", help="its private key (PEM)")
    command.add_argument("--host", default="127.0.0.1", help="default: %(default)s, for this machine only")
    command.add_argument("--port", default=8765, type=int, help="default: %(default)s; 0 for any free one")
    command = commands.add_parser("client")
    command.set_defaults(run=client)
    command.add_argument("ca", help="certificate of the authority, or a self-signed one (PEM)")
    command.add_argument("uri", nargs="?", default="wss://localhost:8765/", help="default: %(default)s")
    command.add_argument("message", nargs="?", default="Hello!", help="default: %(default)s")
    arguments = vars(parser.parse_args())
    try:
        asyncio.run(arguments.pop("run")(**arguments))
    except KeyboardInterrupt:
        pass  # the way to stop the server, which has said goodbye to its clients


if __name__ == "__main__":
    main()
