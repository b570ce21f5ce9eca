"""Masking against a loop, and where the keys come from (RFC 6455 sections 5.3 and 10.3)."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core import masking
from websock.core.masking import apply_mask, new_key

from .frames import keys, slow_mask

SOURCE = bytes(i * 7 % 251 for i in range(5000))
KEY = b"\x0f\x80\x01\xff"


@pytest.mark.parametrize("start", range(4))
def test_every_length(start: int) -> None:
    crossing = masking.CROSSING
    lengths = {*range(300), *range(300, 4201, 7), *range(crossing - 9, crossing + 10), *range(4090, 4101)}
    expected = slow_mask(SOURCE, KEY)
    for length in lengths:
        assert apply_mask(memoryview(SOURCE)[:length], KEY) == expected[:length]
        view = memoryview(SOURCE)[start : start + length]
        turned = KEY[start:] + KEY[:start]
        assert apply_mask(view, turned) == expected[start : start + length]


@given(data=st.binary(max_size=200), key=keys)
def test_any_octets(data: bytes, key: bytes) -> None:
    masked = apply_mask(data, key)
    assert masked == slow_mask(data, key) and type(masked) is bytes
    assert apply_mask(bytearray(masked), key) == data


@pytest.mark.parametrize("key", [bytes((k, 0, 255 - k, k ^ 0x55)) for k in range(0, 256, 5)])
def test_any_key_beyond_the_crossing(key: bytes) -> None:
    assert apply_mask(SOURCE, key) == slow_mask(SOURCE, key)


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
@pytest.mark.parametrize("size", [0, 10, 4000])
def test_a_key_has_four_octets(key: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="4 octets"):
        apply_mask(bytes(size), key)


def test_the_input_stays_as_it_is() -> None:
    for size in (10, 4000):
        data = bytearray(SOURCE[:size])
        apply_mask(data, KEY)
        assert data == SOURCE[:size]


# Keys


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Octets of ``os.urandom`` that never repeat; the list of what was asked for."""
    given_out: list[bytes] = []
    lock = threading.Lock()

    def urandom(size: int) -> bytes:
        with lock:
            first = sum(map(len, given_out)) // 4
            given_out.append(b"".join((first + i).to_bytes(4, "big") for i in range(size // 4)))
            return given_out[-1]

    monkeypatch.setattr(masking, "_pool", [])
    monkeypatch.setattr("websock.core.masking.os.urandom", urandom)
    return given_out


def test_each_octet_of_urandom_is_used_once(counted: list[bytes]) -> None:
    drawn = [new_key() for _ in range(5000)]
    assert len(set(drawn)) == 5000
    source = b"".join(counted)
    assert {source[i : i + 4] for i in range(0, len(source), 4)} >= set(drawn)
    assert len(counted) <= 6  # a system call pays for many keys


def test_threads_never_share_a_key(counted: list[bytes]) -> None:
    drawn: list[list[bytes]] = [[] for _ in range(4)]
    start = threading.Barrier(4)

    def draw(into: list[bytes]) -> None:
        start.wait()
        into.extend(new_key() for _ in range(5000))

    threads = [threading.Thread(target=draw, args=(into,)) for into in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key for some in drawn for key in some}) == 20_000


def test_keys_look_random() -> None:
    drawn = [new_key() for _ in range(4000)]
    assert all(type(key) is bytes and len(key) == 4 for key in drawn)
    # By chance two of 4000 are equal in one run of 500, four of them never.
    assert len(set(drawn)) >= 3998
    for bit in range(32):
        ones = sum(int.from_bytes(key, "big") >> bit & 1 for key in drawn)
        assert 1750 < ones < 2250  # more than 7 standard deviations
    for place in range(4):
        assert len({key[place] for key in drawn}) > 250


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_child_never_uses_the_keys_of_its_parent() -> None:
    new_key()  # the pool is full
    assert masking._pool
    pool = set(masking._pool)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, b"".join(new_key() for _ in range(500)))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        octets = pipe.read()
    os.waitpid(child, 0)
    childs = {octets[i : i + 4] for i in range(0, len(octets), 4)}
    parents = {new_key() for _ in range(500)}
    assert len(childs) > 495
    assert len(childs & pool) <= 1 and len(childs & parents) <= 1  # one by chance: once in 10,000 runs
