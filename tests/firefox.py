"""Debian's Firefox for tests of pages, driven by WebDriver BiDi over a WebSocket of our own."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from websock.sync.client import connect

from .programs import PATIENCE

__all__ = ["ENTER", "Firefox", "Tab", "firefox"]

FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
ENTER = "\ue007"  # as WebDriver writes the key
PREFERENCES = {
    # It asks nobody but this machine: all else goes to a proxy that is not there.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}


class Firefox:
    """The browser, without a window.

    Args:
        profile: an empty folder, for this one alone.
    """

    def __init__(self, profile: Path) -> None:
        assert FIREFOX is not None
        settings = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
        (profile / "user.js").write_text("\n".join(settings))
        command = [FIREFOX, "--headless", "--profile", str(profile), "--remote-debugging-port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._numbers = itertools.count(1)
        try:
            told = profile / "WebDriverBiDiServer.json"
            deadline = time.monotonic() + 2 * PATIENCE
            while not (told.exists() and (text := told.read_text())):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("Firefox does not start")
                time.sleep(0.05)
            port = json.loads(text)["ws_port"]
            self._websocket = connect(f"ws://127.0.0.1:{port}/session", max_size=2**26, ping_interval=None)
        except BaseException:
            self._end()
            raise
        self.ask("session.new", capabilities={})

    def ask(self, method: str, **parameters: Any) -> Any:
        """A command of WebDriver BiDi, and its result."""
        number = next(self._numbers)
        self._websocket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._websocket.recv(timeout=2 * PATIENCE))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def tab(self, width: int = 1200, height: int = 800) -> Tab:
        """A new one, which shares no storage with another."""
        return Tab(self, width, height)

    def close(self) -> None:
        try:
            with contextlib.suppress(AssertionError):
                self.ask("browser.close")
            self._websocket.close()
            self._process.wait(PATIENCE)
        finally:
            self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


class Tab:
    """A page."""

    def __init__(self, firefox: Firefox, width: int, height: int) -> None:
        self._firefox = firefox
        self._user = firefox.ask("browser.createUserContext")["userContext"]
        self._context = firefox.ask("browsingContext.create", type="tab", userContext=self._user)["context"]
        self._ask("browsingContext.setViewport", viewport={"width": width, "height": height})

    def _ask(self, method: str, **parameters: Any) -> Any:
        return self._firefox.ask(method, context=self._context, **parameters)

    def goto(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._ask("browsingContext.navigate", url=url, wait="complete")

    def reload(self) -> None:
        self._ask("browsingContext.reload", wait="complete")

    def evaluate(self, function: str, argument: object = None) -> Any:
        """What a function of JavaScript gives, or the promise that it gives; both ways as JSON."""
        expression = f"(async () => JSON.stringify(await ({function})({json.dumps(argument)})) ?? 'null')()"
        answer = self._firefox.ask(
            "script.evaluate", expression=expression, target={"context": self._context}, awaitPromise=True
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def until(self, function: str, argument: object = None) -> Any:
        """Wait until it gives something that is true."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.evaluate(function, argument)):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {PATIENCE} s: {function}; the page: {self.evaluate(SHOWN)}")
            time.sleep(0.02)
        return found

    def type(self, *keys: str) -> None:
        """Press keys, for whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in itertools.chain(*keys) for kind in ("keyDown", "keyUp")]
        self._ask("input.performActions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def close(self) -> None:
        self._ask("browsingContext.close")
        self._firefox.ask("browser.removeUserContext", userContext=self._user)


SHOWN = "() => document.body.innerText"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Skipped where it is not installed."""
    if FIREFOX is None:
        pytest.skip("not installed: Firefox")
    browser = Firefox(tmp_path_factory.mktemp("firefox"))
    yield browser
    browser.close()
