"""A blocking stream with TLS: `TLSStream`.

OpenSSL works on memory (`TLS`). Beside the turns of a `Stream`, which its calls have, there are three locks:

- ``_shaking``: held by the one who does the handshake; who comes meanwhile waits for it;
- ``_writing``: held while records go to the socket, by a sender also while it waits for that. A receiver, who may have
  records to send too (an answer to new keys), leaves them to the sender rather than wait for it;
- ``_state``: guards OpenSSL, and is never held across I/O.

So one thread can receive while another sends, which CPython's SSLSocket does not promise.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import threading
import time
from typing import Any, Final

from ..typing import Buffer
from .address import Address
from .channel import wait_for
from .guard import Using, deadline_after, seconds, seconds_left
from .stream import DONTWAIT, ENDING, READ_SIZE, Stream
from .tls import ANSWERS, TLS, explain_tls, secured

__all__ = ["HANDSHAKE_TIMEOUT", "TLSStream"]

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds that a TLS handshake may take, unless it is said otherwise."""

_RENEGOTIATING: Final = 0.001  # seconds between looks at a handshake that another thread does
_PART: Final = 2**18  # octets that are encrypted at a time


class TLSStream(Stream):
    """As `Stream`. The TLS handshake is done with the first use, or by `handshake`.

    An end of the connection without TLS' own end (close_notify, RFC 8446 section 6.1) counts as an end: protocols
    that cannot tell by themselves whether they have all should look at ``ended_properly``.

    Args:
        sock: connected; it belongs to the stream from now on, unless this fails.
        context: certificates and settings, of the right side.
        server_side: our role.
        server_hostname: client only: the name to ask for (SNI) and to verify.
        handshake_timeout: seconds that the handshake may take when it is done with the first use; None for no limit.

    Raises:
        ValueError: the context is for the other side, or wants a name to verify.
    """

    __slots__ = (
        "_answers", "_at_eof", "_broken", "_engine", "_records", "_shaken", "_shaking", "_state", "_unsent", "_writing",
        "handshake_timeout",
    )  # fmt: skip

    _plain = False

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        remote: Address | None = None,
        receive_timeout: float | None = None,
        send_timeout: float | None = None,
    ) -> None:
        try:
            self._engine = TLS(context, server_side=server_side, server_hostname=server_hostname)
        except ssl.SSLError as error:
            raise ValueError(f"the TLS settings are not for this side: {error}") from error
        self.handshake_timeout = seconds(handshake_timeout, "handshake_timeout")
        self._state = threading.Lock()
        self._writing = threading.Lock()
        self._shaking = threading.Lock()
        self._shaken = False
        self._broken: OSError | None = None  # TLS has failed
        self._answers = 0  # octets that what came has made TLS write, since nothing waited
        self._at_eof = False
        self._unsent: list[Buffer] = []  # records
        self._records: memoryview | None = None  # where they are read into
        super().__init__(sock, remote=remote, receive_timeout=receive_timeout, send_timeout=send_timeout)

    def _spelled(self, address: Address) -> Address:
        return secured(address)

    @property
    def tls(self) -> ssl.SSLObject:
        """For what it tells of the peer: certificate, cipher, version."""
        return self._engine.object

    @property
    def alpn_protocol(self) -> str | None:
        return self._engine.object.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate; None without one, before the handshake, and when it is not verified."""
        return (self._engine.object.getpeercert() or None) if self._shaken else None

    @property
    def ended_properly(self) -> bool:
        return self._engine.eof

    # The handshake.

    def handshake(self, timeout: float | None = None) -> None:
        with Using(self, self._receiving, "receives", "begin TLS with"):
            self._shake(self.handshake_timeout if timeout is None else seconds(timeout, "timeout"))

    def _shake(self, timeout: float | None) -> None:
        """Do the handshake, or wait for the other thread that does."""
        if self._shaken:
            return
        deadline = deadline_after(timeout)
        if not self._shaking.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError("no TLS handshake in time")
        try:
            while not self._shaken:
                self._check_open()
                if self._broken is not None:
                    raise self._broken
                self._send_records(deadline)
                if self._engine.done:
                    self._shaken = True
                else:
                    data = self._read_records(deadline)
                    if not len(data):
                        self._check_open()
                        raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer ended the connection in the TLS handshake")
                    self._ahead = self._decrypt(data)
        except TimeoutError as error:
            error.args = error.args or ("no TLS handshake in time",)
            raise
        finally:
            self._shaking.release()

    def _shake_first(self, deadline: float | None) -> None:
        """For a call that has until then; the handshake has its own limit beside that."""
        if not self._shaken:
            limits = [one for one in (self.handshake_timeout, seconds_left(deadline)) if one is not None]
            self._shake(min(limits, default=None))

    # Receiving.

    def receive(self, max_size: int = READ_SIZE) -> bytes:
        if max_size < 1:
            raise ValueError(f"max_size is at least 1, not {max_size}")
        with Using(self, self._receiving, "receives", "receive from"):
            if not self._ahead:
                self._fill(self._receive_timeout)
            return self._take(max_size)

    def _into(self, view: memoryview, timeout: float | None) -> int:
        if not self._ahead:
            self._fill(timeout)
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)

    def _fill(self, timeout: float | None) -> None:
        """Receive until there is something to return, or the end."""
        deadline = deadline_after(timeout)
        self._shake_first(deadline)
        while not (self._ahead or self._at_eof):
            if self._broken is not None:
                raise self._broken
            if self._engine.eof:
                self._at_eof = True
                return
            if self._unsent or self._engine.has_outgoing:
                self._send_what_goes(deadline)
            data = self._read_records(deadline)
            if len(data):
                self._ahead = self._decrypt(data)
            else:
                self._check_open()
                self._at_eof = True

    def _has_come(self) -> bool:
        # Records may have come that are TLS's own, such as the tickets of a server: those are no news.
        while self._broken is None and not (self._ahead or self._at_eof or self._engine.eof) and super()._has_come():
            data = self._read_records(time.monotonic())
            self._at_eof = not len(data)
            self._ahead = self._decrypt(data)
        return bool(self._ahead or self._at_eof or self._engine.eof or self._broken)

    def _read_records(self, deadline: float | None) -> memoryview:
        if self._records is None:
            self._records = memoryview(bytearray(READ_SIZE))
        return self._records[: super()._into(self._records, seconds_left(deadline))]

    def _decrypt(self, data: memoryview) -> bytes:
        try:
            with self._state:
                before = self._engine.outgoing_size
                plain = self._engine.receive(data)
                self._answers += self._engine.outgoing_size - before
                self._broken = self._engine.error
        except ssl.SSLError as error:
            self._broken = error
            with contextlib.suppress(OSError):
                self._send_what_goes(None, wait=False)  # the alert that says why
            raise
        return plain

    # Sending.

    def _write(self, buffers: list[Buffer], before: int, deadline: float | None = None) -> None:
        if deadline is None:
            deadline = deadline_after(self._send_timeout)
        self._shake_first(deadline)
        sent = before
        try:
            for buffer in buffers:
                view = memoryview(buffer).cast("B")
                for start in range(0, len(view), _PART):
                    part = view[start : start + _PART]
                    self._encrypt(part, deadline)
                    sent += len(part)
                    self._send_records(deadline)
        except BaseException as error:
            self._stopped(error, sent)
            raise

    def _encrypt(self, part: memoryview, deadline: float | None) -> None:
        """When the peer has asked for a new handshake (TLS 1.2 only) nothing goes until who receives has seen to it.

        It has the time of a handshake, since perhaps nobody receives.
        """
        limit = None
        while True:
            try:
                with self._state:
                    self._engine.send([part])
                return
            except ssl.SSLWantReadError:
                if limit is None:
                    limits = (deadline, deadline_after(self.handshake_timeout))
                    limit = min((one for one in limits if one is not None), default=math.inf)
            if time.monotonic() >= limit:
                raise TimeoutError("no TLS handshake in time: somebody must receive while the peer renegotiates")
            self._send_records(deadline)
            time.sleep(_RENEGOTIATING)
            self._check_open()
            if self._broken is not None:
                raise self._broken

    def _send_records(self, deadline: float | None) -> None:
        """Hand all records that there are to the system."""
        while self._unsent or self._engine.has_outgoing:
            with self._writing:
                self._collect_records()
                self._push(self._unsent, deadline)
                self._answers = 0

    def _collect_records(self) -> None:
        """``_writing`` is held, so that they go out in their order."""
        with self._state:
            self._unsent += self._engine.outgoing()

    def _send_what_goes(self, deadline: float | None, *, wait: bool = True) -> None:
        """For who receives: hand to the system what it takes while there is nothing to read.

        When too much waits already it goes out first: who only asks, and does not read, gets no more answers.
        """
        while self._unsent or self._engine.has_outgoing:
            full = wait and self._answers > ANSWERS
            left = seconds_left(deadline)
            if not (
                self._writing.acquire(True, -1 if left is None else left) if full else self._writing.acquire(False)
            ):
                if full:
                    raise TimeoutError
                return  # the one who sends takes it along: it looks again after its release
            try:
                self._collect_records()
                with contextlib.suppress(BlockingIOError):
                    while self._unsent:
                        sent = self._sock.send(self._unsent[0], DONTWAIT)
                        self._unsent[0] = memoryview(self._unsent[0])[sent:]
                        if not len(self._unsent[0]):
                            del self._unsent[0]
                    self._answers = 0
            finally:
                self._writing.release()
            if self._unsent:
                if not wait:
                    return
                readable, writable = wait_for(self._sock, not full, True, seconds_left(deadline))
                self._check_open()
                if readable:
                    return
                if not writable:
                    raise TimeoutError

    def _end_sending(self) -> None:
        deadline = deadline_after(self._send_timeout)
        self._shake_first(deadline)
        if not self._shut:
            self._shut_down(ENDING)
            with self._state:
                self._engine.close()
        self._send_records(deadline)
        super()._end_sending()

    def _say_goodbye(self) -> None:
        if not self._shaken or self._broken is not None:
            return
        # A signal handler may have interrupted who holds them.
        if self._state.acquire(timeout=0.1):
            try:
                self._engine.close()
            finally:
                self._state.release()
            self._send_what_goes(None, wait=False)

    def _explained(self, error: OSError, doing: str) -> OSError:
        if isinstance(error, ssl.SSLError) and not self._closing:
            return explain_tls(error, doing, self._where())
        return super()._explained(error, doing)
