"""Backplanes that go away: killed, restarted with and without what they knew, paused, replaced by a replica."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from websock.asyncio.client import unix_connect
from websock.exceptions import ConnectionClosed
from websock.pubsub import Hub
from websock.pubsub.backplane import BackplaneDown
from websock.pubsub.journal import Journal
from websock.pubsub.positions import ZERO, Position
from websock.pubsub.redis import Redis
from websock.pubsub.wire import PROTOCOL, frame, unframe
from websock.pubsub.workers import Workers

from ..programs import PATIENCE
from ..sockets import Logs
from .recorder import HISTORY, Recorder, record, until
from .servers import RedisServer, pause, redis_server
from .test_backplanes import broker_among, start, tell

if sys.platform == "win32":
    pytest.skip("no Unix sockets", allow_module_level=True)


StartRedis = Callable[..., RedisServer]


@pytest.fixture
def start_redis(short_path: str) -> Iterator[StartRedis]:
    """Starts one, with options, that is ended after the test."""
    with ExitStack() as stack:
        yield lambda *options, saved=False: stack.enter_context(redis_server(short_path, *options, saved=saved))


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(PATIENCE - 5):
            await main()

    asyncio.run(within())


# The broker between workers.


def test_another_process_takes_over_from_one_that_is_killed(short_path: str) -> None:
    with ExitStack() as stack:
        programs = [stack.enter_context(one) for one in start(f"workers:{short_path}/hub.sock", *"abcd")]
        origins = dict(zip(programs, "abcd", strict=True))
        assert [one.out() for one in programs] == ["ready"] * 4
        for left in (3, 2):
            killed = programs.pop(broker_among(programs))
            for program in programs:
                program.say("add 30")  # meanwhile
            os.kill(killed.process.pid, signal.SIGKILL)
            assert [one.out() for one in programs] == ["added"] * left
        for name in ("a.60", "b.60", "c.60", "d.60"):
            if name[0] in {origins[one] for one in programs}:
                assert tell(programs, f"has {name}") == ["has"] * 2
        # What the killed ones have added is there, too, and all have it in the same order.
        (names,) = {*tell(programs, "names")}
        assert len(json.loads(names)) >= 2 * 60
        broker_among(programs)


def test_a_broker_that_ends_in_good_order_hands_its_logs_over(short_path: str) -> None:
    path = f"{short_path}/hub.sock"

    async def main() -> None:
        a, b = Recorder(Workers(path)), Recorder(Workers(path))
        await a.start()
        await a.open("room")
        await a.add(record("a", 1, uid="x"), record("a", 2))
        opened = await a.backplane.open("room", HISTORY, ZERO)
        await b.start()
        await b.open("room")
        await a.backplane.close()
        await until(lambda: b.states == ["up", "the connection has ended", "up"], "another broker")
        assert await b.backplane.open("room", HISTORY, ZERO) == opened
        assert [one.repeated for one in await b.add(record("b", 1, uid="x"), record("a", 2))] == [True, True]
        await b.backplane.close()
        # Even to one that comes when nobody is left.
        assert stat.S_IMODE(os.stat(f"{path}.log").st_mode) == 0o600
        c = Recorder(Workers(path))
        await c.start()
        assert await c.backplane.open("room", HISTORY, ZERO) == opened
        await c.backplane.close()

    run(main)


def test_without_a_journal_hubs_add_what_they_know_before_others_ask(
    short_path: str, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's process is killed, and it could write nothing down."""
    path = f"{short_path}/hub.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)  # one was here
    os.mkdir(f"{path}.log.new")
    monkeypatch.setattr("websock.pubsub.broker.REBUILD", 1.0)
    lost = [record("a", n).lost(Position(1000, n), Position(1000, 9)) for n in (1, 2)]

    async def main() -> None:
        a, b = Recorder(Workers(path)), Recorder(Workers(path))
        for one in (a, b):
            await one.start()
        opening = [asyncio.create_task(b.backplane.open(topic, HISTORY, ZERO)) for topic in ("room", "other")]
        await a.backplane.open("room", HISTORY, Position(1000, 1))
        await a.backplane.add("room", lost, HISTORY, Position(1000, 9), Position(1000, 0))
        rebuilt = await opening[0]
        assert rebuilt.floor == Position(1000, 0)
        assert [one for _, one in rebuilt.entries] == lost
        assert (await opening[1]).entries == []  # nobody knew it
        for one in (a, b):
            await one.backplane.close()

    run(main)
    assert any("journal cannot be written" in one.getMessage() for one in logs.loud())


def test_a_log_that_cannot_be_read_is_left(short_path: str, logs: Logs) -> None:
    path = f"{short_path}/hub.sock"
    Path(f"{path}.log").write_bytes(b'["room"]\n\n')

    async def main() -> None:
        a = Recorder(Workers(path))
        await a.start()
        assert (await a.backplane.open("room", HISTORY, ZERO)).entries == []
        await a.backplane.close()

    run(main)
    assert any("is lost" in one.getMessage() for one in logs.loud())


def test_what_is_made_is_private(short_path: str) -> None:
    path = f"{short_path}/new/hub.sock"

    async def main() -> None:
        a = Recorder(Workers(path))
        await a.start()
        found = {
            name: stat.S_IMODE(os.stat(f"{short_path}/new/{name}").st_mode)
            for name in ("", *os.listdir(f"{short_path}/new"))
        }
        assert found == {"": 0o700, "hub.sock": 0o600, "hub.sock.lock": 0o600, "hub.sock.log": 0o600}
        await a.backplane.close()
        assert not os.path.exists(path)

    run(main)


def test_another_users_broker_is_told_nothing(short_path: str, monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    async def main() -> None:
        theirs = Recorder(Workers(f"{short_path}/hub.sock"))
        await theirs.start()
        ours = Recorder(Workers(f"{short_path}/hub.sock"))
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        await ours.backplane.start(ours)
        await until(lambda: ours.states, "an end of the search")
        assert "another user's server listens on" in ours.states[0]
        monkeypatch.undo()
        await until(lambda: ours.is_up, "the connection")
        await ours.backplane.close()
        await theirs.backplane.close()

    run(main)
    assert "WARNING" in [one.levelname for one in logs.loud()]


def test_another_users_journal_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(b"one\n\n")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(PermissionError, match="another user's"):
        Journal(str(tmp_path / "log")).read()


def test_the_file_of_a_dead_broker_is_replaced(short_path: str) -> None:
    path = f"{short_path}/hub.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)

    async def main() -> None:
        a = Recorder(Workers(path))
        await a.start()
        await a.backplane.close()

    run(main)


def test_a_place_that_cannot_be_used_is_down_and_says_why(short_path: str) -> None:
    Path(f"{short_path}/file").write_text("")

    async def main() -> None:
        a = Recorder(Workers(f"{short_path}/file/hub.sock"))
        await a.backplane.start(a)
        await until(lambda: a.states, "the reason")
        assert "Not a directory" in a.states[0] or "File exists" in a.states[0]
        with pytest.raises(BackplaneDown, match=r"workers.*away"):
            await a.backplane.cast("room", b"")
        await a.backplane.close()

    run(main)


@pytest.mark.parametrize("path", ["", "/tmp/" + "x" * 120])
def test_paths_that_no_socket_can_have(path: str) -> None:
    with pytest.raises(ValueError, match="1 to 103"):
        Workers(path)


def test_a_forked_child_keeps_nobody_from_taking_over(short_path: str) -> None:
    """It has copies of the lock, of the listening socket and of connections, unless it closes them."""
    path = f"{short_path}/hub.sock"

    async def main() -> None:
        a, b = Recorder(Workers(path)), Recorder(Workers(path))
        await a.start()
        await b.start()
        await b.open("room")
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)  # as long as the parent's end is open
            os._exit(0)
        os.close(read)
        try:
            await a.backplane.close()
            await until(lambda: b.states.count("up") == 2, "another broker")
            await b.add(record("b", 1))
        finally:
            os.close(write)
            os.waitpid(child, 0)
        await b.backplane.close()

    run(main)


def test_a_broker_that_hangs_is_down_until_it_goes_on(short_path: str) -> None:
    path = f"{short_path}/hub.sock"
    with ExitStack() as stack:
        (program,) = (stack.enter_context(one) for one in start(f"workers:{path}", "a"))
        assert program.out() == "ready"

        async def main() -> None:
            b = Recorder(Workers(path))
            b.backplane.TIMEOUT = 0.3  # type: ignore[attr-defined]
            await b.start()
            await b.open("room")
            pause(program.process.pid)
            try:
                with pytest.raises(BackplaneDown):
                    await b.backplane.add("room", [record("b", 1)], HISTORY, ZERO)
                await until(lambda: not b.is_up, "the end")
            finally:
                b.backplane.TIMEOUT = 5.0  # type: ignore[attr-defined]  # a busy machine is slow by itself
                os.kill(program.process.pid, signal.SIGCONT)
            await b.add(record("b", 1))
            await until(lambda: b.names() == ["b.1"], "the record")
            await b.backplane.close()

        run(main)
        assert tell([program], "wait 1") == ["came"]


def test_a_client_that_takes_nothing_is_left_behind(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.pubsub.broker.BACKLOG", 2**20)
    path = f"{short_path}/hub.sock"

    async def main() -> None:
        a = Recorder(Workers(path))
        await a.start()
        await a.open("room")
        async with unix_connect(path, subprotocols=[PROTOCOL], compression=None, max_size=None) as slow:
            await slow.send(frame(["open", 1, "room", [1, 1, 1], "0-0"]))
            assert unframe(await slow.recv())[0][0] == "opened"
            for n in range(1, 200):
                await a.add(record("a", n, data="x" * 50_000))
            await until(lambda: len(a.names()) == 199, "all for the others")
            with pytest.raises(ConnectionClosed) as caught:
                for _ in range(200):
                    await slow.recv()
            assert caught.value.rcvd is None or caught.value.rcvd.code == 1013  # it may have come too late for that
        assert a.states == ["up"]
        await a.backplane.close()

    run(main)


@pytest.mark.parametrize(
    "message", ["x", "[]", '["nonsense"]', '["open",1]', '["add",1,"room",[1,1,1],"0-0",null]\n{}', b"\0x"]
)
def test_a_client_that_says_nonsense_is_closed(short_path: str, message: str | bytes, logs: Logs) -> None:
    path = f"{short_path}/hub.sock"

    async def main() -> None:
        a = Recorder(Workers(path))
        await a.start()
        async with unix_connect(path, subprotocols=[PROTOCOL]) as other:
            await other.send(message)
            with pytest.raises(ConnectionClosed) as caught:
                await other.recv()
            assert caught.value.rcvd is None or caught.value.rcvd.code == 1011  # it may have come too late for that
        await a.open("room")
        await a.add(record("a", 1))
        await until(lambda: a.names() == ["a.1"], "the record")
        await a.backplane.close()

    run(main)
    logs.expected = 1


def test_a_broker_of_another_version_is_none(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{short_path}/hub.sock"

    async def main() -> None:
        a, b = Recorder(Workers(path)), Recorder(Workers(path))
        await a.start()
        monkeypatch.setattr("websock.pubsub.workers.PROTOCOL", "websock-broker-0")
        monkeypatch.setattr("websock.pubsub.workers.ELECTION", 0.1)
        await b.backplane.start(b)
        await until(lambda: b.states, "the refusal")
        assert "another version" in b.states[0]
        for one in (a, b):
            await one.backplane.close()

    run(main)


# Redis.


@pytest.mark.parametrize("saved", [True, False])
def test_redis_is_killed_and_comes_back(start_redis: StartRedis, saved: bool) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always") if saved else ()
    server = start_redis(*options, saved=saved)

    async def main() -> None:
        a, b = Recorder(Redis(server.url)), Recorder(Redis(server.url))
        for one in (a, b):
            await one.start()
            await one.open("room")
        await a.add(record("a", 1, uid="x"), record("a", 2))
        await until(lambda: len(b.names()) == 2, "the records")
        before = await a.backplane.open("room", HISTORY, ZERO)
        server.kill()
        await until(lambda: not a.is_up and not b.is_up, "its end")
        with pytest.raises(BackplaneDown, match=r"redis.*away"):
            await a.backplane.add("room", [record("a", 3)], HISTORY, ZERO)
        server.start()
        await until(lambda: a.is_up and b.is_up, "its return")
        (again, third) = await a.add(record("a", 2), record("a", 3))
        after = await a.backplane.open("room", HISTORY, ZERO)
        assert (after.made == before.made) == saved
        assert again.repeated == saved
        assert not third.repeated
        assert third.position > before.last
        await until(lambda: "a.3" in b.names(), "the new one")
        for one in (a, b):
            await one.backplane.close()

    run(main)


def test_who_knows_nothing_of_a_topic_waits_for_those_who_do(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("websock.pubsub.redis.REBUILD", 1.0)
    server = start_redis()
    lost = [record("a", n).lost(Position(1000, n), Position(1000, 9)) for n in (1, 2)]

    async def main() -> None:
        a, b = Recorder(Redis(server.url)), Recorder(Redis(server.url))
        for one in (a, b):
            await one.start()
        server.kill()
        await until(lambda: not a.is_up and not b.is_up, "its end")
        server.start()
        await until(lambda: a.is_up and b.is_up, "its return")
        opening = [asyncio.create_task(b.backplane.open(topic, HISTORY, ZERO)) for topic in ("room", "other")]
        await a.backplane.open("room", HISTORY, Position(1000, 1))
        await a.backplane.add("room", lost, HISTORY, Position(1000, 9), Position(1000, 0))
        rebuilt = await opening[0]
        assert rebuilt.floor == Position(1000, 0)
        assert [one for _, one in rebuilt.entries] == lost
        assert (await opening[1]).entries == []  # nobody knew it
        for one in (a, b):
            await one.backplane.close()

    run(main)


def test_redis_hangs_and_goes_on(start_redis: StartRedis) -> None:
    server = start_redis()

    async def main() -> None:
        backplane = Redis(server.url)
        a = Recorder(backplane)
        await a.start()
        await a.open("room")
        backplane._timeout = 0.3  # as long as it is paused: on a busy machine it is slow enough by itself
        server.pause()
        with pytest.raises(BackplaneDown, match="away"):
            await a.backplane.add("room", [record("a", 1)], HISTORY, ZERO)
        backplane._timeout = 5.0
        server.go_on()
        await until(lambda: a.is_up, "its return")
        # What it was told before the pause, it has done by now, perhaps.
        await a.add(record("a", 1))
        await a.add(record("a", 2))
        await until(lambda: a.names() == ["a.1", "a.2"], "the records")
        backplane._timeout = 0.3
        server.pause()
        await until(lambda: not a.is_up, "the silence to be noticed")  # though nobody asks for anything
        backplane._timeout = 5.0
        server.go_on()
        await until(lambda: a.is_up, "its return")
        await a.backplane.close()

    run(main)


def test_a_replica_is_no_backplane_until_it_is_promoted(start_redis: StartRedis) -> None:
    server = start_redis()

    async def main() -> None:
        a = Recorder(Redis(server.url))
        await a.start()
        await a.open("room")
        await a.add(record("a", 1))
        server.ask(b"REPLICAOF 127.0.0.1 1")
        with pytest.raises(BackplaneDown):
            await a.backplane.add("room", [record("a", 2)], HISTORY, ZERO)
        await until(lambda: "read only" in getattr(a.backplane, "why", ""), "the reason")
        server.ask(b"REPLICAOF NO ONE")
        await until(lambda: a.is_up, "its return")
        await a.add(record("a", 2))
        await until(lambda: a.names() == ["a.1", "a.2"], "the records")
        await a.backplane.close()

    run(main)


def test_scripts_that_redis_has_forgotten_are_sent_again(start_redis: StartRedis) -> None:
    server = start_redis()

    async def main() -> None:
        a = Recorder(Redis(server.url))
        await a.start()
        await a.open("room")
        for n in (1, 2, 3):
            server.ask(b"SCRIPT FLUSH")
            await a.backplane.add("room", [record("a", n)], HISTORY, ZERO)
        server.ask(b"SCRIPT FLUSH")
        assert len((await a.backplane.open("room", HISTORY, ZERO)).entries) == 3
        assert a.states == ["up"]
        await a.backplane.close()

    run(main)


def test_nothing_stays_in_redis_for_ever(start_redis: StartRedis) -> None:
    server = start_redis()

    async def main() -> None:
        a = Recorder(Redis(server.url))
        await a.start()
        for topic in ("room", "other"):
            await a.open(topic)
        await a.add(record("a", 1, uid="x"))
        await a.backplane.close()

    run(main)
    keys = [line for line in server.ask(b"KEYS *").decode().split("\r\n") if ":" in line]
    assert {key.split(":")[2] for key in keys} == {"about", "alive", "log", "uid"}
    assert len(keys) == 5
    for key in keys:
        assert key.startswith("test:0:")
        left = int(server.ask(f"PTTL {key}".encode())[1:])
        assert 0 < left <= 4_800_000


def test_a_key_of_somebody_else_hurts_one_topic_only(start_redis: StartRedis) -> None:
    server = start_redis()

    async def main() -> None:
        a = Recorder(Redis(server.url))
        await a.start()
        server.ask(b"SET test:0:about:bad 1")
        await a.open("room")
        with pytest.raises(BackplaneDown, match="WRONGTYPE"):
            await a.backplane.open("bad", HISTORY, ZERO)
        await a.add(record("a", 1))
        assert a.states == ["up"]
        await a.backplane.close()

    run(main)


@pytest.mark.parametrize("key", [b"test:0:log:room", b"test:0:uid:4:room:u"])
def test_a_message_that_somebody_elses_key_has_stopped_is_not_lost(
    start_redis: StartRedis, key: bytes, logs: Logs
) -> None:
    server = start_redis()

    async def main() -> None:
        async with Hub(server.url) as hub:
            await (await hub.publish("room", 1)).settled()
            server.ask(b"DEL " + key)
            server.ask(b"SADD %b theirs" % key)
            receipt = await hub.publish("room", 2, uid="u")
            assert not receipt.spread
            await until(lambda: logs.loud()[-1:] and "'room' is not spread" in logs.loud()[-1].getMessage(), "the log")
            await until(lambda: len([one for one in logs.records if "'room' is not" in one.getMessage()]) > 3, "more")
            assert len([one for one in logs.loud() if "'room' is not" in one.getMessage()]) == 1
            server.ask(b"DEL " + key)
            assert (await asyncio.wait_for(receipt.settled(), PATIENCE)).id is not None
            assert b"room" in server.ask(b"XREVRANGE test:0:log:room + - COUNT 1")

    asyncio.run(main())


def test_a_password_is_told_to_nobody(start_redis: StartRedis, logs: Logs) -> None:
    server = start_redis("--requirepass", "s3cret")

    async def main() -> None:
        wrong = Recorder(Redis(f"unix://ann:guess-s3cret@{server.path}?prefix=test"))
        await wrong.backplane.start(wrong)
        await until(lambda: wrong.states, "the refusal")
        assert not wrong.is_up
        assert "s3cret" not in repr(wrong.backplane) + str(wrong.states)
        await wrong.backplane.close()
        right = Recorder(Redis(f"unix://:s3cret@{server.path}?prefix=test"))
        await right.start()
        await right.backplane.close()
        assert "s3cret" not in repr(right.backplane)

    run(main)
    assert not any("s3cret" in one.getMessage() for one in logs.records)
    for url in ("redis://ann:s3cret@host:99999999", "redis://:s3cret@host/0?nonsense=1", "http://s3cret", "s3cret"):
        with pytest.raises(ValueError, match="URL of Redis") as caught:
            Redis(url)
        assert "s3cret" not in str(caught.value)


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ImportError, match=r"pip install websock\[redis\]"):
        Redis("redis://localhost")


def test_a_client_of_ones_own(start_redis: StartRedis) -> None:
    import redis.asyncio

    server = start_redis()

    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=server.path) as client:
            a, b = Recorder(Redis(client=client, prefix="test")), Recorder(Redis(server.url))
            for one in (a, b):
                await one.start()
                await one.open("room")
            await a.add(record("a", 1))
            await until(lambda: b.names() == ["a.1"] == a.names(), "the record")
            # It connects again by itself, which is noticed all the same.
            server.ask(b"CLIENT KILL TYPE pubsub")
            await until(lambda: a.states.count("up") == 2 == b.states.count("up"), "the return")
            await b.add(record("b", 1))
            await until(lambda: a.names() == ["a.1", "b.1"], "the record")
            for one in (a, b):
                await one.backplane.close()
            assert await client.ping()

    run(main)
    with pytest.raises(ValueError, match="decode_responses"):
        Redis(client=redis.asyncio.Redis(decode_responses=True))
    with pytest.raises(ValueError, match="either"):
        Redis()
