"""The same bytes through wsproto, which others wrote from the same RFC: the same messages and the same verdict.

wsproto is an oracle here and nothing else. Where it differs on purpose the place is named below, with the section that
decides, and `agree` says what each of the two does; nothing is left out of the comparison for it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from websock.core import extensions
from websock.core.deflate import Deflate
from websock.core.protocol import Protocol
from websock.datastructures import Headers
from websock.typing import Data

from .frames import (
    BINARY,
    CLOSE,
    CODECS,
    CONT,
    PING,
    PONG,
    TEXT,
    Stream,
    binaries,
    broken_streams,
    frame,
    header,
    keys,
    pieces,
    sizes,
    streams,
    texts,
)
from .oracle import Oracle, agree, ours, theirs

pytestmark = pytest.mark.parametrize("codec", CODECS)


@given(stream=streams(), sizes=sizes)
def test_valid_streams(codec: Any, stream: Stream, sizes: list[int]) -> None:
    agree(codec, stream.data, sizes, stream.masked)


@settings(max_examples=400)
@given(broken=broken_streams(), sizes=sizes)
def test_broken_streams(codec: Any, broken: tuple[bool, bytes], sizes: list[int]) -> None:
    masked, data = broken
    agree(codec, data, sizes, masked)


loose_frames = st.builds(
    lambda opcode, payload, fin, rsv, key, form: (
        header(
            opcode,
            len(payload),
            fin=fin,
            rsv=rsv,
            mask=key is not None,
            form=max(form, 7 if len(payload) < 126 else 16),
        )
        + (b"" if key is None else key)
        + payload
    ),
    st.one_of(st.sampled_from([CONT, TEXT, BINARY, CLOSE, PING, PONG]), st.integers(0, 15)),
    st.one_of(st.binary(max_size=10), st.text(max_size=5).map(str.encode), st.just(b"\x03\xe8ok"), st.just(b"x" * 126)),
    st.booleans(),
    st.sampled_from([0] * 12 + [1, 2, 4, 7]),
    st.one_of(st.none(), keys),
    st.sampled_from([7] * 12 + [16, 64]),
)


@settings(max_examples=400)
@given(frames=st.lists(loose_frames, max_size=8), masked=st.booleans(), sizes=sizes)
def test_frames_without_any_order(codec: Any, frames: list[bytes], masked: bool, sizes: list[int]) -> None:
    agree(codec, b"".join(frames), sizes, masked)


@pytest.mark.parametrize("masked", [True, False])
def test_every_first_octet_after_every_beginning(codec: Any, masked: bool) -> None:
    key = b"\x01\x02\x03\x04" if masked else None
    for before in (b"", frame(TEXT, b"a", fin=False, key=key), frame(BINARY, b"", fin=False, key=key)):
        for first in range(256):
            good = bytes((first,)) + frame(TEXT, b"ab", key=key)[1:]
            agree(codec, before + good + frame(CONT, b"c", key=key), [10**9], masked)


@pytest.mark.parametrize("masked", [True, False])
def test_every_close_code(codec: Any, masked: bool) -> None:
    key = b"\x01\x02\x03\x04" if masked else None
    for code in [*range(5100), 2**15, 2**16 - 1]:
        agree(codec, frame(CLOSE, code.to_bytes(2, "big") + b"why", key=key), [10**9], masked)


@given(text=st.binary(max_size=12), sizes=sizes, fin=st.booleans())
def test_text_of_any_octets(codec: Any, text: bytes, sizes: list[int], fin: bool) -> None:
    data = frame(TEXT, text, fin=fin) + frame(CONT, b"", fin=True)
    # 4. CPython's incremental decoder, and wsproto with it, waits for a third octet before it refuses a surrogate
    #    (RFC 3629 section 3). Here the next frame shows it to both.
    agree(codec, data, sizes, False)


@given(messages=st.lists(st.one_of(st.text(max_size=50), st.binary(max_size=200)), max_size=5), server=st.booleans())
def test_wsproto_understands_what_we_send(codec: Any, messages: list[Data], server: bool) -> None:
    protocol = Protocol(server=server)
    for message in messages:
        protocol.send(message)
        if message:
            protocol.send_part(message[:1], last=False)
            protocol.ping()
            protocol.send_part(message[1:], last=True)
    protocol.close(3000, "bye")
    verdict = theirs([bytes(buffer) for buffer in protocol.outgoing()], masked=not server)
    expected = [copy for message in messages for copy in ([message, message] if message else [message])]
    assert verdict.messages == expected
    assert verdict.close == (3000, "bye") and verdict.failed is None
    assert len(verdict.controls) == sum(map(bool, messages))


@given(data=st.data(), messages=st.lists(st.one_of(texts, binaries), max_size=5), sizes=sizes)
def test_compressed(codec: Any, data: st.DataObject, messages: list[Data], sizes: list[int]) -> None:
    """Both ways, with every pair of parameters that wsproto can agree to, in parts, with pings between."""
    server = data.draw(st.booleans())
    bits = st.integers(9, 15)  # wsproto cannot make a window of 8
    theirs = PerMessageDeflate(
        client_no_context_takeover=data.draw(st.booleans()),
        server_no_context_takeover=data.draw(st.booleans()),
        client_max_window_bits=data.draw(bits),
        server_max_window_bits=data.draw(bits),
    )
    settings = Deflate(
        server_no_context_takeover=not server and data.draw(st.booleans()),
        client_no_context_takeover=data.draw(st.booleans()),
        server_max_window_bits=data.draw(bits) if server else None,
        client_max_window_bits=data.draw(bits),
        threshold=0,
    )
    if server:
        offer = theirs.offer()
        answer, pipeline = extensions.answer(Headers({extensions.HEADER: f"{theirs.name}; {offer}"}), [settings])
        theirs.finalize(answer)
    else:
        # wsproto takes what is offered and not given in the form `name=value` for the greatest window.
        offer = extensions.format_one(settings.name, settings.offer())
        accepted = theirs.accept(offer)
        pipeline = extensions.agreement(
            Headers({extensions.HEADER: f"{theirs.name}; {accepted}" if accepted else theirs.name}), [settings]
        )
    connection = Connection(ConnectionType.CLIENT if server else ConnectionType.SERVER, [theirs])
    protocol = Protocol(server=server, pipeline=pipeline)
    oracle = Oracle(not server)
    oracle.connection = connection
    written = b""
    for message in messages:
        protocol.send(message)
        protocol.ping()
        # wsproto forgets that a message is compressed when a control frame comes between its fragments; the test of
        # both our ends, and the frames that wsproto writes below, have them there.
        protocol.send_part(message[:3], last=False)
        protocol.send_part(message[3:], last=True)
        oracle.feed(b"".join(bytes(buffer) for buffer in protocol.outgoing()))
        kind: Any = TextMessage if isinstance(message, str) else BytesMessage
        written += connection.send(kind(data=message))
        written += connection.send(kind(data=message[:3], message_finished=False)) + connection.send(Ping(payload=b"p"))
        written += connection.send(kind(data=message[3:]))
    twice = [copy for message in messages for copy in (message, message)]
    assert oracle.verdict.messages == twice and oracle.verdict.failed is None
    assert [message for chunk in pieces(written, sizes) for message in protocol.receive(chunk)] == twice
    assert protocol.unsettled is None


@given(messages=st.lists(st.one_of(st.text(max_size=50), st.binary(max_size=200)), max_size=5), server=st.booleans())
def test_we_understand_what_wsproto_sends(codec: Any, messages: list[Data], server: bool) -> None:
    connection = Connection(ConnectionType.CLIENT if server else ConnectionType.SERVER)
    data = b""
    for message in messages:
        kind: Any = TextMessage if isinstance(message, str) else BytesMessage
        data += connection.send(kind(data=message))
        data += connection.send(kind(data=message, message_finished=False)) + connection.send(Ping(payload=b"p"))
        data += connection.send(kind(data=message))
    data += connection.send(CloseConnection(code=1001, reason="bye"))
    verdict = ours(codec, [data], masked=server)
    assert verdict.messages == [copy for message in messages for copy in (message, message * 2)]
    assert verdict.close == (1001, "bye") and verdict.failed is None
    assert verdict.controls == [(PING, b"p")] * len(messages)
