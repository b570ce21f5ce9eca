"""One call that serves: `run`, and `Serving` for programs that serve beside something else."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from .. import asyncio as asyncio_adapter
from .. import sync as sync_adapter
from ..core.endpoint import default_logger
from ..core.forwarding import Networks
from ..core.options import Options
from ..core.service import check_kind, handler_kind
from ..sync.models import Job, Model, Threads
from ..typing import LoggerLike
from .backplane import meet_at, meeting_place
from .blocking import Blocking
from .certificates import Certificates
from .event_loop import EventLoop
from .health import answering
from .loading import load
from .notify import notify
from .orders import Do, Order, Orders
from .places import Place
from .plan import Form, Plan
from .pool import Pool
from .prefork import Supervisor
from .processes import Processes
from .signals import obeying

__all__ = ["MODELS", "Job", "Model", "Serving", "Threads", "check_model", "run"]

MODELS: Final = ("auto", "asyncio", "uvloop", "threads", "pool", "processes")
"""The names of models: "auto" is an event loop for coroutine functions, and threads for others."""

_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(Options))
_OURS: Final = frozenset({"sock", "host", "port", "handler", "model", "start_serving", "self", "options"})


def run(handler: Any, host: str | Sequence[str] | None = None, port: int = 0, **how: Any) -> None:
    """Serve until SIGTERM, SIGINT or an order; blocks. All arguments are those of `Serving`.

    ::

        async def handler(ws):
            async for message in ws:
                await ws.send(message)

        if __name__ == "__main__":
            websock.serving.run(handler, "localhost", 8765)

    SIGTERM and SIGINT stop gracefully (a second one, or SIGQUIT, at once). SIGHUP reads TLS files again, and with
    `workers` replaces all of them. Signals are the main thread's; elsewhere use `Serving` and its methods.

    Raises:
        TypeError: the handler is not of the kind that the model runs, or an option does not exist.
        ValueError: a wrong value.
        OSError: cannot listen there; NotOnThisSystem: it has no fork.
        LoadError, StartError: the handler cannot be loaded, or no worker can serve.
    """
    Serving(handler, host, port, **how).run()


class Serving:
    """A server, of whatever model and in however many processes: one handler, one switch.

    Args:
        handler: a coroutine function for event loops, an ordinary function for other models; or its name,
            ``"module:name"``, which each worker imports for itself, so that a reload brings new code.
        host, port: where to listen; host None is every address, port 0 any free one.
        unix: the path of a Unix socket, instead; `mode` is that of its file, such as 0o660.
        fd: the descriptor of a listening socket, or several, instead.
        sock: a listening socket, or several, instead. It is closed at the end.
        model: one of `MODELS`, or an object: ``EventLoop()``, ``Threads()``, ``Pool(threads=100)``, ``Processes()``.
        workers: how many processes, with a supervisor that starts them again when they die; None: this process alone.
        certfile, keyfile: TLS files (PEM), which a reload reads again. Without them, and without ``ssl``, it is plain.
        grace: seconds from the order to stop until what is left is cut.
        health: a path, such as ``"/healthz"``, that is answered with 200: for the health checks of proxies. Those are
            GET requests of HTTP/1.1.
        reuse_port: with workers, a listener for each; None is the better one of this system, see `places`.
        backlog: of the listening sockets.
        logger: default ``logging.getLogger("websock.server")``.
        on_ready: called when it serves, with the listening sockets.
        options: the other keywords of the adapter's ``serve``. Limits in them are those of one worker.

    Raises:
        TypeError, ValueError, NotOnThisSystem, ImportError: as `run`; what can be known before serving is.
    """

    def __init__(
        self,
        handler: Any,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        *,
        unix: str | os.PathLike[str] | None = None,
        mode: int | None = None,
        fd: int | Sequence[int] | None = None,
        sock: socket.socket | Sequence[socket.socket] | None = None,
        model: str | Model | EventLoop = "auto",
        workers: int | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        grace: float = 30.0,
        health: str | None = None,
        reuse_port: bool | None = None,
        backlog: int = 1024,
        logger: LoggerLike | None = None,
        on_ready: Callable[[Sequence[socket.socket]], object] | None = None,
        **options: Any,
    ) -> None:
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ValueError(f"workers is a number from 1, or None, not {workers!r}")
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
            raise ValueError(f"grace is a number of seconds, not {grace!r}")
        if keyfile is not None and certfile is None:
            raise ValueError("keyfile goes with certfile")
        if certfile is not None and options.get("ssl") is not None:
            raise ValueError("certfile and ssl are two ways to say the same: give one of them")
        if health is not None:
            options["process_request"] = answering(health, options.get("process_request"))
        self._handler = handler
        self._model = model
        self._workers = workers
        self._options = options
        self._place = Place(
            hosts=[host] if host is None or isinstance(host, str) else host,
            port=port,
            unix=None if unix is None else os.fspath(unix),
            mode=mode,
            fds=() if fd is None else [fd] if isinstance(fd, int) else fd,
            sockets=() if sock is None else list(sock) if isinstance(sock, Sequence) else [sock],
            backlog=backlog,
            reuse_port=reuse_port,
        )
        self._certificates = None if certfile is None else Certificates(certfile, keyfile)
        self._grace = float(grace)
        self._logger = logger or default_logger("server")
        self._on_ready = on_ready
        self._orders = Orders()
        check_model(model)
        if not isinstance(handler, str):
            self._form(handler)
        elif isinstance(model, Model | EventLoop) or model != "auto":
            self._check_options(form_for(model, None))
        self._check_values()
        if workers is not None and not hasattr(os, "fork"):
            from ..net.errors import NotOnThisSystem

            raise NotOnThisSystem("workers (fork)")

    def run(self) -> None:
        """Serve until stopped; blocks. In the main thread, signals are obeyed."""
        prepared = None
        if self._workers is None:
            prepared = self._prepare()
        sockets = self._place.listen(self._workers or 1)
        with obeying(self._orders):
            if prepared is not None:
                form, plan = prepared
                try:
                    form.serve(plan, sockets[0], self._orders, lambda: self._is_ready(sockets[0]))
                finally:
                    for sock in sockets[0]:
                        sock.close()
                return
            with meeting_place(self._logger) as place:
                Supervisor(
                    sockets,
                    functools.partial(self._work, place),
                    orders=self._orders,
                    grace=self._grace,
                    logger=self._logger,
                    ready=lambda: self._is_ready(sockets[0]),
                ).run()

    def stop(self, code: int = 1001, reason: str = "") -> None:
        """Stop gracefully, with this code and reason in the Close frames; a second time at once. Does not wait."""
        self._orders.give(Order(Do.STOP, code, reason))

    def reload(self) -> None:
        """As SIGHUP: new workers, new TLS files. Does not wait."""
        self._orders.give(Order(Do.RELOAD))

    def _is_ready(self, sockets: Sequence[socket.socket]) -> None:
        notify("READY")
        if self._on_ready is not None:
            self._on_ready(sockets)

    def _work(
        self, place: str | None, sockets: Sequence[socket.socket], orders: Orders, ready: Callable[[], object]
    ) -> None:
        """What a worker does."""
        meet_at(place)
        form, plan = self._prepare()
        if orders.line is not None and form.name != Processes.name:
            orders.line.follow()
            orders.line = None
        form.serve(plan, sockets, orders, ready)

    def _prepare(self) -> tuple[Form, Plan]:
        handler = load(self._handler) if isinstance(self._handler, str) else self._handler
        form = self._form(handler)
        if self._certificates is not None:
            self._certificates.context()
        return form, Plan(handler, self._options, self._certificates, self._grace, self._logger)

    def _form(self, handler: Any) -> Form:
        """The form for this handler, which must be one that it can run."""
        form = form_for(self._model, handler, on_message="on_message" in self._options)
        form.check()
        if handler is not None or not (form.asynchronous and self._options.get("on_message") is not None):
            check_kind(handler, asynchronous=form.asynchronous, model=form.name)
        self._check_options(form)
        return form

    def _check_options(self, form: Form) -> None:
        """Raise what an option deserves that the adapter does not have."""
        serve = asyncio_adapter.serve.__init__ if form.asynchronous else sync_adapter.serve
        theirs = ({*inspect.signature(serve).parameters} | _FIELDS) - _OURS
        for name in self._options:
            if name not in theirs:
                near = difflib.get_close_matches(name, sorted({*inspect.signature(Serving).parameters, *theirs}), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"serving with the model {form.name!r} has no option {name!r}{hint}")

    def _check_values(self) -> None:
        """Raise what a wrong value deserves, before anything is forked. They mean the same in all models."""
        Options(**{name: value for name, value in self._options.items() if name in _FIELDS})
        if (proxies := self._options.get("trusted_proxies")) is not None:
            self._options["trusted_proxies"] = Networks(proxies)  # what was given may be one that is read only once


def check_model(model: object) -> None:
    """Raise what a model deserves that is none; a name is told the nearest one."""
    if isinstance(model, str):
        if model not in MODELS:
            near = difflib.get_close_matches(model, MODELS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(MODELS)}"
            raise ValueError(f"there is no model {model!r}{hint}")
    elif not isinstance(model, Model | EventLoop):
        raise TypeError(f"a model is a name or an object of websock.serving, not {model!r}")


def form_for(model: str | Model | EventLoop, handler: Any, *, on_message: bool = False) -> Form:
    """What serves with a model; "auto" looks at the handler.

    Raises:
        ValueError, TypeError: there is no such model.
        NotOnThisSystem: the system cannot.
    """
    check_model(model)
    if isinstance(model, EventLoop):
        return model
    if isinstance(model, Model):
        return Blocking(model)
    if model == "auto":
        loop = handler is None or handler_kind(handler) in ("coroutine", "either")
        return EventLoop() if loop or on_message else Blocking(Threads())
    if model in ("asyncio", "uvloop"):
        return EventLoop(model)
    makers: dict[str, Callable[[], Model]] = {"threads": Threads, "pool": Pool, "processes": Processes}
    return Blocking(makers[model]())
