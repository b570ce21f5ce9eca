"""What a peer can make us spend on the head of a request: counted work and memory, no time."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from websock.core.handshake import ServerHandshake
from websock.core.options import Options

from .frames import pieces
from .heads import request

HEAD = request()[:-2]
TOO_LONG = 431

FLOODS = {
    "100,000 headers": HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(100_000)) + b"\r\n",
    "100,000 times one": HEAD + b"X: a\r\n" * 100_000 + b"\r\n",
    "a line of 1 MB": HEAD + b"X: " + b"a" * 10**6 + b"\r\n\r\n",
    "a name of 1 MB": HEAD + b"X" * 10**6 + b": a\r\n\r\n",
    "100,000 folded lines": HEAD + b"X: a\r\n" + b" b\r\n" * 100_000 + b"\r\n",
    "a target of 1 MB": request(line="GET /" + "a" * 10**6 + " HTTP/1.1"),
    "nothing but ends of lines": b"\r\n" * 500_000,
    "one line without an end": b"G" * 10**6,
    "300 headers": HEAD + b"X: a\r\n" * 300 + b"\r\n",
}


def calls(function: Callable[[], object]) -> int:
    """Python and C functions that are called meanwhile: what the work grows with."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("step", [2**18, 1000, 10**9])
def test_a_flood_of_headers_is_refused_at_the_limit(flood: str, step: int) -> None:
    """No more of it is looked at than a head may have, however it comes."""
    handshake = ServerHandshake()
    chunks = pieces(FLOODS[flood], [step])
    work = 0

    def feed() -> None:
        for chunk in chunks:
            handshake.receive(chunk)

    tracemalloc.start()
    try:
        feed()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert handshake.response is not None and handshake.response.status_code in (400, TOO_LONG)
    assert peak < 1_500_000  # h11's objects for 16 KiB of the shortest lines
    handshake = ServerHandshake()
    work = calls(feed)
    assert work < 60_000


@pytest.mark.parametrize("folded", [b"X: a\r\n b\r\n c\r\n", b"X: a\r\n\tb\r\n"])
def test_a_folded_line_is_one_value(folded: bytes) -> None:
    """RFC 9112 section 5.2 lets a server take it in with spaces; it must not begin the head."""
    handshake = ServerHandshake()
    handshake.receive(HEAD + folded + b"\r\n")
    assert handshake.request is not None and handshake.request.headers["X"] in ("a b c", "a b")
    handshake = ServerHandshake()
    handshake.receive(request().replace(b"\r\nHost", b"\r\n X: a\r\nHost"))
    assert handshake.response is not None and handshake.response.status_code == 400


@pytest.mark.parametrize("size", [256, 2**14])
def test_exactly_the_limit_and_an_octet_more(size: int) -> None:
    head = HEAD + b"X: " + b"a" * (size - len(HEAD) - 7) + b"\r\n\r\n"
    assert len(head) == size
    for step in (1, 100, 10**9):
        for behind in (b"", b"b" * 2**18):
            if step == 1 and behind:
                continue  # octets behind the request are counted for themselves
            handshake = ServerHandshake(options=Options(max_header_size=size))
            for chunk in pieces(head, [step])[:-1]:
                handshake.receive(chunk)
            handshake.receive(pieces(head, [step])[-1] + behind)
            assert handshake.request is not None and not handshake.done
            handshake.accept()
            assert handshake.leftover == behind
            handshake = ServerHandshake(options=Options(max_header_size=size))
            for chunk in pieces(head.replace(b": aa", b": aaa") + behind, [step]):
                handshake.receive(chunk)
            assert handshake.response is not None and handshake.response.status_code == TOO_LONG


def test_octet_by_octet_the_work_grows_with_the_octets() -> None:
    def work(size: int) -> int:
        head = HEAD + b"X: " + b"a" * (size - len(HEAD) - 7) + b"\r\n\r\n"
        handshake = ServerHandshake()
        octets = pieces(head, [1])

        def feed() -> None:
            for octet in octets:
                handshake.receive(octet)

        count = calls(feed)
        assert handshake.request is not None
        return count

    assert work(16_000) < 9 * work(2_000)


def test_the_limits_that_these_rest_on() -> None:
    assert Options().max_header_size == 16 * 1024
