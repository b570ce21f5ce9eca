"""The fuzz targets without a fuzzer: the corpus, and a short run over what comes of it by changes.

`make fuzz` runs the same targets with coverage as the guide.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .harness import CORPUS, TARGETS, corpus, target

INPUTS = [(name, path) for name in TARGETS for path in corpus(name)]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_what_was_once_wrong(name: str, path: Path) -> None:
    target(name)(path.read_bytes())


def test_each_corpus_is_that_of_a_target() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_at_all(name: str) -> None:
    target(name)(b"")


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """An input of the corpus after a few changes: octets set, cut out, put in, doubled, or taken from another one."""
    inputs = [path.read_bytes() for path in corpus(name)]
    data = bytearray(draw(st.sampled_from(inputs)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 60))]
            case 4:
                other = draw(st.sampled_from(inputs))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data[:8192])


@pytest.mark.parametrize("name", TARGETS)
def test_changes(name: str) -> None:
    check = target(name)

    @given(changed(name))
    def run(data: bytes) -> None:
        check(data)

    run()
