"""Runs targets: ``python -m tests.fuzz [TARGET] [--time SECONDS]`` or ``... TARGET --replay FILE...``.

With atheris the inputs follow what they reach in the code; each target has a process of its own, since libFuzzer ends
the one that it runs in. ``--replay`` needs no atheris. What it learned stays in the folder, for the next run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from .harness import CORPUS, TARGETS, target

ROOT = Path(__file__).resolve().parents[2]
MOST = 8192  # octets of an input
SLOW = 10  # seconds for one input, beyond which it is a finding


def replay(name: str, files: list[str]) -> None:
    check = target(name)
    for file in files:
        check(Path(file).read_bytes())
        print(f"{file}: nothing is wrong with it")


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: make fuzz installs it, or pip install 'websock[fuzz]'")
    learned, found = folder / "learned" / name, folder / "found"
    for each in (learned, found):
        each.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["websock", "h11"]):
        check = target(name)
    options = [f"-max_total_time={seconds}", f"-max_len={MOST}", f"-timeout={SLOW}", "-rss_limit_mb=1024"]
    options += [f"-artifact_prefix={found / name}-", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(learned), str(CORPUS / name)], check)
    atheris.Fuzz()


def all_of(names: list[str], seconds: int, folder: Path) -> int:
    """Each in a process of its own; how many found something."""
    failed = 0
    for name in names:
        print(f"{name}: {seconds} s", flush=True)
        command = [sys.executable, "-m", __package__ or "", name, "--time", str(seconds), "--corpus", str(folder)]
        (folder / "found").mkdir(parents=True, exist_ok=True)
        before = set((folder / "found").iterdir())
        done = subprocess.run(
            [*command, "--here"], cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        runs = [line.rpartition(" ")[2] for line in done.stdout.splitlines() if "number_of_executed_units" in line]
        if done.returncode == 0:
            print(f"{name}: nothing found in {runs[0] if runs else '?'} runs", flush=True)
            continue
        failed += 1
        lines = [line for line in done.stdout.splitlines() if not line.startswith("INFO: Instrumenting")]
        print("\n".join(line[:2000] for line in lines[-40:]))
        for file in sorted(set((folder / "found").iterdir()) - before):
            print(f"{name}: found {file}\nreplay it: python -m {__package__} {name} --replay {file}", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what strangers send to websock.")
    parser.add_argument("target", choices=["all", *TARGETS], nargs="?", default="all")
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS", help="for each target (default: 60)")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "fuzz", help="where new inputs go")
    parser.add_argument("--replay", nargs="+", metavar="FILE", help="try these inputs of the target, and no other")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay:
        if options.target == "all":
            parser.error("--replay wants to know the target")
        replay(options.target, options.replay)
        return 0
    if options.here:
        fuzz(options.target, options.time, options.corpus)
    names = list(TARGETS) if options.target == "all" else [options.target]
    return 1 if all_of(names, options.time, options.corpus) else 0


if __name__ == "__main__":
    sys.exit(main())
