"""One connection in a hub."""

from __future__ import annotations

import dataclasses
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from ..core.endpoint import Endpoint
from .checks import check_last
from .errors import HubClosed, TooManyTopics
from .presence import Present
from .receipts import Receipt

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Member", "Subscribed"]

MAX_CALLS: Final = 1000  # without an answer that one connection is asked; the oldest ones are forgotten


@dataclasses.dataclass(frozen=True, slots=True)
class Subscribed:
    """How a subscription began.

    Attributes:
        topic: its name.
        id: the cursor of a subscriber who has got all that was sent with it. None for topics without history.
        recovered: nothing is missing between ``after`` and what was sent. True also if there was no ``after``.
        why: if it is False: "too old": some of it is kept no more; "unknown": no cursor of this topic, or made up;
            "no history": nothing is kept; "lost": the backplane has lost what it had, and this hub knows less of that
            than the subscriber; "too many": too many subscribers have cursors like this one.
        replayed: messages that were sent with it.
        present: who is in the topic, if it has presence.
    """

    topic: str
    id: str | None
    recovered: bool
    why: str
    replayed: int
    present: list[Present]


class Member:
    """A connection in a hub; made by `Hub.join`. As a context manager it leaves all topics at the end.

    Attributes:
        connection: it.
        user: the name of the user, to whom direct messages go.
        info: what others are told of it in topics with presence.
        id: its name among all connections of all hubs.
    """

    def __init__(self, hub: Hub, connection: Endpoint, user: str | None, info: Any, id: str) -> None:  # noqa: A002
        self.connection = connection
        self.user = user
        self.info = info
        self.id = id
        self._hub = hub
        self._topics: dict[str, object] = {}  # each with the last `subscribe` to it
        self._calls: dict[str, None] = {}
        self._left = False
        self._ended = False  # it left since its connection has ended; what that has sent before may be published yet

    def __repr__(self) -> str:
        return f"<Member {self.id} user={self.user!r} topics={len(self._topics)}>"

    @property
    def topics(self) -> list[str]:
        """The topics that it has subscribed to, the first one first."""
        return list(self._topics)

    async def subscribe(self, topic: str, *, after: str | None = None, last: int = 0) -> Subscribed:
        """Get what is published to a topic from now on, and what was published before as far as it is wanted.

        First an event "subscribed" is sent, then what was published before, then what comes. Subscribing again begins
        anew.

        Args:
            topic: its name, 1 to 200 characters, none of them a control character.
            after: a cursor (the ``id`` of an event): all that its subscriber does not have is sent.
            last: if there is no cursor, or it cannot be served, the last so many messages are sent.

        Raises:
            ValueError: no name for a topic; `last` is less than 0.
            TooManyTopics: the connection has as many as the hub lets it have.
            HubClosed: the hub has ended, or the member has left.
        """
        hub = self._hub
        hub.check_topic(topic)
        check_last(last)
        self._check()
        if topic not in self._topics and len(self._topics) >= hub.max_topics:
            raise TooManyTopics(f"a connection may have {hub.max_topics} topics, and this one does")
        new, this = topic not in self._topics, object()
        self._topics[topic] = this
        try:
            return await hub._subscribe(self, topic, after, last)
        except BaseException:
            if new and self._topics.get(topic) is this:
                await self.unsubscribe(topic)
            raise

    async def unsubscribe(self, topic: str) -> bool:
        """Get no more of a topic. Whether it was subscribed to."""
        if topic not in self._topics:
            return False
        del self._topics[topic]
        self._hub._unsubscribe(self, topic)
        return True

    async def publish(self, topic: str, data: Any, *, uid: str | None = None) -> Receipt:
        """`Hub.publish` by this member's user. It need not have subscribed."""
        self._check_publisher()
        return await self._hub.publish(topic, data, by=self.user, uid=uid)

    def publish_nowait(self, topic: str, data: Any, *, uid: str | None = None) -> Receipt:
        """`Hub.publish_nowait` by this member's user."""
        self._check_publisher()
        return self._hub.publish_nowait(topic, data, by=self.user, uid=uid)

    async def answer(self, call: str, data: Any) -> bool:
        """Answer a call. Whether this connection was asked that, and has not answered yet.

        Raises:
            TypeError, ValueError: that is no answer; another one can be given.
        """
        if not isinstance(call, str) or call not in self._calls:
            return False
        self._hub._answer(call, data)
        del self._calls[call]
        return True

    def leave(self) -> None:
        """Unsubscribe from everything, and get no direct messages any more. Again is no error."""
        self._ended = False
        if not self._left:
            self._left = True
            self._hub._leave(self)

    def _end(self) -> None:
        """Leave, since the connection has ended: its handler has forgotten that, or is not done with what came."""
        self.leave()
        self._ended = True

    def _check_publisher(self) -> None:
        if not self._ended:
            self._check()

    def _check(self) -> None:
        if self._left:
            raise HubClosed("this connection has left the hub")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
