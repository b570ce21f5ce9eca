"""WebSocket addresses: what is accepted makes a request that a server reads as it was meant.

Input: the address, in UTF-8 with surrogates; else in Latin-1.
"""

from __future__ import annotations

from typing import Final

from websock.core.handshake import ClientHandshake, ServerHandshake
from websock.core.uri import parse_uri
from websock.exceptions import InvalidURI

from .harness import text_of

PERMITTED: Final = (InvalidURI,)


def check(data: bytes) -> None:
    text = text_of(data)
    try:
        uri = parse_uri(text)
    except PERMITTED as error:
        str(error)
        return
    assert parse_uri(text) == uri and parse_uri(uri) is uri
    assert uri.host and 0 <= uri.port < 65536
    assert uri.resource.startswith("/") and uri.resource.isascii()
    if uri.unix_path is None:
        scheme = "wss" if uri.secure else "ws"
        host = f"[{uri.host}]" if ":" in uri.host else uri.host
        again = parse_uri(f"{scheme}://{host}:{uri.port}{uri.resource}")
        assert (again.host, again.port, again.resource, again.secure) == (uri.host, uri.port, uri.resource, uri.secure)
    client, server = ClientHandshake(uri), ServerHandshake()
    server.receive(b"".join(client.outgoing()))
    assert server.request is not None, server.failure
    assert server.request.path == uri.resource and server.request.headers["Host"] == uri.host_header
    server.accept()
    assert server.protocol is not None, server.failure
    client.receive(b"".join(server.outgoing()))
    assert client.done
