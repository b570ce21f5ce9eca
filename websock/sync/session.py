"""One connection of a blocking server from its acceptance to its end: a `Job` for whatever model runs it."""

from __future__ import annotations

import functools
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ..core import draining
from ..core.forwarding import ProxyHeader
from ..core.gate import Ticket
from ..core.handshake import ServerHandshake
from ..core.protocol import LINGER_TIME, State
from ..core.slow import DEFAULT
from ..exceptions import (
    CloseCause,
    InvalidHandshake,
    InvalidMessage,
    LimitExceeded,
    RequestTimeout,
    ServerClosing,
)
from ..http11 import Request
from ..net.channel import can_be_read, channel_for
from ..net.tls import TLS
from ..spec import CloseCode
from .opening import Wire

if TYPE_CHECKING:
    from .server import Server, ServerConnection

__all__ = ["Session"]


class _Told(NamedTuple):
    """How a session is to end."""

    close_connections: bool
    code: int
    reason: str
    refuse: bool
    patience: float | None  # None: at once
    leave_at: float


class Session:
    """One connection from its acceptance to its end: a `Job`, wherever the model runs it."""

    def __init__(self, server: Server, sock: socket.socket, ticket: Ticket) -> None:
        timeout = server.service.options.open_timeout
        self._server = server
        self._stream = channel_for(sock)
        self._ticket = ticket
        ticket.give_up = self.give_up
        ticket.waits_for_us = functools.partial(can_be_read, sock)
        self._given_up: InvalidHandshake | None = None
        self._peer = ticket.address
        self._wire = Wire(self._stream, None if timeout is None else time.monotonic() + timeout)
        self._lock = threading.Lock()  # guards the moment in which the opening handshake is answered
        self.opened = False  # it was answered with 101
        self._told: _Told | None = None  # what `stop` was told
        self._leaving = False
        self.connection: ServerConnection | None = None

    def __str__(self) -> str:
        return str(self._peer)

    def give_up(self, failure: InvalidHandshake) -> None:
        """A newer connection needs the place of this half-open one. Does not wait."""
        self._given_up = failure
        self._stream.shutdown_read()  # the answer is `failure`, if there is a request to answer

    # What a model calls: see `Job`.

    def stop(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        refuse: bool = True,
        patience: float | None = None,
        spread: float = 0.0,
    ) -> None:
        """The server stops: start closing, or end the opening handshake. Does not wait.

        With `patience` the connection is closed when its handler has nothing under way, after so many seconds in any
        case, and not before a moment at random within `spread` seconds: for that `step` has to be called.
        """
        with self._lock:
            leave_at = time.monotonic() + draining.moment(spread)
            self._told = _Told(close_connections, code, reason, refuse, patience, leave_at)
            if not self.opened:
                if refuse:
                    self._stream.shutdown_read()  # the answer is 503
                return
        if self._is_open:
            self._close_as_told(self.connection)  # else `run` does

    @property
    def _is_open(self) -> bool:
        return self.connection is not None and self.connection.state is not State.CONNECTING

    def _close_as_told(self, connection: ServerConnection | None) -> None:
        told = self._told
        if connection is None or told is None or not told.close_connections:
            return
        if told.patience is None:
            connection._start_close(told.code, told.reason, CloseCause.DRAINED)
        else:
            self.step()

    def step(self) -> None:
        """While the server drains: close the connection as soon as it is time, and it is idle."""
        connection, told = self.connection, self._told
        if connection is None or told is None or told.patience is None or connection.state is not State.OPEN:
            return
        if not self._leaving and time.monotonic() >= told.leave_at:
            self._leaving = True
            connection._leave(told.code, told.reason, told.patience)
        connection._leave_if_idle()

    @property
    def over(self) -> bool:
        """Whether there is no open connection any more."""
        return self.connection is None or not self.opened or self.connection._shut

    def cut(self) -> None:
        """End the connection now, without a Close."""
        if self._is_open and self.connection is not None:
            self.connection._cut()

    def wait(self) -> None:
        """After `stop`: the closing handshake, which a busy handler would not get done."""
        connection, told = self.connection, self._told
        if told is None or not told.close_connections or connection is None or not self._is_open:
            return
        while told.patience is not None and not connection.wait_closed(draining.STEP):
            self.step()
        connection.wait_closed()

    def abort(self) -> None:
        """End the connection at once: whoever waits for it is told that it is lost."""
        self._stream.shutdown()

    def refuse(self) -> None:
        """There is no room for it: 503."""
        server = self._server
        server._turn_away(self._stream.sock, LimitExceeded("no room", 503, server.service.limits.retry_after))
        self.ended()

    def forget(self) -> None:
        """It runs in another process: there it is looked after until it is open, too."""
        self._stream.close()
        with self._server._gate_lock:
            self._server._gate.handed_over(self._ticket)

    def ended(self) -> None:
        """It is over, wherever it ran: its place is free."""
        server = self._server
        with server._gate_lock:
            self._ticket.forget()
            server._gate.leave(self._ticket)

    def drop(self) -> None:
        """Nobody can run it."""
        self._stream.close()
        self.ended()

    def run(self) -> None:
        """The whole life of the connection."""
        server = self._server
        connection = None
        try:
            connection = self._open()
        finally:
            if connection is None:
                self._stream.close()
        if connection is None:
            return
        if self._told is not None:
            self._close_as_told(connection)
        elif server._closing and server._farewell is not None:
            connection._start_close(*server._farewell, CloseCause.DRAINED)
        with server.service.handling(connection) as run:
            server.service.handler(connection)
        connection._start_close(run.code, "", run.why)
        connection.wait_closed()

    def _open(self) -> ServerConnection | None:
        """The opening handshake; None when it did not lead to a connection."""
        server, wire = self._server, self._wire
        handshake = server.service.handshake()
        try:
            if server.service.proxy_protocol and not self._proxied():
                return None
            if server.ssl is not None:
                wire.secure(TLS(server.ssl, server_side=True))
            wire.drive(handshake, lambda: handshake.done or handshake.request is not None)
            if handshake.request is not None and not handshake.done:
                with server._gate_lock:
                    failure = self._given_up  # a moment ago
                    if failure is None:
                        failure = server._gate.opened(self._ticket, handshake.request, time.monotonic())
                self._peer = self._ticket.address
                if failure is not None:
                    handshake.fail(failure)
                else:
                    self._answer(handshake, handshake.request)
        except TimeoutError:
            if not wire.heard or not self._speaks:
                server.service.tell_outcome(None, RequestTimeout("no request in time"), self._peer)
                return None
            handshake.fail(RequestTimeout(f"no complete handshake within {server.service.options.open_timeout} s"))
        except (OSError, EOFError) as error:
            stopped = self._told.refuse if self._told is not None else server._closing and server._refusing
            if self._given_up is not None and wire.heard and self._speaks:
                handshake.fail(self._given_up)
            elif stopped and self._speaks:
                handshake.fail(ServerClosing("the server is closing"))
            else:
                server.service.tell_outcome(None, self._given_up or error, self._peer)
                return None
        with self._lock:
            if handshake.protocol is not None and self._told is not None and self._told.refuse:
                # It was told so while a hook ran. Reading is shut down, so it could not even be closed properly.
                handshake = server.service.handshake()
                handshake.fail(ServerClosing("the server is closing"))
            self.opened = handshake.protocol is not None
        if handshake.protocol is None:
            with server._gate_lock:
                server._gate.answered(self._ticket)
        server.service.tell_outcome(handshake.response, handshake.failure, self._peer)
        try:
            wire.send(handshake.outgoing())
            if handshake.protocol is None:
                wire.drain(LINGER_TIME)
        except OSError:
            return None  # the answer had nobody to go to
        connection = self.connection
        if handshake.protocol is None or connection is None:
            return None
        connection._tls = wire.tls
        connection.open(handshake.protocol, handshake.leftover)
        return connection

    @property
    def _speaks(self) -> bool:
        """Whether an answer could be read: there is no TLS handshake under way."""
        return self._server.ssl is None or self._wire.tls is not None

    def _proxied(self) -> bool:
        """Read the PROXY header; False when the connection is not wanted.

        Raises:
            OSError, EOFError: as `Wire.drive`.
        """
        server, header = self._server, ProxyHeader()
        try:
            self._wire.read_header(header)
        except InvalidMessage as failure:
            with server._gate_lock:
                server._gate.broken_header(self._ticket, failure, time.monotonic())
            server.service.tell_outcome(None, failure, self._peer)
            return False
        with server._gate_lock:
            failed = server._gate.proxied(self._ticket, header, time.monotonic())
        self._peer = self._ticket.address
        if failed is not None:
            server.service.tell_outcome(None, failed, self._peer)
        return failed is None

    def _answer(self, handshake: ServerHandshake, request: Request) -> None:
        server = self._server
        connection = self.connection = server.create_connection(server.logger, self._stream, self._wire.tls)
        connection.server = server
        connection._ticket = self._ticket
        if self._ticket.proxy_address is not None:
            connection.remote_address = self._ticket.address
        connection.proxy_address = self._ticket.proxy_address
        connection.forwarded_proto = self._ticket.forwarded_proto
        connection.request = request
        if server.service.slow_consumers is not DEFAULT:
            connection.slow_consumers = server.service.slow_consumers
        steps = server.service.answer(handshake, connection)
        try:
            value = next(steps)
            while True:
                value = steps.send(value)
        except StopIteration:
            pass
