"""The payload of a Close frame and the codes that may stand in it (RFC 6455 sections 5.5.1 and 7.4)."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.closing import may_travel, parse_close, serialize_close
from websock.exceptions import InvalidClose, InvalidUTF8
from websock.frames import Close, describe

# RFC 6455 section 7.4.1 and the IANA registry of close codes.
MAY = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, *range(3000, 5000)}
MAY_NOT = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 5001, 65535]


def test_every_code() -> None:
    assert MAY.isdisjoint(MAY_NOT)
    for code in range(2**16):
        payload = code.to_bytes(2, "big")
        assert may_travel(code) == (code in MAY)
        if code in MAY:
            assert parse_close(payload) == Close(code)
            assert parse_close(payload + b"why") == Close(code, "why")
            assert serialize_close(Close(code, "why")) == payload + b"why"
        else:
            with pytest.raises(InvalidClose, match=f"{code}"):
                parse_close(payload + b"why")
            with pytest.raises(ValueError, match=f"{code}"):
                serialize_close(Close(code, "why"))


@pytest.mark.parametrize("code", [-1, 65536, 10**9])
def test_a_code_that_does_not_fit(code: int) -> None:
    with pytest.raises(ValueError, match="may not be sent"):
        serialize_close(Close(code))


def test_no_code_is_1005() -> None:
    """Section 7.1.5."""
    assert parse_close(b"") == Close(1005)
    assert serialize_close(Close(1005)) == b""


@pytest.mark.parametrize("octet", [b"\x00", b"\x03", b"\xff"])
def test_one_octet_is_no_code(octet: bytes) -> None:
    with pytest.raises(InvalidClose, match="one octet"):
        parse_close(octet)


@pytest.mark.parametrize("reason", [b"\xff", b"\xe2\x82", b"ok\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_a_reason_is_utf8(reason: bytes) -> None:
    with pytest.raises(InvalidUTF8) as info:
        parse_close(b"\x03\xe8" + reason)
    assert info.value.code == 1007


def test_a_bad_code_counts_before_a_bad_reason() -> None:
    with pytest.raises(InvalidClose):
        parse_close(b"\x03\xed\xff")


@pytest.mark.parametrize(
    ("reason", "octets"), [("a" * 123, 123), ("é" * 61 + "a", 123), ("€" * 41, 123), ("\U0001f600" * 30 + "abc", 123)]
)
def test_a_reason_has_at_most_123_octets(reason: str, octets: int) -> None:
    assert len(reason.encode()) == octets
    payload = serialize_close(Close(1000, reason))
    assert len(payload) == 125 and parse_close(payload) == Close(1000, reason)
    with pytest.raises(ValueError, match="124 octets"):
        serialize_close(Close(1000, reason + "a"))


@given(code=st.sampled_from(sorted(MAY)), reason=st.text(max_size=30))
def test_round_trip(code: int, reason: str) -> None:
    assert parse_close(serialize_close(Close(code, reason))) == Close(code, reason)


@given(payload=st.binary(max_size=125))
def test_any_payload_is_parsed_or_refused(payload: bytes) -> None:
    try:
        close = parse_close(payload)
    except (InvalidClose, InvalidUTF8):
        return
    assert serialize_close(close) == payload


def test_a_reason_that_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        serialize_close(Close(1000, "\ud800"))


@pytest.mark.parametrize("close", [Close(1000, b"bytes"), Close(1000, None), Close("1000"), Close(1000.0), Close(True)])  # type: ignore[arg-type]
def test_wrong_types(close: Close) -> None:
    with pytest.raises((TypeError, ValueError)):
        serialize_close(close)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1000, "OK"), (1001, "going away"), (1005, "no status received"), (1006, "connection closed abnormally"),
        (3000, "registered"), (3999, "registered"), (4000, "private use"), (4999, "private use"), (2000, "unknown"),
        (5000, "unknown"),
    ],
)  # fmt: skip
def test_words(code: int, text: str) -> None:
    assert describe(code) == text
    assert str(Close(code)) == f"{code} ({text})"
    assert str(Close(code, "why")) == f"{code} ({text}) why"


def test_a_close_is_a_value() -> None:
    assert Close(1000, "a") == Close(1000, "a") != Close(1000, "b")
    assert len({Close(1000), Close(1000)}) == 1
    assert pickle.loads(pickle.dumps(Close(1000, "a"))) == Close(1000, "a")
