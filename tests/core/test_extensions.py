"""Extensions of anybody's: how they are negotiated, and how several work together (RFC 6455 section 9)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.extension import Checked, Checksum
from websock.core import extensions
from websock.core.broadcast import Broadcast
from websock.core.deflate import Deflate, DeflateTransform
from websock.core.extensions import HEADER, Extension, Parameters, Pipeline, Transform
from websock.core.options import Options
from websock.core.protocol import Protocol, State
from websock.datastructures import Headers, is_token
from websock.exceptions import ConnectionClosed, InvalidHeaderFormat, NegotiationError, ProtocolError
from websock.frames import Close
from websock.typing import Buffer, Data

from .deflated import RSV1, agreed, frames_of
from .frames import TEXT, binaries, frame, pieces, sizes, texts
from .peers import KEY


class Rot(Transform):
    """Adds a number to each octet."""

    def __init__(self, number: int, rsv: int) -> None:
        self.number = number
        self.rsv = rsv

    def encode(self, payload: Buffer, last: bool) -> Buffer:
        return bytes((octet + self.number) % 256 for octet in bytes(payload))

    def decode(self, data: bytes, last: bool) -> Iterable[bytes]:
        for octet in data:
            yield bytes(((octet - self.number) % 256,))


class Rotation(Extension):
    """An extension with a parameter that the server may lower."""

    def __init__(self, number: int = 13, rsv: int = 0x10, name: str = "rot") -> None:
        self.number = number
        self.rsv = rsv
        self.name = name

    def offer(self) -> Parameters:
        return [("number", str(self.number))]

    def accept(self, offered: Parameters) -> tuple[Parameters, Transform] | None:
        number = dict(offered).get("number")
        if number is None or not number.isdigit():
            return None
        lower = min(self.number, int(number))
        return [("number", str(lower))], Rot(lower, self.rsv)

    def agree(self, answered: Parameters) -> Transform:
        number = int(dict(answered).get("number") or 0)
        if number > self.number:
            raise NegotiationError(f"{number} is more than {self.number}")
        return Rot(number, self.rsv)


def pair(*both: Extension) -> tuple[Protocol, Protocol]:
    client, server, _, _ = agreed(both, both)
    return Protocol(server=False, pipeline=client), Protocol(server=True, pipeline=server)


COMBINATIONS: dict[str, list[Extension]] = {
    "alone": [Rotation()],
    "with deflate": [Rotation(), Deflate()],
    "behind deflate": [Deflate(threshold=0), Rotation()],
    "always": [Rotation(rsv=0)],
    "always, with deflate": [Rotation(rsv=0), Deflate(threshold=0)],
    "behind deflate, always": [Deflate(), Rotation(rsv=0)],
    "checksum": [Checksum()],
    "checksum, deflate, always": [Checksum(), Deflate(threshold=0), Rotation(rsv=0)],
    "two bits": [Rotation(rsv=0x30), Deflate()],
}


@pytest.mark.parametrize("name", COMBINATIONS)
@given(messages=st.lists(st.one_of(texts, binaries), max_size=4), cut=sizes)
def test_everything_arrives(name: str, messages: list[Data], cut: list[int]) -> None:
    client, server = pair(*COMBINATIONS[name])
    for sender, receiver in ((client, server), (server, client)):
        for message in messages:
            sender.send(message)
            sender.send_part(message[:5], last=False)
            sender.ping()
            sender.send(message)  # waits
            sender.send_part(message[5:], last=True)
            Broadcast(message).queue(sender)
        data = b"".join(bytes(buffer) for buffer in sender.outgoing())
        received = [message for chunk in pieces(data, cut) for message in receiver.receive(chunk)]
        assert received == [copy for message in messages for copy in [message] * 4]
        assert receiver.unsettled is None
        receiver.outgoing()


def test_the_order_on_the_wire_is_that_of_the_answer() -> None:
    """RFC 6455 section 9.1: with the answer "foo, bar", what is sent is bar(foo(data))."""
    first, second = Rotation(rsv=0x10), Checksum()
    client, _ = pair(first, second)
    client.send(b"abc")
    ((_, _, rsv, payload),) = frames_of(client)
    assert rsv == 3
    assert payload[:3] == b"nop"
    checksum = Checked().encode(b"nop", True)
    assert payload == checksum


def test_a_message_without_the_bit_is_left_alone() -> None:
    _, server = pair(Rotation())
    assert server.receive(frame(TEXT, b"n", rsv=1, key=KEY) + frame(TEXT, b"n", key=KEY)) == ["a", "n"]


@pytest.mark.parametrize(("rsv", "good"), [(0, True), (1, True), (2, False), (RSV1, False), (RSV1 | 1, False)])
def test_only_the_bits_that_were_agreed_on(rsv: int, good: bool) -> None:
    _, server = pair(Rotation())
    server.receive(frame(TEXT, b"n", rsv=rsv, key=KEY))
    assert (server.unsettled is None) is good


def test_a_transform_may_fail_the_connection() -> None:
    _, server = pair(Checksum())
    good = Checked().encode(b"good", True)
    messages = server.receive(frame(TEXT, bytes(good), rsv=2, key=KEY) + frame(TEXT, b"bad one", rsv=2, key=KEY))
    assert messages == ["good"]
    server.settle()
    assert server.close_sent is not None and server.close_sent.code == 1007
    assert "checksum" in server.close_sent.reason


def test_the_limit_counts_what_comes_out() -> None:
    client, server, _, _ = agreed([Checksum()], [Checksum()])
    one, other = (
        Protocol(server=False, pipeline=client),
        Protocol(server=True, options=Options(max_size=100), pipeline=server),
    )
    one.send(b"a" * 100)
    assert other.receive(b"".join(one.outgoing())) == [b"a" * 100]
    one.send(b"a" * 101)
    assert other.receive(b"".join(one.outgoing())) == []
    failure: Any = other.unsettled
    assert failure.code == 1009


class Faulty(Transform):
    """Raises for what holds "bad", after it has taken some of it in."""

    rsv = 0x20

    def __init__(self, error: Exception) -> None:
        self.error = error

    def encode(self, payload: Buffer, last: bool) -> Buffer:
        if b"bad" in bytes(payload):
            raise self.error
        return payload

    def decode(self, data: bytes, last: bool) -> Iterable[bytes]:
        yield data[:1]
        if b"bad" in data:
            raise self.error
        yield data[1:]


FAULTS = [
    (KeyError("mine"), 1011, "an extension failed"),
    (ProtocolError("as it should be", code=3000), 3000, "as it should be"),
    (ProtocolError("x" * 200), 1002, "x" * 123),
    (ProtocolError("é" * 200), 1002, "é" * 61),
    (ProtocolError("no such code", code=1005), 1011, "no such code"),
    (ProtocolError("a \ud800"), 1002, "a ?"),
]


@pytest.mark.parametrize(("error", "code", "reason"), FAULTS, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("cut", [13, 10**9])  # 13: each frame comes apart, its text does not
def test_a_transform_that_raises_while_receiving(error: Exception, code: int, reason: str, cut: int) -> None:
    server = Protocol(server=True, pipeline=Pipeline([Faulty(error)]))
    stream = [frame(TEXT, text, rsv=2, key=KEY) for text in (b"good one", b"bad one", b"never")]
    messages = [message for chunk in pieces(b"".join(stream), [cut]) for message in server.receive(chunk)]
    assert messages == ["good one"]
    server.settle()
    assert server.close_sent == Close(code, reason)
    cause = server.closed().__cause__
    assert cause is error or (cause is not None and cause.__cause__ is error)
    assert server.receive(frame(TEXT, b"later", rsv=2, key=KEY)) == []


@pytest.mark.parametrize("parts", [False, True])
def test_a_transform_that_raises_while_sending(parts: bool) -> None:
    """What was compressed in front of it is not sent, so nothing else may be: the other end would get other text."""
    deflate = Deflate().accept([])
    assert deflate is not None
    error = KeyError("mine")
    server = Protocol(server=True, pipeline=Pipeline([deflate[1], Faulty(error)]))
    server.send("good", compress=False)
    with pytest.raises(KeyError):
        if parts:
            server.send_part(b"\xe2\x82bad", last=False, text=False, compress=False)
        else:
            server.send("bad", compress=False)
    assert server.state is State.ENDING and server.close_sent == Close(1011, "an extension failed")
    assert server.closed().__cause__ is error
    with pytest.raises(ConnectionClosed):
        server.send("more")


# Negotiation.


def test_a_reserved_bit_has_one_owner() -> None:
    """RFC 6455 section 9.1: a server takes what goes together."""
    both = [Rotation(name="one"), Rotation(name="two"), Checksum(), Deflate()]
    client, server, _, answer = agreed(both, both)
    assert answer.startswith("one; number=13, x-checksum; algorithm=crc32, permessage-deflate;")
    assert client is not None and server is not None and len(client.transforms) == len(server.transforms) == 3
    with pytest.raises(NegotiationError, match="reserved bit"):
        extensions.agreement(Headers({HEADER: "one; number=1, two; number=1"}), both)


def test_each_decides() -> None:
    client, server, offer, answer = agreed([Rotation(20)], [Rotation(10)])
    assert (offer, answer) == ("rot; number=20", "rot; number=10")
    for pipeline in (client, server):
        assert pipeline is not None
        (transform,) = pipeline.transforms
        assert isinstance(transform, Rot) and transform.number == 10
    with pytest.raises(NegotiationError, match="11 is more than 10"):
        extensions.agreement(Headers({HEADER: "rot; number=11"}), [Rotation(10)])


def test_our_order_decides_between_extensions() -> None:
    offers = Headers({HEADER: "x-checksum; algorithm=crc32, permessage-deflate"})
    answer, _ = extensions.answer(offers, [Deflate(), Checksum()])
    assert answer == "permessage-deflate; server_max_window_bits=12, x-checksum; algorithm=crc32"


def test_options() -> None:
    assert [type(one) for one in Options().all_extensions] == [Deflate]
    assert [type(one) for one in Options(extensions=[Checksum()]).all_extensions] == [Checksum, Deflate]
    assert Options(compression=None).all_extensions == ()
    mine = Deflate(level=1)
    assert Options(compression=mine).all_extensions == (mine,)
    order = Options(extensions=[mine, Checksum()]).all_extensions
    assert order[0] is mine and len(order) == 2  # it takes the place of the default one
    shared = {id(options.all_extensions[0]) for options in (Options(), Options(max_size=1))}
    assert len(shared) == 1, "connections with the default share their compressors"
    for name in ("not a token", "", None):
        nameless = Checksum()
        nameless.name = name  # type: ignore[assignment]
        with pytest.raises((TypeError, ValueError)):
            Options(extensions=[nameless])
    with pytest.raises(ValueError, match="name"):
        Options(extensions=[Extension()])
    for wrong in ([Deflate], ["deflate"], "deflate", Deflate(), 1):
        with pytest.raises(TypeError, match="extensions"):
            Options(extensions=wrong)  # type: ignore[arg-type]


def test_the_base_classes_say_what_is_to_be_written() -> None:
    class Nothing(Extension):
        name = "x-nothing"

        def accept(self, offered: Parameters) -> tuple[Parameters, Transform] | None:
            return [], Transform()

        def agree(self, answered: Parameters) -> Transform:
            return Transform()

    client, server = pair(Nothing())
    for message in ("text", b"", b"bytes"):
        client.send(message)
        assert server.receive(b"".join(client.outgoing())) == [message]
    with pytest.raises(NotImplementedError):
        Extension().accept([])
    with pytest.raises(NotImplementedError):
        Extension().agree([])
    assert Transform().alone is None
    with pytest.raises(NotImplementedError):
        Transform().encode_alone(b"")
    Transform().sent_alone()


def test_pipeline() -> None:
    one, two = Rot(1, 0x10), Rot(2, 0)
    pipeline = Pipeline([one, two])
    assert pipeline.rsv == 0x10 and pipeline.always and pipeline.alone is None
    assert pipeline.sending(1, None) == (one, two)
    assert pipeline.receiving(0x10) == (two, one) and pipeline.receiving(0) == (two,)
    deflate = Deflate().accept([])
    assert deflate is not None and isinstance(deflate[1], DeflateTransform)
    assert Pipeline([deflate[1]]).alone is deflate[1].alone is not None and not Pipeline([deflate[1]]).always
    assert Pipeline([deflate[1], one]).alone is None


# The header.

HEADERS: list[tuple[list[str], list[tuple[str, Parameters]] | None]] = [
    ([], []),
    ([""], []),
    ([" , ,, "], []),
    (["a"], [("a", [])]),
    (["a, b", "c"], [("a", []), ("b", []), ("c", [])]),
    (["a;x;y=1 ; z = 2,b"], [("a", [("x", None), ("y", "1"), ("z", "2")]), ("b", [])]),
    (['a; x="1"'], [("a", [("x", "1")])]),
    (['a; x="\\1\\2"'], [("a", [("x", "12")])]),
    (["a\t;\tx\t=\t1\t"], [("a", [("x", "1")])]),
    (['a; x=""'], None),
    (['a; x="b, c; d", e'], None),  # a server leaves it out, and takes the others: below
    (['a; x="b"c"d"'], None),
    (["a; x; x"], [("a", [("x", None), ("x", None)])]),
    (["a, a"], [("a", []), ("a", [])]),
    (["a;"], None),
    (["a;,b"], None),
    (["; a"], None),
    (["a b"], None),
    (["a; b c"], None),
    (["a; =1"], None),
    (["a; x="], None),
    (["a; x=1 2"], None),
    (['a; x="'], None),
    (['a; x="1'], None),
    (['a; x="1" 2'], None),
    (['a; x="1\\'], None),
    (['"a"'], None),
    (["a=1"], None),
    (["a; x=é"], None),
    (["a", "b;"], None),
]


@pytest.mark.parametrize(("values", "expected"), HEADERS)
def test_parse(values: list[str], expected: list[tuple[str, Parameters]] | None) -> None:
    headers = Headers([(HEADER, value) for value in values])
    if expected is None:
        with pytest.raises(InvalidHeaderFormat):
            extensions.parse(headers)
        assert extensions.answer(headers, [Deflate()]) == ("", None)
    else:
        assert extensions.parse(headers) == expected


def test_a_server_leaves_out_what_is_no_token_in_quotes() -> None:
    headers = Headers({HEADER: 'a; x="b, c; d", e; y, a; x=""; z, f'})
    assert extensions.parse(headers, lenient=True) == [("e", [("y", None)]), ("f", [])]


tokens = st.text("abcxyz019-_.!#", min_size=1, max_size=5)
parameters = st.lists(st.tuples(tokens, st.none() | tokens), max_size=3)


@given(found=st.lists(st.tuples(tokens, parameters), max_size=3))
def test_what_is_formatted_is_parsed(found: list[tuple[str, Parameters]]) -> None:
    value = ", ".join(extensions.format_one(*one) for one in found)
    assert extensions.parse(Headers({HEADER: value})) == found


@given(value=st.one_of(st.text('ab;,="\\ \t', max_size=30), st.text(max_size=30)))
def test_any_header_is_parsed_or_refused(value: str) -> None:
    try:
        headers = Headers({HEADER: value})
    except ValueError:
        return
    try:
        found = extensions.parse(headers)
    except InvalidHeaderFormat:
        return
    assert all(is_token(name) and all(is_token(key) for key, _ in given_) for name, given_ in found)


@pytest.mark.parametrize("bad", [[("", None)], [("a b", None)], [("a", "b c")], [("a", "")], [("a\r\nX: y", None)]])
def test_what_would_break_the_header_is_not_sent(bad: Parameters) -> None:
    with pytest.raises(ValueError, match="token"):
        extensions.format_one("a", bad)


@pytest.mark.parametrize("pattern", [" ", "\t", ",", ";", '"', "\\", "a", "a;", 'a="', '"\\', ' "', "a, ", 'a; b="c" '])
def test_time_grows_with_the_length_and_no_faster(pattern: str) -> None:
    """Headers that took others minutes."""
    times = []
    for size in (20_000, 200_000):
        text = (pattern * size)[:size]
        started = time.process_time()
        for value in (text, text + '"', f'a; x="{text}'):
            headers = Headers()
            headers._fields.append((HEADER, value))
            try:
                extensions.parse(headers)
            except InvalidHeaderFormat:
                pass
        times.append(time.process_time() - started)
    assert times[1] < 50 * times[0] + 0.1  # with the square of the length it would be 100 times, of seconds


def test_a_transform_that_ends_its_connection() -> None:
    class Quitter(Rot):
        def decode(self, data: bytes, last: bool) -> Iterable[bytes]:
            protocol.fail(1011, "enough")
            return (data,)

    protocol = Protocol(server=True, pipeline=Pipeline([Quitter(1, 0x10)]))
    assert protocol.receive(frame(TEXT, b"good", key=KEY) + frame(TEXT, b"bad", rsv=1, key=KEY)) in (
        ["good"],
        ["good", "bad"],
    )
    assert protocol.close_sent == Close(1011, "enough")
    assert protocol.receive(frame(TEXT, b"later", key=KEY)) == []
