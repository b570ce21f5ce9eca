"""Find or make the real Autobahn test suite, which needs Python 2.7.

The environment lives in the git-ignored folder `.autobahn/` at the top of the repository. Where there is no
Python 2.7, the container image of the suite does the same, if a Docker engine runs.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from processes import Problem, output_of

HOME = Path(__file__).resolve().parent.parent / ".autobahn"

VERSION = "25.10.1"
REQUIREMENT = f"autobahntestsuite=={VERSION}"
IMAGE = f"crossbario/autobahn-testsuite:{VERSION}"

# The last releases of virtualenv make no more environments for Python 2.7; this one does.
VIRTUALENV = "virtualenv==20.15.1"

_LOOK = 60.0
"""Seconds for a command that only looks."""

_FETCH = 600.0
"""Seconds for a command that may have to download something."""

# Python 2, for the suite's own interpreter. The descriptions are HTML.
_LIST_CASES = r"""
import json, re, autobahntestsuite
from autobahntestsuite import case
def name(cls):
    return cls.__name__[len(case.CaseBasename):].replace("_", ".")
def first_line(html):
    return re.sub("<[^>]*>", "", re.split("<br|\n", html.strip())[0])
cases = dict((name(cls), first_line(cls.DESCRIPTION)) for cls in case.Cases)
print(json.dumps({"version": autobahntestsuite.version, "cases": cases}))
"""

# The fuzzing server would listen on every address of the machine.
_WSTEST = """
import functools
from autobahntestsuite import wstest, fuzzing
fuzzing.listenWS = functools.partial(fuzzing.listenWS, interface="127.0.0.1")
wstest.run()
"""

_MISSING = f"""\
The Autobahn test suite is missing, and cannot be made here: it needs Python 2.7 or Docker. Do one of these:
  - install Python 2.7 so that `python2.7` is on PATH, or with pyenv: pyenv install 2.7.18
  - start a Docker engine, for the image {IMAGE}"""


@dataclass(frozen=True)
class Suite:
    """A suite that works."""

    name: str
    python: tuple[str, ...]
    """The command that starts the suite's Python 2.7."""
    cases: Mapping[str, str]
    """The first line of each case's description, in the order of the case numbers."""

    def wstest(self, *arguments: str) -> tuple[str, ...]:
        """Return the command that starts `wstest` with these arguments."""
        return (*self.python, "-c", _WSTEST, *arguments)


async def find_or_make(reports: Path, say: Callable[[str], None]) -> Suite:
    """Return the suite, which will write below `reports`; `Problem` with what to install for it."""
    HOME.mkdir(exist_ok=True)
    environment = HOME / "python2.7"
    python = str(environment / "bin" / "python")
    complete = environment / "complete"
    name = f"{REQUIREMENT} on Python 2.7"
    if complete.exists():
        with suppress(Problem):  # damaged, or of another version
            return await _load(name, python)
    if python27 := await _python27():
        say(f"Making the environment of {name} in {HOME} (once)")
        await _make(environment, python, python27)
        complete.touch()
        return await _load(name, python)
    if await _docker_runs():
        say(f"No Python 2.7 here; using the container image {IMAGE}")
        # The same paths and the same network (so Linux) inside and outside; --init makes it end when told to.
        # This has been run with a made-up `docker` only.
        return await _load(
            f"the container image {IMAGE}",
            *("docker", "run", "--rm", "--init", "--network", "host"),
            *("--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{reports}:{reports}", IMAGE, "pypy"),
        )
    raise Problem(_MISSING)


async def _load(name: str, *python: str) -> Suite:
    """Return the suite that `python` has; `Problem` if it does not have all of the right one."""
    # Unbuffered, or progress comes in blocks; and what PYTHONPATH has for Python 3 is not for Python 2.
    python = (*python, "-u", "-E", "-s")
    # In HOME, because Python looks for modules first where it is started.
    printed = await output_of((*python, "-c", _LIST_CASES), limit=_FETCH, cwd=HOME)
    found = json.loads(printed.splitlines()[-1])  # above it may stand warnings
    if found["version"] != VERSION:
        raise Problem(f"{name} turned out to be {found['version']}")
    return Suite(name, python, dict(sorted(found["cases"].items(), key=lambda case: numbers(case[0]))))


def numbers(case: str) -> list[int]:
    """Return the key that sorts case 9.1.2 before case 10.1.1."""
    return [int(number) for number in case.split(".")]


async def _python27() -> str | None:
    """Return a Python 2.7 that works, which a shim of pyenv need not."""
    for candidate in _candidates():
        with suppress(Problem):
            version = await output_of((candidate, "-c", "import sys; print(sys.version)"), limit=_LOOK)
            if version.startswith("2.7."):
                return candidate
    return None


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        if path := shutil.which(name):
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True))


async def _make(environment: Path, python: str, python27: str) -> None:
    """Make `environment`, and in it `python`, anew; `Problem` with what pip said if that fails."""
    tool = HOME / "virtualenv"
    maker = str(tool / "bin" / "python")
    for old in (environment, tool):
        shutil.rmtree(old, ignore_errors=True)
    for command in (
        (sys.executable, "-m", "venv", str(tool)),
        (maker, "-m", "pip", "install", VIRTUALENV),
        (maker, "-m", "virtualenv", "--python", python27, str(environment)),
        (python, "-m", "pip", "install", REQUIREMENT),
    ):
        await output_of(command, limit=_FETCH)


async def _docker_runs() -> bool:
    try:
        await output_of(("docker", "info"), limit=_LOOK)
    except Problem:
        return False
    return True
