"""The hub for blocking handlers: an event loop in a thread of its own, and the same calls without ``await``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from ..sync.broadcasting import broadcast
from ..sync.connection import Connection
from .errors import HubClosed
from .events import Event
from .history import History
from .listener import Listener
from .member import Member, Subscribed
from .presence import Present
from .receipts import Receipt

if TYPE_CHECKING:
    from .hub import Hub, HubState

__all__ = ["BlockingHub", "BlockingListener", "BlockingMember", "BlockingReceipt"]

T = TypeVar("T")


class BlockingReceipt:
    """`Receipt` for blocking code; its attributes are of the moment."""

    def __init__(self, hub: BlockingHub, receipt: Receipt) -> None:
        self._hub = hub
        self._receipt = receipt

    def __repr__(self) -> str:
        return f"Blocking{self._receipt!r}"

    @property
    def topic(self) -> str:
        """Where the message was published."""
        return self._receipt.topic

    @property
    def id(self) -> str | None:
        """Its position as text; None as long as it has none, and for topics without history."""
        return self._receipt.id

    @property
    def spread(self) -> bool:
        """Whether the log that all hubs see has it."""
        return self._receipt.spread

    @property
    def repeated(self) -> bool:
        """Whether a message with the same uid was published before."""
        return self._receipt.repeated

    def settled(self, timeout: float | None = None) -> BlockingReceipt:
        """Wait until it is spread; itself.

        Raises:
            NotSpread: it will not be.
            TimeoutError: not yet, after so many seconds.
        """
        self._hub._call(asyncio.wait_for(self._receipt.settled(), timeout))
        return self


class _Leaving:
    """Somebody who takes part until the end of a block."""

    def __init__(self, hub: BlockingHub, part: Member | Listener) -> None:
        self._hub = hub
        self._part = part

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._part)[1:]}"

    def leave(self) -> None:
        """As `Member.leave` or `Listener.leave`."""
        if threading.current_thread() is self._hub._thread:
            self._part.leave()
        elif not self._hub._closed:

            async def leave() -> None:
                self._part.leave()

            with contextlib.suppress(HubClosed):  # just now
                self._hub._call(leave())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class BlockingMember(_Leaving):
    """`Member` for a connection of ``websock.sync``. As a context manager it leaves all topics at the end."""

    def __init__(self, hub: BlockingHub, member: Member) -> None:
        super().__init__(hub, member)
        self._member = member
        self.connection = member.connection
        self.user = member.user
        self.info = member.info
        self.id = member.id

    @property
    def topics(self) -> list[str]:
        """As `Member.topics`."""
        return self._member.topics

    def subscribe(self, topic: str, *, after: str | None = None, last: int = 0) -> Subscribed:
        """As `Member.subscribe`."""
        return self._hub._call(self._member.subscribe(topic, after=after, last=last))

    def unsubscribe(self, topic: str) -> bool:
        """As `Member.unsubscribe`."""
        return self._hub._call(self._member.unsubscribe(topic))

    def publish(self, topic: str, data: Any, *, uid: str | None = None) -> BlockingReceipt:
        """As `Member.publish`."""
        return BlockingReceipt(self._hub, self._hub._call(self._member.publish(topic, data, uid=uid)))

    def publish_nowait(self, topic: str, data: Any, *, uid: str | None = None) -> BlockingReceipt:
        """As `Member.publish_nowait`."""
        self._member._check_publisher()
        return self._hub.publish_nowait(topic, data, by=self.user, uid=uid)

    def answer(self, call: str, data: Any) -> bool:
        """As `Member.answer`."""
        return self._hub._call(self._member.answer(call, data))


class BlockingListener(_Leaving):
    """`Listener` for blocking code. As a context manager it leaves at the end."""

    def __init__(self, hub: BlockingHub, listener: Listener) -> None:
        super().__init__(hub, listener)
        self.topic = listener.topic
        self.subscribed = listener.subscribed


class BlockingHub:
    """`Hub` for blocking code, made by `Hub.blocking`. Its thread begins with the first call, and ends with `close`.

    Any thread may call it. Messages are sent to subscribers by the hub's thread, with ``websock.sync.broadcast``: it
    waits for none of them.
    """

    def __init__(self, hub: Hub) -> None:
        if hub._loop is not None or hub._closed:
            raise RuntimeError("the hub is in use in an event loop, or was")
        hub._kind = Connection
        hub._broadcast = broadcast
        self._hub = hub
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def _run(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            loop.call_soon(ready.set)
            loop.run_forever()
            if tasks := asyncio.all_tasks(loop):  # threads wait for them
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(tasks))
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise HubClosed("the hub has ended")
        if self._thread is None:
            ready = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(ready,), name="websock-hub", daemon=True)
            self._thread.start()
            ready.wait()
        elif not self._thread.is_alive():
            raise RuntimeError("the hub's thread is in the process that this one was forked from")
        assert self._loop is not None  # noqa: S101 - for the type checker
        return self._loop

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            self._check_thread()
            with self._lock:  # until it is handed over: `close` comes before or after that
                answer = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        except BaseException:
            coroutine.close()
            raise
        try:
            return answer.result()
        except CancelledError:
            raise HubClosed("the hub has ended") from None

    def _check_thread(self) -> None:
        if self._thread is threading.current_thread():
            raise RuntimeError("the hub's own thread cannot wait for it: publish_nowait is for callbacks")

    def topic(
        self, name: str, *, history: History | Literal["default"] | None = "default", presence: bool | None = None
    ) -> None:
        """As `Hub.topic`."""

        async def topic() -> None:
            self._hub.topic(name, history=history, presence=presence)

        self._call(topic())

    def join(self, connection: Any, user: str | None = None, info: Any = None) -> BlockingMember:
        """As `Hub.join`: ``with hub.join(ws, user="ann") as member``."""

        async def join() -> Member:
            return self._hub.join(connection, user, info)

        return BlockingMember(self, self._call(join()))

    def publish(self, topic: str, data: Any, *, by: str | None = None, uid: str | None = None) -> BlockingReceipt:
        """As `Hub.publish`."""
        return BlockingReceipt(self, self._call(self._hub.publish(topic, data, by=by, uid=uid)))

    def publish_nowait(
        self, topic: str, data: Any, *, by: str | None = None, uid: str | None = None
    ) -> BlockingReceipt:
        """As `Hub.publish_nowait`."""

        async def publish() -> Receipt:
            return self._hub.publish_nowait(topic, data, by=by, uid=uid)

        if threading.current_thread() is self._thread:
            return BlockingReceipt(self, self._hub.publish_nowait(topic, data, by=by, uid=uid))
        return BlockingReceipt(self, self._call(publish()))

    def listen(
        self, topic: str, heard: Callable[[Event], object], *, after: str | None = None, last: int = 0
    ) -> BlockingListener:
        """As `Hub.listen`: it is called in the hub's thread, where `publish_nowait` is the only call of the hub."""
        return BlockingListener(self, self._call(self._hub.listen(topic, heard, after=after, last=last)))

    def present(self, topic: str) -> list[Present]:
        """As `Hub.present`."""
        return self._call(self._hub.present(topic))

    def send_to(self, user: str, data: Any, *, by: str | None = None) -> int:
        """As `Hub.send_to`."""
        return self._call(self._hub.send_to(user, data, by=by))

    def call(self, user: str, data: Any, *, timeout: float = 5.0, by: str | None = None) -> Any:
        """As `Hub.call`."""
        return self._call(self._hub.call(user, data, timeout=timeout, by=by))

    @property
    def state(self) -> HubState:
        """As `Hub.state`."""
        return self._hub.state

    def close(self) -> None:
        """As `Hub.close`; the thread ends. What other threads wait for raises `HubClosed`."""
        self._check_thread()
        with self._lock:
            closed, self._closed = self._closed, True
        thread, loop = self._thread, self._loop
        if thread is None or loop is None or not thread.is_alive():
            return
        if not closed:
            try:
                asyncio.run_coroutine_threadsafe(self._hub.close(), loop).result()
            finally:
                loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
