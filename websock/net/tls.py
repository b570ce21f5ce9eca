"""TLS over memory buffers: ciphertext in, plaintext out, and the other way round.

This lets a blocking program read in one thread and write in another: all calls on the TLS object are made under one
lock, none of which does I/O. (CPython's SSLSocket is not safe for that.)
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Final

from ..typing import Buffer
from .address import Address

__all__ = [
    "ANSWERS", "TLS", "check_name", "check_server", "client_context", "explain_tls", "secured", "tls_advice", "wrapped",
]  # fmt: skip

ANSWERS: Final = 2**16
"""Octets of TLS's own that may wait for a peer who asks for them (new keys) and does not read."""

_CHUNK = 65536


class TLS:
    """One TLS connection (RFC 8446).

    Args:
        context: certificates and settings.
        server_side: our role.
        server_hostname: client only: the name to ask for (SNI) and to verify.

    Raises:
        ValueError: the settings want a name to be verified, and there is none.

    Attributes:
        done: the handshake is complete.
        error: a damaged record followed what `receive` returned.
        eof: the peer said that it sends nothing more (close_notify).
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = wrapped(context, self._incoming, self._outgoing, server_side, server_hostname)
        self.done = False
        self.eof = False
        self.error: ssl.SSLError | None = None
        if not server_side:
            self._handshake()

    @property
    def object(self) -> ssl.SSLObject:
        """For what it tells of the peer: certificate, cipher, ALPN."""
        return self._object

    def receive(self, data: Buffer) -> bytes:
        """Take ciphertext, return the plaintext that it completes; empty during the handshake.

        Raises:
            ssl.SSLError: the handshake failed or the record is damaged; `outgoing` holds the alert for the peer.
        """
        self._incoming.write(data)
        if not self.done:
            self._handshake()
            if not self.done:
                return b""
        parts = []
        try:
            while part := self._object.read(_CHUNK):
                parts.append(part)
            self.eof = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof = True
        except ssl.SSLError as error:
            if not parts:
                raise
            self.error = error.with_traceback(None)  # what came before it counts; the frames would keep us
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def send(self, buffers: Iterable[Buffer]) -> None:
        """Encrypt; the ciphertext is in `outgoing`."""
        for buffer in buffers:
            if len(buffer):
                self._object.write(buffer)

    def close(self) -> None:
        """Say that we send nothing more (close_notify, RFC 8446 section 6.1)."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # the peer's own close_notify has not come, and need not

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing` would return something."""
        return self._outgoing.pending > 0

    @property
    def outgoing_size(self) -> int:
        """How many octets `outgoing` would return."""
        return self._outgoing.pending

    def outgoing(self) -> list[Buffer]:
        """Take the ciphertext to write."""
        return [self._outgoing.read()] if self._outgoing.pending else []

    def _handshake(self) -> None:
        try:
            self._object.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass


def wrapped(
    context: ssl.SSLContext,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    server_side: bool,
    server_hostname: str | None,
) -> ssl.SSLObject:
    """OpenSSL's end between two buffers.

    Raises:
        ValueError: the settings want a name to be verified, and there is none: ``wrap_bio`` would verify none.
        ssl.SSLError: they are of the other side.
    """
    if not server_side and context.check_hostname and not server_hostname:
        raise ValueError("a name to verify is missing: server_hostname=")
    return context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)


def client_context(secure: bool, given: ssl.SSLContext | bool | None) -> ssl.SSLContext | None:
    """The TLS settings of a client: its own, or the default ones, which verify the server's certificate.

    Args:
        secure: whether the address is one with TLS.
        given: settings; True or None for the default ones.

    Raises:
        TypeError: settings that are none.
        ValueError: TLS settings for an address without TLS, or none for one with it.
    """
    if given is not None and not isinstance(given, bool | ssl.SSLContext):
        raise TypeError(f"TLS settings are an ssl.SSLContext or True, not {given!r}")
    if not secure:
        if given:
            raise ValueError("TLS settings (ssl=) go with an address that has TLS, such as wss://")
        return None
    if given is False:
        raise ValueError("an address that has TLS, such as wss:// or tls://, doesn't go without (False)")
    return given if isinstance(given, ssl.SSLContext) else ssl.create_default_context()


def check_name(address: Address, context: ssl.SSLContext | None, name: str | None) -> None:
    """Whether a name to verify is one, and goes with what is connected to.

    Raises:
        TypeError, ValueError: no.
    """
    if name is None:
        return
    if context is None:
        raise ValueError(f"server_hostname goes with TLS, and {address} has none: use tls:// or tls=True")
    if not isinstance(name, str):
        raise TypeError(f"server_hostname is a name, not {name!r}")
    if not name:
        raise ValueError("server_hostname is a name, not an empty one; without it, it is the address's")


def check_server(address: Address, tls: ssl.SSLContext | None) -> None:
    """Whether a listener's TLS settings are some, and a server's.

    Raises:
        ValueError: the address has TLS, and there are none; or they are a client's.
        TypeError: they are none.
    """
    if tls is None:
        if address.secure:
            raise ValueError(f"{address} needs tls=: the server's settings and certificate")
    elif not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an ssl.SSLContext with the server's certificate, not {tls!r}")
    elif tls.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError("tls= has a client's settings: a server's are ssl.create_default_context(Purpose.CLIENT_AUTH)")


def secured(address: Address, secure: bool = True) -> Address:
    """The address of a socket with TLS as one writes it, where there is a spelling for that."""
    return address.replace(scheme="tls") if secure and address.scheme == "tcp" else address


_UNTRUSTED: Final = (18, 19, 20, 21)  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT and those after it
_ADVICE: Final = {
    "WRONG_VERSION_NUMBER": "no TLS is spoken at the other end",
    "HTTP_REQUEST": "the peer speaks plain HTTP, no TLS",
    "NO_SHARED_CIPHER": "a server's settings have a certificate: load_cert_chain()",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not trust our certificate, or wanted another name",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not trust our certificate",
}


def tls_advice(error: ssl.SSLError) -> str:
    """What an error of OpenSSL means for who reads it; empty when it says that by itself."""
    if getattr(error, "verify_code", 0) in _UNTRUSTED:
        return "to trust it: tls=ssl.create_default_context(cafile=...), with it or its authority's"
    if "PEM lib" in str(error):
        return "a certificate and its private key are wanted, both as PEM"
    return _ADVICE.get(getattr(error, "reason", None) or "", "")


def explain_tls(error: ssl.SSLError, doing: str, where: object) -> ssl.SSLError:
    """As `explain`, for what OpenSSL says: its numbers are not the system's, and it tells more than a text."""
    text = getattr(error, "verify_message", "") or error.strerror or str(error)
    if advice := tls_advice(error):
        text += f" ({advice})"
    explained = type(error)(error.errno, f"can't {doing} {where}: {text}")
    for name in ("library", "reason", "verify_code", "verify_message"):
        if hasattr(error, name):
            setattr(explained, name, getattr(error, name))
    return explained
