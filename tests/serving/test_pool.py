"""What models do when they are full, and other things that need no process of their own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import websock.sync
from websock.exceptions import ConnectionClosed, InvalidMessage, InvalidState, InvalidStatus
from websock.serving import Model, Pool, Threads
from websock.sync.models import Host

from ..programs import PATIENCE
from .conftest import until


class Hall:
    """A server whose handlers stay until their client goes."""

    def __init__(self, model: Model, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        self.served: list[Any] = []
        self.model = model
        self.server = websock.sync.serve(self.handle, "127.0.0.1", 0, model=model, ssl=tls, **options)
        scheme = "ws" if tls is None else "wss"
        self.uri = f"{scheme}://127.0.0.1:{self.server.socket.getsockname()[1]}/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def handle(self, ws: Any) -> None:
        self.served.append(ws)
        for message in ws:
            ws.send(message)

    def connect(self, **options: Any) -> Any:
        return websock.sync.connect(self.uri, open_timeout=PATIENCE, **options)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()


@pytest.fixture
def hall() -> Iterator[Callable[..., Hall]]:
    halls: list[Hall] = []

    def hall(model: Model, *args: Any, **options: Any) -> Hall:
        halls.append(Hall(model, *args, **options))
        return halls[-1]

    yield hall
    for one in halls:
        one.close()


Halls = Callable[..., Hall]


def refusal(hall: Hall, **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as refused:
        hall.connect(**options)
    return refused.value.response


def asks(hall: Any) -> int | None:
    """What one more connection is answered; None if it is closed without a word."""
    try:
        hall.connect().close()
    except InvalidStatus as refused:
        return refused.response.status_code
    except (InvalidMessage, OSError):
        return None
    return 101


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_full_pool_refuses(
    hall: Halls, secure: bool, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext, logs: Any
) -> None:
    full = hall(Pool(2, queue=0), server_ssl if secure else None)
    options: dict[str, Any] = {"ssl": client_ssl} if secure else {}
    with full.connect(**options), full.connect(**options):
        for _ in range(3):
            if secure:  # there is nobody to do a TLS handshake with it
                with pytest.raises((InvalidMessage, OSError)):
                    full.connect(**options)
                continue
            response = refusal(full, **options)
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
    lines = [one.getMessage() for one in logs.records if "refused" in one.getMessage()]
    assert lines == ["connections refused: 1 (all 2 threads are in use and 0 connections wait)"]
    until(lambda: not full.model.jobs(), "room")
    with full.connect(**options) as ws:  # there is room again
        ws.send("x")
        assert ws.recv(timeout=PATIENCE) == "x"


def test_who_waits_is_served_next(hall: Halls) -> None:
    full = hall(Pool(1, queue=1, patience=PATIENCE))
    first = full.connect()
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(full.connect()))
    waiting.start()
    until(lambda: len(full.model._waiting) == 1, "the queue")  # type: ignore[attr-defined]
    assert refusal(full).status_code == 503
    assert not found
    first.close()
    waiting.join()
    with found[0] as ws:
        ws.send("at last")
        assert ws.recv(timeout=PATIENCE) == "at last"


def test_nobody_waits_for_ever(hall: Halls) -> None:
    full = hall(Pool(1, queue=5, patience=0.05))
    with full.connect() as ws:
        assert refusal(full).status_code == 503
        ws.send("x")
        assert ws.recv(timeout=PATIENCE) == "x"


def test_who_waits_when_the_server_ends_is_refused(hall: Halls) -> None:
    full = hall(Pool(1, queue=5, patience=PATIENCE))
    first = full.connect()
    outcomes: list[Any] = []

    def wait() -> None:
        try:
            full.connect()
        except Exception as error:
            outcomes.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: len(full.model._waiting) == 1, "the queue")  # type: ignore[attr-defined]
    closing = threading.Thread(target=full.server.shutdown)
    closing.start()
    with pytest.raises(ConnectionClosed) as closed:
        first.recv(timeout=PATIENCE)
    first.close()
    closing.join()
    waiting.join()
    assert closed.value.code == 1001
    assert len(outcomes) == 1


def test_a_pool_has_no_more_threads_than_it_says(hall: Halls) -> None:
    before = threading.active_count()
    full = hall(Pool(3, queue=64, patience=PATIENCE))
    ends = [threading.Thread(target=lambda: full.connect().close()) for _ in range(20)]
    for one in ends:
        one.start()
    for one in ends:
        one.join()
    until(lambda: not full.model.jobs() and threading.active_count() <= before + 5, "the end of the usher")
    assert len(full.served) == 20
    assert len({thread for thread in threading.enumerate() if thread.name.startswith("websock-pool")}) <= 3


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"queue": -1}, {"patience": -1.0}])
def test_a_pool_of_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a pool needs"):
        Pool(**wrong)


def test_a_model_serves_one_server(hall: Halls) -> None:
    model = Threads()
    hall(model)
    with pytest.raises(InvalidState, match="a model of its own"):
        hall(model)


def test_a_model_without_a_server() -> None:
    with pytest.raises(InvalidState, match="no server yet"):
        _: Host = Threads().host


def test_what_nobody_asks_is_not_waited_for(hall: Halls) -> None:
    """A refused connection that sends no request holds up neither the others nor the end."""
    import socket

    full = hall(Pool(1, queue=0))
    with full.connect():
        silent = [socket.create_connection(full.server.socket.getsockname()) for _ in range(300)]
        try:
            until(lambda: asks(full) == 503, "an answer, when those before have had their second")
        finally:
            for one in silent:
                one.close()
