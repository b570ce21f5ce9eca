"""How a client that connects again is tested: hours of outages, in milliseconds, and the same again from the seed.

python examples/test_reconnect.py --seeds 100
(or: pytest examples/test_reconnect.py)
"""

from __future__ import annotations

import argparse
import asyncio
import time

from websock.asyncio import ServerConnection, connect, serve
from websock.exceptions import ConnectionClosed
from websock.testing import Faults, Peer, ScriptedPeer, fail_each, simulate

LAST = 50


# The program: a client that wants all numbers, and goes on where the last connection left off.


async def follow(uri: str) -> list[int]:
    seen: list[int] = []
    async for ws in connect(uri, ping_interval=20, ping_timeout=20, close_timeout=5):
        try:
            await ws.send(str(len(seen)))
            async for message in ws:
                seen.append(int(message))
                if len(seen) == LAST:
                    await ws.close()  # leaving the loop would do that too, but later
                    return seen
        except ConnectionClosed:
            pass  # connect again
    return seen


async def numbers(ws: ServerConnection) -> None:
    """The server: one number every second, from where the client wants them."""
    for number in range(int(await ws.recv()), LAST):
        await ws.send(str(number))
        await asyncio.sleep(1)


# Its tests.


def test_the_connection_is_reset_again_and_again() -> None:
    async def main() -> list[int]:
        async with serve(numbers, "mem://numbers"):
            for seconds in (5, 20, 40):
                asyncio.get_running_loop().call_later(seconds, sim.reset)
            return await follow("mem://numbers")

    with simulate(seed=1) as sim:
        assert sim.run(main()) == list(range(LAST))
        assert sim.now > LAST - 10  # virtual seconds
    sim.check()  # no task, timer, thread or socket is left


def test_nothing_arrives_for_ten_minutes() -> None:
    async def main() -> list[int]:
        async with serve(numbers, "mem://numbers", close_timeout=5):
            asyncio.get_running_loop().call_later(10, sim.stall, 600)
            return await follow("mem://numbers")

    with simulate(seed=1) as sim:
        assert sim.run(main()) == list(range(LAST))
        assert sim.now < 200  # keepalive has noticed long before
    sim.check()


def test_the_server_is_away_for_an_hour() -> None:
    async def main() -> list[int]:
        following = asyncio.create_task(follow("mem://numbers"))
        await asyncio.sleep(3600)
        async with serve(numbers, "mem://numbers"):
            return await following

    with simulate(seed=1) as sim:
        assert sim.run(main()) == list(range(LAST))
        assert 3600 < sim.now < 3600 + 70 + LAST  # it tries at least once a minute
    sim.check()


def test_a_server_that_misbehaves() -> None:
    def busy(peer: Peer) -> None:
        peer.handshake(503)

    def rude(peer: Peer) -> None:
        peer.handshake()
        peer.expect("0")
        peer.send_raw(b"\x85what?")
        peer.expect_close(1002)

    def fine(peer: Peer) -> None:
        peer.handshake()
        peer.expect("0")
        for number in range(LAST):
            peer.send(str(number))
        peer.expect_close(1000)
        peer.close()

    with simulate() as sim, ScriptedPeer("mem://numbers", busy, rude, fine):
        assert sim.run(follow("mem://numbers")) == list(range(LAST))
    sim.check()


def test_whatever_fails() -> None:
    """Each connect, accept, send and recv fails once: 50 numbers come all the same."""

    async def main() -> list[int]:
        async with serve(numbers, "mem://numbers"):
            return await follow("mem://numbers")

    for _, sim in fail_each(seed=1):
        with sim:
            assert sim.run(main()) == list(range(LAST)), sim.failed
        sim.check()


def test_seeds(seeds: int = 20) -> None:  # noqa: PT028 - the command line says how many
    """Slow networks, octets one by one, resets behind some octet or other."""

    async def main() -> list[int]:
        async with serve(numbers, "mem://numbers", close_timeout=5):
            return await follow("mem://numbers")

    for seed in range(seeds):
        with simulate(seed, Faults(latency=(0, 0.5), chop=True, reset_at=(1, 2000), refuse=0.2)) as sim:
            assert sim.run(main()) == list(range(LAST)), f"seed {seed}"
        sim.check()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="default: %(default)s")
    arguments = parser.parse_args()
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            started = time.perf_counter()
            test(**({"seeds": arguments.seeds} if name == "test_seeds" else {}))
            print(f"{name}: {1000 * (time.perf_counter() - started):.0f} ms")
