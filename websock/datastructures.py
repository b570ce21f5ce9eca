"""HTTP header fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from .typing import HeadersLike

__all__ = ["Headers", "MultipleValuesError", "is_token"]

# The characters of a token: RFC 9110 section 5.6.2.
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def is_token(text: str) -> bool:
    """Whether `text` is a token as HTTP defines it (RFC 9110 section 5.6.2)."""
    return bool(text) and _TOKEN.issuperset(text)


# What would end a header's line or hide in it (RFC 9110 section 5.5).
_BAD_IN_VALUE = frozenset(map(chr, [*range(0x20), 0x7F])) - {"\t"}


def check_text(what: str, text: str) -> None:
    """Refuse what would end a line of an HTTP head or hide in it (RFC 9110 section 5.5).

    Raises:
        ValueError: control characters.
    """
    if not _BAD_IN_VALUE.isdisjoint(text):
        raise ValueError(f"{what} contains control characters: {text!r}")


def headers_of(fields: list[tuple[str, str]]) -> Headers:
    """Header fields that are known to be right: no octet of them is checked again."""
    headers = Headers()
    headers._fields = fields
    return headers


def by_name(headers: Headers) -> dict[str, list[str]]:
    """The values of all headers, by name in lower case: for one who looks for many."""
    found: dict[str, list[str]] = {}
    for name, value in headers.raw_items():
        found.setdefault(name.lower(), []).append(value)
    return found


def tokens_of(values: Iterable[str]) -> list[str]:
    """The elements of the comma-separated lists in these values (RFC 9110 section 5.6.1)."""
    return [part for value in values for one in value.split(",") if (part := one.strip(" \t"))]


class MultipleValuesError(LookupError):
    """A header was asked for as if it stood there once, and it stands there several times."""

    def __str__(self) -> str:
        return f"header {self.args[0]!r} has several values; use get_all()" if self.args else super().__str__()


class Headers(MutableMapping[str, str]):
    """Header fields in their order; names are compared without regard to case (RFC 9110 section 5.1).

    ``headers[name]`` is the one value, ``get_all(name)`` all of them, ``headers[name] = value`` adds one.

    Raises:
        ValueError: a name or value that would break the HTTP message (CR, LF, NUL and other control characters).
        MultipleValuesError: ``headers[name]`` where there are several.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: HeadersLike | None = None, /, **more: str) -> None:
        self._fields: list[tuple[str, str]] = []
        if fields or more:
            self.update(fields or (), **more)

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if len(values) == 1:
            return values[0]
        raise MultipleValuesError(name) if values else KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        if not is_token(name):
            raise ValueError(f"{name!r} isn't a header name")
        if not isinstance(value, str):
            raise TypeError(f"the value of header {name} must be a str, not {type(value).__name__}")
        check_text(f"the value of header {name}", value)
        self._fields.append((name, value.strip(" \t")))

    def __delitem__(self, name: str) -> None:
        key = name.lower()
        self._fields = [field for field in self._fields if field[0].lower() != key]

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): None for name, _ in self._fields})

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._fields})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in [field.lower() for field, _ in self._fields]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(n.lower(), v) for n, v in self._fields] == [(n.lower(), v) for n, v in other._fields]

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"

    def __str__(self) -> str:
        return "".join([f"{name}: {value}\r\n" for name, value in self._fields]) + "\r\n"

    def update(self, fields: Any = (), /, **more: str) -> None:
        """Add fields; those that are here already stay."""
        if isinstance(fields, Headers):
            fields = fields.raw_items()
        elif isinstance(fields, Mapping):
            fields = fields.items()
        for name, value in [*fields, *more.items()]:
            self[name] = value

    def clear(self) -> None:
        """Remove all fields."""
        self._fields = []

    def get_all(self, name: str) -> list[str]:
        """All values of a header, in their order; empty when it is not there."""
        key = name.lower()
        return [value for field, value in self._fields if field.lower() == key]

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """All fields as they are, repeated names included."""
        return iter(self._fields)

    def copy(self) -> Headers:
        """A copy that can be changed alone."""
        return Headers(self)

    def tokens(self, name: str) -> list[str]:
        """The elements of a comma-separated header, over all its fields (RFC 9110 section 5.6.1)."""
        return tokens_of(self.get_all(name))
