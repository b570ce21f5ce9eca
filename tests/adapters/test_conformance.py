"""One suite for every adapter, on both sides, over every kind of socket: two of our ends talk to each other."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

import websock
from websock.exceptions import ConcurrencyError, ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from .drivers import Background, until

MB = 2**20


def both_ways(ends: tuple[Any, Any]) -> list[tuple[Any, Any]]:
    a, b = ends
    return [(a, b), (b, a)]


def close_both(one: Any, other: Any, *how: Any) -> ConnectionClosed:
    """`one` closes while `other` receives; what `other` gets."""
    receiving = Background(other.recv)
    one.close(*how)
    with pytest.raises(ConnectionClosed) as caught:
        receiving.result()
    return caught.value


def test_messages_arrive_as_they_are(pair: Any) -> None:
    for one, other in both_ways(pair()):
        for message in (
            "",
            b"",
            "text",
            b"octets",
            "gr\xfc\xdfe \U0001f40d",
            bytes(range(256)),
            "x" * 126,
            b"y" * 65536,
        ):
            one.send(message)
            got = other.recv()
            assert got == message
            assert type(got) is type(message)


def test_buffers_and_both_conversions(few_pairs: Any) -> None:
    for one, other in both_ways(few_pairs()):
        one.send(bytearray(b"array"))
        one.send(memoryview(b"view"))
        one.send(b"as text", text=True)
        one.send("as binary", text=False)
        one.send("one")
        one.send(b"two")
        assert [other.recv() for _ in range(4)] == [b"array", b"view", "as text", b"as binary"]
        assert other.recv(decode=False) == b"one"
        assert other.recv(decode=True) == "two"


def test_large_messages(pair: Any) -> None:
    text, octets = "t" * (MB - 1) + "!", random.Random(1).randbytes(MB)
    for one, other in both_ways(pair(max_size=MB)):
        for message in (text, octets):
            sending = Background(one.send, message)
            assert other.recv() == message
            sending.result()


def test_order(pair: Any) -> None:
    for one, other in both_ways(pair()):
        numbers = [str(i) for i in range(300)]
        sending = Background(lambda one=one, numbers=numbers: [one.send(n) for n in numbers])
        assert [other.recv() for _ in numbers] == numbers
        sending.result()


def test_fragments(pair: Any) -> None:
    for one, other in both_ways(pair()):
        one.send(["a", "", "bc"])
        one.send(iter([b"x", b"y"]))
        one.send(["only"])
        one.send(str(i) for i in range(10))
        one.send([b"by", b"tes"], text=True)
        one.send("end")
        assert [other.recv() for _ in range(6)] == ["abc", b"xy", "only", "0123456789", "bytes", "end"]


def test_empty_iterable_sends_nothing(few_pairs: Any) -> None:
    for one, other in both_ways(few_pairs()):
        one.send([])
        one.send("next")
        assert other.recv() == "next"


def test_iterable_that_raises_fails_the_connection(few_pairs: Any) -> None:
    one, other = few_pairs()

    def parts() -> Any:
        yield "a"
        yield "b"
        raise ZeroDivisionError

    receiving = Background(other.recv)
    with pytest.raises(ZeroDivisionError):
        one.send(parts())
    with pytest.raises(ConnectionClosedError) as caught:
        receiving.result()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    with pytest.raises(ConnectionClosedError):
        one.recv()


def test_iterable_that_raises_at_once_sends_nothing(few_pairs: Any) -> None:
    one, other = few_pairs()

    def parts() -> Any:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        one.send(parts())
    one.send("good")
    assert other.recv() == "good"


@pytest.mark.parametrize("bad", [1, None, {"a": "b"}, 1.5])
def test_what_cannot_be_sent(few_pairs: Any, bad: Any) -> None:
    one, other = few_pairs()
    with pytest.raises(TypeError):
        one.send(bad)
    with pytest.raises(ValueError):
        one.send(b"\xff", text=True)
    with pytest.raises(ValueError):
        one.send("\ud800")
    one.send("good")
    assert other.recv() == "good"


@pytest.mark.parametrize("bad", [1, None, {"a": "b"}, ["a"]], ids=repr)
def test_parts_that_cannot_be_sent(few_pairs: Any, bad: Any) -> None:
    """A part of a wrong type before anything was sent is an error of that call only; later it fails the connection."""
    one, other = few_pairs()
    with pytest.raises(TypeError):
        one.send([bad])
    one.send("good")
    assert other.recv() == "good"
    with pytest.raises(TypeError):
        one.send(["a", "b", bad])
    with pytest.raises(ConnectionClosedError):
        other.recv()


def test_mixed_fragments_fail_the_connection(few_pairs: Any) -> None:
    one, other = few_pairs()
    with pytest.raises(TypeError):
        one.send(["text", b"octets", "text"])
    with pytest.raises(ConnectionClosedError):
        other.recv()


def test_streaming(pair: Any) -> None:
    octets = random.Random(2).randbytes(MB)
    for one, other in both_ways(pair(max_size=MB)):
        sending = Background(
            lambda one=one: [one.send("\xfcber\U0001f40d" * 5000), one.send(octets), one.send("after")]
        )
        parts = list(other.stream())
        assert "".join(parts) == "\xfcber\U0001f40d" * 5000
        assert b"".join(other.stream()) == octets
        assert other.recv() == "after"
        sending.result()


def test_streaming_of_fragments(few_pairs: Any) -> None:
    for one, other in both_ways(few_pairs()):
        go = threading.Event()

        def parts(go: threading.Event = go) -> Any:
            for i in range(5):
                yield f"part {i},"
                if i == 2:
                    go.wait(30)

        sending = None
        if hasattr(one, "adapter"):
            go.set()  # an event loop cannot wait for it
            one.send(parts())
            assert "".join(other.stream()) == "".join(parts())
            continue
        sending = Background(one.send, parts())
        stream = other.stream()
        got = next(stream)
        assert got.startswith("part 0")  # before the message is complete
        go.set()
        got += "".join(stream)
        assert got == "".join(parts())
        sending.result()


def test_streaming_left_early(pair: Any) -> None:
    for one, other in both_ways(pair(max_size=MB)):
        sending = Background(lambda one=one: [one.send(b"x" * MB), one.send("next"), one.send("and next")])
        stream = other.stream()
        assert next(stream)
        stream.close()
        assert other.recv() == "next"
        assert other.recv() == "and next"
        sending.result()


def test_streaming_converts(few_pairs: Any) -> None:
    one, other = few_pairs()
    one.send("abc")
    one.send(b"abc")
    assert b"".join(other.stream(decode=False)) == b"abc"
    assert "".join(other.stream(decode=True)) == "abc"


def test_streaming_until_the_connection_ends(few_pairs: Any) -> None:
    """After ConnectionClosed in the middle of a stream, recv says the same, and nothing about concurrency."""
    one, other = few_pairs()
    one.send("x")
    assert "".join(other.stream()) == "x"
    closing = Background(one.close)
    with pytest.raises(ConnectionClosedOK):
        list(other.stream())
    with pytest.raises(ConnectionClosedOK):
        other.recv()
    closing.result()


def test_ping(pair: Any) -> None:
    for one, other in both_ways(pair()):
        receiving = Background(other.recv)
        latency = one.latency_of()
        assert 0 < latency < 5
        assert one.ws.latency == latency
        assert one.latency_of(b"named") > 0
        assert one.latency_of("text") > 0
        one.pong(b"unsolicited")
        one.send("done")
        assert receiving.result() == "done"


def test_ping_arguments(few_pairs: Any) -> None:
    one, _ = few_pairs()
    with pytest.raises(ValueError, match="125"):
        one.start_ping(b"x" * 126)
    with pytest.raises(TypeError):
        one.start_ping(5)


@pytest.mark.parametrize(
    "how", [(), (1000,), (1001,), (3000, "r\xe9ason"), (4999, "x" * 123), (1011, "sorry")], ids=str
)
def test_close_codes(few_pairs: Any, how: tuple[Any, ...]) -> None:
    code, reason = (*how, "", "")[:2] if how else (1000, "")
    kind = ConnectionClosedOK if code in (1000, 1001) else ConnectionClosedError
    one, other = few_pairs()
    error = close_both(one, other, *how)
    assert type(error) is kind
    assert error.rcvd == websock.Close(code, reason)
    assert error.sent is not None
    assert error.sent.code == code
    assert error.rcvd_then_sent is True
    with pytest.raises(kind) as caught:
        one.recv()
    assert caught.value.sent == websock.Close(code, reason)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd_then_sent is False
    assert other.close_code == code
    assert other.close_reason == reason
    other.wait_closed()
    assert one.is_over
    assert one.state is websock.State.CLOSED


def test_close_both_ways_over_every_socket(pair: Any) -> None:
    one, other = pair()
    error = close_both(other, one, 1001, "bye")  # the server's end closes
    assert type(error) is ConnectionClosedOK
    one.close()
    one.wait_closed()
    assert one.is_over
    assert other.is_over
    assert one.close_code == 1001


def test_bad_close_arguments(few_pairs: Any) -> None:
    one, other = few_pairs()
    for code, reason in ((999, ""), (1005, "reason"), (1006, ""), (1015, ""), (5000, ""), (1000, "x" * 124)):
        with pytest.raises(ValueError):
            one.close(code, reason)
    one.send("still open")
    assert other.recv() == "still open"


def test_closing_again(few_pairs: Any) -> None:
    one, other = few_pairs()
    close_both(one, other)
    for _ in range(2):
        one.close()
        one.close(1011, "too late")
        other.close(1011)
    assert one.close_code == 1000
    assert other.close_code == 1000


def test_simultaneous_close(pair: Any) -> None:
    one, other = pair()
    ready = threading.Barrier(2)

    def close(end: Any, code: int) -> None:
        ready.wait(30)
        end.close(code)

    closings = [Background(close, one, 3001), Background(close, other, 3002)]
    for closing in closings:
        closing.result()
    for end in (one, other):
        with pytest.raises(ConnectionClosedError) as caught:
            end.recv()
        assert caught.value.rcvd is not None
        assert caught.value.sent is not None


def test_messages_before_the_close_are_received(pair: Any) -> None:
    for one, other in both_ways(pair()):
        for i in range(10):
            one.send(str(i))
        closing = Background(one.close)
        assert [other.recv() for _ in range(10)] == [str(i) for i in range(10)]
        for _ in range(2):
            with pytest.raises(ConnectionClosedOK):
                other.recv()
        closing.result()
        break


def test_messages_that_came_are_received_after_our_own_close(few_pairs: Any) -> None:
    one, other = few_pairs()
    for i in range(10):
        other.send(str(i))
    receiving = Background(other.recv)
    assert one.recv() == "0"
    one.close()
    assert [one.recv() for _ in range(9)] == [str(i) for i in range(1, 10)]
    with pytest.raises(ConnectionClosedOK):
        one.recv()
    with pytest.raises(ConnectionClosedOK):
        receiving.result()


@pytest.mark.parametrize("message", ["text", "", b"", ["a", "b"], []], ids=repr)
def test_sending_after_the_close(few_pairs: Any, message: Any) -> None:
    one, other = few_pairs()
    close_both(one, other)
    for end in (one, other):
        with pytest.raises(ConnectionClosedOK):
            end.send(message)
        with pytest.raises(ConnectionClosedOK):
            end.start_ping()
        with pytest.raises(ConnectionClosedOK):
            end.pong()


def test_close_while_receiving_wakes_the_receiver(pair: Any) -> None:
    for one, other in [pair()]:
        receiving = Background(one.recv, None)
        answering = Background(other.recv)
        one.latency_of()
        one.close(3003, "mine")
        with pytest.raises(ConnectionClosedError) as caught:
            receiving.result(5)
        assert caught.value.sent == websock.Close(3003, "mine")
        assert caught.value.rcvd_then_sent is False
        with pytest.raises(ConnectionClosedError):
            answering.result()


def test_two_receivers(few_pairs: Any) -> None:
    one, other = few_pairs()
    receiving = Background(one.recv)
    answering = Background(other.recv)
    one.latency_of()  # the receiver is at work
    with pytest.raises(ConcurrencyError):
        one.recv()
    with pytest.raises(ConcurrencyError):
        next(one.stream())
    other.send("for the first")
    assert receiving.result() == "for the first"
    one.send("bye")
    assert answering.result() == "bye"
    other.send("for the next")
    assert one.recv() == "for the next"


def test_receive_timeout_loses_nothing(pair: Any) -> None:
    one, other = pair()
    for i in range(5):
        with pytest.raises(TimeoutError):
            other.recv(timeout=0.005)
        one.send(str(i))
        assert other.recv() == str(i)
    for message in ("late", "later"):
        one.send(message)
    got: list[Any] = []
    while len(got) < 2:
        try:
            got.append(other.recv(timeout=0.0001))
        except TimeoutError:
            pass
    assert got == ["late", "later"]


def test_iteration(few_pairs: Any) -> None:
    one, other = few_pairs()
    for i in range(3):
        one.send(str(i))
    if hasattr(other, "adapter"):

        async def iterate() -> list[Any]:
            return [message async for message in other.ws]

        iterating = Background(other.adapter.run, iterate())
    else:
        iterating = Background(lambda: list(other.ws))
    one.close()
    assert iterating.result() == ["0", "1", "2"]


def test_iteration_raises_after_an_error(few_pairs: Any) -> None:
    one, other = few_pairs()
    one.send("0")
    if hasattr(other, "adapter"):

        async def iterate() -> list[Any]:
            return [message async for message in other.ws]

        iterating = Background(other.adapter.run, iterate())
    else:
        iterating = Background(lambda: list(other.ws))
    one.close(1011)
    with pytest.raises(ConnectionClosedError):
        iterating.result()


def test_addresses_and_names(pair: Any) -> None:
    one, other = pair()
    assert one.id != other.id
    assert str(one.id) in repr(one.ws)
    assert "OPEN" in repr(other.ws)
    assert one.request.path == other.request.path == "/"
    assert one.response.status_code == other.response.status_code == 101
    assert one.state is websock.State.OPEN
    assert one.close_code is None
    assert one.close_reason is None
    assert one.subprotocol is None
    if isinstance(one.local_address, tuple):
        assert one.local_address == other.remote_address
        assert one.remote_address == other.local_address
    assert other.server.connections == {other.ws}


def test_many_threads_send(few_pairs: Any) -> None:
    for one, other in both_ways(few_pairs()):
        senders = [
            Background(lambda i=i, one=one: [one.send(f"{i} {j} " + "x" * (i * 700)) for j in range(20)])
            for i in range(8)
        ]
        seen: dict[str, list[int]] = {}
        for _ in range(160):
            sender, number, filling = other.recv().split(" ")
            assert filling == "x" * (int(sender) * 700)
            seen.setdefault(sender, []).append(int(number))
        assert all(numbers == list(range(20)) for numbers in seen.values())
        for sender in senders:
            sender.result()


def test_both_send_before_either_receives(pair: Any) -> None:
    """The deadlock that others have: 1 MB each way, and nobody receives before he has sent."""
    one, other = pair(max_size=2 * MB)
    message = b"m" * MB

    def exchange(end: Any) -> int:
        size = 0
        for _ in range(3):
            end.send(message)
            size += len(end.recv())
        return size

    exchanging = [Background(exchange, end) for end in (one, other)]
    assert [each.result() for each in exchanging] == [3 * MB] * 2


def test_full_duplex(few_pairs: Any) -> None:
    one, other = few_pairs(max_size=2 * MB)
    message = b"m" * MB

    def send(end: Any) -> None:
        for _ in range(4):
            end.send(message)

    def receive(end: Any) -> None:
        for _ in range(4):
            assert end.recv() == message

    for each in [Background(do, end) for end in (one, other) for do in (send, receive)]:
        each.result()


def test_connection_is_over_on_both_sides(pair: Any) -> None:
    one, other = pair()
    answering = Background(other.recv)
    one.close()
    with pytest.raises(ConnectionClosedOK):
        answering.result()
    other.wait_closed()
    until(lambda: one.is_over and other.is_over)
    assert other.server.connections == set()
