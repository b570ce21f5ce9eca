"""A client and a server for octets, over every kind of stream: only the address differs.

    python examples/echo_anywhere.py serve tcp://localhost:7010
    python examples/echo_anywhere.py ask tcp://localhost:7010 "Hello!"

Other addresses: ``tcp://*:7010``, ``unix:///tmp/echo.sock``, ``unix:@echo`` (Linux), ``unixpacket:///tmp/echo.seq``,
``tls://localhost:7010`` (with ``--certificate FILE``: the server's key and certificate, or what the client trusts).
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys
import threading
from collections.abc import Iterator

from websock.net import Listener, Stream, connect, listen


def echo(stream: Stream) -> None:
    """Send back what comes, until the peer sends no more."""
    try:
        with stream:
            for data in stream:
                stream.send_all(data)
    except OSError as error:
        print(error, file=sys.stderr)


@contextlib.contextmanager
def naming(file: str) -> Iterator[None]:
    """What the ssl module says of a file, with its name."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{file}: {error.strerror or error} (the certificate, and of a server its key, in PEM)"
        ) from None


def serve(address: str, certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with naming(certificate):
            context.load_cert_chain(certificate)
    listener: Listener
    with listen(address, tls=context) as listener, contextlib.suppress(KeyboardInterrupt):
        print(f"listening on {listener.addresses[0]}", flush=True)
        for stream in listener:
            threading.Thread(target=echo, args=[stream], daemon=True).start()


def ask(address: str, text: str, certificate: str | None) -> None:
    context = None
    if certificate:
        with naming(certificate):
            context = ssl.create_default_context(cafile=certificate)
    with connect(address, tls=context, timeout=10) as stream:
        stream.receive_timeout = 10
        stream.send_all(text.encode())
        stream.send_eof()
        print(b"".join(stream).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["serve", "ask"])
    parser.add_argument("address")
    parser.add_argument("text", nargs="?", default="Hello!")
    parser.add_argument("--certificate", metavar="FILE")
    options = parser.parse_args()
    try:
        if options.what == "serve":
            serve(options.address, options.certificate)
        else:
            ask(options.address, options.text, options.certificate)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
