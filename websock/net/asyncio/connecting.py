"""Connecting: `connect`."""

from __future__ import annotations

import asyncio
import ssl

from ..address import Address
from ..errors import explain
from ..guard import seconds
from ..options import SocketOptions
from ..sockets import take_over
from ..tls import check_name, client_context
from ..tls_stream import HANDSHAKE_TIMEOUT
from .opening import both_ways
from .race import connected
from .stream import Stream

__all__ = ["connect"]


@both_ways
async def connect(
    address: str | Address,
    *,
    options: SocketOptions | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - as for blocking streams
    tls: ssl.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    local: str | Address | None = None,
) -> Stream:
    """A stream to an address; of a host with several, to the first that answers (happy eyeballs, RFC 8305).

    ::

        async with connect("tls://example.org:443", timeout=10) as stream:  # or: stream = await connect(...)
            await stream.send_all(b"...")

    Args:
        address: see `Address`; ``fd://`` is a connected socket to take over.
        options: of the socket.
        timeout: seconds for all of it: the name service, the connection, the TLS handshake. None: as long as the
            system tries.
        tls: settings, or True for the default ones, which verify the peer; ``tls://`` is True by itself.
        server_hostname: the name to ask for (SNI) and to verify, when it is not the address's. An address that has
            none (``unix:``, ``fd://``) stands for "localhost".
        local: the address of our end.

    Raises:
        AddressError: no address.
        OSError: no connection; the message names the address and what to do.
        TimeoutError: it took longer than `timeout`.
        ssl.SSLError: the TLS handshake failed; ``ssl.SSLCertVerificationError``: the peer is not who it should be.
        TypeError, ValueError: an option does not fit it.
    """
    address = Address.parse(address)
    seconds(timeout, "timeout")
    own = None if local is None else Address.parse(local)
    context = client_context(address.secure or bool(tls), tls)
    check_name(address, context, server_hostname)
    try:
        async with asyncio.timeout(timeout):
            if address.scheme == "fd":
                sock = take_over(address, options, state="connected")
            else:
                sock = await connected(address, options, local=own)
            remote = address if address.is_unix else None
            if context is None:
                try:
                    return Stream(sock, remote=remote)
                except BaseException:
                    sock.close()
                    raise
            name = server_hostname or ("localhost" if address.is_any else address.host)
            limit = HANDSHAKE_TIMEOUT if timeout is None else None
            return await Stream.secured(sock, context, server_hostname=name, remote=remote, timeout=limit)
    except TimeoutError as error:
        if error.errno is not None:
            raise  # the system's, with words around it
        raise explain(error, "connect to", address) from None
