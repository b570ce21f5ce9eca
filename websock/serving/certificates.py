"""TLS files of a server, which can be read again while it serves."""

from __future__ import annotations

import errno
import os
import ssl

from ..net.errors import explain

__all__ = ["Certificates"]


class Certificates:
    """A certificate and its key, in files.

    Args:
        certfile: the certificate, and those up to the root (PEM); the key may be in it.
        keyfile: its key (PEM).
    """

    def __init__(self, certfile: str | os.PathLike[str], keyfile: str | os.PathLike[str] | None = None) -> None:
        self.certfile = os.fspath(certfile)
        self.keyfile = None if keyfile is None else os.fspath(keyfile)
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Settings of a server with what is in the files now; the same object for as long as this process lives.

        Raises:
            OSError: a file cannot be read, or what is in them does not fit; the message names them.
            ValueError: the key is encrypted.
        """
        if self._context is None:
            context = _server_context()
            self._load(context)
            self._context = context
        return self._context

    def reload(self) -> None:
        """Read the files again, for connections that come from now on. When that fails, the old ones stay in use.

        Raises:
            OSError, ValueError: as `context`.
        """
        # Tried on another one first: OpenSSL takes a certificate, and then finds that the key does not fit.
        self._load(_server_context())
        self._load(self.context())

    def _load(self, context: ssl.SSLContext) -> None:
        names = self.certfile if self.keyfile is None else f"{self.certfile} and {self.keyfile}"
        for name in filter(None, (self.certfile, self.keyfile)):
            try:
                with open(name, "rb"):
                    pass  # OpenSSL does not say which one
            except OSError as error:
                raise explain(error, "read", name) from None
        try:
            context.load_cert_chain(self.certfile, self.keyfile, password=_no_password)
        except ssl.SSLError as error:
            why = (error.reason or "no certificate and key in PEM format").lower().replace("_", " ")
            raise OSError(errno.EINVAL, f"can't use {names}: {why}") from None


def _server_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _no_password() -> str:
    """A server starts without a person who could be asked."""
    raise ValueError("the key is encrypted: a server needs it without a password")
