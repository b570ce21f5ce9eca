"""``websock serve``: a handler in production; and ``websock reload``."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..metrics import Metrics
from ..net.errors import explain as explain_file
from ..serving.loading import LoadError
from ..serving.places import spell
from ..serving.prefork import StartError
from ..serving.running import Serving
from . import Exit, complain, explain

__all__ = ["add_proxy_options", "proxy_options", "reload_server", "serve_handler"]

_LOG = "%(asctime)s %(levelname)s [%(process)d] %(message)s"


def add_proxy_options(add: Callable[..., object]) -> None:
    """What a server behind a proxy needs. `add` is the parser's ``add_argument``."""
    add("--trusted-proxy", metavar="NETWORK", action="append", help="believe what it says of clients, in Forwarded or "
        "X-Forwarded-For: 10.0.0.0/8; unix: whoever comes by a Unix socket; repeatable")  # fmt: skip
    add("--proxy-protocol", action="store_true", help="connections begin with HAProxy's PROXY header, version 1 or 2")
    add("--health", metavar="PATH", help="answer GET PATH with 200, for health checks: /healthz")


def proxy_options(args: argparse.Namespace) -> dict[str, Any]:
    """What these say, for `serve_handler`."""
    return {"trusted_proxies": args.trusted_proxy, "proxy_protocol": args.proxy_protocol, "health": args.health}


def serve_handler(
    handler: str,
    *,
    pid_file: str | None,
    log_level: str,
    metrics: str | None = None,
    page: str | None = None,
    page_hosts: Sequence[str] | None = None,
    **how: Any,
) -> Exit:
    """Serve ``module:name`` until SIGINT or SIGTERM. `how` is for `Serving`, and the rest as for `Metrics`."""
    logging.basicConfig(level=log_level.upper(), format=_LOG, stream=sys.stderr)
    secure = how.get("certfile") is not None
    try:
        if metrics is not None or page is not None:
            how["metrics"] = Metrics(prometheus=metrics, page=page, hosts=page_hosts or ())
        with _PidFile(pid_file) if pid_file is not None else contextlib.nullcontext() as file:

            def ready(sockets: Sequence[socket.socket]) -> None:
                if file is not None:
                    file.write()
                for sock in sockets:
                    sys.stdout.write(spell(sock, secure=secure) + "\n")
                sys.stdout.flush()

            Serving(handler, on_ready=ready, **how).run()
    except LoadError as error:
        if error.__cause__ is not None:
            logging.getLogger("websock.server").error("%s", error, exc_info=error.__cause__)
        complain("serve", str(error))
        return Exit.USAGE if error.__cause__ is None else Exit.FAILED
    except StartError as error:
        complain("serve", str(error))
        return Exit.USAGE if error.usage else Exit.FAILED
    except OSError as error:
        complain("serve", explain(error))
        return Exit.FAILED
    except (TypeError, ValueError, ImportError) as error:
        complain("serve", str(error))
        return Exit.USAGE
    return Exit.OK


def reload_server(target: str) -> Exit:
    """Tell a server to reload: by its number, or by the file that it wrote it to."""
    if not hasattr(signal, "SIGHUP"):
        complain("reload", "this system has no signal for it")
        return Exit.FAILED
    try:
        pid = int(target) if target.isascii() and target.isdigit() else _pid_in(target)
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        complain("reload", f"there is no process {pid}")
    except PermissionError as error:
        complain("reload", str(error) if error.filename else f"process {pid} is somebody else's")
    except (OSError, ValueError) as error:
        complain("reload", explain(error))
    else:
        return Exit.OK
    return Exit.FAILED


class _PidFile:
    """The number of this process in a file, which is locked for as long as it runs.

    The lock (fcntl(2): children do not inherit it) tells a server that runs from a file that one left when it was
    killed, whose number may be that of any other process now.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> _PidFile:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            advice = "there is no such folder" if error.errno == errno.ENOENT else None
            raise explain_file(error, "write", self._path, advice=advice) from None
        if not _lock(self._fd):
            os.close(self._fd)
            raise OSError(f"the server that wrote {self._path} runs")
        return self

    def write(self) -> None:
        """To be called when it can be told something."""
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._fd)


def _lock(fd: int) -> bool:
    """Lock a file, which takes no time; whether nobody else has."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return True
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pid_in(path: str) -> int:
    with _opened(path) as fd:
        if _lock(fd):
            raise ValueError(f"no server runs that has written {path}")
        text = os.read(fd, 32).decode("ascii", "replace").strip()
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"{path} has no number of a process (yet)")
    return int(text)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError as error:
        raise explain_file(error, "read", path) from None
    try:
        yield fd
    finally:
        os.close(fd)
