"""One contender's turn at one workload: its processes, the load, and what was measured."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contenders import Contender, environment_of
from texts import texts
from workloads import Workload

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEM = ROOT / "tests" / "localhost.pem"
PATIENCE = 30.0  # seconds beyond the measured ones, for what takes less than one

ECHO = Contender("the server of the clients", "", "", variants=("plain",))  # in C

PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "load": ("load.c", ()),
    "echo_server": ("echo_server.c", ()),
    "deflate_load": ("deflate_load.c", ("-lz",)),
    "load_tls": ("load.c", ("-DTLS", "-lssl", "-lcrypto")),
    "echo_server_tls": ("echo_server.c", ("-DTLS", "-lssl", "-lcrypto")),
}


class Trouble(Exception):
    """What goes into the cell of the contender instead of a number."""


def compiler() -> str | None:
    """The C compiler, or None where the benchmarks can't run."""
    return shutil.which("cc") if sys.platform == "linux" else None


class Tools:
    """The programs in C, compiled when they are first needed, and the file of texts."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._failed: dict[str, str] = {}

    def program(self, name: str) -> str:
        target = self._folder / name
        if name not in self._failed and not target.exists():
            file, flags = PROGRAMS[name]
            command = [compiler() or "cc", "-O3", "-Wall", "-o", str(target), str(HERE / file), *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line]
                self._failed[name] = f"{file} can't be compiled: {(errors or ['?'])[0].rpartition('error: ')[2]}"
        if name in self._failed:
            raise Trouble(self._failed[name])
        return str(target)

    def texts(self, size: int) -> str:
        target = self._folder / f"texts-{size}"
        if not target.exists():
            target.write_text("".join(texts(500, size)))
        return str(target)


def cores(pin: str, serial: bool) -> tuple[set[int], set[int]]:
    """Where a contender runs, and where the load does.

    Left to itself the kernel has both on one core in one turn and on two in the next, and the rates of the one are
    several times those of the other. With one message under way at a time two cores have nothing to do at once: what
    is seen is how long it takes to wake the other one, on a virtual machine ten times what a fast contender needs. So
    "auto" is one core for these workloads, and a core of the contender's own for all others.
    """
    free = os.sched_getaffinity(0)
    last = max(free)
    if pin == "together" or (pin == "auto" and serial):
        return {last}, {last}
    return (free, free) if pin == "no" or len(free) == 1 else (free - {last}, {last})


class Process:
    """A process that talks in lines, and is always ended.

    Args:
        command: the program and its arguments.
        on: the cores that it may use.
        environment: its environment.
    """

    _on: set[int]

    def __init__(self, command: list[str], on: set[int], environment: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        own = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, on)  # the child inherits it, and so do its threads
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
            )
        except OSError as error:
            self._errors.close()
            raise Trouble(str(error)) from None
        finally:
            os.sched_setaffinity(0, own)
        self._on = on
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._waiting = b""

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is told when its answer is awaited

    def line(self, timeout: float) -> str:
        """The next line of its output; Trouble if there is none."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._waiting:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._output], [], [], left)[0]:
                raise Trouble("no answer in time")
            data = os.read(self._output.fileno(), 65536)
            if not data:
                raise Trouble(self.last_words())
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line.decode()

    def words(self) -> list[str]:
        """The lines of its standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().splitlines()

    def last_words(self) -> str:
        lines = self.words()
        return lines[-1] if lines else "it ended without a word"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def place(self, on: set[int]) -> None:
        """Move it to these cores, with all its threads."""
        if on != self._on:
            self._on = on
            for thread in os.listdir(f"/proc/{self._process.pid}/task"):
                os.sched_setaffinity(int(thread), on)

    def memory(self) -> int:
        """KiB of resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def cpu(self) -> float:
        """Seconds of CPU time that it has had, in hundredths."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._output, self._errors):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:
                pass  # it ended before it took all its input


class Server(Process):
    """An echo server of a contender."""

    def __init__(self, tools: Tools, contender: Contender, variant: str, on: set[int]) -> None:
        if contender.program:
            command = [sys.executable, str(HERE / "servers.py"), contender.program, variant]
            command += ["--uvloop"] if contender.uvloop else []
        elif variant == "tls":
            command = [tools.program("echo_server_tls"), str(PEM)]
        else:
            command = [tools.program("echo_server"), *([variant] if variant == "broadcast" else [])]
        super().__init__(command, on, environment_of(contender, str(ROOT)))
        try:
            self.port = self.line(PATIENCE)
        except Trouble:
            self.close()
            raise


Measure = tuple[float, float]
"""Units for each second, or KiB; and microseconds of CPU time for each unit."""


class Turns:
    """Gives contenders their turns. Processes are kept for the next round, until `forget`.

    Args:
        tools: the programs in C.
        pin: as `cores` takes it.
    """

    def __init__(self, tools: Tools, pin: str = "auto") -> None:
        self._tools = tools
        self._pin = pin
        self._theirs, self._neutral = cores(pin, False)
        self._kept: dict[tuple[str, str], Process] = {}

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    def forget(self, contender: Contender | None = None) -> None:
        """End the processes that are kept: all, or those of one contender."""
        for key in [key for key in self._kept if contender is None or key[0] == contender.name]:
            self._kept.pop(key).close()

    def prepare(self, workload: Workload, contender: Contender) -> None:
        """Start what the contender needs; its start is no part of a turn."""
        self._theirs, self._neutral = cores(self._pin, workload.serial)
        if workload.kind in ("echo", "storm", "broadcast", "deflate"):
            self._server(contender, workload.variant)
        elif workload.kind in ("client", "sansio"):
            if workload.kind == "client":
                self._echo_port()
            if contender.program:
                self._worker(workload, contender)

    def take(self, workload: Workload, contender: Contender, seconds: float) -> list[Measure]:
        """One turn: one result, or two of one that holds connections. Raises Trouble."""
        if workload.kind == "hold":
            return self._hold(workload, contender, seconds)
        if workload.kind == "client" and not contender.program:
            arguments = ["echo", self._echo_port(), "1", "1", *workload.arguments, str(seconds)]
            return [_measure(self._load("load", arguments, seconds))]  # here the load is the contender
        if workload.kind in ("client", "sansio"):
            arguments = [*workload.arguments, str(seconds)]
            if workload.kind == "client":
                arguments = [self._echo_port(), *arguments]
            worker = self._worker(workload, contender)
            worker.say(" ".join(arguments))
            return [_measure(worker.line(seconds + PATIENCE))]
        server = self._server(contender, workload.variant)
        program, arguments = self._command(workload, contender, server.port, seconds)
        found = _measure(self._load(program, arguments, seconds, server))
        if not server.alive:
            raise Trouble(f"the server has ended: {server.last_words()}")
        return [found]

    def _command(self, workload: Workload, contender: Contender, port: str, seconds: float) -> tuple[str, list[str]]:
        if workload.kind == "deflate":
            return "deflate_load", [port, *workload.arguments, self._tools.texts(1024), "1024", str(seconds)]
        mode = "raw" if contender.raw else workload.kind
        return "load_tls" if workload.variant == "tls" else "load", [mode, port, *workload.arguments, str(seconds)]

    def _load(self, program: str, arguments: list[str], seconds: float, server: Server | None = None) -> str:
        on = self._theirs if server is None else self._neutral
        load = Process([self._tools.program(program), *arguments], on, _watching(server))
        try:
            return load.line(seconds + PATIENCE)
        finally:
            load.close()

    def _hold(self, workload: Workload, contender: Contender, seconds: float) -> list[Measure]:
        """Memory and rate with many connections, of a server that had none before."""
        server = Server(self._tools, contender, workload.variant, self._theirs)
        try:
            count, size = workload.arguments
            self._load(
                "load", ["echo", server.port, "1", "1", size, "0.05"], 0.05, server
            )  # what the first one makes stays
            before = server.memory()
            load = Process(
                [self._tools.program("load"), "hold", server.port, count, size], self._neutral, _watching(server)
            )
            try:
                load.line(2 * PATIENCE)
                memory = (server.memory() - before) / int(count)
                load.say(str(seconds))
                return [(memory, 0.0), _measure(load.line(seconds + PATIENCE))]
            finally:
                load.close()
        finally:
            server.close()

    def _server(self, contender: Contender, variant: str) -> Server:
        kept = self._kept.get((contender.name, variant))
        if not isinstance(kept, Server) or not kept.alive:
            if kept is not None:
                kept.close()
            kept = self._kept[contender.name, variant] = Server(self._tools, contender, variant, self._theirs)
        kept.place(self._neutral if contender is ECHO else self._theirs)
        return kept

    def _echo_port(self) -> str:
        """The port of the C server that clients talk to."""
        return self._server(ECHO, "plain").port

    def _worker(self, workload: Workload, contender: Contender) -> Process:
        key = (contender.name, workload.kind)
        if key not in self._kept:
            script = "clients.py" if workload.kind == "client" else "sansio.py"
            command = [sys.executable, str(HERE / script), contender.program]
            command += ["--uvloop"] if contender.uvloop else []
            self._kept[key] = Process(command, self._theirs, environment_of(contender, str(ROOT)))
        self._kept[key].place(self._theirs)
        return self._kept[key]


def _watching(server: Server | None) -> dict[str, str] | None:
    """The environment of a load that tells the CPU time of a server."""
    return None if server is None else {**os.environ, "LOAD_PID": str(server.pid)}


def _measure(line: str) -> Measure:
    """What "COUNT SECONDS CPU" says: a rate, and microseconds of CPU time for each."""
    if line.startswith("error: "):
        raise Trouble(line.removeprefix("error: "))
    count, took, used = line.split()
    return int(count) / float(took), float(used) / int(count) * 1e6
