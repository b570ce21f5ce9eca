"""A server that does what a script says, also what no good server does: for testing clients."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, cast

from ..core.accelerate import encode
from ..core.closing import parse_close, serialize_close
from ..core.codec import Decoder
from ..core.handshake import ServerHandshake
from ..core.options import Options
from ..frames import Close
from ..http11 import Request
from ..net import memory
from ..net.errors import ClosedError
from ..spec import Opcode
from ..typing import Buffer, Data
from .network import Socket

__all__ = ["Peer", "ScriptedPeer"]

_READ: Final = 2**16


class Peer:
    """The server's end of one connection, for a script. Everything waits in virtual time, for 60 s at most.

    Attributes:
        request: the client's request; None before `handshake`.
    """

    def __init__(self, sock: Socket) -> None:
        self._sock = sock
        self._items: list[tuple[Opcode, Any]] = []
        self._decoder = Decoder(self._control, masked=True, max_size=None)
        self.request: Request | None = None

    # Sending.

    def handshake(self, status: int = 101, **headers: str) -> Request:
        """Read the request and answer it: 101 as is due, or a refusal with `status`.

        Args:
            status: of the answer.
            headers: more fields of the answer; underscores stand for hyphens.
        """
        handshake = ServerHandshake(options=Options(origins=None, compression=None))
        while handshake.request is None and not handshake.done:
            handshake.receive(self._read())
        if status != 101:
            handshake.reject(status, "as the script says")
        elif not handshake.done:
            handshake.accept(headers=[(name.replace("_", "-"), value) for name, value in headers.items()])
        for buffer in handshake.outgoing():
            self.send_raw(buffer)
        assert handshake.request is not None, f"no good request: {handshake.failure}"  # noqa: S101 - as a test's
        self.request = handshake.request
        if handshake.leftover:
            self._decode(handshake.leftover)
        return self.request

    def send(self, message: Data) -> None:
        """A whole message."""
        if isinstance(message, str):
            self.send_frame(Opcode.TEXT, message.encode())
        else:
            self.send_frame(Opcode.BINARY, message)

    def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        """One frame, right or wrong; `rsv` in its place in the first octet."""
        for buffer in encode(opcode, payload, masked=False, fin=fin, rsv=rsv):
            self.send_raw(buffer)

    def send_raw(self, data: Buffer) -> None:
        """Octets."""
        view = memoryview(data)
        while view:
            self._wait(read=False)
            view = view[self._sock.send(view) :]

    def close(self, code: int = 1000, reason: str = "") -> None:
        """A Close frame; the connection stays open until `end`."""
        self.send_frame(Opcode.CLOSE, serialize_close(Close(code, reason)))

    def end(self) -> None:
        """Close the connection."""
        self._sock.close()

    def reset(self) -> None:
        """Reset the connection."""
        if self._sock.connection is not None:
            self._sock.connection.reset()
        self._sock.close()

    def sleep(self, seconds: float) -> None:
        """Do nothing, and read nothing, for so long."""
        self._sock.network.scheduler.sleep(seconds)

    # Expecting.

    def expect(self, message: Data) -> None:
        """The next message is this one. Pings are answered on the way.

        Raises:
            AssertionError: something else came.
        """
        found = self.receive()
        assert found == message, f"{message!r} was expected, and {found!r} came"  # noqa: S101 - as a test's

    def receive(self) -> Data:
        """The next message.

        Raises:
            AssertionError: something else came, or nothing.
        """
        opcode, found = self._next()
        assert opcode in (Opcode.TEXT, Opcode.BINARY), f"a message was expected, and {opcode.name} came: {found!r}"  # noqa: S101 - as a test's
        return cast("Data", found)

    def expect_close(self, code: int = 1000) -> Close:
        """The next frame is a Close with this code; messages before it are passed over.

        Raises:
            AssertionError: something else came.
        """
        opcode, found = self._next()
        while opcode in (Opcode.TEXT, Opcode.BINARY):
            opcode, found = self._next()
        assert opcode is Opcode.CLOSE, f"a Close was expected, and {opcode.name} came: {found!r}"  # noqa: S101 - as a test's
        close = parse_close(found)
        assert isinstance(close, Close) and close.code == code, f"Close {code} was expected, and {close} came"  # noqa: S101, PT018 - as a test's
        return close

    def expect_end(self) -> None:
        """The client has closed the connection, in order or not.

        Raises:
            AssertionError: more came.
        """
        try:
            while not self._items:
                self._decode(self._read())
        except (EOFError, OSError):
            return
        raise AssertionError(f"the end was expected, and {self._items[0]!r} came")

    def _next(self) -> tuple[Opcode, Any]:
        while not self._items:
            self._decode(self._read())
        return self._items.pop(0)

    def _decode(self, data: bytes) -> None:
        for message in self._decoder.decode(data):
            self._items.append((Opcode.TEXT if isinstance(message, str) else Opcode.BINARY, message))
        while self._decoder.behind:
            self._decode(b"")
        if self._decoder.failure is not None and not self._items:
            raise AssertionError(f"the client sent what it must not: {self._decoder.failure!r}")

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self.send_frame(Opcode.PONG, payload)
        elif opcode == Opcode.CLOSE:
            self._items.append((Opcode.CLOSE, payload))

    def _read(self) -> bytes:
        self._wait(read=True)
        data = self._sock.recv(_READ)
        if not data:
            raise EOFError("the client has closed the connection")
        return data

    def _wait(self, *, read: bool) -> None:
        if True not in self._sock.wait(read=read, write=not read, timeout=60):
            raise TimeoutError(errno.ETIMEDOUT, f"{os.strerror(errno.ETIMEDOUT)}: nothing for 60 s of virtual time")


class ScriptedPeer:
    """A server at ``mem://name`` whose connections do what scripts say, the first one the first script and so on.

    ::

        def refuse(peer):
            peer.handshake(503)

        def talk(peer):
            peer.handshake()
            peer.expect("hello")
            peer.reset()

        with testing.simulate() as sim, testing.ScriptedPeer("mem://chat", refuse, talk):
            sim.run(client("mem://chat"))

    It runs in a thread of the simulation, and serves clients of both adapters. A script's connection is closed at its
    end. What a script raises is raised at the end of the block, as is that a script was not run.

    Args:
        place: ``mem://name``.
        scripts: functions that take a `Peer`; connections beyond the last are refused.

    Raises:
        RuntimeError: no simulation runs.
        OSError: somebody listens there already.
    """

    def __init__(self, place: str, *scripts: Callable[[Peer], object]) -> None:
        name = memory.name_of(place)
        if name is None:
            raise ValueError(f"{place!r} is no place in memory: mem://name")
        self._place = place
        self._scripts = scripts
        self._listener = memory.network_for(name).listener([memory.listening(name)])
        self._thread = threading.Thread(target=self._serve, name=f"script of {place}", daemon=True)
        self._error: BaseException | None = None
        self.done = 0
        """How many scripts have run to their end."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _serve(self) -> None:
        try:
            for script in self._scripts:
                sock, _ = self._listener.accept_socket()
                with cast("socket.socket", sock):
                    script(Peer(sock))
                self.done += 1
        except ClosedError:
            pass
        except Exception as error:
            self._error = error
        finally:
            self._listener.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(60)
        self._listener.close()
        self._thread.join()
        if self._error is not None:
            raise self._error from error
        if kind is None and self.done < len(self._scripts):
            raise AssertionError(f"{self._place}: script {self.done + 1} of {len(self._scripts)} was never run")
