"""permessage-deflate on an open connection: what is sent, and what is understood (RFC 7692 section 7.2)."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import pickle
import random
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from websock.core.broadcast import Broadcast
from websock.core.deflate import Deflate
from websock.core.protocol import Protocol
from websock.exceptions import InvalidCompressedData, InvalidUTF8
from websock.typing import Data

from .deflated import RSV1, deflated, frames_of, pair, parse_frames, settings_of_deflate, transform_of
from .frames import BINARY, CONT, TEXT, binaries, frame, keys, pieces, sizes, texts
from .inflater import Inflater
from .peers import KEY

ALL_BITS = range(8, 16)
EXAMPLES = {  # RFC 7692 section 7.2.3
    "one compressed block": "f248cdc9c90700",
    "no compression": "000500faff48656c6c6f00",
    "BFINAL": "f348cdc9c9070000",
    "two blocks": "f248050000 00ffffcac9c90700",
}


def far_apart(bits: int) -> bytes:
    """Random data that comes again, once within a window of this size and once just within the next larger one."""
    rng = random.Random(bits)
    near, far = rng.randbytes(2**bits * 3 // 8), rng.randbytes(2**bits * 3 // 2)
    return near + near + far + far


def receive(protocol: Protocol, *frames: bytes) -> list[Data]:
    return protocol.receive(b"".join(frames))


def failure_of(protocol: Protocol) -> Any:
    return protocol.unsettled


def exchange(sender: Protocol, receiver: Protocol) -> list[Data]:
    messages = receiver.receive(b"".join(bytes(buffer) for buffer in sender.outgoing()))
    assert failure_of(receiver) is None
    return messages


# What we send.


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_window_and_takeover_that_were_agreed_are_those_used(server: bool, takeover: bool, bits: int) -> None:
    role = "server" if server else "client"
    settings = Deflate(**{f"{role}_max_window_bits": bits, f"{role}_no_context_takeover": not takeover})  # type: ignore[arg-type]
    client, peer = pair(settings, settings)
    sender = peer if server else client
    inflater = Inflater(bits, takeover=takeover)
    data = far_apart(bits)
    for message in (data, b"again" * 30 + data[:200], data[-300:]):
        sender.send(message, compress=True)
        ((opcode, fin, rsv, payload),) = frames_of(sender)
        assert (opcode, fin, rsv) == (BINARY, True, RSV1)
        assert inflater.message(payload) == message
    if bits > 8:
        assert inflater.furthest > 2**bits // 3, "the test saw nothing of the window"


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_takeover_that_was_agreed_is_used(bits: int) -> None:
    """With it a message that comes again is short; without it, it is not."""
    message = random.Random(1).randbytes(200)
    sizes = {}
    for takeover in (True, False):
        settings = Deflate(server_max_window_bits=bits, server_no_context_takeover=not takeover)
        _, server = pair(settings, settings)
        for _ in range(2):
            server.send(message)
            ((_, _, _, payload),) = frames_of(server)
        sizes[takeover] = len(payload)
    assert sizes[False] > 200
    assert sizes[True] < 20 or bits == 8


def test_a_message_is_compressed_from_the_threshold_on_or_as_the_caller_says() -> None:
    for threshold in (0, 1, 64, 1000):
        settings = Deflate(threshold=threshold)
        for protocol in pair(settings, settings):
            for size in {0, max(0, threshold - 1), threshold, threshold + 1}:
                for compress in (None, True, False):
                    protocol.send(b"a" * size, compress=compress)
                    ((_, _, rsv, payload),) = frames_of(protocol)
                    wanted = size >= threshold if compress is None else compress
                    assert rsv == (RSV1 if wanted else 0)
                    assert wanted or payload == b"a" * size


def test_a_wish_to_compress_is_nothing_where_it_was_not_agreed_on() -> None:
    protocol = Protocol(server=True)
    protocol.send("a" * 100, compress=True)
    protocol.send_part("a", last=True, compress=True)
    assert [rsv for _, _, rsv, _ in frames_of(protocol)] == [0, 0]


def test_an_empty_message_is_one_octet() -> None:
    """RFC 7692 section 7.2.3.6."""
    for forgets in (False, True):
        settings = Deflate(server_no_context_takeover=forgets)
        client, server = pair(settings, settings)
        for _ in range(3):
            server.send("", compress=True)
            data = b"".join(server.outgoing())
            assert parse_frames(data) == [(TEXT, True, RSV1, b"\x00")]
            assert client.receive(data) == [""]


@pytest.mark.parametrize("compress", [None, True, False])
def test_a_message_in_parts(compress: bool | None) -> None:
    client, server = pair()
    for part, last in (("ä" * 50, False), ("", False), ("b" * 50, True)):
        server.send_part(part, last=last, compress=compress if not last else not compress)
    data = b"".join(bytes(buffer) for buffer in server.outgoing())
    wanted = RSV1 if compress is not False else 0
    assert [(opcode, fin, rsv) for opcode, fin, rsv, _ in parse_frames(data)] == [
        (TEXT, False, wanted),  # the bit stands on the first frame only: RFC 7692 section 6.1
        (CONT, False, 0),
        (CONT, True, 0),
    ]
    assert client.receive(data) == ["ä" * 50 + "b" * 50]


def test_each_part_can_be_read_when_it_comes() -> None:
    client, server = pair()
    client.stream(True)
    for i in range(5):
        server.send_part(f"part {i}", last=i == 4)
        (part,) = exchange(server, client)
        assert (part.data, part.last) == (f"part {i}", i == 4)  # type: ignore[union-attr]


def test_whole_messages_wait_for_the_end_of_one_in_parts_and_are_compressed_then() -> None:
    """With context takeover, compressing in another order than sending would spoil both."""
    client, server = pair()
    text = json.dumps({"the same": "again and again", "n": list(range(30))})
    server.send(text)
    server.send_part(text[:50], last=False)
    server.send(text)
    shared = Broadcast(text)
    shared.queue(server)
    server.send_encoded((b"\x82\x01x",))
    server.send(text, compress=False)
    server.send_part(text[50:], last=True)
    server.send(text)
    assert exchange(server, client) == [text, text, text, text, b"x", text, text]


# What is understood.


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_rfc(name: str) -> None:
    payload = bytes.fromhex(EXAMPLES[name])
    for role in (0, 1):
        protocol = pair()[role]
        key = KEY if role else None
        assert receive(protocol, frame(TEXT, payload, rsv=RSV1, key=key)) == ["Hello"]
        split = frame(TEXT, payload[:3], rsv=RSV1, fin=False, key=key) + frame(CONT, payload[3:], key=key)
        assert receive(protocol, split) == ["Hello"]


def test_the_example_with_context_takeover() -> None:
    """RFC 7692 section 7.2.3.2."""
    _, server = pair()
    first, second = bytes.fromhex("f248cdc9c90700"), bytes.fromhex("f200110000")
    data = frame(TEXT, first, rsv=RSV1, key=KEY) + frame(TEXT, second, rsv=RSV1, key=KEY)
    assert receive(server, data) == ["Hello", "Hello"]


@pytest.mark.parametrize(
    "messages",
    [
        # BFINAL at the end of a message, with the octet that section 7.2.3.4 asks for and without; in the middle;
        # alone; in fragments that end with it.
        [("f348cdc9c9070000", "Hello")],
        [("f348cdc9c90700", "Hello")],
        [("f348cdc9c90700", "Hello"), ("f248cdc9c90700", "Hello")],
        [("f348cdc9c90700f248cdc9c90700", "HelloHello")],
        [("f348cdc9c90700f348cdc9c9070000", "HelloHello")],
        [("f348cdc9c90700|", "Hello"), ("f248cdc9c90700", "Hello")],
        [("f348cdc9c90700|00", "Hello"), ("f248cdc9c90700", "Hello")],
        [("f348cdc9c90700|f248cdc9c90700", "HelloHello")],
        [("0300", ""), ("f248cdc9c90700", "Hello")],
    ],
)
@pytest.mark.parametrize("forgets", [False, True])
def test_a_final_block_ends_the_stream_and_not_the_message(messages: list[tuple[str, str]], forgets: bool) -> None:
    settings = Deflate(client_no_context_takeover=forgets)
    _, server = pair(settings, settings)
    for payload, text in messages:
        parts = payload.split("|")
        data = b"".join(
            frame(CONT if i else TEXT, bytes.fromhex(part), rsv=0 if i else RSV1, fin=i == len(parts) - 1, key=KEY)
            for i, part in enumerate(parts)
        )
        assert receive(server, data) == [text]


def test_messages_that_are_not_compressed_may_stand_between() -> None:
    _, server = pair()
    text = "the same again " * 10
    compressor = zlib.compressobj(wbits=-12)
    for _ in range(3):
        payload = (compressor.compress(text.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        data = frame(TEXT, payload, rsv=RSV1, key=KEY) + frame(TEXT, b"plain", key=KEY)
        assert receive(server, data) == [text, "plain"]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_compressed_message_without_any_octet_is_empty_and_spoils_nothing(forgets: bool) -> None:
    settings = Deflate(client_no_context_takeover=forgets)
    _, server = pair(settings, settings)
    hello = frame(TEXT, deflated(b"Hello"), rsv=RSV1, key=KEY)
    nothing = frame(TEXT, b"", rsv=RSV1, key=KEY)
    apart = frame(TEXT, b"", rsv=RSV1, fin=False, key=KEY) + frame(CONT, b"", key=KEY)
    assert receive(server, nothing, hello, nothing, apart, hello) == ["", "Hello", "", "", "Hello"]


class Interrupting:
    """A compressor during which the user presses Ctrl-C."""

    def compress(self, data: bytes) -> bytes:
        return b""

    def flush(self, how: int) -> bytes:
        raise KeyboardInterrupt


def test_an_interrupted_send_does_not_mix_messages() -> None:
    client, server = pair()
    server.send("before " * 20)
    transform_of(server)._compressor = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        server.send("never " * 20)
    server.send("after " * 20)
    assert exchange(server, client) == ["before " * 20, "after " * 20]


BROKEN = [
    (b"\xff\xff\xff", "InvalidCompressedData"),
    (b"\x06", "InvalidCompressedData"),  # a kind of block that does not exist
    (b"\x00\x01\x00\x01\x00a", "InvalidCompressedData"),  # a length that its complement denies
    (deflated(b"\xff\xfe"), "InvalidUTF8"),
    (deflated(b"abc\xe2\x82"), "InvalidUTF8"),
]


@pytest.mark.parametrize(("payload", "kind"), BROKEN)
@pytest.mark.parametrize("cut", [1, 10**9])
def test_what_cannot_be_inflated_fails_with_1007_behind_the_messages_before_it(
    payload: bytes, kind: str, cut: int
) -> None:
    _, server = pair()
    data = frame(TEXT, deflated(b"good"), rsv=RSV1, key=KEY) + frame(TEXT, payload, rsv=RSV1, key=KEY)
    messages = []
    for chunk in pieces(data + frame(TEXT, b"never", key=KEY), [cut]):
        messages += server.receive(chunk)
    assert messages == ["good"]
    assert type(failure_of(server)).__name__ == kind and failure_of(server).code == 1007
    server.settle()
    assert server.close_sent is not None and server.close_sent.code == 1007


def test_invalid_text_fails_before_the_message_is_complete() -> None:
    _, server = pair()
    receive(server, frame(TEXT, deflated(b"abc\xff") + b"\x00\x00\xff\xff", rsv=RSV1, fin=False, key=KEY))
    assert isinstance(failure_of(server), InvalidUTF8)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (frame(TEXT, b"a", rsv=2, key=KEY), "ReservedBits"),
        (frame(TEXT, b"a", rsv=RSV1 | 1, key=KEY), "ReservedBits"),
        (frame(0x9, b"a", rsv=RSV1, key=KEY), "ReservedBits"),  # RFC 7692 section 6.1: never on a control frame
        (frame(0x8, b"", rsv=RSV1, key=KEY), "ReservedBits"),
        (
            frame(TEXT, deflated(b"a"), rsv=RSV1, fin=False, key=KEY) + frame(CONT, b"\x00", rsv=RSV1, key=KEY),
            "ReservedBits",
        ),
        (frame(TEXT, b"a", fin=False, key=KEY) + frame(CONT, b"a", rsv=RSV1, key=KEY), "ReservedBits"),
    ],
)
def test_the_bit_stands_on_the_first_frame_of_a_message_only(data: bytes, kind: str) -> None:
    _, server = pair()
    assert receive(server, data) == []
    assert type(failure_of(server)).__name__ == kind


def test_the_bit_without_the_extension() -> None:
    server = Protocol(server=True)
    receive(server, frame(TEXT, deflated(b"a"), rsv=RSV1, key=KEY))
    assert type(failure_of(server)).__name__ == "ReservedBits"


@given(payload=st.binary(max_size=60), cut=sizes, fin=st.booleans())
def test_any_octets_never_raise(payload: bytes, cut: list[int], fin: bool) -> None:
    _, server = pair(max_size=10_000)
    for chunk in pieces(frame(BINARY, payload, rsv=RSV1, fin=fin, key=KEY) + frame(CONT, payload, key=KEY), cut):
        server.receive(chunk)
    failure = failure_of(server)
    assert failure is None or failure.code in (1002, 1007, 1009)


@given(
    message=st.one_of(texts, binaries),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=3),
)
def test_damage_is_found_or_gives_the_octets_that_zlib_gives(message: Data, flips: list[tuple[int, int]]) -> None:
    payload = bytearray(deflated(message.encode() if isinstance(message, str) else message))
    for position, change in flips:
        payload[position % len(payload)] ^= change
    _, server = pair()
    messages = receive(server, frame(BINARY, bytes(payload), rsv=RSV1, key=KEY))
    inflater = zlib.decompressobj(-15)
    try:
        expected = inflater.decompress(bytes(payload) + b"\x00\x00\xff\xff")
    except zlib.error:
        assert messages == [] and isinstance(failure_of(server), InvalidCompressedData)
    else:
        if not inflater.eof:
            assert messages == [expected]


# Both ends.

messages_of_any_kind = st.lists(
    st.tuples(st.one_of(texts, binaries), st.sampled_from([None, True, False]), st.integers(0, 3)), max_size=8
)


@given(client=settings_of_deflate, server=settings_of_deflate, messages=messages_of_any_kind, cut=sizes)
@example(client=Deflate(), server=Deflate(), messages=[("a" * 300_000, None, 0), ("a" * 300_000, None, 2)], cut=[10**9])
def test_everything_arrives_with_any_settings_in_any_chunks(
    client: Deflate, server: Deflate, messages: list[tuple[Data, bool | None, int]], cut: list[int]
) -> None:
    ends = pair(client, server)
    for sender, receiver in itertools.permutations(ends):
        inflater = Inflater(transform_of(sender).bits, takeover=not transform_of(sender).forgets)
        for message, compress, cuts in messages:
            if cuts:
                step = len(message) // cuts + 1
                parts = [message[i * step : (i + 1) * step] for i in range(cuts)]
                for i, part in enumerate(parts):
                    sender.send_part(part, last=i == len(parts) - 1, compress=compress)
                    sender.ping()
            else:
                sender.send(message, compress=compress)
        data = b"".join(bytes(buffer) for buffer in sender.outgoing())
        received = [message for chunk in pieces(data, cut) for message in receiver.receive(chunk)]
        assert failure_of(receiver) is None
        assert received == [message for message, _, _ in messages]
        if len(data) < 10_000:
            check_independently(inflater, data, [message for message, _, _ in messages])
        receiver.outgoing()  # its pongs


def check_independently(inflater: Inflater, data: bytes, messages: list[Data]) -> None:
    """The same messages through a decompressor that is not zlib and has no larger window than agreed."""
    whole, compressed, found = b"", False, []
    for opcode, fin, rsv, payload in parse_frames(data):
        if opcode >= 8:
            continue
        if opcode:
            whole, compressed = b"", bool(rsv)
        whole += payload
        if fin:
            found.append(inflater.message(whole) if compressed else whole)
    assert found == [message.encode() if isinstance(message, str) else message for message in messages]


@given(
    messages=st.lists(binaries, min_size=1, max_size=6),
    level=st.integers(0, 9),
    memory=st.integers(1, 9),
    bits=st.integers(9, 15),
    takeover=st.booleans(),
    flush=st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH]),
    key=keys,
    cut=sizes,
)
def test_whatever_zlib_writes(
    messages: list[bytes], level: int, memory: int, bits: int, takeover: bool, flush: int, key: bytes, cut: list[int]
) -> None:
    settings = Deflate(client_no_context_takeover=not takeover, client_max_window_bits=bits)
    _, server = pair(settings, settings)
    data = b""
    compressor: Any = None
    for message in messages:
        if compressor is None or not takeover:
            compressor = zlib.compressobj(level, zlib.DEFLATED, -bits, memory)
        half = len(message) // 2
        begun = compressor.compress(message[:half])
        rest = compressor.compress(message[half:]) + compressor.flush(flush)
        data += frame(BINARY, begun, rsv=RSV1, fin=False, key=key) + frame(CONT, rest[:-4], key=key)
    received = [message for chunk in pieces(data, cut) for message in server.receive(chunk)]
    assert received == messages and failure_of(server) is None


# A broadcast.


def test_a_broadcast_is_compressed_once_for_all_that_can_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Deflate()
    many = [pair(Deflate(), settings) for _ in range(20)]
    others = [pair(Deflate(server_max_window_bits=9), settings) for _ in range(5)]
    plain = [(Protocol(server=False), Protocol(server=True)) for _ in range(3)]
    calls = []
    pools = {transform_of(server).alone for _, server in many + others}
    assert len(pools) == 2
    kind = type(next(iter(pools)))
    compress = kind.compress

    def counting(pool: Any, payload: bytes) -> bytes:
        calls.append(pool)
        return compress(pool, payload)

    monkeypatch.setattr(kind, "compress", counting)
    text = json.dumps([{"id": i, "text": "something"} for i in range(20)])
    for number in range(3):
        shared = Broadcast(f"{number}{text}")
        frames = []
        for client, server in many + others + plain:
            server.send(text)  # context that the broadcast must not depend on
            shared.queue(server)
            server.send(text)
            out = server.outgoing()
            frames.append(out[1])
            messages = client.receive(b"".join(bytes(buffer) for buffer in out))
            assert messages == [text, f"{number}{text}", text]
        assert len(set(map(id, frames))) == 3
        assert len(calls) == 2 * (number + 1)


@pytest.mark.parametrize("compress", [None, True, False])
def test_a_broadcast_obeys_threshold_and_wish(compress: bool | None) -> None:
    for message in ("short", "long" * 50):
        client, server = pair()
        shared = Broadcast(message, compress=compress)
        shared.queue(server)
        wanted = len(message) >= 64 if compress is None else compress
        data = b"".join(bytes(buffer) for buffer in server.outgoing())
        assert parse_frames(data)[0][2] == (RSV1 if wanted else 0)
        assert client.receive(data) == [message]
        shared.queue(client)
        assert exchange(client, server) == [message]


# Memory, and being written down.


def test_nothing_is_made_before_it_is_needed() -> None:
    for protocol in pair():
        transform = transform_of(protocol)
        assert transform._compressor is None and transform._inflater is None
        protocol.send("short")
        assert transform._compressor is None


def test_without_takeover_nothing_is_kept_and_compressors_are_shared() -> None:
    settings = Deflate(server_no_context_takeover=True, client_no_context_takeover=True)
    assert "_pools" not in dataclasses.asdict(settings)
    ends = [pair(settings, settings) for _ in range(50)]
    for client, server in ends:
        server.send("a" * 1000)
        assert exchange(server, client) == ["a" * 1000]
        client.send_part("b" * 1000, last=False)
        client.send_part("b" * 1000, last=True)
        assert exchange(client, server) == ["b" * 2000]
        for end in (client, server):
            assert transform_of(end)._compressor is None and transform_of(end)._inflater is None
    assert {len(pool._idle) for pool in settings._pools.values()} == {1}


@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_a_connection_can_be_written_down_between_messages(copied: Any) -> None:
    settings = Deflate(client_no_context_takeover=True)
    client, server = pair(settings, settings)
    server.send("a" * 100)
    client.send("b" * 100)
    exchange(server, client)
    exchange(client, server)
    double = copied(server)
    double.send("a" * 100)
    assert exchange(double, client) == ["a" * 100]
    client.send("b" * 100)
    assert exchange(client, double) == ["b" * 100]
    with pytest.raises(TypeError, match="no context takeover"):
        copied(client)  # the server's context cannot be written down


def test_repr() -> None:
    client, server = pair(Deflate(server_no_context_takeover=True), Deflate())
    assert repr(transform_of(server)) == ("<permessage-deflate: ours 12 bits, no context takeover; the peer's 12 bits>")
    assert "the peer's 12 bits, no context takeover" in repr(transform_of(client))
