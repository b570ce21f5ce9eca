"""Settings are checked once, and a name that does not exist is answered with the nearest."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest

from websock.core.options import SAME_ORIGIN, OptionKeywords, Options, options_from
from websock.datastructures import is_token

SECONDS = ["open_timeout", "ping_interval", "ping_timeout", "close_timeout"]
COUNTS = ["max_size", "max_queue", "write_limit", "max_header_size"]


def one(name: str, value: Any) -> Options:
    return Options(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
def test_seconds(name: str) -> None:
    for value in (None, 1, 0.001, 10**6):
        assert getattr(one(name, value), name) == value
    for wrong in ("1", b"1", True, [1], 1j):
        with pytest.raises(TypeError, match=name):
            one(name, wrong)
    for bad in (-1, -0.001, math.nan, -math.inf):
        with pytest.raises(ValueError, match=name):
            one(name, bad)


def test_zero_seconds() -> None:
    for name in ("open_timeout", "ping_timeout", "close_timeout"):
        one(name, 0)
    with pytest.raises(ValueError, match="ping_interval"):
        Options(ping_interval=0)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    assert getattr(one(name, 1000), name) == 1000
    for wrong in ("1", 1.5, True, 1e6):
        with pytest.raises(TypeError, match=name):
            one(name, wrong)
    with pytest.raises(ValueError, match=name):
        one(name, -1)
    if name in ("max_size", "max_queue"):
        assert getattr(one(name, None), name) is None
    else:
        with pytest.raises(TypeError, match=name):
            one(name, None)


def test_least_counts() -> None:
    assert Options(max_size=0, max_queue=1, write_limit=1, max_header_size=256)
    for name in ("max_queue", "write_limit"):
        with pytest.raises(ValueError, match=name):
            one(name, 0)
    with pytest.raises(ValueError, match="max_header_size"):
        Options(max_header_size=255)


def test_compression() -> None:
    assert Options(compression=None).compression is None and Options().compression == "deflate"
    for bad in ("gzip", "", True):
        with pytest.raises((TypeError, ValueError)):
            Options(compression=bad)  # type: ignore[arg-type]


def test_subprotocols() -> None:
    assert Options(subprotocols=["a", "v1.chat"]).subprotocols == ("a", "v1.chat")
    with pytest.raises(TypeError):
        Options(subprotocols="chat")
    for bad in (["a b"], [""], ["é"], ["a,b"], ["a\r\n"], ['"a"']):
        with pytest.raises(ValueError, match="token"):
            Options(subprotocols=bad)
    for wrong in ([1], [None], [b"a"], b"chat", 5):
        with pytest.raises((TypeError, ValueError)):
            Options(subprotocols=wrong)  # type: ignore[arg-type]


def test_subprotocols_are_unique() -> None:
    """RFC 6455 section 4.1, item 10: "MUST all be unique strings"."""
    with pytest.raises(ValueError, match="a"):
        Options(subprotocols=["a", "b", "a"])


def test_subprotocols_are_checked_and_kept_also_from_an_iterator() -> None:
    """What is used up by the check would be an empty list afterwards."""
    try:
        options = Options(subprotocols=(name for name in ("a", "b")))  # type: ignore[arg-type]
    except TypeError:
        return
    assert list(options.subprotocols or ()) == ["a", "b"] == list(options.subprotocols or ())


def test_a_value_that_cannot_be_changed() -> None:
    options = Options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.max_size = 1  # type: ignore[misc]
    for double in (copy.copy(options), copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert double == options and double.origins is SAME_ORIGIN
    assert repr(SAME_ORIGIN) == "SAME_ORIGIN"
    with pytest.raises(ValueError):
        dataclasses.replace(options, max_size=-1)


def test_the_defaults_are_safe() -> None:
    """DESIGN.md principle 8: limits are always on."""
    options = Options()
    for name in [*SECONDS, *COUNTS]:
        assert getattr(options, name) is not None
    assert options.origins is SAME_ORIGIN


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"connect has no option 'max_sise'; did you mean 'max_size'\?"):
        options_from({"max_sise": 1}, "connect", [])
    with pytest.raises(TypeError, match=r"did you mean 'additional_headers'\?"):
        options_from({"aditional_headers": 1}, "connect", ["additional_headers"])
    with pytest.raises(TypeError, match=r"has no option 'zzzzzz'$"):
        options_from({"zzzzzz": 1}, "connect", ["additional_headers"])
    assert options_from({"max_size": 5}, "connect", []).max_size == 5
    assert options_from({}, "connect", []) == Options()


def test_the_list_for_type_checkers_is_complete() -> None:
    fields = {field.name for field in dataclasses.fields(Options)}
    assert set(OptionKeywords.__annotations__) == fields - {"origins", "hosts"}  # a client has none


@pytest.mark.parametrize("character", [chr(c) for c in range(0x100)])
def test_the_characters_of_a_token(character: str) -> None:
    """RFC 9110 section 5.6.2, in the words of its older brother: any CHAR except CTLs or separators."""
    expected = " " < character < "\x7f" and character not in '()<>@,;:\\"/[]?={}'
    assert is_token(character) == is_token("a" + character) == expected


def test_no_token_is_empty() -> None:
    assert not is_token("") and not is_token("☃")
