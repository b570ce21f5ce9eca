"""The demonstration of resilience: a short one of two workers, and that it sees what it looks for."""

from __future__ import annotations

import asyncio
import collections
import json
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)

import resilience
import resilient


def test_two_workers_are_killed_and_a_link_is_cut(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "told.json"
    small = ["--clients", "30", "--rooms", "3", "--rate", "50", "--seconds", "3", "--loopback"]
    # Patient: on a machine that stalls, only what is away is called away.
    status = resilience.main([*small, "--patience", "20", "--json", str(told)])
    assert status == 0, capfd.readouterr()
    found = json.loads(told.read_text())
    assert found["published"] == 150
    assert found["deliveries"] == 150 * 10
    assert found["connections"] > 30  # some had to come back
    assert sum(one["count"] for one in found["latencies"].values()) == 150 * 10
    assert sum("SIGKILL" in line for line in found["said"]["a"]) == 2


def a_run(**more: Any) -> resilient.Run:
    options = {"servers": [["", 0]], "first": 0, "step": 1, "clients": 2, "rooms": 1, "each": 1, "rate": 1.0}
    return resilient.Run({**options, **more})


@pytest.mark.parametrize(
    ("came", "lost", "doubled", "disordered"),
    [
        ([1, 2, 3], 0, 0, 0),
        ([1, 3], 1, 0, 0),
        ([1, 2], 1, 0, 0),
        ([], 3, 0, 0),
        ([1, 1, 2, 3], 0, 1, 0),
        ([1, 3, 2], 0, 0, 1),
        ([3, 2, 2, 1], 0, 1, 2),
    ],
)
def test_what_goes_wrong_is_seen(came: list[int], lost: int, doubled: int, disordered: int) -> None:
    async def main() -> None:
        run = a_run()
        reader = run.clients[1]
        for number in came:
            reader.take(reader.rooms["room/0"], "c0", number, 1.0)
        assert reader.lost({"room/0": {"c0": 3}, "another": {"c0": 9}}) == lost
        assert (run.counts["doubled"], run.counts["disordered"]) == (doubled, disordered)

    asyncio.run(main())


def test_a_message_that_is_of_no_subscription_or_behind_a_gap_is_not_taken() -> None:
    class Said(list[str]):
        async def send(self, message: str) -> None:
            self.append(message)

    async def main() -> None:
        run, ws = a_run(), Said()
        reader = run.clients[1]
        message = {"kind": "message", "topic": "room/0", "id": "3-0", "prev": "2-0", "data": ["c0", 1, 1.0]}
        await reader.heard(ws, message)
        await reader.heard(ws, {"kind": "subscribed", "topic": "room/0", "id": "1-0"})
        await reader.heard(ws, message)
        assert run.counts == {"gaps noticed": 1}
        assert [json.loads(one)["after"] for one in ws] == ["1-0"]
        await reader.heard(ws, {"kind": "subscribed", "topic": "room/0", "id": "1-0"})
        await reader.heard(ws, {**message, "prev": "1-0"})
        assert run.counts["deliveries"] == 1
        assert reader.rooms["room/0"].cursor == "3-0"

    asyncio.run(main())


@pytest.mark.parametrize("fault", resilience.FAULTS)
def test_each_fault_counts(fault: str) -> None:
    found = {**dict.fromkeys(resilience.FAULTS, 0), "deliveries": 1}
    assert resilience.good(found)
    assert not resilience.good({**found, "deliveries": 0})
    assert not resilience.good({**found, fault: 1})


def test_shares() -> None:
    total = collections.Counter({10: 98, 500: 1, 7000: 1})
    assert [resilience.share(total, part) for part in (0.5, 0.99, 1.0)] == [1.0, 50.0, 700.0]
    assert resilience.share(collections.Counter(), 0.5) == 0.0


@pytest.mark.parametrize("arguments", [["--backplane", "none"], ["--clients", "0"], ["--seconds", "0"]])
def test_wrong_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        resilience.main(arguments)
    assert exit_.value.code == 2
