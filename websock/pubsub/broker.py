"""The broker between the processes of one host: the logs of all topics, in a thread of one of them.

Strategy: a WebSocket server on a Unix socket, with an event loop of its own, so that a busy handler does not stall it.
All that it does it does in the read that asks for it, so what a client is told is in the order of the log. A client
that does not take what is sent is closed when too much waits for it: it comes back, and opens its topics from where it
was. All is in a `Journal` before anybody hears of it, which the next broker reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ..asyncio.connection import Connection
from ..asyncio.server import Server, ServerConnection, broadcast, serve
from ..core.slow import SlowConsumers
from ..net.sockets import listening
from ..typing import Data
from .history import HISTORY_OCTETS, Histories, History
from .journal import Journal
from .ledger import Ledger
from .positions import ZERO, Position, Record, milliseconds
from .wire import MAX_MESSAGE, PROTOCOL, chunks, frame, positions_of, uncast, unframe, written

__all__ = ["BACKLOG", "Broker", "BrokerThread", "close_copy"]

BACKLOG: Final = 2**25
"""Octets that may wait for a client; then it is closed."""
REBUILD = 0.5
"""Seconds in which hubs add again what a broker has lost that was killed and could not write a journal."""
SWEEP: Final = 10.0
"""Seconds between looks for what is too old."""
HANDED: Final = 2**26
"""Octets of records that the next broker gets, at most."""
KEPT: Final = 600.0
"""Seconds that a log is kept longer than its last use and its records, when nobody follows it."""

logger = logging.getLogger("websock.pubsub")


class _Topic:
    """A topic's log and who follows it."""

    __slots__ = ("followers", "full_till", "history", "idle_since", "ledger", "listeners")

    def __init__(self) -> None:
        self.ledger: Ledger | None = None
        self.history = History()
        self.followers: dict[ServerConnection, None] = {}
        self.listeners: dict[ServerConnection, None] = {}
        self.idle_since = 0  # the time of its last add, or of the end of its last follower
        self.full_till = 0  # when it was last seen to have something to keep


class Broker:
    """What the clients ask for, without anything that waits.

    Args:
        clock: milliseconds since 1970.
        journal: what is added is written there before anybody hears of it.
        rebuilding: until `rebuilt` the hubs add what the broker before has lost. Who knows nothing of a topic is
            answered when somebody has: else it would take the new log for all there is.
        history_octets: that all logs together take at most: see `Histories`.
    """

    def __init__(
        self,
        clock: Callable[[], int] = milliseconds,
        *,
        journal: Journal | None = None,
        rebuilding: bool = False,
        history_octets: float = HISTORY_OCTETS,
    ) -> None:
        self._histories = Histories(history_octets)
        self._journal = journal
        self._early: dict[str, list[tuple[ServerConnection, int, list[Any]]]] | None = {} if rebuilding else None
        self._topics: dict[str, _Topic] = {}
        self._of: weakref.WeakKeyDictionary[ServerConnection, set[str]] = weakref.WeakKeyDictionary()
        self._clock = clock

    def heard(self, client: ServerConnection, message: Data) -> None:
        """A message of a client's; a wrong one raises, which closes its connection."""
        if (found := uncast(message)) is not None:
            if (topic := self._topics.get(found[0])) is not None:
                broadcast([*topic.followers, *(one for one in topic.listeners if one not in topic.followers)], message)
            return
        (what, *rest), records = unframe(message)
        match what:
            case "add":
                self._add(client, *rest, records=records)
            case "open":
                self._open(client, *rest)
            case "listen":
                self._topic(client, *rest).listeners[client] = None
            case "forget" | "unlisten":
                self._leave(client, *rest, casts_only=what == "unlisten")
            case _:
                raise ValueError(f"there is no {what!r}")

    def _topic(self, client: ServerConnection, name: str) -> _Topic:
        self._of.setdefault(client, set()).add(name)
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        topic.idle_since = self._clock()
        return topic

    def _open(self, client: ServerConnection, call: int, name: str, history: list[Any], after: str) -> None:
        topic, behind = self._topic(client, name), Position.parse(after)
        if self._early is not None and behind == ZERO and (topic.ledger is None or topic.ledger.whole):
            self._early.setdefault(name, []).append((client, call, history))
            return
        topic.history = History(*history)
        if topic.ledger is None:
            topic.ledger = Ledger(topic.idle_since, behind, self._histories)
            self._write_down(["open", name, topic.idle_since, history, after], ())
        topic.ledger.log.trim(topic.history, self._clock())
        opened = topic.ledger.opened(behind)
        part, *others = chunks(opened.entries, lambda entry: entry[1].octets)
        if others:  # it asks for what is behind this part, so that no log is too large to be sent
            topic.followers.pop(client, None)
        else:
            topic.followers[client] = None
        head = ["opened", call, *map(str, opened[1:]), [str(position) for position, _ in part], bool(others)]
        broadcast([client], frame(head, (record for _, record in part)))

    def _add(
        self,
        client: ServerConnection,
        call: int,
        name: str,
        history: list[Any],
        above: str,
        floor: str | None,
        *,
        records: list[Record],
    ) -> None:
        topic, last = self._topic(client, name), Position.parse(above)
        topic.history, now = History(*history), topic.idle_since
        if topic.ledger is None:
            topic.ledger = Ledger(now, last, self._histories)
        known = None if floor is None else Position.parse(floor)
        done = topic.ledger.add(records, topic.history, last, now, known)
        self._write_down(["add", name, now, history, above, floor], records)
        new = [(one.position, record) for one, record in zip(done, records, strict=True) if not one.repeated]
        if new and topic.followers:
            head = ["new", name, [str(position) for position, _ in new]]
            broadcast(topic.followers, frame(head, (record for _, record in new)))
        answers = [[None if one.position is None else str(one.position), one.repeated] for one in done]
        broadcast([client], frame(["added", call, answers]))
        if floor is not None and self._early is not None:
            for early in self._early.pop(name, ()):
                self._open(early[0], early[1], name, early[2], str(ZERO))

    def _write_down(self, head: Sequence[Any], records: Iterable[Record]) -> None:
        if self._journal is not None:
            self._journal.add(frame(head, records))
            if self._journal.full:
                self._journal.begin(self.kept())

    def rebuilt(self) -> None:
        """Whoever had something has added it, or comes too late."""
        early, self._early = self._early or {}, None
        for name, some in early.items():
            for client, call, history in some:
                self._open(client, call, name, history, str(ZERO))

    def _leave(self, client: ServerConnection, name: str, *, casts_only: bool) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        (topic.listeners if casts_only else topic.followers).pop(client, None)
        if client not in topic.followers and client not in topic.listeners:
            self._of.get(client, set()).discard(name)
        if not topic.followers:
            topic.idle_since = self._clock()

    def left(self, client: ServerConnection) -> None:
        """A client's connection has ended."""
        for name in list(self._of.pop(client, ())):
            self._leave(client, name, casts_only=False)
            self._leave(client, name, casts_only=True)

    def sweep(self) -> None:
        """Forget what is too old."""
        now = self._clock()
        for name, topic in list(self._topics.items()):
            if topic.ledger is not None:
                topic.ledger.log.trim(topic.history, now)
                if topic.ledger.remembers(now):
                    topic.full_till = now
            if not topic.followers and not topic.listeners:
                kept = 0.0 if topic.ledger is None else KEPT
                if now - max(topic.idle_since, topic.full_till) > kept * 1000:
                    del self._topics[name]

    def kept(self) -> Iterator[bytes]:
        """What is kept, for the next broker: the topics that were used last, and whose logs fit together into `HANDED`.

        Those come last, as in what is written down behind them.
        """
        topics = [(name, one, one.ledger) for name, one in self._topics.items() if one.ledger is not None]
        topics.sort(key=lambda one: one[1].idle_since, reverse=True)
        room, fitting = HANDED, []
        for one in topics:
            if one[2].log.octets <= room:
                room -= one[2].log.octets
                fitting.append(one)
        for name, topic, ledger in reversed(fitting):
            positions = [str(position) for position, _ in ledger.log]
            head = ["topic", name, topic.idle_since, written(topic.history), ledger.state(), positions]
            yield frame(head, (record for _, record in ledger.log))

    def remember(self, entries: Iterable[bytes]) -> None:
        """Know what the last broker has known, by its journal.

        Raises:
            ValueError: it is none. Then nothing is known.
        """
        topics = self._topics
        try:
            for entry in entries:
                (what, name, *rest), records = unframe(entry)
                topic = topics.setdefault(name, _Topic())
                if what == "topic":
                    topic.idle_since, history, state, positions = rest
                    if topic.ledger is not None:
                        raise ValueError(f"the topic {name!r} is in it twice")
                    entries_of = zip(positions_of(positions), records, strict=True)
                    topic.ledger = Ledger.from_state(state, entries_of, self._histories)
                else:
                    topic.idle_since, history, behind, *floors = rest
                    last = Position.parse(behind)
                    if topic.ledger is None:
                        topic.ledger = Ledger(topic.idle_since, last, self._histories)
                    if what == "add":
                        floor = None if floors[0] is None else Position.parse(floors[0])
                        topic.ledger.add(records, History(*history), last, topic.idle_since, floor)
                topic.history = History(*history)
        except (TypeError, IndexError, AttributeError, ValueError) as error:
            topics.clear()
            self._histories = Histories(self._histories.octets)
            raise error if isinstance(error, ValueError) else ValueError(f"not a journal: {error!r}") from error


class BrokerThread:
    """A broker that runs in a thread of its own.

    Args:
        path: of its Unix socket, which is its user's alone.
        history_octets: that all its logs together take at most.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, path: str, history_octets: float = HISTORY_OCTETS) -> None:
        self._path = path
        self._history_octets = history_octets
        self._crashed = os.path.lexists(path)  # in good order it is removed
        self._journal = Journal(f"{path}.log")
        self._sock = listening(f"unix:{path}", mode=0o600)[0]
        self._clients: set[ServerConnection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="websock-broker", daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        # Not the program's own policy: one loop that is known, and that nothing else of the process changes.
        loop = self._loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(self._serve())
        except Exception:
            logger.exception("the broker has failed")
        finally:
            self._started.set()
            loop.close()
            self._sock.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        broker = self._begin()

        async def tend(client: ServerConnection) -> None:
            self._clients.add(client)
            try:
                await client.wait_closed()
            finally:
                self._clients.discard(client)
                broker.left(client)

        server: Server = await serve(
            tend,
            on_message=broker.heard,
            sock=self._sock,
            subprotocols=[PROTOCOL],
            compression=None,
            max_size=MAX_MESSAGE,
            slow_consumers=SlowConsumers("close", BACKLOG),
            ping_interval=2,
            ping_timeout=8,
            close_timeout=1,
            logger=logging.getLogger("websock.pubsub.broker"),
        )
        self._started.set()
        try:
            wait = REBUILD
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait)
                broker.rebuilt()
                broker.sweep()
                wait = SWEEP
        finally:
            server.close()
            await server.wait_closed()
            self._journal.close()

    def _begin(self) -> Broker:
        """A broker that knows what the last one knew."""
        journal, known = self._journal, False
        broker = Broker(journal=journal, history_octets=self._history_octets)
        try:
            if (entries := journal.read()) is not None:
                broker.remember(entries)
                known = True
        except (OSError, ValueError) as error:
            logger.warning("what the last broker knew is lost: %s", error)
        if self._crashed and not known:
            broker = Broker(journal=journal, rebuilding=True, history_octets=self._history_octets)
        journal.begin(broker.kept())
        return broker

    def close(self) -> None:
        """End it; waits."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def abandon(self) -> None:
        """In a forked child: only its copies of the descriptors are closed, the broker is the parent's."""
        for client in list(self._clients):
            close_copy(client)
        self._sock.close()
        self._journal.close()


def close_copy(connection: Connection) -> None:
    """In a forked child: a copy of a connection's socket would keep the peer from seeing that the parent has ended."""
    sock = connection.transport.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        sock.close()
