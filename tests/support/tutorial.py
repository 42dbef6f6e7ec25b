"""A page's shell blocks, run as its reader would: servers in terminals of their own, the rest one after the other.

What stands behind "sh" says what a block is. Nothing: commands, which must succeed, and whose output must have what a
line ``# → text`` behind them says; a name: a server that goes on; ``stop NAME``: Ctrl-C there; ``restart NAME``.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.fork_server import SOURCES, ForkedProcess, fork_server
from tests.support.ports import free_port

_BLOCK = re.compile(r"^```sh *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORTS = re.compile(r"\b(30000|81\d\d|9090)\b")
LIMIT_SECS = 60.0


class Block(NamedTuple):
    what: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(what.strip(), code) for what, code in _BLOCK.findall(page.read_text())]


class Reader:
    """Types what a page says, in an empty folder. Leaving it ends all servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._servers: dict[str, subprocess.Popen[bytes] | ForkedProcess] = {}
        (folder / "bin").mkdir()
        self._environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(SOURCES), "HOME": str(folder),
            "no_proxy": "*", "COLUMNS": "100",
        }  # fmt: skip
        self.install("fd-router", f'#!/bin/sh\nexec "{sys.executable}" -m fd_router "$@"\n')
        self.cwd = folder

    def install(self, name: str, script: str) -> None:
        """Have what is typed find the program ``name``: the page's own, or what stands in for one that isn't here."""
        program = self._folder / "bin" / name
        program.write_text(script)
        program.chmod(0o755)

    def type(self, block: Block) -> None:
        action, _, name = block.what.rpartition(" ")
        if action in {"stop", "restart"}:
            self._stop(name)
        if action == "stop":
            return
        if block.what:
            self._serve(name, block.code)
        else:
            self._run(block.code)

    def _serve(self, name: str, code: str) -> None:
        program, *arguments = shlex.split(self._own(code))
        with (self._folder / f"{name}.log").open("ab") as log:
            if program == "fd-router":  # as it is typed, but without what importing it takes
                self._servers[name] = fork_server().start(
                    arguments, output=log.fileno(), environment=self._environment, cwd=self.cwd
                )
                return
            self._servers[name] = subprocess.Popen(
                ["bash", "-c", f"exec {self._own(code).strip()}"], cwd=self.cwd, env=self._environment,
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def _stop(self, name: str) -> None:
        process = self._servers.pop(name)
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECS)

    def _run(self, code: str) -> None:
        """Run commands until the first line of expected output, and so on; servers may need a moment to be ready."""
        for commands, expected in _steps(self._own(code)):
            deadline = time.monotonic() + LIMIT_SECS
            while True:
                done = self._bash(commands)
                missing = [text for text in expected if text.lower() not in done.stdout.lower()]
                if done.returncode == 0 and not missing:
                    break
                may_come = bool(expected) and time.monotonic() < deadline
                assert may_come, (commands, missing, done.stdout, done.stderr, self.logs())
                time.sleep(0.3)

    def _bash(self, commands: str) -> subprocess.CompletedProcess[str]:
        keep = f"{commands}\npwd > {self._folder}/cwd\n"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", keep], cwd=self.cwd, env=self._environment, capture_output=True,
            text=True, timeout=LIMIT_SECS, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            self.cwd = Path((self._folder / "cwd").read_text().strip())
        return done

    def _own(self, code: str) -> str:
        """Put ports that are free here in the place of the page's; commands without one get the router's."""
        router = self._ports.setdefault("30000", free_port())
        self._environment["FD_ROUTER_ADDRESS"] = f"127.0.0.1:{router}"
        self._environment["PROMETHEUS_PORT"] = str(self._ports.setdefault("9090", free_port()))
        code = code.replace("fd-router init", f"fd-router init --port {router}")
        code = code.replace("fd-router --config_path", "fd-router --host 127.0.0.1 --config_path")
        # A reader waits for five seconds until the instances are back; a test needn't.
        code = re.sub(r"(fd-router mock\b)(?=.*--router)", r"\1 --heartbeat-secs 0.5", code)
        return _PORTS.sub(lambda found: str(self._ports.setdefault(found[1], free_port())), code)

    def logs(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(self._folder.glob("*.log")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for process in self._servers.values():
            process.kill()
            process.wait()


def _steps(code: str) -> list[tuple[str, Sequence[str]]]:
    """Split commands at the expectations that follow them."""
    steps: list[tuple[str, list[str]]] = []
    lines: list[str] = []
    for line in code.splitlines():
        if line.startswith("# → "):
            if lines:
                steps.append(("\n".join(lines), []))
                lines = []
            steps[-1][1].append(line.removeprefix("# → "))
        else:
            lines.append(line)
    return [*steps, ("\n".join(lines), [])] if lines else list(steps)
