"""Several hosts: network namespaces on one wire, made for a test and removed after it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

__all__ = ["Host", "hosts"]

_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")
_number = itertools.count()


class Host:
    """One of them: it has the interface eth0, with the addresses `four` and `six`."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.four = f"10.99.0.{number}"
        self.six = f"fd99::{number}"

    def run(self, function: Callable[..., _T], *args: Any, **options: Any) -> _T:
        """Call a function on this host. A socket that is made there stays there, whoever uses it."""
        done: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def inside() -> None:
            try:
                with open(f"/run/netns/{self.name}") as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                done.set_result(function(*args, **options))
            except BaseException as error:
                done.set_exception(error)

        thread = threading.Thread(target=inside)  # which ends there, too
        thread.start()
        thread.join()
        return done.result()


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip") or "", *arguments], check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts on one wire. The test is skipped where they can't be made."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip, of iproute2")
    made: list[str] = []
    prefix = f"ws{os.getpid()}-{next(_number)}"
    try:
        try:
            for name in (prefix, *(f"{prefix}-{number}" for number in range(1, count + 1))):
                _ip("netns", "add", name)
                made.append(name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces can't be made: {error.stderr.decode().strip()}")
        wire, *names = made
        found = [Host(name, number) for number, name in enumerate(names, 1)]
        _ip("-n", wire, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", wire, "link", "set", "br0", "up")
        for number, host in enumerate(found, 1):
            port = f"port{number}"
            _ip("-n", wire, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _ip("-n", wire, "link", "set", port, "master", "br0", "up")
            _ip("-n", host.name, "address", "add", f"{host.four}/24", "broadcast", "+", "dev", "eth0")
            _ip("-n", host.name, "address", "add", f"{host.six}/64", "dev", "eth0", "nodad")
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        yield found
    finally:
        for name in reversed(made):
            _ip("netns", "delete", name)
