"""The rules of the chat: what may be called how, what may be said, and how fast. No I/O, and no clock.

Whatever breaks one is a `Refusal`: a code for the program and a sentence for the person, who is told what to do.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from typing import Any, Final

MAX_NICK: Final = 32  # characters
MAX_ROOM: Final = 30
MAX_TEXT: Final = 2000
MAX_SIZE: Final = 32 * 1024  # bytes in a message: MAX_TEXT characters fit, even if each is written "\ud83d\ude00"
MAX_ROOMS: Final = 20  # in which one page is
HISTORY: Final = 50  # messages that a newcomer to a room is shown

# Texts that turn around what stands beside them. Others that steer direction are needed for mixed languages.
OVERRIDES: Final = "\u202d\u202e"

# What nobody sees although Python takes it for printable: Unicode's Default_Ignorable_Code_Point as far as NFKC leaves
# it, and Braille without a dot.
INVISIBLE: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]")


class Refusal(Exception):
    """Not done. ``str()`` of it is for the person."""

    def __init__(self, code: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.code = code
        self.more = more

    @property
    def message(self) -> dict[str, Any]:
        """As the page is told."""
        return {"type": "error", "code": self.code, "text": str(self), **self.more}


def unexpected() -> Refusal:
    """No page of ours sends this."""
    return Refusal("unexpected", "The server did not expect this message.")


def check_nick(nick: str) -> str:
    """A name as it is shown."""
    nick = unicodedata.normalize("NFC", nick.strip()) if len(nick) <= MAX_SIZE else nick
    if not 1 <= len(nick) <= MAX_NICK or not nick.isprintable() or not alike(nick):
        raise Refusal("nick-invalid", f"A name has 1 to {MAX_NICK} characters, all of them visible.")
    if alike(nick) == "you":
        raise Refusal("nick-invalid", "Everybody is “You” to themselves. Please choose another name.")
    if any(len(alphabets(word)) > 1 for word in nick.split()):
        raise Refusal("nick-invalid", "A word of a name is written in one alphabet. Please choose another name.")
    return nick


def alphabets(word: str) -> set[str]:
    """Those of which it has letters, among the three that share the shapes of many letters."""
    names = [unicodedata.name(letter, "").partition(" ")[0] for letter in word]
    return {name for name in names if name in ("LATIN", "GREEK", "CYRILLIC")}


@functools.lru_cache(maxsize=10_000)  # who says hello is compared with all who are there
def alike(nick: str) -> str:
    """Give names that look the same, as "Ada" and " ADA" do, the same key."""
    return " ".join(INVISIBLE.sub("", unicodedata.normalize("NFKC", nick)).casefold().split())


def check_room(room: str) -> str:
    """A room's name, which is also its address in the page's URL: written in one way only."""
    fits = 1 <= len(room) <= MAX_ROOM and not INVISIBLE.search(room)
    fits = fits and all(unicodedata.category(character)[0] in "LMN" or character in "-_" for character in room)
    if not fits or unicodedata.category(room[0])[0] == "M" or unicodedata.normalize("NFKC", room).lower() != room:
        raise Refusal(
            "room-invalid", f"The name of a room has 1 to {MAX_ROOM} small letters, digits, hyphens and underscores."
        )
    return room


def check_text(text: str) -> str:
    """What is said, without the space around it."""
    text = text.strip()
    if not 1 <= len(text) <= MAX_TEXT:
        raise Refusal("text-invalid", f"A message has 1 to {MAX_TEXT} characters, this one {len(text)}.")
    for character in text:
        if character in OVERRIDES or (character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs")):
            raise Refusal(
                "text-invalid",
                f"This message contains an invisible character that cannot be sent here (U+{ord(character):04X}).",
            )
    return text


def check_uid(uid: str) -> str:
    """The name that a page gives to a message, so that it may send it again."""
    if not re.fullmatch(r"[A-Za-z0-9-]{8,40}", uid):
        raise unexpected()
    return uid


def owner_of(key: str) -> str:
    """Whose a page is: by the secret that the browser has made up. It tells owners apart, and does not tell the key."""
    if not re.fullmatch(r"[A-Za-z0-9-]{16,64}", key):
        raise unexpected()
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class Pace:
    """So many at once, then one in so many seconds.

    Args:
        burst: at once.
        seconds: for each one after that.
    """

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._due = 0.0  # when the pace will have caught up with all that there was

    def must_wait(self, now: float) -> float:
        """Count one more, unless it comes too fast: the seconds to wait for it then, else 0."""
        due = max(self._due, now) + self._seconds
        wait = max(0.0, due - now - self._burst * self._seconds)
        if not wait:
            self._due = due
        return wait

    def check(self, now: float, text: str = "Not so fast: please wait a moment.") -> None:
        """Raises:
        Refusal: with how long to wait.
        """
        if wait := self.must_wait(now):
            raise Refusal("too-fast", text, wait=round(wait + 0.05, 1))
