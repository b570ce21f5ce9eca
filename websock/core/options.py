"""All protocol settings of a connection: one frozen object, checked once."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypedDict

from ..datastructures import is_token
from .deflate import Deflate
from .extensions import Extension
from .hosts import checked_hosts

__all__ = ["SAME_ORIGIN", "OptionKeywords", "Options"]


class _SameOrigin:
    """The default of ``origins``: a browser's page may connect to the server that it came from, and to no other."""

    def __repr__(self) -> str:
        return "SAME_ORIGIN"

    def __reduce__(self) -> str:
        return "SAME_ORIGIN"


SAME_ORIGIN: Final = _SameOrigin()

# What ``compression="deflate"`` means: one object, so that all connections share its compressors.
_DEFLATE: Final = Deflate()

Origins = Sequence["str | re.Pattern[str] | None"] | _SameOrigin | None


class OptionKeywords(TypedDict, total=False):
    """The fields of `Options`, as keywords of ``connect`` and ``serve``: their one list for type checkers."""

    subprotocols: Sequence[str] | None
    compression: str | Deflate | None
    extensions: Sequence[Extension] | None
    max_size: int | None
    max_queue: int | None
    write_limit: int
    max_header_size: int
    open_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    close_timeout: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """Settings of a connection, for both roles.

    Attributes:
        subprotocols: those that we speak, best first (RFC 6455 section 1.9).
        origins: server only. `SAME_ORIGIN`: an Origin header must name the host of the request; None: not looked at;
            a sequence: the origins allowed, as strings or compiled patterns; None in it allows requests without one.
        hosts: server only. The names that a request's Host may have, or None for any: ``example.com`` with any port,
            ``example.com:8443``, ``*.example.com`` for every name below, ``[::1]``. Others are answered with 421 before
            any hook: so no page gets here by a name of its own that it lets point to us (DNS rebinding).
        compression: permessage-deflate (RFC 7692): "deflate" for its defaults, `Deflate` for others, None for none.
        extensions: other extensions, best first; what is sent goes through them in this order, and is compressed
            last. A `Deflate` among them takes the place of `compression`.
        max_size: bytes that a received message may have, uncompressed; None for no limit.
        max_queue: received messages that wait for the application before reading is paused; None for no limit.
        write_limit: bytes that wait to be written before ``send`` waits.
        max_header_size: bytes of the peer's HTTP head.
        open_timeout: seconds for everything before the connection is open, counted from the TCP connection.
        ping_interval: seconds between keepalive pings; None for none.
        ping_timeout: seconds without a byte from the peer after a keepalive ping has left; None to wait for ever.
        close_timeout: seconds that closing may take once our Close is sent; None to wait for ever.

    Raises:
        TypeError: a value of a wrong type.
        ValueError: a value out of its range.
    """

    subprotocols: Sequence[str] | None = None
    origins: Origins = SAME_ORIGIN
    hosts: Sequence[str] | None = None
    compression: str | Deflate | None = "deflate"
    extensions: Sequence[Extension] | None = None
    max_size: int | None = 2**20
    max_queue: int | None = 16
    write_limit: int = 2**15
    max_header_size: int = 2**14
    open_timeout: float | None = 10
    ping_interval: float | None = 20
    ping_timeout: float | None = 20
    close_timeout: float | None = 10

    def __post_init__(self) -> None:
        for name, least, optional in _NUMBERS:
            value = getattr(self, name)
            if value is None and optional:
                continue
            wanted = float | int if name.endswith(("_timeout", "_interval")) else int
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number{' or None' if optional else ''}, not {value!r}")
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, not {value!r}")
        if self.ping_interval == 0:
            raise ValueError("ping_interval must be more than 0; None turns keepalive off")
        if self.compression is not None and self.compression != "deflate" and not isinstance(self.compression, Deflate):
            kind = ValueError if isinstance(self.compression, str) else TypeError
            raise kind(f"compression must be 'deflate', a Deflate or None, not {self.compression!r}")
        if self.extensions is not None:
            object.__setattr__(self, "extensions", _tuple("extensions", self.extensions, Extension))
            for extension in self.extensions:
                if not is_token(getattr(extension, "name", "")):
                    raise ValueError(f"the name of {extension!r} isn't a token (RFC 6455 section 9.1)")
        if self.subprotocols is not None:
            names = _tuple("subprotocols", self.subprotocols, str)
            for name in names:
                if not is_token(name):
                    raise ValueError(f"subprotocol {name!r} isn't a token (RFC 6455 section 4.1)")
            if len(set(names)) < len(names):
                raise ValueError(f"subprotocols has a name twice (RFC 6455 section 4.1): {list(names)}")
            object.__setattr__(self, "subprotocols", names)
        if self.hosts is not None:
            object.__setattr__(self, "hosts", checked_hosts(_tuple("hosts", self.hosts, str)))
        if self.origins is not None and self.origins is not SAME_ORIGIN:
            object.__setattr__(self, "origins", _tuple("origins", self.origins, (str, re.Pattern, type(None))))

    @property
    def all_extensions(self) -> tuple[Extension, ...]:
        """Those to negotiate, compression included, in the order in which they work on what is sent."""
        found = tuple(self.extensions or ())
        deflate = _DEFLATE if self.compression == "deflate" else self.compression
        if isinstance(deflate, Deflate) and all(one.name != deflate.name for one in found):
            found += (deflate,)
        return found


def _tuple(name: str, values: Any, kinds: Any) -> tuple[Any, ...]:
    """The values, which an iterator gives only once, checked for their types."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list, not {values!r}")
    found = tuple(values)
    for value in found:
        if not isinstance(value, kinds) or (isinstance(value, re.Pattern) and not isinstance(value.pattern, str)):
            raise TypeError(f"{name} contains {value!r}, which can't be one of them")
    return found


# Name, least value, whether None is a value.
_NUMBERS = (
    ("max_size", 0, True),
    ("max_queue", 1, True),
    ("write_limit", 1, False),
    ("max_header_size", 256, False),
    ("open_timeout", 0, True),
    ("ping_interval", 0, True),
    ("ping_timeout", 0, True),
    ("close_timeout", 0, True),
)


def options_from(keywords: Mapping[str, Any], caller: str, known: Iterable[str]) -> Options:
    """The `Options` for the keywords that `caller` did not take itself.

    Raises:
        TypeError: a keyword that is neither an option nor in `known`; the message names the nearest one.
    """
    fields = [field.name for field in dataclasses.fields(Options)]
    for name in keywords:
        if name not in fields:
            near = difflib.get_close_matches(name, sorted({*fields, *known}), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{caller} has no option {name!r}{hint}")
    return Options(**keywords)
