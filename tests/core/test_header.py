"""Every rule of a frame header, one by one and all together (RFC 6455 section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from websock import exceptions
from websock.core.header import judge
from websock.exceptions import (
    ControlTooLong,
    ExpectedContinuation,
    FragmentedControl,
    InvalidClose,
    InvalidCompressedData,
    InvalidUTF8,
    KeepaliveTimeout,
    LengthTooBig,
    MissingMask,
    NonMinimalLength,
    PayloadTooBig,
    ProtocolError,
    RateExceeded,
    ReservedBits,
    ReservedOpcode,
    TooManyFragments,
    UnexpectedContinuation,
    UnexpectedMask,
)

from .frames import CODECS

# Class, the code that the connection is closed with, the section that has the rule.
RULES = [
    (ReservedBits, 1002, "5.2"),
    (ReservedOpcode, 1002, "5.2"),
    (FragmentedControl, 1002, "5.5"),
    (ControlTooLong, 1002, "5.5"),
    (MissingMask, 1002, "5.1"),
    (UnexpectedMask, 1002, "5.1"),
    (NonMinimalLength, 1002, "5.2"),
    (LengthTooBig, 1002, "5.2"),
    (UnexpectedContinuation, 1002, "5.4"),
    (ExpectedContinuation, 1002, "5.4"),
    (InvalidClose, 1002, "5.5.1"),
    (InvalidUTF8, 1007, "8.1"),
    (InvalidCompressedData, 1007, "RFC 7692, 7.2.2"),
    (TooManyFragments, 1008, "10.4"),
    (PayloadTooBig, 1009, "10.4"),
    (RateExceeded, 1008, "10.4"),
    (KeepaliveTimeout, 1011, "5.5.2"),
]


@pytest.mark.parametrize(("kind", "code", "section"), RULES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_rule_has_its_close_code_and_its_section(kind: type[ProtocolError], code: int, section: str) -> None:
    error = kind()
    assert (error.code, error.section) == (code, section)
    assert str(error) == kind.text != ProtocolError.text
    assert str(kind("in other words")) == "in other words"
    assert kind(code=1003).code == 1003


def test_no_rule_is_missing_from_the_table() -> None:
    rules = {
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, ProtocolError) and kind is not ProtocolError
    }
    assert rules == {kind for kind, _, _ in RULES}


# First octet, second octet, length, settings that differ from those of `ask`, and the one rule that it breaks.
CASES: list[tuple[int, int, int, dict[str, Any], type[ProtocolError] | None]] = [
    (0x81, 0x80, 0, {}, None),
    (0x82, 0x80, 0, {}, None),
    (0x01, 0x80, 0, {}, None),
    (0x88, 0x80, 0, {}, None),
    (0x89, 0xFD, 125, {}, None),
    (0x8A, 0x80, 0, {"fragmented": True}, None),
    (0x80, 0x80, 0, {"fragmented": True}, None),
    (0x00, 0x80, 0, {"fragmented": True}, None),
    (0x81, 0x00, 0, {"masked": False}, None),
    (0xC1, 0x80, 0, {"allowed_rsv": 0x40}, None),
    (0xC1, 0x80, 0, {}, ReservedBits),
    (0xA1, 0x80, 0, {}, ReservedBits),
    (0x91, 0x80, 0, {}, ReservedBits),
    (0xA1, 0x80, 0, {"allowed_rsv": 0x40}, ReservedBits),
    (0xC0, 0x80, 0, {"allowed_rsv": 0x40, "fragmented": True}, ReservedBits),
    (0xC8, 0x80, 0, {"allowed_rsv": 0x40}, ReservedBits),
    (0xC9, 0x80, 0, {"allowed_rsv": 0x40}, ReservedBits),
    (0xCA, 0x80, 0, {"allowed_rsv": 0x40}, ReservedBits),
    *[(0x80 | opcode, 0x80, 0, {}, ReservedOpcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    (0x81, 0x00, 0, {}, MissingMask),
    (0x89, 0x00, 0, {}, MissingMask),
    (0x81, 0x80, 0, {"masked": False}, UnexpectedMask),
    (0x08, 0x80, 0, {}, FragmentedControl),
    (0x09, 0x80, 0, {}, FragmentedControl),
    (0x0A, 0x80, 0, {}, FragmentedControl),
    (0x88, 0xFE, 126, {}, ControlTooLong),
    (0x89, 0xFE, 0, {}, ControlTooLong),
    (0x8A, 0xFF, 65536, {}, ControlTooLong),
    (0x82, 0xFE, 126, {}, None),
    (0x82, 0xFE, 125, {}, NonMinimalLength),
    (0x82, 0xFE, 0, {}, NonMinimalLength),
    (0x82, 0xFE, 65535, {}, None),
    (0x82, 0xFF, 65535, {}, NonMinimalLength),
    (0x82, 0xFF, 0, {}, NonMinimalLength),
    (0x82, 0xFF, 65536, {}, None),
    (0x82, 0xFF, 2**63 - 1, {}, None),
    (0x82, 0xFF, 2**63, {}, LengthTooBig),
    (0x82, 0xFF, 2**64 - 1, {}, LengthTooBig),
    (0x80, 0x80, 0, {}, UnexpectedContinuation),
    (0x00, 0x80, 0, {}, UnexpectedContinuation),
    (0x81, 0x80, 0, {"fragmented": True}, ExpectedContinuation),
    (0x02, 0x80, 0, {"fragmented": True}, ExpectedContinuation),
    (0x00, 0xFF, 2**63, {}, UnexpectedContinuation),  # as when the length has not come yet
    (0x81, 0xFE, 1, {"fragmented": True}, ExpectedContinuation),
    (0x82, 0xE4, 100, {"room": 100}, None),
    (0x82, 0xE4, 100, {"room": 99}, PayloadTooBig),
    (0x80, 0x81, 1, {"room": 0, "fragmented": True}, PayloadTooBig),
    (0x80, 0x80, 0, {"room": 0, "fragmented": True}, None),
    (0x89, 0xE4, 100, {"room": 0}, None),
]


def ask(first: int, second: int, length: int, **settings: Any) -> ProtocolError | None:
    return judge(
        first, second, length, **{"masked": True, "fragmented": False, "allowed_rsv": 0, "room": None, **settings}
    )


@pytest.mark.parametrize(("first", "second", "length", "settings", "rule"), CASES)
def test_judge(
    first: int, second: int, length: int, settings: dict[str, Any], rule: type[ProtocolError] | None
) -> None:
    error = ask(first, second, length, **settings)
    assert type(error) is (type(None) if rule is None else rule)


def broken(
    first: int, second: int, length: int, *, masked: bool, fragmented: bool, allowed_rsv: int, room: int | None
) -> set[type[ProtocolError]]:
    """All the rules that a header breaks, each in the words of its section."""
    fin, rsv, opcode = first >> 7, first >> 4 & 7, first % 16
    mask, short = second >> 7, second % 128
    control = opcode in (8, 9, 10, 11, 12, 13, 14, 15)
    rules: set[type[ProtocolError]] = set()
    # 5.2: "MUST be 0 unless an extension is negotiated"; RFC 7692 section 6: on the first frame of a message only.
    if rsv and not (rsv == allowed_rsv >> 4 and opcode in range(1, 8)):
        rules.add(ReservedBits)
    # 5.2: "%x3-7 are reserved for further non-control frames", "%xB-F are reserved for further control frames".
    if opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        rules.add(ReservedOpcode)
    # 5.1: "a client MUST mask all frames that it sends", "A server MUST NOT mask any frames".
    if masked and mask == 0:
        rules.add(MissingMask)
    if not masked and mask == 1:
        rules.add(UnexpectedMask)
    # 5.5: "MUST have a payload length of 125 bytes or less and MUST NOT be fragmented".
    if control and fin == 0:
        rules.add(FragmentedControl)
    if control and short > 125:
        rules.add(ControlTooLong)
    # 5.2: "the minimal number of bytes MUST be used", "the most significant bit MUST be 0".
    if (short == 126 and length < 126) or (short == 127 and length < 65536):
        rules.add(NonMinimalLength)
    if length >= 1 << 63:
        rules.add(LengthTooBig)
    # 5.4
    if opcode == 0 and not fragmented:
        rules.add(UnexpectedContinuation)
    if opcode in (1, 2) and fragmented:
        rules.add(ExpectedContinuation)
    # 10.4
    if room is not None and not control and length > room:
        rules.add(PayloadTooBig)
    return rules


def lengths(second: int) -> list[int]:
    short = second % 128
    return {126: [0, 125, 126, 65535], 127: [0, 65535, 65536, 2**63 - 1, 2**63]}.get(short, [short])


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("fragmented", [True, False])
@pytest.mark.parametrize("allowed_rsv", [0, 0x40])
def test_every_pair_of_octets(masked: bool, fragmented: bool, allowed_rsv: int) -> None:
    for first in range(256):
        for second in range(256):
            for length in lengths(second):
                for room in (None, 100):
                    settings: dict[str, Any] = {
                        "masked": masked, "fragmented": fragmented, "allowed_rsv": allowed_rsv, "room": room
                    }  # fmt: skip
                    rules = broken(first, second, length, **settings)
                    error = judge(first, second, length, **settings)
                    assert (error is None) == (not rules), (first, second, length, settings)
                    if error is not None:
                        assert type(error) in rules, (first, second, length, settings)
                        # Who breaks the protocol hears that, not that the frame is too large.
                        assert (error.code == 1009) == (rules == {PayloadTooBig})


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("fragmented", [True, False])
def test_every_pair_of_octets_through_a_decoder(codec: Any, masked: bool, fragmented: bool) -> None:
    begun = (b"\x02\x80abcd" if masked else b"\x02\x00") if fragmented else b""
    for first in range(256):
        for second in range(256):
            for length in lengths(second):
                octets = {126: 2, 127: 8}.get(second % 128, 0)
                decoder = codec.Decoder(lambda *_: None, masked=masked, max_size=100)
                decoder.decode(begun)
                # The header alone, without mask and payload, has all that there is to judge.
                decoder.decode(bytes((first, second)) + (length.to_bytes(octets, "big") if octets else b""))
                rules = broken(first, second, length, masked=masked, fragmented=fragmented, allowed_rsv=0, room=100)
                assert (decoder.failure is None) == (not rules), (first, second, length)
                assert not rules or type(decoder.failure) in rules, (first, second, length)
