"""The command line: ``python -m websock``, or ``websock``."""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import os
import platform
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from .asyncio.client import connect
from .cli import Exit, explain
from .cli.arguments import URI_HELP, above_zero, add_request_options, add_tls_options, checked_tls, seconds, size, uri
from .cli.bench import ABOUT, EXIT, add_options, bench
from .cli.connect import talk
from .cli.echo import echo
from .cli.serve import add_proxy_options, proxy_options, reload_server, serve_handler
from .cli.sockets import show
from .cli.terminal import inert
from .core.accelerate import ACCELERATED, REASON
from .serving.places import systemd_fds
from .serving.running import MODELS, check_model
from .version import __version__

__all__ = ["main"]

_CONNECT = """\
Each line of the input is sent as a text message; each message that comes is one line of standard output, with
control characters escaped, so that a terminal does not obey them. Everything else is on standard error. When the input
ends (Ctrl-D in a terminal, the end of a pipe), or with Ctrl-C, the connection is closed with code 1000.
"""
_CONNECT_EXIT = f"""\
exit status:
  {Exit.OK:<4} closed normally: both sides said goodbye with 1000, 1001 or no code
  {Exit.FAILED:<4} could not connect
  {Exit.USAGE:<4} wrong usage: an option, the URI, or input that is not UTF-8
  {Exit.ABNORMAL:<4} closed abnormally: with another code, or without a closing handshake
  {Exit.INTERRUPTED:<4} interrupted before the connection was open

examples:
  websock connect ws://localhost:8765/
  printf 'a\\nb\\n' | websock connect wss://example.com/ --header 'Authorization: Bearer t0k3n'
  websock connect ws+unix:///run/app.sock:/chat --subprotocol chat.v2 --subprotocol chat.v1
"""
_ECHO = """\
Send back every message. The addresses go to standard output, one a line, once the server is ready.
"""
_ECHO_EXIT = f"""\
exit status:
  {Exit.OK:<4} stopped by Ctrl-C or SIGTERM; clients were told 1001, "going away"
  {Exit.FAILED:<4} could not listen there
  {Exit.USAGE:<4} wrong usage
"""
_SERVE = """\
Serve a handler: MODULE:NAME, as in "chat:handler" or "shop.chat:rooms.handler". Modules in the current directory are
found first. The addresses go to standard output, one a line, once the server is ready; its log to standard error.
"""
_SERVE_EXIT = f"""\
models:
  asyncio, uvloop   an event loop, for handlers with async def; "auto" takes uvloop where it is installed
  threads           a thread for each connection, for handlers with def, as do
  pool              a fixed number of threads: others wait a moment, then get 503
  processes         a process for each connection

signals:
  SIGTERM, SIGINT   stop: clients are told 1001, "going away"; what is left after --grace is cut. Again: stop at once
  SIGQUIT           stop at once
  SIGHUP            read the TLS files again; with --workers, start new ones with new code, and then stop the old ones

exit status:
  {Exit.OK:<4} stopped by a signal
  {Exit.FAILED:<4} could not listen there, or could not start
  {Exit.USAGE:<4} wrong usage: an option, no such handler, or one of a kind that the model does not run

examples:
  websock serve chat:handler --host '' --port 8000 --workers 4
  websock serve chat:handler --unix /run/chat.sock --pid-file /run/chat.pid   (and then: websock reload /run/chat.pid)
  websock serve chat:handler --certfile chain.pem --keyfile key.pem --origin https://chat.example
"""
_RELOAD = """\
Tell a server to reload, as SIGHUP does: it reads its TLS files again, and with --workers it starts new ones, with the
code that is there now, before it stops the old ones. Its log tells how that went.
"""
_RELOAD_EXIT = f"""\
exit status:
  {Exit.OK:<4} told
  {Exit.FAILED:<4} no such server
"""
_SOCKETS = """\
List the sockets of a process: kind, state (of TCP by its name in RFC 9293), octets that wait to be read and to be
acknowledged (of a listening TCP socket: connections that wait to be accepted), and both addresses. Those that listen
come first. "-" is what the system does not tell.
"""
_SOCKETS_EXIT = f"""\
exit status:
  {Exit.OK:<4} listed; without sockets there is a line on standard error
  {Exit.FAILED:<4} no such process, or not permitted to look into it
  {Exit.USAGE:<4} wrong usage

examples:
  websock sockets --pid 4711
  websock sockets --pid 4711 --json | jq '.[] | select(.state == "CLOSE-WAIT")'
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.commands: dict[str, _Parser] = {}

    def error(self, message: str) -> NoReturn:
        """One line, rather than all options and then the line."""
        self.exit(Exit.USAGE, f"{self.prog}: {inert(message)} (try {self.prog} --help)\n")

    def check_names(self, arguments: Sequence[str]) -> None:
        """Complain of an unknown option or command before argparse does, which looks at all else first."""
        for index, argument in enumerate(arguments):
            if argument == "--":
                return
            if argument.startswith("--"):
                name = argument.partition("=")[0]
                if name not in self._option_string_actions:
                    self.error(f"there is no option {name}{_nearest(name, self._option_string_actions)}")
            elif self.commands and not argument.startswith("-"):
                if argument not in self.commands:
                    near = _nearest(argument, self.commands) or f": it is one of {', '.join(self.commands)}"
                    self.error(f"there is no command {argument!r}{near}")
                self.commands[argument].check_names(arguments[index + 1 :])
                return


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; is it {near[0]}?" if near else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status. Wrong usage raises SystemExit(2), as with every argparse program."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when we were started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we live
    parser = _parser()
    parser.check_names(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(arguments)
    run: Callable[[_Parser, argparse.Namespace], Exit] = args.run
    return run(args.parser, args)


def _parser() -> _Parser:
    parser = _Parser(prog="websock", description="WebSocket (RFC 6455) from the command line.")
    parser.add_argument("--version", action="version", version=f"websock {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[_Parser, argparse.Namespace], Exit], help: str, **more: Any) -> _Parser:  # noqa: A002
        sub = commands.add_parser(name, help=help, **more)
        sub.set_defaults(run=run, parser=sub)
        parser.commands[name] = sub
        return sub

    sub = command("connect", _connect, "talk to a server", description=_CONNECT, epilog=_CONNECT_EXIT)
    sub.add_argument("uri", metavar="URI", type=uri, help=URI_HELP)
    add = sub.add_argument
    add_request_options(add)
    add("--ping", metavar="SECONDS", type=seconds, help="show the latency, each time so long after the last; 0: once")
    add_tls_options(sub)
    add("--timeout", metavar="SECONDS", type=seconds, default=10.0, help="for opening, and for closing; default: 10")
    add("--max-size", metavar="BYTES", type=size, default=2**20, help="of a message; default: 1048576; 0: no limit")
    add("--wait", metavar="SECONDS", type=seconds, default=1.0,
        help="after the end of piped input, close when nothing has come for so long; default: 1; inf: when the server "
        "closes")  # fmt: skip

    sub = command("echo", _echo, "run an echo server", description=_ECHO, epilog=_ECHO_EXIT)
    add = sub.add_argument
    add("--host", help="default: 127.0.0.1, for this machine only; '': every address")
    add("--port", type=_port, help="default: 8765; 0: any free one")
    add("--unix", metavar="PATH", help="listen on a Unix socket instead")
    add("--tls", nargs=2, metavar=("CERT", "KEY"), help="serve wss:// with this certificate and its key (PEM)")

    sub = command("serve", _serve, "serve a handler", description=_SERVE, epilog=_SERVE_EXIT)
    sub.add_argument("handler", metavar="MODULE:NAME", help="the handler")
    add = sub.add_argument
    add("--host", action="append", help="default: 127.0.0.1, for this machine only; '': every address; repeatable")
    add("--port", type=_port, help="default: 8765; 0: any free one")
    add("--unix", metavar="PATH", help="listen on a Unix socket instead")
    add("--unix-mode", metavar="MODE", type=_mode, help="of its file, in octal: 660")
    add("--fd", metavar="N", type=_fd, action="append", help="a listening socket that is open already; repeatable; "
        "what systemd has opened is taken without being asked for, unless there is an address")  # fmt: skip
    add("--model", metavar="MODEL", type=_model, default="auto", help=f"{', '.join(MODELS)}; default: auto")
    add("--workers", metavar="N", type=_number, help="so many processes, kept alive by one more; default: one alone")
    add("--certfile", metavar="FILE", help="serve wss:// with this certificate (PEM)")
    add("--keyfile", metavar="FILE", help="its key, if it isn't in the same file")
    add("--grace", metavar="SECONDS", type=seconds, default=30.0, help="to stop gracefully; default: 30")
    add("--pid-file", metavar="FILE", help="write the number of the process there, for websock reload")
    add("--log-level", choices=["debug", "info", "warning", "error"], default="info", help="default: info")
    add("--origin", metavar="ORIGIN", action="append", help="pages from there may connect; repeatable; '*': all; "
        "default: those of the same host")  # fmt: skip
    add("--subprotocol", metavar="NAME", action="append", help="one that the handler speaks, best first; repeatable")
    add("--compression", choices=["deflate", "none"], default="deflate", help="default: deflate")
    add("--max-size", metavar="BYTES", type=size, default=2**20, help="of a message; default: 1048576; 0: no limit")
    add("--ping-interval", metavar="SECONDS", type=seconds, default=20.0, help="default: 20; 0: no keepalive")
    add("--ping-timeout", metavar="SECONDS", type=seconds, default=20.0, help="default: 20; 0: wait for ever")
    add_proxy_options(add)

    add("--metrics", metavar="[HOST:]PORT", help="serve /metrics for Prometheus there; HOST is 127.0.0.1 unless given; "
        "of several workers each has its own, on the next free port, as the log tells")  # fmt: skip
    add("--page", metavar="[HOST:]PORT", help="serve a page there that shows what goes on, and closes connections; "
        "likewise, of each worker. Whoever can reach it may do that")  # fmt: skip
    add("--page-host", metavar="NAME", action="append", help="another name by which these two may be asked, such as a "
        "proxy's; repeatable")  # fmt: skip

    sub = command("reload", _reload, "tell a server to reload", description=_RELOAD, epilog=_RELOAD_EXIT)
    sub.add_argument("server", metavar="PID|FILE", help="its number, or the file that --pid-file named")

    sub = command("sockets", _sockets, "the sockets of a process", description=_SOCKETS, epilog=_SOCKETS_EXIT)
    add = sub.add_argument
    add(
        "--pid",
        metavar="N",
        type=_pid,
        help="of this process; default: the command's own, which shows what it inherits",
    )
    add("--json", action="store_true", help="an array of objects, for programs")

    sub = command("bench", bench, "load a server, and measure it", description=ABOUT, epilog=EXIT)
    add_options(sub)

    command("info", _info, "versions, for a bug report")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a port")
    return int(text)


def _model(text: str) -> str:
    try:
        check_model(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10_000):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number of workers")
    return int(text)


def _fd(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise argparse.ArgumentTypeError(f"{text!r} isn't the number of a descriptor")
    return int(text)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a mode such as 660")
    return mode


def _pid(text: str) -> int:
    return above_zero(text, "the number of a process")


def _connect(parser: _Parser, args: argparse.Namespace) -> Exit:
    context = checked_tls(parser, args)
    try:
        opening = connect(
            args.uri,
            origin=args.origin,
            additional_headers=args.header,
            subprotocols=args.subprotocol,
            ssl=context,
            open_timeout=args.timeout,
            close_timeout=args.timeout,
            max_size=args.max_size,
        )
    except ValueError as error:
        parser.error(str(error))
    return talk(opening, args.uri, wait=args.wait, ping=args.ping)


def _echo(parser: _Parser, args: argparse.Namespace) -> Exit:
    if args.unix is not None and (args.host is not None or args.port is not None):
        parser.error("--unix goes without --host and --port")
    context = None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(*args.tls)
        except OSError as error:
            parser.error(f"--tls {' '.join(args.tls)}: {explain(error)}")
    host = "127.0.0.1" if args.host is None else args.host
    port = 8765 if args.port is None else args.port
    return echo(host, port, path=args.unix, tls=context)


def _serve(parser: _Parser, args: argparse.Namespace) -> Exit:
    here = [name for name in ("unix", "fd") if getattr(args, name) is not None]
    here += ["host"] if args.host is not None or args.port is not None else []
    if len(here) > 1:
        parser.error("a server listens on --host and --port, on --unix or on --fd: on one of them")
    if args.unix_mode is not None and args.unix is None:
        parser.error("--unix-mode goes with --unix")
    if args.keyfile is not None and args.certfile is None:
        parser.error("--keyfile goes with --certfile")
    if args.page_host is not None and args.metrics is None and args.page is None:
        parser.error("--page-host goes with --page and --metrics")
    fds = args.fd if here else systemd_fds()
    return serve_handler(
        args.handler,
        host=args.host or "127.0.0.1",
        port=8765 if args.port is None else args.port,
        unix=args.unix,
        mode=args.unix_mode,
        fd=fds or None,
        model=args.model,
        workers=args.workers,
        certfile=args.certfile,
        keyfile=args.keyfile,
        grace=args.grace,
        pid_file=args.pid_file,
        log_level=args.log_level,
        metrics=args.metrics,
        page=args.page,
        page_hosts=args.page_host,
        subprotocols=args.subprotocol,
        compression=None if args.compression == "none" else args.compression,
        max_size=args.max_size,
        ping_interval=args.ping_interval or None,
        ping_timeout=args.ping_timeout or None,
        **proxy_options(args),
        **({} if args.origin is None else {"origins": None if "*" in args.origin else args.origin}),
    )


def _reload(parser: _Parser, args: argparse.Namespace) -> Exit:
    return reload_server(args.server)


def _sockets(parser: _Parser, args: argparse.Namespace) -> Exit:
    return show(args.pid, as_json=args.json)


def _info(parser: _Parser, args: argparse.Namespace) -> Exit:
    lines = {
        "websock": __version__,
        "codec": "native" if ACCELERATED else f"pure Python ({REASON})",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "h11": importlib.metadata.version("h11"),
        "OpenSSL": ssl.OPENSSL_VERSION,
    }
    sys.stdout.writelines(f"{name:<10}{value}\n" for name, value in lines.items())
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
