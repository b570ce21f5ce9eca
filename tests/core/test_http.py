"""Header fields as a mapping, and plain responses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.datastructures import Headers, MultipleValuesError
from websock.http11 import make_response


def test_names_are_compared_without_case() -> None:
    headers = Headers({"Content-Type": "a"})
    assert headers["content-type"] == headers["CONTENT-TYPE"] == "a"
    assert "cONTENT-tYPE" in headers and "Content" not in headers
    number: Any = 1
    assert number not in headers
    assert headers.get("x") is None and headers.get("x", "d") == "d" and headers.get("content-TYPE") == "a"
    with pytest.raises(KeyError):
        headers["x"]


def test_several_values() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers.get_all("A") == headers.get_all("a") == ["1", "3"] and headers.get_all("x") == []
    with pytest.raises(MultipleValuesError) as info:
        headers["a"]
    assert isinstance(info.value, LookupError) and "get_all" in str(info.value) and "'a'" in str(info.value)
    with pytest.raises(MultipleValuesError):
        headers.get("A")
    assert list(headers.raw_items()) == [("A", "1"), ("B", "2"), ("a", "3")]
    assert list(headers) == ["a", "b"] and len(headers) == 2


def test_assignment_adds_and_deletion_takes_all() -> None:
    headers = Headers()
    headers["A"] = "1"
    headers["a"] = "2"
    assert headers.get_all("A") == ["1", "2"]
    del headers["A"]
    assert "a" not in headers and not headers and len(headers) == 0
    del headers["A"]
    headers["A"] = "3"
    assert headers["a"] == "3"


def test_ways_to_make_them() -> None:
    pairs = [("A", "1"), ("B", "2")]
    expected = Headers(pairs)
    assert Headers(dict(pairs)) == Headers(iter(pairs)) == Headers(A="1", B="2") == Headers(expected) == expected
    assert Headers({"A": "1"}, B="2") == expected
    assert Headers() == Headers(None) == Headers([]) == Headers({})
    assert Headers(Headers([("A", "1"), ("a", "2")])).get_all("a") == ["1", "2"]


def test_update_adds() -> None:
    headers = Headers(A="1")
    headers.update({"A": "2"})
    headers.update([("B", "3")], C="4")
    headers.update(Headers([("D", "5"), ("d", "6")]))
    assert list(headers.raw_items()) == [("A", "1"), ("A", "2"), ("B", "3"), ("C", "4"), ("D", "5"), ("d", "6")]


def test_what_a_mutable_mapping_can() -> None:
    headers = Headers([("A", "1"), ("B", "2")])
    assert headers.setdefault("a", "x") == "1" and headers.setdefault("C", "3") == "3"
    assert headers.pop("b") == "2" and headers.pop("b", "none") == "none"
    with pytest.raises(KeyError):
        headers.pop("b")
    assert dict(headers) == {"a": "1", "c": "3"} and sorted(headers.items()) == [("a", "1"), ("c", "3")]
    assert sorted(headers.values()) == ["1", "3"] and list(headers.keys()) == ["a", "c"]
    headers.clear()
    assert not headers


def test_clear_with_several_values() -> None:
    headers = Headers([("A", "1"), ("a", "2"), ("B", "3")])
    headers.clear()
    assert len(headers) == 0 and list(headers.raw_items()) == []


def test_equality_and_copies() -> None:
    headers = Headers([("A", "1"), ("B", "2")])
    assert headers == Headers([("a", "1"), ("b", "2")]) != Headers([("A", "1"), ("B", "3")])
    assert headers != {"a": "1", "b": "2"} and headers != 1
    for double in (headers.copy(), copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers))):
        assert double == headers
    double = headers.copy()
    double["C"] = "3"
    assert "C" not in headers
    with pytest.raises(TypeError):
        hash(headers)


def test_words() -> None:
    headers = Headers([("A", "1"), ("b", "2")])
    assert str(headers) == "A: 1\r\nb: 2\r\n\r\n"
    assert repr(headers) == "Headers([('A', '1'), ('b', '2')])"


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_control_characters_are_refused(code: int) -> None:
    character = chr(code)
    for value in ("a" + character + "b", character, "a" + character):
        if character == "\t":
            assert Headers(A="a\tb")["a"] == "a\tb"
            continue
        with pytest.raises(ValueError):
            Headers(A=value)
        with pytest.raises(ValueError):
            Headers([(value, "a")])


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", ":a", "a\n", "é", "(a)", "a,b", "a;b", 'a"b', "a=b", "a/b", "[a]", "{a}", "a@b"]
)
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="header name"):
        Headers({name: "x"})


@pytest.mark.parametrize(
    ("name", "value"), [("a", 1), ("a", None), ("a", b"x"), ("a", ["x"]), (1, "x"), (b"a", "x"), (None, "x")]
)
def test_names_and_values_are_str(name: Any, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Headers([(name, value)])


def test_space_around_a_value_is_not_part_of_it() -> None:
    assert Headers(A=" \ta b\t ")["a"] == "a b"
    assert Headers(A="\xa0a\xa0")["a"] == "\xa0a\xa0"


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ([], []), ([""], []), (["a"], ["a"]), (["a, b"], ["a", "b"]), (["a,b", "c"], ["a", "b", "c"]),
        ([" , ,a\t,"], ["a"]),
        (["a b"], ["a b"]), (["a\xa0"], ["a\xa0"]), (["\x85a, b"], ["\x85a", "b"]),
    ],
)  # fmt: skip
def test_tokens(values: list[str], tokens: list[str]) -> None:
    assert Headers([("X", value) for value in values]).tokens("x") == tokens


names = st.text("aAbBcC-", min_size=1, max_size=3)


@given(st.lists(st.tuples(names, st.text("xyz ", max_size=4)), max_size=12))
def test_against_a_list(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(pairs)
    for name in {name for name, _ in pairs} | {"zz"}:
        expected = [value.strip() for other, value in pairs if other.lower() == name.lower()]
        assert headers.get_all(name) == expected and (name in headers) == bool(expected)
        if len(expected) == 1:
            assert headers[name] == expected[0]
        else:
            with pytest.raises(MultipleValuesError if expected else KeyError):
                headers[name]
    assert len(headers) == len(list(headers)) == len({name.lower() for name, _ in pairs})


# Responses.


def test_make_response() -> None:
    response = make_response(404, "nothing here é")
    assert (response.status_code, response.reason_phrase) == (404, "Not Found")
    assert response.body == "nothing here é".encode()
    assert response.headers["Content-Length"] == "15" and response.headers["Connection"] == "close"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Date"].endswith(" GMT")
    assert (make_response(299, "").status_code, make_response(299, "").reason_phrase) == (299, "")


def test_a_header_of_the_caller_replaces_the_default() -> None:
    """Two Content-Types would be an answer that each reader reads as he likes."""
    response = make_response(200, "<p>", {"content-type": "text/html", "X": "1"})
    assert response.headers.get_all("Content-Type") == ["text/html"] and response.headers["X"] == "1"


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, -1])
def test_make_response_refuses(status: int) -> None:
    with pytest.raises(ValueError, match=str(status)):
        make_response(status, "")
