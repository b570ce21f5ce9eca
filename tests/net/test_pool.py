"""The pools with real sockets: what a connection goes through, in both forms."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from websock.net.address import Address
from websock.net.asyncio.listener import listen
from websock.net.asyncio.pool import Pool as TaskPool
from websock.net.errors import AddressError, ClosedError
from websock.net.pool import Pool, PoolStats, quiet

from .pooled import ANYWHERE, Connection, Slow, World

HERE = "tcp://127.0.0.1:1"
THERE = "tcp://127.0.0.1:2"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Form:
    """One form of the pool behind one face: coroutines, which of the blocking form never wait."""

    def __init__(self, asynchronous: bool, world: World, **options: Any) -> None:
        self.asynchronous = asynchronous
        self.clock = Clock()
        connect: Any = world.connect_later if asynchronous else world.connect
        options = {"connect": connect, "clock": self.clock, **options}
        self.pool: Any = TaskPool(**options) if asynchronous else Pool(**options)

    @contextlib.asynccontextmanager
    async def connection(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        if self.asynchronous:
            async with self.pool.connection(*args, **options) as connection:
                yield connection
        else:
            with self.pool.connection(*args, **options) as connection:
                yield connection

    async def __aenter__(self) -> Form:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.call("close")

    async def call(self, name: str) -> None:
        result = getattr(self.pool, name)()
        if self.asynchronous:
            await result


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=["blocking", "asyncio"])
def form(request: pytest.FixtureRequest, world: World) -> Callable[..., Form]:
    return lambda **options: Form(request.param == "asyncio", world, **options)


Make = Callable[..., Form]


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_used_again(form: Make, world: World) -> None:
    async def main() -> None:
        async with form() as pool:
            async with pool.connection(HERE) as one:
                pass
            async with pool.connection(ANYWHERE, timeout=30) as two:
                assert two is one
                async with pool.connection(HERE) as three:
                    assert three is not one
            assert pool.pool.stats.idle == 2
        assert [one.how for one in world.all] == ["closed", "closed"]
        stats = pool.pool.stats
        assert (stats.opened, stats.reused, stats.idle, stats.out) == (2, 1, 0, 0)

    run(main())


def test_keys_keep_apart(form: Make, world: World) -> None:
    async def main() -> None:
        async with form() as pool:
            for key in ("alice", "bob", "alice", None, None):
                async with pool.connection(HERE, key=key) as one:
                    assert one.where == (Address.parse(HERE), key)
        assert len(world.all) == 3

    run(main())


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, TimeoutError, asyncio.CancelledError])
def test_an_exception_inside_ends_the_connection(form: Make, world: World, error: type[BaseException]) -> None:
    async def main() -> None:
        async with form() as pool:
            with pytest.raises(error):
                async with pool.connection(HERE):
                    raise error
            assert (world.all[0].how, pool.pool.stats.discarded) == ("aborted", 1)
            async with pool.connection(HERE) as one:
                assert one is not world.all[0]

    run(main())


def test_discard(form: Make, world: World) -> None:
    async def main() -> None:
        async with form() as pool:
            async with pool.connection(HERE) as one:
                pool.pool.discard(one)
                assert one.how == ""  # not before the end
            assert one.how == "aborted"
            with pytest.raises(ValueError, match="isn't in use"):
                pool.pool.discard(one)

    run(main())


def test_one_that_the_user_has_closed_does_not_come_back(form: Make, world: World) -> None:
    async def main() -> None:
        async with form() as pool:
            async with pool.connection(HERE) as one:
                one.abort()
            assert pool.pool.stats.idle == 0

    run(main())


@pytest.mark.parametrize(
    "happens",
    [lambda one: one.peer.close(), lambda one: one.peer.send(b"?"), lambda one: one.mine.shutdown(socket.SHUT_RD)],
    ids=["the peer's end", "data", "our end"],
)
def test_a_dead_one_is_not_used(form: Make, world: World, happens: Callable[[Connection], object]) -> None:
    async def main() -> None:
        async with form(size=1) as pool:
            async with pool.connection(HERE) as one:
                pass
            happens(one)
            async with pool.connection(HERE) as two:
                assert two is not one
            assert one.how == "aborted"
            assert pool.pool.stats.dead == 1

    run(main())


@pytest.mark.parametrize("answer", [False, OSError(), EOFError()])
def test_the_users_check(form: Make, world: World, answer: object) -> None:
    def check(connection: Connection) -> object:
        assert connection.fileno() >= 0
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> None:
        async with form(check=check) as pool:
            for _ in range(3):
                async with pool.connection(HERE):
                    pass
            assert pool.pool.stats.dead == 2
        assert len(world.all) == 3

    run(main())


def test_an_error_in_the_check_is_told(form: Make, world: World) -> None:
    def check(connection: Connection) -> bool:
        raise ZeroDivisionError

    async def main() -> None:
        async with form(check=check, size=1) as pool:
            async with pool.connection(HERE):
                pass
            with pytest.raises(ZeroDivisionError):
                async with pool.connection(HERE):
                    pass
            assert world.left() == []
            async with pool.connection(HERE):  # its place is free
                pass

    run(main())


def test_a_check_may_be_a_coroutine_function(world: World) -> None:
    async def check(connection: Slow) -> bool:
        await asyncio.sleep(0)
        return connection.uses < 2

    async def main() -> None:
        async with TaskPool(connect=world.connect_later, check=check) as pool:
            for _ in range(5):
                async with pool.connection(HERE) as one:
                    one.uses += 1
        assert len(world.all) == 3

    run(main())


def test_idle_and_age(form: Make, world: World) -> None:
    async def main() -> None:
        async with form(idle=10, age=15) as pool:
            async with pool.connection(HERE) as one:
                pass
            pool.clock.now += 9
            async with pool.connection(HERE) as two:
                assert two is one
                pool.clock.now += 7
            assert one.how == "closed"  # too old
            async with pool.connection(HERE) as three:
                pass
            pool.clock.now += 10
            await pool.call("expire")
            assert three.how == "closed"
            assert (pool.pool.stats.expired, pool.pool.stats.idle) == (2, 0)

    run(main())


def test_a_timer_closes_idle_ones(world: World) -> None:
    async def main() -> None:
        async with TaskPool(connect=world.connect_later, idle=0.01) as pool:
            for address in (HERE, THERE):
                async with pool.connection(address):
                    pass
            while pool.stats.idle or pool.stats.closing:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert pool.stats.expired == 2
        assert world.left() == []

    run(main())


@pytest.mark.parametrize(
    ("size", "total", "words"), [(2, 9, "2 of 2 to that address are out, 2 of 9 in all, and 1 waits")]
)
def test_no_connection_in_time(form: Make, world: World, size: int, total: int, words: str) -> None:
    async def main() -> None:
        async with form(size=size, total=total) as pool, pool.connection(HERE), pool.connection(HERE):
            with pytest.raises(TimeoutError) as failed:
                async with pool.connection(HERE, timeout=0.01):
                    pass
            assert str(failed.value).endswith(f"no connection to {HERE} within 0.01 s: {words}")
            assert pool.pool.stats.waiting == 0
        assert len(world.all) == 2

    run(main())


def test_a_connection_that_cannot_be_opened(form: Make, world: World) -> None:
    tried = []

    def connect(address: Address, **_: Any) -> Any:
        tried.append(address)
        raise ConnectionRefusedError(111, f"can't connect to {address}")

    async def main() -> None:
        async with form(connect=connect, size=1, total=1) as pool:
            for address in (HERE, HERE, THERE):
                with pytest.raises(ConnectionRefusedError, match=address):
                    async with pool.connection(address):
                        pass
            assert pool.pool.stats.opening == 0
        assert len(tried) == 3

    run(main())


def test_one_makes_room_for_another_address(form: Make, world: World) -> None:
    async def main() -> None:
        async with form(total=2) as pool:
            async with pool.connection(HERE), pool.connection(HERE):
                pass
            async with pool.connection(THERE):
                assert len(world.left()) == 2
        assert world.most_in_all == 2

    run(main())


def test_no_address(form: Make) -> None:
    async def main() -> None:
        async with form() as pool:
            with pytest.raises(AddressError):
                async with pool.connection("nowhere"):
                    pass

    run(main())


@pytest.mark.parametrize(
    ("wrong", "kind", "complaint"),
    [
        ({"timeout": "1"}, TypeError, "timeout is a number of seconds"),
        ({"timeout": -1}, ValueError, "timeout is a number of seconds"),
        ({"key": []}, TypeError, "key is hashable"),
    ],
)
def test_a_wrong_question_changes_nothing(
    form: Make, world: World, wrong: dict[str, Any], kind: type[Exception], complaint: str
) -> None:
    async def main() -> None:
        async with form(size=1, total=1) as pool:
            for _ in range(2):
                with pytest.raises(kind, match=complaint):
                    async with pool.connection(HERE, **wrong):
                        pass
            assert pool.pool.stats == PoolStats()
            async with pool.connection(HERE, timeout=30):
                pass

    run(main())


@pytest.mark.parametrize("name", ["connect", "check", "clock"])
def test_what_is_no_function(form: Make, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is a function, not True"):
        form(**{name: True})


def test_a_key_without_a_connector() -> None:
    """By default one connects as always: the key tells whose the connection is."""

    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0") as listener, TaskPool() as pool:
            where = listener.addresses[0]
            async with pool.connection(where, key="a") as one, pool.connection(where, key="b") as other:
                assert one is not other
            async with pool.connection(where, key="a") as again:
                assert again is one
            for _ in range(2):
                await (await listener.accept()).close()
            with Pool() as blocking, blocking.connection(where, key="a", timeout=5) as stream:
                assert stream.remote == where
            await (await listener.accept()).close()

    run(main())


def test_closed(form: Make, world: World) -> None:
    async def main() -> None:
        pool = form()
        async with pool.connection(HERE) as used:
            async with pool.connection(HERE) as idle:
                pass
            await pool.call("close")
            await pool.call("close")
            assert (used.how, idle.how) == ("", "closed")
            with pytest.raises(ClosedError, match="the pool is closed"):
                async with pool.connection(HERE):
                    pass
        assert used.how == "closed"

    run(main())


def test_who_waits_when_the_pool_is_closed(world: World) -> None:
    async def main() -> None:
        async with TaskPool(connect=world.connect_later, size=1) as pool, pool.connection(HERE):
            task = asyncio.create_task(pool.connection(HERE).__aenter__())
            await asyncio.sleep(0)
            await pool.close()
            with pytest.raises(ClosedError):
                await task

    run(main())


def test_a_place_of_a_cancelled_task_goes_to_the_next(world: World) -> None:
    """Cancelled in the very turn of the loop in which it was served."""

    async def use(pool: TaskPool[Slow]) -> None:
        async with pool.connection(HERE):
            await asyncio.sleep(0)

    async def main() -> None:
        async with TaskPool(connect=world.connect_later, size=1) as pool:
            async with pool.connection(HERE):
                first, second = (asyncio.create_task(use(pool)) for _ in range(2))
                await asyncio.sleep(0)
                assert pool.stats.waiting == 2
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await second
        assert len(world.all) == 1  # nothing was the matter with it

    run(main())


def test_threads(world: World) -> None:
    """Many threads, two addresses, few places: nobody shares, nobody starves, nothing is left."""
    busy: set[int] = set()
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(60):
                with pool.connection(HERE if (number + turn) % 3 else THERE, timeout=20) as one:
                    with world.lock:
                        assert id(one) not in busy
                        busy.add(id(one))
                    one.uses += 1
                    if (number * turn) % 11 == 5:
                        one.peer.close()
                    if (number * turn) % 7 == 3:
                        pool.discard(one)
                    with world.lock:
                        busy.discard(id(one))
        except BaseException as error:
            errors.append(error)

    with Pool(connect=world.connect, size=2, total=3) as pool:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = pool.stats
    assert errors == []
    assert world.left() == []
    assert max(world.most.values()) <= 2
    assert world.most_in_all <= 3
    assert sum(one.uses for one in world.all) == 12 * 60
    assert stats.opened + stats.reused == 12 * 60


def test_threads_are_served_in_order(world: World) -> None:
    order: list[int] = []

    def wait(number: int) -> None:
        with pool.connection(HERE):
            order.append(number)

    with Pool(connect=world.connect, size=1) as pool:
        threads = []
        with pool.connection(HERE):
            for number in range(5):
                threads.append(threading.Thread(target=wait, args=(number,)))
                threads[-1].start()
                while pool.stats.waiting <= number:
                    threading.Event().wait(0.001)
        for thread in threads:
            thread.join()
    assert order == list(range(5))


def test_a_closed_pool_wakes_threads(world: World) -> None:
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            with pool.connection(HERE):
                pass
        except ClosedError as error:
            failed.append(error)

    pool = Pool(connect=world.connect, size=1)
    with pool.connection(HERE):
        thread = threading.Thread(target=wait)
        thread.start()
        while not pool.stats.waiting:
            threading.Event().wait(0.001)
        pool.close()
        thread.join()
    assert len(failed) == 1


def test_quiet_asks_what_knows_better() -> None:
    class Ahead:
        answer = True

        def fileno(self) -> int:
            return 0

        def abort(self) -> None:
            pass

        def quiet(self) -> bool:
            return self.answer

    one = Ahead()
    assert quiet(one)
    one.answer = False
    assert not quiet(one)
