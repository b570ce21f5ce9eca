"""Imports go one way, down: spec, exceptions, typing < core < net, adapters < the front door (DESIGN.md section 1).

Every import statement counts: those inside functions, and those under ``if TYPE_CHECKING`` too. The latter never run,
so they make no cycle, but who reads them reads what the file depends on.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "websock"

# Room by room, the rooms that it may import from. What is not here is not in the plan of the house.
BOTTOM = {"spec", "typing", "exceptions", "version", "datastructures", "frames", "http11", "accelerated", "lazy"}
MAY_IMPORT = {
    "accelerated": {"_native"},
    "lazy": set[str](),
    "spec": set[str](),
    "version": set[str](),
    "typing": set[str](),
    "datastructures": {"typing"},
    "frames": {"spec"},
    "http11": {"datastructures", "typing"},
    "exceptions": BOTTOM - {"exceptions", "version", "accelerated", "lazy"},
    "_native": BOTTOM - {"accelerated", "lazy"},
    "core": BOTTOM | {"_native"},
    "net": {"accelerated", "lazy", "typing", "_native"},
    "sync": BOTTOM | {"core", "net"},
    "asyncio": BOTTOM | {"_native", "core", "net"},
    "serving": BOTTOM | {"core", "net", "sync", "asyncio"},
    "metrics": BOTTOM | {"core", "net", "asyncio"},
    "pubsub": BOTTOM | {"core", "net", "sync", "asyncio"},
    "testing": BOTTOM | {"core", "net", "sync", "asyncio"},
    "__init__": BOTTOM | {"core", "net", "sync", "asyncio", "serving"},
    "cli": BOTTOM | {"core", "net", "sync", "asyncio", "serving", "metrics", "__init__"},
    "__main__": BOTTOM | {"core", "net", "sync", "asyncio", "serving", "metrics", "__init__", "cli"},
}
STRANGERS = [{"core", "net"}, {"sync", "asyncio"}]

# DESIGN.md principle 1. Nothing in the core waits, reads a clock or does I/O.
NOT_IN_CORE = {"socket", "ssl", "asyncio", "threading", "selectors", "time", "select", "signal", "subprocess"}
NOT_IN_CORE |= {
    "multiprocessing",
    "concurrent",
    "queue",
    "sched",
    "socketserver",
    "http.client",
    "urllib.request",
    "_thread",
}

THIRD_PARTY = {"h11"}
FIXTURES = "testing/fixtures.py"  # a plugin of pytest, which loads it
# What extras bring, and where: nothing else imports those files before somebody asks for them.
EXTRAS = {("pytest", FIXTURES), ("prometheus_client", "metrics/prometheus.py"), ("redis", "pubsub/redis_client.py")}
MOST_LINES = 800


@dataclasses.dataclass(frozen=True)
class Import:
    file: str  # relative to the package
    line: int
    target: str  # dotted; of our own package it begins with "websock"
    types_only: bool


def is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    file = path.relative_to(root).as_posix()
    package = ["websock", *path.relative_to(root).parent.parts]

    def walk(node: ast.AST, types_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, types_only)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from . import codec` names a module, `from .codec import encode` a name in one.
                below = root.joinpath(*module.split(".")[1:], alias.name) if module.split(".")[0] == "websock" else None
                submodule = below is not None and (below.with_suffix(".py").exists() or below.is_dir())
                yield Import(file, node.lineno, f"{module}.{alias.name}" if submodule else module, types_only)
        elif isinstance(node, ast.If) and is_type_checking(node.test):
            for statement in node.body:
                yield from walk(statement, True)
            for statement in node.orelse:
                yield from walk(statement, types_only)
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, types_only)

    yield from walk(ast.parse(path.read_text("utf-8")), False)


def room_of_file(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def room_of_target(target: str) -> str:
    parts = target.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def files(root: Path = ROOT) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


def all_imports(root: Path = ROOT) -> list[Import]:
    return [one for path in files(root) for one in imports_of(path, root)]


def violations(root: Path = ROOT) -> list[str]:
    """Everything that is not as the plan says, in words."""
    found = []
    for path in files(root):
        room = room_of_file(path.relative_to(root).as_posix())
        if room not in MAY_IMPORT:
            found.append(f"{path.relative_to(root)}: {room} is not in the plan")
        lines = len(path.read_text("utf-8").splitlines())
        if lines > MOST_LINES:
            found.append(f"{path.relative_to(root)}: {lines} lines")
    edges: dict[str, set[str]] = {}
    for one in all_imports(root):
        where = f"{one.file}:{one.line}: imports {one.target}"
        room, top = room_of_file(one.file), one.target.split(".")[0]
        if top == "websock":
            target = room_of_target(one.target)
            if target == room and not (room == "__init__" and one.target == "websock"):
                pass
            elif any({room, target} == pair for pair in STRANGERS):
                found.append(f"{where}: {room} and {target} do not know each other")
            elif target not in MAY_IMPORT.get(room, set()):
                found.append(f"{where}: upwards")
            if not one.types_only:
                edges.setdefault(module_of(one.file), set()).add(existing(one.target, root))
        elif top not in sys.stdlib_module_names and top not in THIRD_PARTY and (top, one.file) not in EXTRAS:
            found.append(f"{where}: not in the standard library")
        forbidden = any(one.target == bad or one.target.startswith(bad + ".") for bad in NOT_IN_CORE)
        if room == "core" and forbidden:
            found.append(f"{where}: not in the core")
    return found + [f"a cycle: {' > '.join(cycle)}" for cycle in cycles(edges)]


def module_of(file: str) -> str:
    parts = ["websock", *file.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def existing(target: str, root: Path) -> str:
    """The module or package that a target names, or that holds the name."""
    parts = target.split(".")
    while len(parts) > 1:
        path = root.joinpath(*parts[1:])
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            break
        parts.pop()
    return ".".join(parts)


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


def test_the_house_is_as_planned() -> None:
    assert violations() == []


def test_there_is_something_to_read() -> None:
    read = [path.relative_to(ROOT).as_posix() for path in files()]
    assert {"spec.py", "exceptions.py", "core/protocol.py", "core/codec.py"} <= set(read)
    assert len(all_imports()) > 50


def test_the_core_imports_without_the_rest() -> None:
    """What the statements say is what happens: a fresh interpreter loads the core and nothing that does I/O for it."""
    import subprocess

    code = (
        "import sys; before = set(sys.modules); import websock.core.handshake, websock.core.protocol; "
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith('websock')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.split()
    assert "websock.core.protocol" in loaded
    assert not [name for name in loaded if name.split(".")[1:2] in (["sync"], ["asyncio"], ["net"], ["serving"])]


# The reader itself: each fault, put into a small house, is found.


@pytest.mark.parametrize(
    ("file", "code", "word"),
    [
        ("core/codec.py", "import socket", "not in the core"),
        ("core/codec.py", "def f():\n    import time", "not in the core"),
        ("core/codec.py", "from time import monotonic", "not in the core"),
        ("core/codec.py", "import asyncio.events", "not in the core"),
        ("core/codec.py", "import ssl", "not in the core"),
        ("core/codec.py", "from ..net import sockets", "do not know each other"),
        ("core/codec.py", "import websock.net.sockets", "do not know each other"),
        (
            "core/codec.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..net import sockets",
            "do not know",
        ),
        ("net/sockets.py", "from ..core.codec import encode", "do not know each other"),
        ("sync/client.py", "from ..asyncio import client", "do not know each other"),
        ("asyncio/client.py", "from websock.sync.client import connect", "do not know each other"),
        ("core/codec.py", "from ..sync.client import connect", "upwards"),
        ("core/codec.py", "import websock", "upwards"),
        ("core/codec.py", "from .. import sync", "upwards"),
        ("spec.py", "from .exceptions import X", "upwards"),
        ("exceptions.py", "from .core.codec import encode", "upwards"),
        ("core/codec.py", "from .protocol import P", "a cycle"),
        ("core/codec.py", "def f():\n    from . import protocol", "a cycle"),
        ("core/codec.py", "import wsproto", "standard library"),
        ("core/codec.py", "try:\n    import numpy\nexcept ImportError: pass", "standard library"),
        ("core/codec.py", "\n" * 801, "801 lines"),
        ("other.py", "", "not in the plan"),
        ("tools/x.py", "", "not in the plan"),
    ],
)
def test_the_reader_finds(tmp_path: Path, file: str, code: str, word: str) -> None:
    house = {
        "__init__.py": "from .core import codec\nfrom typing import TYPE_CHECKING",
        "spec.py": "", "exceptions.py": "from .spec import X", "core/__init__.py": "", "core/codec.py": "",
        "core/protocol.py": "import h11\nfrom .codec import encode\nfrom ..exceptions import Y",
        "net/__init__.py": "", "net/sockets.py": "import socket\nimport ssl",
        "sync/__init__.py": "from .client import connect", "sync/client.py": "from ..core.codec import z\nimport time",
        "asyncio/__init__.py": "", "asyncio/client.py": "import asyncio\nfrom ..net.sockets import z",
    }  # fmt: skip
    for name, text in house.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert violations(tmp_path) == []
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(house.get(file, "") + "\n" * bool(house.get(file)) + code)
    assert any(word in one for one in violations(tmp_path)), violations(tmp_path)


def test_types_point_down_too_and_make_no_cycle(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "codec.py").write_text("from ..exceptions import X")
    guard = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
    (tmp_path / "exceptions.py").write_text(guard + "from .core.codec import Decoder\n")
    assert any("upwards" in one for one in violations(tmp_path))
    (tmp_path / "exceptions.py").write_text("")
    (tmp_path / "core" / "protocol.py").write_text("from .codec import encode")
    (tmp_path / "core" / "codec.py").write_text(guard + "from .protocol import Protocol\n")
    assert violations(tmp_path) == []
    (tmp_path / "core" / "codec.py").write_text(guard + "pass\nelse:\n    from .protocol import Protocol\n")
    assert any("a cycle" in one for one in violations(tmp_path))


def test_every_package_is_installed() -> None:
    """The list in pyproject.toml, which an editable installation does not look at."""
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = {path.parent.relative_to(ROOT.parent).as_posix().replace("/", ".") for path in ROOT.rglob("__init__.py")}
    assert set(settings["packages"]) == found
    sources = {source for module in settings["ext-modules"] for source in (*module["sources"], *module["depends"])}
    assert sources == {path.relative_to(ROOT.parent).as_posix() for path in ROOT.glob("_native/*.[ch]")}
