"""Sec-WebSocket-Extensions: parsing, answering an offer, taking an answer; and what was agreed on works.

Input: settings, then the values of the header, one a line, in Latin-1.
Settings: 1 and 2 no context takeover, 4 and 8 windows of 8 and 15 bits.
"""

from __future__ import annotations

from typing import Final

from websock.core import extensions
from websock.core.deflate import Deflate
from websock.core.protocol import Protocol
from websock.datastructures import Headers
from websock.exceptions import InvalidHeaderFormat, NegotiationError

from .harness import Octets

PARSING: Final = (InvalidHeaderFormat,)
PERMITTED: Final = (InvalidHeaderFormat, NegotiationError)

FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")
BITS: Final = ("server_max_window_bits", "client_max_window_bits")


def check(data: bytes) -> None:
    octets = Octets(data)
    settings = octets.octet()
    values = octets.rest().decode("latin-1").split("\n")
    # As they come out of the HTTP head: without control characters, and without blanks around them.
    fields = [value.strip(" \t") for value in values if not any((c < " " and c != "\t") or c == "\x7f" for c in value)]
    headers = Headers([(extensions.HEADER, value) for value in fields])
    _parsing(headers)
    bits = (None, 8, 15, 10)[settings >> 2 & 3]
    ours = Deflate(bool(settings & 1), bool(settings & 2), bits, bits, threshold=0)
    _server(headers, ours)
    _client(headers, ours)


def _parsing(headers: Headers) -> None:
    lenient = None
    try:
        lenient = extensions.parse(headers, lenient=True)
        strict = extensions.parse(headers)
    except PARSING as error:
        str(error)
        return
    assert lenient == strict
    written = ", ".join(extensions.format_one(name, parameters) for name, parameters in strict)
    assert extensions.parse(Headers({extensions.HEADER: written}) if written else Headers()) == strict


def _server(headers: Headers, ours: Deflate) -> None:
    answer, pipeline = extensions.answer(headers, [ours])
    assert bool(answer) is (pipeline is not None)
    if pipeline is None:
        return
    ((name, answered),) = extensions.parse(Headers({extensions.HEADER: answer}))
    assert name == "permessage-deflate"
    parameters = dict(answered)
    assert len(parameters) == len(answered)
    # RFC 7692 section 7.1: the answer belongs to one of the offers.
    offers = [dict(offer) for name, offer in extensions.parse(headers, lenient=True) if name == "permessage-deflate"]
    assert any(_answers(parameters, offer) for offer in offers), (answer, headers)
    client = extensions.agreement(Headers({extensions.HEADER: answer}), [Deflate(threshold=0)])
    ends = Protocol(server=True, pipeline=pipeline), Protocol(server=False, pipeline=client)
    for sender, receiver in (ends, ends[::-1]):
        for message in ("again " * 60, "again " * 60, b""):
            sender.send(message)
            assert receiver.receive(b"".join(bytes(one) for one in sender.outgoing())) == [message]


def _answers(parameters: dict[str, str | None], offer: dict[str, str | None]) -> bool:
    if not all(flag in parameters for flag in FLAGS if flag in offer):
        return False
    if "client_max_window_bits" in parameters and "client_max_window_bits" not in offer:
        return False
    return all(int(parameters.get(bits) or 99) <= _number(offer[bits]) for bits in BITS if bits in offer)


def _number(bits: str | None) -> int:
    return 15 if bits is None else int(bits) if bits.isascii() and bits.isdigit() else 0


def _client(headers: Headers, ours: Deflate) -> None:
    try:
        pipeline = extensions.agreement(headers, [ours])
    except PERMITTED as error:
        str(error)
        return
    names = [name for name, _ in extensions.parse(headers)]
    assert names == ["permessage-deflate"] * (pipeline is not None)
