"""Processes started for one measurement: what they cost, by the kernel's own accounting, and their end."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Self

from rich.console import Console

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "src"
sys.path[:0] = [str(HERE.parent)]

from tests.support.ports import free_port  # noqa: E402, F401 — for the other benchmarks

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STOP_SECS = 5.0
FD_ROUTER = (sys.executable, "-m", "fd_router")


class Program:
    """A command in a session of its own, its output in ``directory``. A context manager: leaving it ends it.

    ``sources``: where the router's package is taken from.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path, *, sources: Path = SOURCES) -> None:
        self.name = name
        self.output = directory / f"{name}.out"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FD_ROUTER_")}
        environment["PYTHONPATH"] = str(sources)
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time that the process and those it started have used, in user and kernel mode."""
        return sum(map(_cpu_seconds, _tree(self._process.pid)))

    def cpu_seconds_of_children(self) -> dict[int, float]:
        """CPU time of each process that it, or those it started, has started, by process id."""
        _, *rest = _tree(self._process.pid)
        return {pid: _cpu_seconds(pid) for pid in rest}

    def resident_bytes(self) -> int:
        """Memory that the process and those it started have in use."""
        return sum(_resident_pages(pid) for pid in _tree(self._process.pid)) * PAGE_BYTES

    def result(self, timeout: float) -> str:
        """Wait until it ends by itself and return what it printed. Raises RuntimeError when it fails."""
        code = self._process.wait(timeout)
        said = self.output.read_text(errors="replace")
        if code:
            raise RuntimeError(f"{self.name} ended with {code}: {said.strip()[-500:]}")
        return said

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Ask it to end, then make it end. Its children are in its process group."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(STOP_SECS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _tree(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants that are alive."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return [pid]
    return [pid, *(each for child in children for each in _tree(child))]


def _cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond: what ``/proc`` says is in steps of 10 ms."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) returns
    except OSError:  # it has ended
        return 0.0


def add_cpu_options(parser: argparse.ArgumentParser) -> None:
    """Let routers and what loads them be kept from taking turns on one CPU; see ``keep_load`` and ``pin``."""
    parser.add_argument("--router-cpus", default="", help="where routers run, as 0,1 or 0-1")
    parser.add_argument("--load-cpus", default="", help="where clients and instances run")


def keep_load(arguments: argparse.Namespace) -> set[int]:
    """Run this, and all that is started from now on but for what is pinned, on ``--load-cpus``; return them."""
    load = _cpus(arguments.load_cpus)
    if load:
        os.sched_setaffinity(0, load)
    return load


def pin(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return what a router's command begins with so that it runs on ``--router-cpus``."""
    return ("taskset", "-c", arguments.router_cpus) if arguments.router_cpus else ()


def _cpus(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


def write_config(
    directory: Path, port: int, instances: Sequence[int], policy: str = "request_num", *, pairs: bool = False
) -> Path:
    """Write the configuration of a router on ``port`` whose instances are at the ports ``instances``; return its path.

    All that is on by default stays on; the log goes to a file. ``pairs``: every other instance is a prefill one, the
    rest decode, with the default policies of these roles.
    """
    roles = cycle(("prefill", "decode") if pairs else ("mixed",))
    entries = [{"role": next(roles), "host_ip": "127.0.0.1", "port": each} for each in instances]
    (directory / "register.yaml").write_text(json.dumps({"instances": entries}))  # JSON is YAML
    config = {
        "server": {"host": "127.0.0.1", "port": str(port), "splitwise": pairs},
        "scheduler": {"policy": policy},
        "manager": {"register-path": str(directory / "register.yaml")},
        "log": {"level": "info", "output": "file"},
    }
    path = directory / "config.yaml"
    path.write_text(json.dumps(config))
    return path


def answers(port: int, request: bytes) -> bool:
    """Say whether ``request``, sent to 127.0.0.1, is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(request)
            return sock.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def post(path: str, body: bytes) -> bytes:
    """Return a request with a JSON body, whose connection is to end after the answer."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Wait until ``condition`` holds, for ``seconds`` at most; say whether it does."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(every)
    return True


def allow_files(number: int) -> None:
    """Raise this process's limit of open files, which those it starts inherit. Exits when it can't be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= number or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < number:
        sys.exit(f"{number} open files are needed and {hard} are allowed: raise the hard limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def make_console() -> Console:
    """Return what the results are printed to; a file is as wide as a table needs."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110
    return console


def need_programs(*names: str) -> None:
    """Exit with a hint when one of the programs ``names`` isn't installed."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: apt-get install {' '.join(missing)}")
