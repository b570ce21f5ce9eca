"""Hubs, clients and a backplane that has bad luck, all of it in one thread and with time as a number.

What a run does is a list of numbers, three for each step. At its end `World.settle` lets everything come up again, and
`World.check` says whether each client has what it should.
"""

from __future__ import annotations

import collections
import copy
import math
from collections.abc import Collection, Sequence
from typing import Any

from websock.pubsub.events import Event
from websock.pubsub.history import LOG, Histories, History, Log
from websock.pubsub.ledger import Ledger
from websock.pubsub.positions import Position, Record
from websock.pubsub.receipts import Receipt
from websock.pubsub.topic import Topic

Step = tuple[int, int, int]
PATIENCE = 500


class Client:
    """It remembers the last cursor that it has got, and what it has seen since it was last told of a gap."""

    def __init__(self, name: str, born: int) -> None:
        self.name = name
        self.hub: Hub | None = None
        self.queue: collections.deque[tuple[Event, int]] = collections.deque()
        self.cursor: str | None = None
        self.seen: list[str] = []
        self.since = born  # how many messages were published when it began, or was last told that some are missing
        self.order: dict[str, int] = {}
        self.told = 0

    def read(self, world: World, count: int) -> None:
        while self.queue and count > 0:
            count -= 1
            event, published = self.queue.popleft()
            if event.kind == "subscribed":
                if not event.data["recovered"]:
                    self.told += 1
                if not event.data["recovered"] or self.cursor is None:
                    self.reset(published)
                if event.id is not None:
                    self.cursor = event.id
                elif not event.data["recovered"]:
                    self.cursor = None
                continue
            if event.prev is not None:
                assert event.prev == self.cursor, (self.name, "prev", event, self.cursor)
            assert event.id is not None
            self.cursor = event.id
            if event.kind == "gap":
                self.told += 1
                self.reset(published)
                continue
            name, origin, n = event.data
            if name in self.seen and name not in world.may_double:
                raise AssertionError(f"{self.name} has {name} ({origin}.{n}) twice, at {event.id}")
            if name in self.seen:
                continue
            self.seen.append(name)
            world.delivered.add(name)
            if name not in world.may_double:
                assert n > self.order.get(origin, 0), (self.name, "order", name, origin, n, self.order)
                self.order[origin] = n

    def reset(self, published: int) -> None:
        self.since = published
        self.seen.clear()
        self.order.clear()

    def leave(self) -> None:
        """The network drops; what was on its way is lost."""
        if self.hub is not None:
            self.hub.topic.leave(self)
            self.hub = None
            self.queue.clear()

    def join(self, hub: Hub) -> None:
        self.leave()
        self.hub = hub
        hub.topic.join(self, self.cursor, 0, hub.world.ms, hub.published)


class Hub:
    """A hub's topic, and what its driver does, step by step."""

    def __init__(self, world: World, origin: str) -> None:
        self.world = world
        self.origin = origin
        self.published = 0
        self.histories = Histories(world.octets)
        self.topic: Topic[Client] = Topic("t", origin, world.history, self.send, histories=self.histories)
        self.up = False
        self.following = False
        self.stream: collections.deque[tuple[Position, Record]] = collections.deque()
        self.request: tuple[str, Any] | None = None  # that is on its way to the backplane
        self.reply: Any = None  # that is on its way back
        self.receipts: dict[str, Receipt] = {}

    def send(self, targets: Collection[Client], event: Event) -> None:
        for client in targets:
            client.queue.append((event, len(self.world.published)))

    def publish(self, name: str, uid: str | None) -> None:
        self.published += 1
        record = Record("t", self.origin, self.published, [name, self.origin, self.published], uid=uid)
        receipt = self.receipts[name] = Receipt("t")
        self.topic.publish(record, receipt, self.world.ms, self.world.ms)
        if not self.up:
            self.topic.release(math.inf)

    def go_down(self, *, heard: bool) -> None:
        """The connection to the backplane ends; with `heard`, what was on its way there has arrived."""
        if heard:
            self.at_backplane()
        if self.following:
            self.topic.parted(self.world.ms)
        self.up = self.following = False
        self.stream.clear()
        self.request = self.reply = None
        self.world.followers.discard(self)
        self.topic.release(math.inf)

    def go_up(self) -> None:
        if not self.up and self.world.backplane_up:
            self.up = True

    def ask(self) -> None:
        """Begin the next call."""
        if not self.up or self.request is not None or self.reply is not None:
            return
        if not self.following:
            self.request = "open", self.topic.asks_after
        elif self.topic.waits_to_be_added:
            batch, floor = self.topic.take()
            self.request = "add", (batch, self.topic.high, floor)

    def at_backplane(self) -> None:
        """It arrives."""
        if self.request is None:
            return
        (kind, what), self.request = self.request, None
        world = self.world
        if world.ledger is None:
            world.ledger = Ledger(world.ms, what if kind == "open" else what[1], Histories(world.octets))
        if kind == "open":
            self.stream.clear()
            self.reply = "open", (what, world.ledger.opened(what))
            world.followers.add(self)
        else:
            batch, above, floor = what
            done = world.ledger.add(batch, world.history, above, world.ms, floor)
            for record, one in zip(batch, done, strict=True):
                if not one.repeated:
                    assert one.position is not None
                    world.line.add(record.data[0])
                    for hub in world.followers:
                        hub.stream.append((one.position, record))
            self.reply = "add", (batch, done)

    def at_hub(self) -> None:
        """Its answer arrives."""
        if self.reply is None:
            return
        (kind, what), self.reply = self.reply, None
        if kind == "open":
            after, opened = what
            if self.topic.opened(opened, after, self.world.ms):
                self.following = True
            else:
                self.request = "open", self.topic.log.floor
        else:
            self.topic.replied(*what)

    def flow(self, count: int) -> None:
        """Some of what is on its way to followers arrives."""
        while self.following and self.stream and count > 0:
            count -= 1
            self.topic.added(*self.stream.popleft(), self.world.ms)


class World:
    """All of it."""

    def __init__(self, history: History, octets: float = math.inf, hubs: int = 3, clients: int = 3) -> None:
        self.ms = 1_000_000
        self.history = history
        self.octets = octets  # of all histories, in each hub and on the backplane
        self.ledger: Ledger | None = None
        self.line: set[str] = set()  # what was ever in the log that there is now
        self.replica: tuple[Ledger | None, set[str]] | None = None
        self.backplane_up = True
        self.followers: set[Hub] = set()
        self.published: list[str] = []
        self.first_by: dict[str, Hub] = {}
        self.may_double: set[str] = set()
        self.delivered: set[str] = set()
        self.quiet = True  # nothing was ever lost or late
        self.born = 0
        self.hubs = [self.new_hub() for _ in range(hubs)]
        self.clients = [Client(f"client {number}", 0) for number in range(clients)]

    def new_hub(self) -> Hub:
        self.born += 1
        return Hub(self, f"h{self.born}")

    def step(self, step: Step) -> None:
        what, one, two = step
        hub = self.hubs[one % len(self.hubs)]
        client = self.clients[one % len(self.clients)]
        match what % 16:
            case 0 | 1:
                self.publish(hub, two)
            case 2:
                self.pass_time((0, 1, 30, 600)[two % 4])
                if two >= 32 and self.octets < math.inf:
                    crowd(hub.histories, two)
                if two >= 48 and self.octets < math.inf and self.ledger is not None:
                    crowd(self.ledger.log._histories, two)
            case 3 | 4:
                hub.ask()
                if two % 2:
                    hub.at_backplane()
                if two % 4 == 3:
                    hub.at_hub()
            case 5:
                hub.at_backplane()
            case 6:
                hub.at_hub()
            case 7 | 8:
                hub.flow(1 + two % 3)
            case 9:
                client.join(self.hubs[two % len(self.hubs)])
            case 10:
                client.read(self, two)
            case 11:
                client.read(self, two)
                client.leave()
            case 12:
                hub.go_up()
            case 13:
                hub.go_down(heard=bool(two % 2))
            case 14:
                self.fate(one, two)
            case 15:
                if two % 4 == 0:
                    self.kill(one % len(self.hubs))
                else:
                    self.replica = copy.deepcopy((self.ledger, self.line))

    def publish(self, hub: Hub, two: int) -> None:
        if two % 5 == 4 and self.published:  # somebody has no receipt, and tries again
            name = self.published[-1 - two % min(3, len(self.published))]
            if name not in hub.topic._uids and self.first_by[name] is not hub:
                # If one of them is delivered ahead: that these are the same, only its uid tells.
                self.may_double.add(name)
        else:
            name = f"m{len(self.published)}"
            self.published.append(name)
            self.first_by[name] = hub
        hub.publish(name, name)

    def pass_time(self, ms: int) -> None:
        self.ms += ms
        for hub in self.hubs:
            hub.topic.release(self.ms - PATIENCE if hub.up else math.inf)

    def fate(self, one: int, two: int) -> None:
        """The backplane goes down, with what it knows, with some of it, or without; or comes up."""
        if not self.backplane_up:
            self.backplane_up = True
            return
        self.quiet = False
        self.backplane_up = False
        for hub in self.hubs:
            hub.go_down(heard=bool(one & 1))
        before = set(self.line)
        if two % 3 == 1 and self.replica is not None:
            self.ledger, self.line = copy.deepcopy(self.replica)
        elif two % 3 == 2:
            self.ledger, self.line = None, set()
        self.replica = None if two % 3 else self.replica
        for hub in self.hubs:  # it cannot know where its own stood in the log that is gone
            for pending in hub.topic.pending.values():
                name = pending.record.data[0]
                if name in before - self.line and pending.position is None:
                    self.may_double.add(name)
        self.pass_time(2000)  # clocks differ by less

    def kill(self, number: int) -> None:
        hub = self.hubs[number]
        hub.go_down(heard=False)
        for client in self.clients:
            if client.hub is hub:
                client.read(self, 2)
                client.leave()
        hub.topic.fail("killed")
        self.hubs[number] = self.new_hub()

    def settle(self) -> None:
        """Everything comes up, and has its time."""
        self.backplane_up = True
        self.pass_time(2000)
        for _ in range(12):
            for hub in self.hubs:
                hub.go_up()
                for _ in range(8):
                    hub.ask()
                    hub.at_backplane()
                    hub.at_hub()
                    hub.flow(10_000)
            self.pass_time(1)
        for client in self.clients:
            if client.hub is None:
                client.join(self.hubs[0])
                assert client.hub is not None
            client.read(self, 10_000)

    def balance(self) -> None:
        for hub in self.hubs:
            balanced(hub.histories, hub.topic.log)
        if self.ledger is not None:
            balanced(self.ledger.log._histories, self.ledger.log)

    def check(self) -> None:
        """Each client has each message once, or was told that some are missing."""
        for hub in self.hubs:
            topic = hub.topic
            assert hub.following and not topic.waits_to_be_added
            assert not topic.pending and not topic._ahead, (hub.origin, topic.pending, topic._ahead)
            assert not topic._waiting and not topic._ahead_uids
            assert len(topic.log) <= self.history.count
            assert all(receipt._done for receipt in hub.receipts.values())
        for client in self.clients:
            wanted = [name for name in self.published[client.since :] if name in self.line]
            missing = [name for name in wanted if name not in client.seen]
            assert not missing, f"{client.name} misses {missing}, has {client.seen}"
        if self.born == len(self.hubs) and self.history.count > len(self.published) and self.octets == math.inf:
            assert set(self.published) <= self.line  # nothing is lost with a hub


def crowd(histories: Histories, size: int) -> None:
    """Another topic is used."""
    log = Log(histories=histories)
    log.append(Position(1, 0), Record("other", "x", 1, "y" * 10 * size))


def balanced(histories: Histories, *logs: Log) -> None:
    """What these take together is the sum of what each takes, and not too much."""
    assert histories.taken == sum(LOG + sum(log._weights) for log in histories._logs) <= histories.octets
    assert all(len(log) for log in histories._logs)
    for log in logs:
        assert (log in histories._logs) == bool(len(log))
        assert len(log._weights) == len(log)
        assert log.octets == sum(record.octets for _, record in log)


def run(history: History, steps: Sequence[Step], octets: float = math.inf) -> World:
    world = World(history, octets)
    for hub in world.hubs:
        hub.go_up()
        for _ in range(2):
            hub.ask()
            hub.at_backplane()
            hub.at_hub()
    for step in steps:
        world.step(step)
        world.balance()
    world.settle()
    world.balance()
    world.check()
    return world
