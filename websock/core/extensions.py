"""Extensions: what they are, and how the opening handshake agrees on them (RFC 6455 section 9).

Strategy: what was agreed on is folded into one `Pipeline` for a connection, or into None, so that a connection
without extensions pays one comparison for a message. A pipeline sees messages, not frames: that is what the extensions
in use need, and it leaves fragments, control frames and limits to the codec.

An extension of your own is an `Extension`, which negotiates, and a `Transform`, which works; `Deflate` in
``core/deflate.py`` is one, and ``examples/extension.py`` another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence

from ..datastructures import Headers, is_token
from ..exceptions import InvalidHeaderFormat, NegotiationError
from ..typing import Buffer

__all__ = ["Extension", "Parameters", "Pipeline", "Transform"]

HEADER = "Sec-WebSocket-Extensions"

Parameters = list[tuple[str, "str | None"]]
"""Names of an extension's parameters with their values, None for a parameter without one, in their order."""


class Transform:
    """What an extension does to the messages of one connection, in both directions.

    All calls come one after the other, in the order of the messages on the wire. When one raises, the connection is
    failed: with the ``.code`` of a ProtocolError from `decode`, else with 1011; the exception is the cause of the
    ConnectionClosed.

    Attributes:
        rsv: the reserved bit, or bits, that mark the messages it has changed (RFC 6455 section 5.2): 0x40 is RSV1,
            0x20 RSV2, 0x10 RSV3. With 0 it takes part in every message.
        alone: equal and not None for two connections if what `encode_alone` returns for one is right for the other.
    """

    __slots__ = ()

    rsv: int = 0
    alone: Hashable | None = None

    def applies(self, size: int | None, compress: bool | None) -> bool:
        """Whether to change a message that is sent; asked only when ``rsv`` is not 0.

        Args:
            size: octets of the message; None for one that is sent in parts.
            compress: what the caller of ``send`` wished.
        """
        return True

    def encode(self, payload: Buffer, last: bool) -> Buffer:
        """What to send instead of the next part of a message; ``last`` with the last part."""
        return payload

    def encode_alone(self, payload: bytes) -> bytes:
        """As `encode` for a whole message, with nothing of earlier ones in it; the same for all of one ``alone``."""
        raise NotImplementedError

    def sent_alone(self) -> None:
        """A message of `encode_alone` goes out to this peer."""

    def decode(self, data: bytes, last: bool) -> Iterable[bytes]:
        """What was meant by the next part of a received message, in pieces.

        A long piece is best made when it is asked for: the limit of a message is enforced from piece to piece.

        Raises:
            ProtocolError: it cannot be; the connection is failed with its ``.code``.
        """
        return (data,)


class Extension:
    """An extension as it is offered and agreed on, in either role.

    Attributes:
        name: as registered, or of your own making: a token (RFC 6455 section 9.1).
    """

    name: str

    def offer(self) -> Parameters:
        """Client: the parameters to offer."""
        return []

    def accept(self, offered: Parameters) -> tuple[Parameters, Transform] | None:
        """Server: the parameters to answer an offer with, and the transform for this connection; None declines."""
        raise NotImplementedError

    def agree(self, answered: Parameters) -> Transform:
        """Client: the transform for the parameters that the server answered with.

        Raises:
            NegotiationError: they are not an answer to our offer; the connection is failed.
        """
        raise NotImplementedError


class Pipeline:
    """The transforms that were agreed on for one connection, in the order of the server's answer.

    What is sent goes through them in that order, what is received in the opposite one (RFC 6455 section 9.1).

    Attributes:
        transforms: them.
        rsv: all their reserved bits.
        always: one of them takes part in every message.
        alone: what two connections have in common that can share an encoded message, or None.
    """

    __slots__ = ("_receiving", "alone", "always", "rsv", "transforms")

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)
        self._receiving: dict[int, tuple[Transform, ...]] = {}  # by the bits of the first frame
        self.rsv = bits_of(self.transforms)
        self.always = any(transform.rsv == 0 for transform in transforms)
        self.alone = self.transforms[0].alone if len(self.transforms) == 1 else None

    def sending(self, size: int | None, compress: bool | None) -> tuple[Transform, ...]:
        """Those that change a message that is sent: see `Transform.applies`."""
        return tuple(one for one in self.transforms if one.rsv == 0 or one.applies(size, compress))

    def receiving(self, rsv: int) -> tuple[Transform, ...]:
        """Those that changed a received message, the last one first; `rsv` are the bits of its first frame."""
        found = self._receiving.get(rsv)
        if found is None:
            found = tuple(one for one in reversed(self.transforms) if one.rsv == 0 or one.rsv & rsv)
            self._receiving[rsv] = found  # at most one for each set of our own bits, and of those that are refused
        return found


def bits_of(transforms: Iterable[Transform]) -> int:
    """The reserved bits of a message that these have changed."""
    rsv = 0
    for transform in transforms:
        rsv |= transform.rsv
    return rsv


def encode_through(transforms: Sequence[Transform], payload: Buffer, last: bool) -> Buffer:
    """A part of a message that is sent, after all of them."""
    for transform in transforms:
        payload = transform.encode(payload, last)
    return payload


def decode_through(transforms: Sequence[Transform], data: bytes, last: bool) -> Iterable[bytes]:
    """The pieces of a part of a received message, after all of them."""
    pieces = transforms[0].decode(data, last)
    return pieces if len(transforms) == 1 else _decode_on(transforms[1:], pieces, last)


def _decode_on(transforms: Sequence[Transform], pieces: Iterable[bytes], last: bool) -> Iterator[bytes]:
    for piece in pieces:
        yield from decode_through(transforms, piece, False)
    if last:  # which piece is the last one is known only behind it
        yield from decode_through(transforms, b"", True)


# What stands in the header (RFC 6455 section 9.1).

# One element up to what separates it from the next; a quoted string may hold separators. It never goes back, so that
# no header takes more time than its length.
_ELEMENT = re.compile(r'((?:[^",;]|"(?:[^"\\]|\\.)*+")*+)([,;]|$)')


def parse(headers: Headers, *, lenient: bool = False) -> list[tuple[str, Parameters]]:
    """The extensions in all Sec-WebSocket-Extensions fields, with their parameters.

    With `lenient`, those with a quoted value that is not a token are left out, and the others stay.

    Raises:
        InvalidHeaderFormat: it does not have the form of RFC 6455 section 9.1.
    """
    found: list[tuple[str, Parameters]] = []
    for value in headers.get_all(HEADER):
        parsed = _known(value, lenient) if len(value) <= _KNOWN_LENGTH else _parsed(value, lenient)
        found += [(name, list(parameters)) for name, parameters in parsed]
    return found


def _parsed(value: str, lenient: bool) -> list[tuple[str, Parameters]]:
    """As `parse`, for one field."""
    found: list[tuple[str, Parameters]] = []
    wrong: list[Parameters] = []
    position, separator = 0, ","
    while separator:
        element = _ELEMENT.match(value, position)
        if element is None:  # a quote that is not closed
            raise InvalidHeaderFormat(HEADER, value)
        text, before = element[1].strip(" \t"), separator
        position, separator = element.end(), element[2]
        if before == ";":
            parameter = _parameter(text)
            if parameter is None:
                raise InvalidHeaderFormat(HEADER, value)
            if parameter[1] is not None and not is_token(parameter[1]):  # which quotes allow, and the rule does not
                if not lenient:
                    raise InvalidHeaderFormat(HEADER, value)
                wrong.append(found[-1][1])
            found[-1][1].append(parameter)
        elif is_token(text):
            found.append((text, []))
        elif text or separator == ";":  # an empty element of a list is nothing (RFC 9110 section 5.6.1)
            raise InvalidHeaderFormat(HEADER, value)
    return [one for one in found if not any(one[1] is parameters for parameters in wrong)]


# Nearly all clients are a few browsers and programs, each with one offer. What a stranger may put in here is short.
_KNOWN_LENGTH = 128
_known = functools.lru_cache(maxsize=64)(_parsed)


def _parameter(text: str) -> tuple[str, str | None] | None:
    """Name and value of a parameter, None when it is not one; of a quoted value, what it says."""
    name, equals, value = text.partition("=")
    name, value = name.rstrip(" \t"), value.lstrip(" \t")
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    elif equals and not is_token(value):
        return None
    return (name, value if equals else None) if is_token(name) else None


def format_one(name: str, parameters: Parameters) -> str:
    """One extension as it stands in the header.

    Raises:
        ValueError: a name or value that is not a token.
    """
    return _formatted(name, tuple(parameters))


@functools.lru_cache(maxsize=64)
def _formatted(name: str, parameters: tuple[tuple[str, str | None], ...]) -> str:
    for text in (name, *(text for parameter in parameters for text in parameter if text is not None)):
        if not is_token(text):
            raise ValueError(f"{text!r} in the parameters of {name!r} isn't a token (RFC 6455 section 9.1)")
    return "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])


def offers(extensions: Iterable[Extension]) -> str:
    """Client: the header's value, empty when there is nothing to offer."""
    return ", ".join(format_one(extension.name, extension.offer()) for extension in extensions)


def answer(headers: Headers, extensions: Iterable[Extension]) -> tuple[str, Pipeline | None]:
    """Server: what to answer to the offers of a request, empty for nothing, and what that comes to.

    Our own order decides between extensions, the client's between its offers of one. What cannot be parsed is
    declined, and so is an extension whose name or reserved bit another one has taken.
    """
    try:
        offered = parse(headers, lenient=True)
    except InvalidHeaderFormat:
        return "", None
    accepted: dict[str, str] = {}
    transforms: list[Transform] = []
    for extension in extensions:
        for name, parameters in offered:
            if name != extension.name or name in accepted:
                continue
            result = extension.accept(parameters)
            if result is not None and not bits_of(transforms) & result[1].rsv:
                accepted[name] = format_one(name, result[0])
                transforms.append(result[1])
    return ", ".join(accepted.values()), Pipeline(transforms) if transforms else None


def agreement(headers: Headers, extensions: Sequence[Extension]) -> Pipeline | None:
    """Client: what the server's answer to `offers` comes to (RFC 6455 section 4.1, item 5 of the last list).

    Raises:
        InvalidHeaderFormat: it cannot be parsed.
        NegotiationError: it has what was not offered, or what the extension does not allow.
    """
    transforms: list[Transform] = []
    names: set[str] = set()
    for name, parameters in parse(headers):
        ours = [extension for extension in extensions if extension.name == name]
        if not ours:
            raise NegotiationError(f"extension {name!r} was not offered")
        if name in names:
            raise NegotiationError(f"extension {name!r} is accepted twice")
        names.add(name)
        transform = _agreed(ours, parameters)
        if bits_of(transforms) & transform.rsv:
            raise NegotiationError(f"extension {name!r} needs a reserved bit that another one has")
        transforms.append(transform)
    return Pipeline(transforms) if transforms else None


def _agreed(offered: Iterable[Extension], parameters: Parameters) -> Transform:
    """The transform of the first of our offers of one name that this is an answer to."""
    first: NegotiationError | None = None
    for extension in offered:
        try:
            return extension.agree(parameters)
        except NegotiationError as failure:
            first = first or failure
    assert first is not None  # noqa: S101 - for the type checker
    raise first
