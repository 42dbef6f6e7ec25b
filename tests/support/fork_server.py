"""The fork server: starts the program by forking a process that has imported it already.

Importing is most of a start: half a second of CPU, and the suite has hundreds of them. What is forked is a process like
any other, with its own signals, files and end. Run as a script, this file is the server; ``ForkServer`` talks to it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SOURCES = Path(__file__).parents[2] / "src"
MODULES = ("fd_router.cli", "fd_router.app.process", "fd_router.cli.commands.mock", "fd_router.devtools.mock.run")
MAX_JOB = 256 * 1024


class ForkedProcess:
    """A process that the server started, with what a ``subprocess.Popen`` can do."""

    def __init__(self, pid: int, status: int) -> None:
        """``status``: a pipe that brings the exit code."""
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self.returncode = int(os.read(self._status, 16) or b"-9")
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server's other end. It ends when this process does."""

    def __init__(self) -> None:
        self._control, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_JOB)
        self._lock = threading.Lock()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        environment["PYTHONPATH"] = str(SOURCES)
        command = [sys.executable, __file__, str(remote.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[remote.fileno()], env=environment)
        remote.close()
        atexit.register(self.close)

    def start(
        self, arguments: Sequence[str], *, output: int, environment: Mapping[str, str], cwd: Path | None
    ) -> ForkedProcess:
        """Start ``fd-router`` with these arguments; ``output`` is its stdout and stderr."""
        job = {"arguments": list(arguments), "environment": dict(environment), "cwd": str(cwd or Path.cwd())}
        reading, writing = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._control, [json.dumps(job).encode()], [output, writing])
                pid = int(self._control.recv(16) or 0)
        finally:
            os.close(writing)
        if not pid:
            raise RuntimeError("the fork server is gone")
        return ForkedProcess(pid, reading)

    def close(self) -> None:
        """End the server. What it has started goes on."""
        self._control.close()
        self._process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Return this process's server, started when it is first wanted."""
    return ForkServer()


class _Server:
    """Forks a child for each job. In a child ``serve`` returns; in the server it doesn't."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._statuses: dict[int, int] = {}  # by pid: where the exit code is awaited
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it is told by the pipe
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def serve(self) -> dict[str, Any]:
        while True:
            readable, _, _ = select.select([self._control, self._woken], [], [])
            if self._woken in readable:
                os.read(self._woken, 4096)
                self._reap()
            if self._control in readable:
                data, files, _, _ = socket.recv_fds(self._control, MAX_JOB, 2)
                if not data:
                    os._exit(0)
                if not (pid := os.fork()):
                    self._become_child(*files)
                    job: dict[str, Any] = json.loads(data)
                    return job
                output, self._statuses[pid] = files
                os.close(output)
                self._control.send(b"%d" % pid)

    def _reap(self) -> None:
        while self._statuses:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            pipe = self._statuses.pop(pid)
            os.write(pipe, b"%d" % os.waitstatus_to_exitcode(status))
            os.close(pipe)

    def _become_child(self, output: int, status: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in (output, status, self._woken, self._wake, *self._statuses.values()):
            os.close(number)


def _run(job: dict[str, Any]) -> NoReturn:
    """Be the program."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = ["fd-router", *job["arguments"]]
    sys.path[0] = job["cwd"]
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        importlib.import_module("coverage").process_startup(force=True)
    importlib.import_module("fd_router.__main__").main()
    sys.exit()


def _main() -> None:
    for module in (*MODULES, "coverage", "fd_router.__main__"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is shared with the children stays shared
    _run(_Server(socket.socket(fileno=int(sys.argv[1]))).serve())


if __name__ == "__main__":
    _main()
