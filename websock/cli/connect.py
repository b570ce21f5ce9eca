"""``websock connect``: talk to a server, by hand or from a pipe.

Strategy: the event loop has the main thread, and with it the signals. A daemon thread reads the input, since that
blocks and cannot be interrupted everywhere; it waits until each line is taken, so a long input does not fill memory.
"""

from __future__ import annotations

import asyncio
import signal
import threading

from ..asyncio.client import ClientConnection, connect
from ..core.uri import URI
from ..exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake
from . import Exit, complain, explain, forget_output
from .terminal import Screen

__all__ = ["talk"]


def talk(opening: connect, uri: URI, *, wait: float, ping: float | None) -> Exit:
    """Connect, and talk until one side closes. `wait` and `ping` are the options of these names."""
    try:
        return asyncio.run(_talk(opening, uri, wait, ping))
    except KeyboardInterrupt:  # while connecting; later the signal is ours
        return Exit.INTERRUPTED


async def _talk(opening: connect, uri: URI, wait: float, ping: float | None) -> Exit:
    try:
        ws = await opening
    except (OSError, InvalidHandshake) as error:
        problem = explain(error)
        if not problem.startswith("can't "):
            problem = f"can't connect to {uri.unix_path or uri.host_header}: {problem}"
        complain("connect", problem)
        return Exit.FAILED
    screen = Screen()
    try:
        return await _Talk(ws, screen, wait).run(ping)
    finally:
        screen.stop()


class _Talk:
    def __init__(self, ws: ClientConnection, screen: Screen, wait: float) -> None:
        self._ws = ws
        self._screen = screen
        self._wait = 0.0 if screen.interactive else wait
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0  # when the last message came, or the input ended
        self._bad_input = ""
        self._input_ended = asyncio.Event()
        self._in_a_hurry = asyncio.Event()

    async def run(self, ping: float | None) -> Exit:
        ws, screen = self._ws, self._screen
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(self._interrupted))
        subprotocol = f" with subprotocol {ws.subprotocol}" if ws.subprotocol else ""
        screen.note(f"connected{subprotocol}{'; Ctrl-D closes' if screen.interactive else ''}")
        screen.start()
        threading.Thread(target=self._read_input, name="input", daemon=True).start()
        tasks = [asyncio.create_task(self._close_after_input())]
        if ping is not None:
            tasks.append(asyncio.create_task(self._ping(ping)))
        try:
            async for message in ws:
                self._heard = self._loop.time()
                screen.message(message)
        except ConnectionClosed:
            pass  # told below
        except OSError:  # nobody reads our output any more, as with ``| head -1``
            forget_output()
            await ws.close()
            return Exit.OK
        finally:
            for task in tasks:
                task.cancel()
        await ws.wait_closed()
        screen.note(f"closed: {ws.close_exc}")
        if self._bad_input:
            complain("connect", self._bad_input)
            return Exit.USAGE
        return Exit.OK if isinstance(ws.close_exc, ConnectionClosedOK) else Exit.ABNORMAL

    def _read_input(self) -> None:
        """The thread."""
        try:
            for line in self._screen.lines():
                sending = self._send(line)
                try:
                    asyncio.run_coroutine_threadsafe(sending, self._loop).result()
                except RuntimeError:  # the event loop is closed: the program ends
                    sending.close()
                    return
        except ConnectionClosed:
            return
        except ValueError as error:
            self._bad_input = "the input is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        try:
            self._loop.call_soon_threadsafe(self._no_more_input)
        except RuntimeError:
            pass  # the program ends

    async def _send(self, line: str) -> None:
        await self._ws.send(line)

    def _no_more_input(self) -> None:
        self._heard = self._loop.time()
        self._input_ended.set()

    def _interrupted(self) -> None:
        if self._in_a_hurry.is_set():
            self._ws.fail(1001, "interrupted")  # a second time: do not wait for the server's Close
        self._in_a_hurry.set()
        self._input_ended.set()

    async def _close_after_input(self) -> None:
        """Close once the input has ended and the answers had their time: nothing came for `wait` seconds."""
        await self._input_ended.wait()
        while not self._in_a_hurry.is_set() and (left := self._heard + self._wait - self._loop.time()) > 0:
            try:
                await asyncio.wait_for(self._in_a_hurry.wait(), left)
            except TimeoutError:
                pass  # something may have come in the meantime
        await self._ws.close()

    async def _ping(self, interval: float) -> None:
        try:
            while True:
                seconds = await (await self._ws.ping())
                self._screen.note(f"pong after {seconds * 1000:.1f} ms")
                if not interval:
                    return
                await asyncio.sleep(interval)
        except ConnectionClosed:
            pass
