"""What subcommands that connect have in common: options, and what their values may be."""

from __future__ import annotations

import argparse
import math
import ssl
from collections.abc import Callable
from typing import Any, Final

from ..core.uri import URI, parse_uri
from . import explain

__all__ = [
    "URI_HELP",
    "above_zero",
    "add_request_options",
    "add_tls_options",
    "checked_tls",
    "header",
    "not_negative",
    "seconds",
    "size",
    "tls_context",
    "uri",
]

URI_HELP: Final = "ws://, wss://, ws+unix:///path.sock:/resource, wss+unix://"


def uri(text: str) -> URI:
    """An option's value."""
    try:
        return parse_uri(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def header(text: str) -> tuple[str, str]:
    """An option's value."""
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} isn't 'Name: value'")
    return name, value.strip()


def seconds(text: str) -> float:
    """An option's value."""
    return not_negative(text, "a number of seconds")


def not_negative(text: str, what: str) -> float:
    """A value that is `what`: a number from 0, or inf."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not found >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} isn't {what}")
    return found


def above_zero(text: str, what: str) -> int:
    """A value that is `what`: a whole number above 0."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} isn't {what}")
    return int(text)


def size(text: str) -> int | None:
    """An option's value."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number of bytes")
    return int(text) or None


def add_request_options(add: Callable[..., Any]) -> None:
    """Options of the opening handshake."""
    add("--header", metavar="'NAME: VALUE'", type=header, action="append", help="a header for the request; repeatable")
    add("--subprotocol", metavar="NAME", action="append", help="a subprotocol to offer, best first; repeatable")
    add("--origin", metavar="ORIGIN", help="the Origin header: the page that a browser would connect from")


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Options of TLS."""
    tls = parser.add_mutually_exclusive_group()
    tls.add_argument("--ca", metavar="FILE", help="trust these certificates (PEM) instead of the system's")
    tls.add_argument("--insecure", action="store_true", help="trust every certificate, for every name")


def checked_tls(parser: argparse.ArgumentParser, args: argparse.Namespace) -> ssl.SSLContext | None:
    """The context that the options ask for; None for the default. What is wrong with them ends the program."""
    if (args.ca or args.insecure) and not args.uri.secure:
        parser.error("--ca and --insecure go with wss:// and wss+unix://")
    try:
        return tls_context(ca=args.ca, insecure=args.insecure)
    except OSError as error:
        parser.error(f"--ca {args.ca}: {explain(error)}")


def tls_context(*, ca: str | None, insecure: bool) -> ssl.SSLContext | None:
    """TLS settings of a client; None for the default ones.

    Raises:
        OSError: the file can't be read, or has no certificates.
    """
    if not ca and not insecure:
        return None
    context = ssl.create_default_context(cafile=ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
