"""What client and server agree on (RFC 7692 section 7.1), by the table and for all settings."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given

from websock.core import extensions
from websock.core.deflate import Deflate, DeflateTransform
from websock.core.extensions import HEADER, Parameters
from websock.core.handshake import ClientHandshake
from websock.core.options import Options
from websock.core.uri import parse_uri
from websock.datastructures import Headers
from websock.exceptions import InvalidHandshake, InvalidHeaderFormat, NegotiationError

from .deflated import agreed, settings_of_deflate, transform_of
from .heads import accept_of, request, serve

NAME = "permessage-deflate"


def terms(transform: Any) -> tuple[int, bool, int, bool]:
    """Our window, whether we forget; the peer's window, whether it forgets."""
    assert isinstance(transform, DeflateTransform)
    return transform.bits, transform.forgets, transform.peer_bits, transform.peer_forgets


# Settings of the server, the offers that it gets, its answer and the terms: RFC 7692 section 7.1.
PLAIN = Deflate(server_max_window_bits=15, client_max_window_bits=15)
SERVER: list[tuple[Deflate, str, str | None, tuple[int, bool, int, bool] | None]] = [
    (Deflate(), "", "server_max_window_bits=12", (12, False, 15, False)),
    (
        Deflate(),
        "client_max_window_bits",
        "server_max_window_bits=12; client_max_window_bits=12",
        (12, False, 12, False),
    ),
    (PLAIN, "", "", (15, False, 15, False)),
    (PLAIN, "client_max_window_bits", "client_max_window_bits=15", (15, False, 15, False)),
    *(
        (PLAIN, f"client_max_window_bits={bits}", f"client_max_window_bits={bits}", (15, False, bits, False))
        for bits in range(8, 16)
    ),
    *(
        (PLAIN, f"server_max_window_bits={bits}", f"server_max_window_bits={bits}", (bits, False, 15, False))
        for bits in range(8, 16)
    ),
    (PLAIN, 'server_max_window_bits="10"', "server_max_window_bits=10", (10, False, 15, False)),
    (PLAIN, "server_no_context_takeover", "server_no_context_takeover", (15, True, 15, False)),
    (PLAIN, "client_no_context_takeover", "client_no_context_takeover", (15, False, 15, True)),
    (
        PLAIN,
        "client_max_window_bits; server_max_window_bits=9; client_no_context_takeover; server_no_context_takeover",
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=15",
        (9, True, 15, True),
    ),
    (Deflate(server_max_window_bits=9), "server_max_window_bits=11", "server_max_window_bits=9", (9, False, 15, False)),
    (Deflate(server_max_window_bits=11), "server_max_window_bits=9", "server_max_window_bits=9", (9, False, 15, False)),
    (
        Deflate(server_max_window_bits=15, client_max_window_bits=10),
        "client_max_window_bits=8",
        "client_max_window_bits=8",
        (15, False, 8, False),
    ),
    (Deflate(server_max_window_bits=15, client_max_window_bits=10), "", "", (15, False, 15, False)),
    (
        Deflate(server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=15),
        "",
        "server_no_context_takeover; client_no_context_takeover",
        (15, True, 15, True),
    ),
    # Declined: the answer has no extension, and the connection goes on without.
    *(
        (PLAIN, offer, None, None)
        for offer in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=1",
            "server_max_window_bits=10; server_max_window_bits=10",
            "server_max_window_bits=x",
            "server_max_window_bits=+9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=010",
            "client_max_window_bits; client_max_window_bits",
            "server_no_context_takeover=1",
            'client_no_context_takeover="x"',
            "client_no_context_takeover; client_no_context_takeover",
            "unknown",
            "unknown=1",
            "Server_no_context_takeover",
            "server_max_window_bits=",
            'server_max_window_bits=""',
            'server_max_window_bits="9',
            "server_max_window_bits=9 9",
            "=",
            "; server_no_context_takeover",
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "offer", "answer", "expected"), SERVER)
def test_a_server(
    settings: Deflate, offer: str, answer: str | None, expected: tuple[int, bool, int, bool] | None
) -> None:
    value = f"{NAME}; {offer}" if offer else NAME
    handshake, reply = serve(request({HEADER: value}), Options(compression=settings))
    assert reply is not None and reply.status == 101 and handshake.protocol is not None
    if answer is None:
        assert HEADER.lower() not in reply.headers and handshake.protocol.pipeline is None
    else:
        assert reply.headers[HEADER.lower()] == [f"{NAME}; {answer}" if answer else NAME]
        assert terms(transform_of(handshake.protocol)) == expected


LISTS = [
    ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9, permessage-deflate", 9),
    ("x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=10", 10),
    (", ,permessage-deflate;server_max_window_bits=11 ,", 11),
    ('other; a="b, permessage-deflate; c", permessage-deflate; server_max_window_bits=13', 13),
    ('other; a="\\"", permessage-deflate ; server_max_window_bits = 14', 14),
]


@pytest.mark.parametrize(("value", "expected"), LISTS)
def test_the_first_good_one_of_several_offers(value: str, expected: int) -> None:
    handshake, _ = serve(request({HEADER: value}), Options(compression=PLAIN))
    assert handshake.protocol is not None and transform_of(handshake.protocol).bits == expected


def test_offers_in_several_header_fields() -> None:
    more: Any = [(HEADER, "permessage-deflate; unknown"), (HEADER, "permessage-deflate; server_max_window_bits=9")]
    handshake, _ = serve(request(more=more), Options(compression=PLAIN))
    assert handshake.protocol is not None and transform_of(handshake.protocol).bits == 9


def test_a_server_without_compression() -> None:
    handshake, reply = serve(request({HEADER: NAME}), Options(compression=None))
    assert reply is not None and reply.status == 101 and HEADER.lower() not in reply.headers
    assert handshake.protocol is not None and handshake.protocol.pipeline is None


def test_the_answer_belongs_to_the_handshake() -> None:
    handshake, _ = serve(request({HEADER: NAME})[:-2])
    handshake.receive(b"\r\n")
    response = handshake.answer()
    changed = pickle.loads(pickle.dumps(response))
    del changed.headers[HEADER]
    changed.headers[HEADER] = f"{NAME}; server_max_window_bits=9"
    with pytest.raises(ValueError, match=HEADER):
        handshake.respond(changed)
    del changed.headers[HEADER]
    handshake.respond(changed)  # a hook may turn compression off for a client
    assert handshake.protocol is not None and handshake.protocol.pipeline is None


# Settings of the client, the answer that it gets, and the terms or None where it must fail the connection.
ASKING = Deflate(server_no_context_takeover=True, server_max_window_bits=10)
CLIENT: list[tuple[Deflate, str, tuple[int, bool, int, bool] | None]] = [
    (Deflate(), "", (12, False, 15, False)),
    (Deflate(client_max_window_bits=15), "", (15, False, 15, False)),
    (Deflate(), "client_no_context_takeover", (12, True, 15, False)),  # unsolicited, and allowed: section 7.1.1.2
    (Deflate(), "server_no_context_takeover", (12, False, 15, True)),
    (Deflate(), "server_max_window_bits=9", (12, False, 9, False)),
    (Deflate(), 'server_max_window_bits="9"', (12, False, 9, False)),
    *((Deflate(), f"client_max_window_bits={bits}", (min(12, bits), False, 15, False)) for bits in range(8, 16)),
    (Deflate(client_max_window_bits=9), "client_max_window_bits=15", (9, False, 15, False)),
    (Deflate(client_no_context_takeover=True), "", (12, True, 15, False)),  # only a hint: section 7.1.1.2
    (ASKING, "server_no_context_takeover; server_max_window_bits=10", (12, False, 10, True)),
    (ASKING, "server_no_context_takeover; server_max_window_bits=8", (12, False, 8, True)),
    (Deflate(server_max_window_bits=15), "", (12, False, 15, False)),  # some leave out what goes without saying
    (ASKING, "server_max_window_bits=10", None),
    (ASKING, "server_no_context_takeover", None),
    (ASKING, "server_no_context_takeover; server_max_window_bits=11", None),
    (Deflate(), "client_max_window_bits", None),  # in an answer it needs a value: section 7.1.2.2
    (Deflate(), "client_max_window_bits=7", None),
    (Deflate(), "client_max_window_bits=16", None),
    (Deflate(), "client_max_window_bits=09", None),
    (Deflate(), "client_max_window_bits=9; client_max_window_bits=9", None),
    (Deflate(), "server_max_window_bits", None),
    (Deflate(), "server_max_window_bits=7", None),
    (Deflate(), "server_max_window_bits=16", None),
    (Deflate(), "server_max_window_bits=9; server_max_window_bits=9", None),
    (Deflate(), "server_no_context_takeover=1", None),
    (Deflate(), "client_no_context_takeover=true", None),
    (Deflate(), "server_no_context_takeover; server_no_context_takeover", None),
    (Deflate(), "unknown", None),
    (Deflate(), "unknown=1", None),
]


def answered(options: Options, value: str | None) -> ClientHandshake:
    """A client that got this answer."""
    handshake = ClientHandshake(parse_uri("ws://example.com/"), options=options)
    handshake.outgoing()
    lines = ["HTTP/1.1 101 x", "Upgrade: websocket", "Connection: Upgrade"]
    lines.append(f"Sec-WebSocket-Accept: {accept_of(handshake.request.headers['Sec-WebSocket-Key'])}")
    lines += [] if value is None else [f"{HEADER}: {value}"]
    handshake.receive("\r\n".join([*lines, "", ""]).encode())
    return handshake


@pytest.mark.parametrize(("settings", "answer", "expected"), CLIENT)
def test_a_client(settings: Deflate, answer: str, expected: tuple[int, bool, int, bool] | None) -> None:
    value = f"{NAME}; {answer}" if answer else NAME
    options = Options(compression=settings)
    if expected is None:
        with pytest.raises(NegotiationError, match=NAME):
            answered(options, value)
    else:
        protocol = answered(options, value).protocol
        assert protocol is not None and terms(transform_of(protocol)) == expected


@pytest.mark.parametrize(
    ("compression", "value", "kind"),
    [
        (None, NAME, NegotiationError),
        ("deflate", "other", NegotiationError),
        ("deflate", f"{NAME}, {NAME}", NegotiationError),
        ("deflate", f"{NAME}, other", NegotiationError),
        ("deflate", f"{NAME};", InvalidHeaderFormat),
        ("deflate", f'{NAME}; server_max_window_bits="9', InvalidHeaderFormat),
        ("deflate", "a b", InvalidHeaderFormat),
    ],
)
def test_a_client_fails_for_an_answer_to_no_offer(
    compression: str | None, value: str, kind: type[InvalidHandshake]
) -> None:
    with pytest.raises(kind):
        answered(Options(compression=compression), value)


def test_a_client_goes_on_when_the_server_declines() -> None:
    for value in (None, "", ","):
        protocol = answered(Options(), value).protocol
        assert protocol is not None and protocol.pipeline is None


@pytest.mark.parametrize(
    ("settings", "offer"),
    [
        (Deflate(), "client_max_window_bits"),
        (Deflate(client_max_window_bits=15), "client_max_window_bits=15"),
        (Deflate(server_max_window_bits=8), "server_max_window_bits=8; client_max_window_bits"),
        (
            Deflate(server_no_context_takeover=True, client_no_context_takeover=True),
            "server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
        ),
    ],
)
def test_what_a_client_offers(settings: Deflate, offer: str) -> None:
    handshake = ClientHandshake(parse_uri("ws://example.com/"), options=Options(compression=settings))
    assert handshake.request.headers[HEADER] == f"{NAME}; {offer}"


def test_a_client_without_compression_offers_nothing() -> None:
    handshake = ClientHandshake(parse_uri("ws://example.com/"), options=Options(compression=None))
    assert HEADER not in handshake.request.headers


def test_a_client_may_offer_several() -> None:
    """First with a small window, then without that wish; the server takes what it can."""
    wishes = [Deflate(server_max_window_bits=9), Deflate()]
    offer = extensions.offers(wishes)
    assert offer.count(NAME) == 2
    for answer, bits in ((f"{NAME}; server_max_window_bits=9", 9), (NAME, 15)):
        pipeline = extensions.agreement(Headers({HEADER: answer}), wishes)
        assert pipeline is not None and terms(pipeline.transforms[0])[2] == bits
    with pytest.raises(NegotiationError, match="server_max_window_bits=9 was asked for"):
        extensions.agreement(Headers({HEADER: f"{NAME}; server_max_window_bits=10"}), wishes[:1])


@given(client=settings_of_deflate, server=settings_of_deflate)
def test_ours_always_agree_with_ours(client: Deflate, server: Deflate) -> None:
    ours, theirs, _, _ = agreed([client], [server])
    assert ours is not None and theirs is not None
    our_bits, we_forget, peer_bits, peer_forgets = terms(ours.transforms[0])
    its_bits, it_forgets, its_peer_bits, its_peer_forgets = terms(theirs.transforms[0])
    # Neither sends what the other cannot take, nor less than both wished.
    assert our_bits <= its_peer_bits and its_bits == peer_bits
    assert its_peer_forgets <= we_forget and it_forgets == peer_forgets
    assert it_forgets == (client.server_no_context_takeover or server.server_no_context_takeover)
    assert we_forget == (client.client_no_context_takeover or server.client_no_context_takeover)
    assert its_bits == min(client.server_max_window_bits or 15, server.server_max_window_bits or 12)
    assert our_bits == min(client.client_max_window_bits or 12, server.client_max_window_bits or 12)


@given(client=settings_of_deflate)
def test_an_accepted_offer_is_a_good_offer(client: Deflate) -> None:
    result = Deflate().accept(client.offer())
    assert result is not None
    answer: Parameters = result[0]
    assert terms(client.agree(answer))


# Settings.


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"server_max_window_bits": 7}, ValueError),
        ({"client_max_window_bits": 16}, ValueError),
        ({"client_max_window_bits": "12"}, TypeError),
        ({"server_max_window_bits": True}, TypeError),
        ({"server_no_context_takeover": 1}, TypeError),
        ({"client_no_context_takeover": None}, TypeError),
        ({"level": 0}, ValueError),
        ({"level": 10}, ValueError),
        ({"level": -2}, ValueError),
        ({"level": 1.5}, TypeError),
        ({"memory_level": 0}, ValueError),
        ({"memory_level": 10}, ValueError),
        ({"memory_level": None}, TypeError),
        ({"threshold": -1}, ValueError),
        ({"threshold": "1"}, TypeError),
    ],
)
def test_wrong_settings(keywords: dict[str, Any], kind: type[Exception]) -> None:
    (name,) = keywords
    with pytest.raises(kind, match=name):
        Deflate(**keywords)


def test_settings_are_values() -> None:
    assert Deflate(level=1) == Deflate(level=1) != Deflate()
    assert hash(Deflate(level=1)) == hash(Deflate(level=1))
    settings = Deflate(level=9)
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(AttributeError):
        settings.level = 1  # type: ignore[misc]
