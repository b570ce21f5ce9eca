"""Finding the suite, or making it, on machines that are made up."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import suite as module
from processes import Problem
from suite import IMAGE, VERSION, Suite, find_or_make


class Machine:
    """Answers the commands that are run on it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = root / "home"
        self.python = str(self.home / "python2.7" / "bin" / "python")
        self.pyenv = root / "pyenv"
        self.on_path: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        """What the Pythons that work say of themselves."""
        self.installed: str | None = None
        """The version of the suite that its environment has, if that works."""
        self.docker = False
        self.commands: list[Sequence[str]] = []
        self.said: list[str] = []
        monkeypatch.setattr(module, "HOME", self.home)
        monkeypatch.setattr(module, "output_of", self.output_of)
        monkeypatch.setattr(shutil, "which", self.on_path.get)
        monkeypatch.setenv("PYENV_ROOT", str(self.pyenv))

    def made_to_its_end(self) -> None:
        """Leave what tells that the environment was once made to its end."""
        (self.home / "python2.7").mkdir(parents=True)
        (self.home / "python2.7" / "complete").touch()

    def add_to_pyenv(self, version: str) -> str:
        """Make a Python 2.7 of pyenv; return its path."""
        path = self.pyenv / "versions" / version / "bin" / "python2.7"
        path.parent.mkdir(parents=True)
        path.touch()
        self.versions[str(path)] = version
        return str(path)

    async def output_of(self, command: Sequence[str], *, limit: float, cwd: Path | None = None) -> str:
        """Do what the runner's own does, in memory."""
        self.commands.append(command)
        match list(command):
            case ["docker", "info"] if self.docker:
                return "Server Version: 1"
            case ["docker", "run", *_] if self.docker:
                return self.listed(VERSION)
            case [self.python, "-u", *_] if self.installed:
                return self.listed(self.installed)
            case [self.python, "-m", "pip", "install", requirement]:
                Path(self.python).parent.mkdir(parents=True)
                self.installed = requirement.removeprefix("autobahntestsuite==")
                return ""
            case [_, "-m", "venv" | "pip" | "virtualenv", *_]:
                return ""
            case [python, "-c", _] if python in self.versions:
                return f"{self.versions[python]} (default)"
        raise Problem(f"no such thing here: {command}")

    def listed(self, version: str) -> str:
        """Return what the suite says of itself, below a warning."""
        cases = {"10.1.1": "ten", "9.1.1": "nine"}
        return f"a warning\n{json.dumps({'version': version, 'cases': cases})}\n"

    def find_or_make(self) -> Suite:
        """Do that, for reports in /reports."""
        return asyncio.run(find_or_make(Path("/reports"), self.said.append))

    def making(self) -> list[list[str]]:
        """Return the modules and arguments of those commands that make something."""
        return [[*command[2:]] for command in self.commands if command[1] == "-m"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has nothing at all."""
    return Machine(tmp_path, monkeypatch)


def test_complete_environment_is_reused(machine: Machine) -> None:
    machine.installed = VERSION
    machine.made_to_its_end()
    suite = machine.find_or_make()
    assert suite.name == "autobahntestsuite==25.10.1 on Python 2.7"
    assert suite.python[0] == machine.python
    assert list(suite.cases.items()) == [("9.1.1", "nine"), ("10.1.1", "ten")]  # in order
    assert len(machine.commands) == 1
    assert machine.said == []


@pytest.mark.parametrize(
    ("complete", "installed"),
    [
        pytest.param(True, None, id="damaged"),
        pytest.param(True, "0.8.2", id="old"),
        pytest.param(False, VERSION, id="half made"),
        pytest.param(False, None, id="missing"),
    ],
)
def test_environment_is_made(machine: Machine, complete: bool, installed: str | None) -> None:
    python = machine.add_to_pyenv("2.7.18")
    machine.installed = installed
    if complete:
        machine.made_to_its_end()
    left_over = machine.home / "python2.7" / "left over"
    left_over.mkdir(parents=True)
    suite = machine.find_or_make()
    assert suite.python[0] == machine.python
    assert machine.making() == [
        ["venv", str(machine.home / "virtualenv")],
        ["pip", "install", "virtualenv==20.15.1"],
        ["virtualenv", "--python", python, str(machine.home / "python2.7")],
        ["pip", "install", "autobahntestsuite==25.10.1"],
    ]
    assert not left_over.exists()
    assert len(machine.said) == 1
    machine.commands.clear()
    assert machine.find_or_make() == suite
    assert machine.making() == []  # once is enough


def test_failure_of_pip_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add_to_pyenv("2.7.18")
    answer = machine.output_of

    async def without_index(command: Sequence[str], *, limit: float, cwd: Path | None = None) -> str:
        if command[-1] == "autobahntestsuite==25.10.1":
            machine.installed = VERSION  # all but the last bit
            raise Problem("pip: no such package")
        return await answer(command, limit=limit, cwd=cwd)

    monkeypatch.setattr(module, "output_of", without_index)
    for _ in range(2):  # what it leaves is not taken for an environment
        with pytest.raises(Problem, match="pip: no such package"):
            machine.find_or_make()


def test_python_on_path_comes_first(machine: Machine) -> None:
    machine.add_to_pyenv("2.7.18")
    machine.on_path["python2.7"] = "/usr/bin/python2.7"
    machine.versions["/usr/bin/python2.7"] = "2.7.17"
    machine.find_or_make()
    assert machine.making()[2][2] == "/usr/bin/python2.7"


def test_python_that_does_not_work_is_passed_over(machine: Machine) -> None:
    python = machine.add_to_pyenv("2.7.18")
    machine.on_path["python2.7"] = "/pyenv/shims/python2.7"  # a shim of a version that is not active fails
    machine.on_path["python2"] = "/usr/bin/python2"
    machine.versions["/usr/bin/python2"] = "2.6.9"
    machine.find_or_make()
    assert machine.making()[2][2] == python


def test_docker(machine: Machine) -> None:
    machine.docker = True
    suite = machine.find_or_make()
    assert suite.name == f"the container image {IMAGE}"
    command = suite.wstest("--mode", "fuzzingclient")
    assert command[:2] == ("docker", "run")
    assert command[command.index("--volume") + 1] == "/reports:/reports"
    assert command[-2:] == ("--mode", "fuzzingclient")


def test_nothing_to_be_had(machine: Machine) -> None:
    with pytest.raises(Problem) as caught:
        machine.find_or_make()
    assert "pyenv install 2.7.18" in str(caught.value)
    assert f"start a Docker engine, for the image {IMAGE}" in str(caught.value)
