"""The subcommands of ``python -m websock``, and what they share: exit codes, and errors in one line."""

from __future__ import annotations

import enum
import os
import ssl
import sys

from ..exceptions import InvalidStatus
from ..net.tls import tls_advice
from .terminal import inert

__all__ = ["Exit", "complain", "explain", "forget_output"]


class Exit(enum.IntEnum):
    """How a subcommand ended."""

    OK = 0
    FAILED = 1  # could not connect, could not listen, could not look
    USAGE = 2  # argparse's own number
    ABNORMAL = 3
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


def complain(command: str, problem: str) -> None:
    """One line on standard error, whatever characters the problem has."""
    sys.stderr.write(f"websock {command}: {inert(problem)}\n")


def explain(error: Exception) -> str:
    """What went wrong, for people: no class names, no error numbers, no line numbers of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message} (see --ca and --insecure)"
    if isinstance(error, ssl.SSLError):
        advice = tls_advice(error)
        said = (error.reason or str(error)).lower().replace("_", " ")
        return f"TLS failed: {said}{f' ({advice})' if advice else ''}"
    if isinstance(error, InvalidStatus):
        response = error.response
        plain = response.headers.get("Content-Type", "text/plain").startswith("text/plain")  # pages are for browsers
        body = response.body[:200].decode("utf-8", "replace").strip() if plain else ""
        return " ".join(filter(None, (str(error), response.reason_phrase, body and f"({body.splitlines()[0]})")))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def forget_output() -> None:
    """Let the last flush at exit go nowhere, rather than fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
