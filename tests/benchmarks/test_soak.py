"""The soak: a short one, and that it sees what it looks for. A long one is for `make soak`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import soak
from soak import Series

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_a_short_one(model: str) -> None:
    found = soak.soak(soak.command_of(model), 200, 3, say=lambda _: None)
    assert found["answered"] > 100 and found["opened"] >= 200
    assert {name: found[name] for name in soak.FAULTS} == dict.fromkeys(soak.FAULTS, 0)


# An echo server by hand, which gets each tenth message wrong in the way that its argument says.
FAULTY = """
import sys
sys.path[:0] = [{benchmarks!r}, {root!r}]
from servers import announce
from websock.sync.server import serve

def answer(connection):
    kept = None
    for number, message in enumerate(connection):
        if number % 10 == 5:
            match {fault!r}:
                case "lost":
                    continue
                case "doubled":
                    connection.send(message)
                case "disordered":
                    kept = message
                    continue
                case "wrong":
                    message = message + b"?"
                case "failed":
                    break
        connection.send(message)
        if kept is not None:
            connection.send(kept)
            kept = None

with serve(answer, "127.0.0.1", 0) as server:
    announce(server.socket.getsockname()[1])
    server.serve_forever()
"""


@linux
@pytest.mark.parametrize("fault", soak.FAULTS)
def test_what_goes_wrong_is_seen(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "faulty.py"
    benchmarks = Path(soak.__file__).parent
    program.write_text(FAULTY.format(benchmarks=str(benchmarks), root=str(benchmarks.parent), fault=fault))
    found = soak.soak([sys.executable, str(program)], 10, 1.5, broadcasts=False, patience=1, say=lambda _: None)
    # One that is left out shows when the next one comes: it is out of order, or lost for good.
    assert found["disordered" if fault == "lost" else fault] > 0
    assert not found["good"]


def test_flat() -> None:
    flat = Series([50.0] * 10 + [100.0, 101.0] * 50)
    assert flat.flat(0.05, 1) and abs(flat.slope()) < 1
    rising = Series([100.0 + at for at in range(100)])
    assert rising.slope() == pytest.approx(60) and rising.difference() == pytest.approx(45)
    assert not rising.flat(0.05, 5)
    assert Series().flat(0.05, 1)


@pytest.mark.parametrize("arguments", [["--model", "none"], ["--connections", "0"], ["--minutes", "0"]])
def test_wrong_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        soak.main(arguments)
    assert exit_.value.code == 2


def test_a_server_that_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--server", f"{sys.executable} -c 1/0", "--connections", "5"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
