"""What a subscriber is told, and how it is written."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

__all__ = ["Event", "to_json"]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something for one connection, or for many.

    Attributes:
        kind: "message": somebody has published `data`; "subscribed": the answer to ``subscribe``, before all messages
            of the topic; "gap": messages between `prev` and `id` are lost to this subscriber; "join", "leave": `member`
            is in the topic now, or no more, `data` is its ``info``; "direct": `data` for this user; "call": the same,
            and an answer to `call` is waited for.
        topic: of which; None for "direct" and "call".
        id: the cursor of a subscriber who has this: what ``subscribe(after=)`` takes. None where nothing is kept.
        prev: the cursor that the subscriber had before. If that is not what it has, something between was dropped on
            the way (see ``SlowConsumers``), and it had better subscribe again. None: not to be compared.
        data: what was published.
        by: the user who did.
        at: when, in seconds since 1970.
        uid: the name that the publisher gave the message.
        member: the name of a connection in a hub.
        call: what ``member.answer`` takes.
    """

    kind: str
    topic: str | None = None
    id: str | None = None
    prev: str | None = None
    data: Any = None
    by: str | None = None
    at: float = 0.0
    uid: str | None = None
    member: str | None = None
    call: str | None = None


def to_json(event: Event) -> str:
    """An event as JSON: ``kind``, ``topic``, ``id``, ``prev``, ``data``, ``by`` and ``at``, and of ``uid``, ``member``
    and ``call`` those that there are. Octets become ``{"base64": "..."}``.

    Raises:
        TypeError, ValueError: `data` is nothing for JSON.
    """
    data = event.data
    if isinstance(data, bytes | bytearray | memoryview):
        data = {"base64": base64.b64encode(data).decode()}
    fields: dict[str, Any] = {
        "kind": event.kind,
        "topic": event.topic,
        "id": event.id,
        "prev": event.prev,
        "data": data,
        "by": event.by,
        "at": round(event.at, 3),
    }
    for name in ("uid", "member", "call"):
        if (value := getattr(event, name)) is not None:
            fields[name] = value
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say and UTF-8 cannot
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)
    return text
