"""Mock instances and routers as real processes, each ended by its own handle."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.fork_server import SOURCES, ForkedProcess, fork_server
from tests.support.ports import free_port

START_SECS = 60.0
STOP_SECS = 25.0  # less than a router would wait for requests that go on (server.drain-timeout-secs)

_numbers = itertools.count(1)


def call(port: int, method: str, path: str, value: Any = None, timeout: float = 60.0) -> tuple[int, bytes]:
    """Send one request (``value`` as JSON) to 127.0.0.1 and return the status and the body. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        body = None if value is None else json.dumps(value)
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class ServerProcess:
    """``python -m fd_router …`` serving at ``port``. A context manager: leaving it ends the process."""

    def __init__(
        self,
        *arguments: str,
        port: int,
        cwd: Path | None = None,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        measured: bool = True,
    ) -> None:
        """``measured``: its lines count as covered by tests. It takes twice as long for that."""
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.key = f"127.0.0.1:{port}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 — end() closes it
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FD_ROUTER_")}
        environment["PYTHONPATH"] = str(SOURCES)
        if not measured:
            environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if not wrapper and not pass_fds:
            output = self._output.fileno()
            self.process = fork_server().start(arguments, output=output, environment=environment, cwd=cwd)
            return
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "fd_router", *arguments],
            stdout=self._output, stderr=subprocess.STDOUT, env=environment, cwd=cwd, pass_fds=pass_fds,
        )  # fmt: skip

    @property
    def output(self) -> str:
        """What the process has written to stdout and stderr."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    def wait_until_up(self) -> Self:
        """Wait until /health answers (whatever it says). Raises RuntimeError with the output if it never does."""
        deadline = time.monotonic() + START_SECS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                call(self.port, "GET", "/health", timeout=2.0)
            except OSError:
                time.sleep(0.02)
            else:
                return self
        code, output = self.process.poll(), self.output
        self.end()
        raise RuntimeError(f"port {self.port} never answered (exit code {code}): {output}")

    def call(self, method: str, path: str, value: Any = None, timeout: float = 60.0) -> tuple[int, Any]:
        """Send one request and return the status and the JSON body."""
        status, body = call(self.port, method, path, value, timeout)
        return status, json.loads(body)

    def kill(self) -> None:
        """End it by SIGKILL, in the middle of whatever it does."""
        self.process.kill()
        self.process.wait(STOP_SECS)

    def stop(self) -> int:
        """Ask it to end by SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECS)

    def pause(self) -> None:
        """Stop it where it stands: its connections stay, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it if it still runs, and forget its output."""
        if self.process.poll() is None:
            self.kill()
        self._output.close()

    def __enter__(self) -> Self:
        return self.wait_until_up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.process.pid} {self.url}>"


class MockProcess(ServerProcess):
    """A mock instance. Options as keywords: ``MockProcess(router=…, role="mixed", fault=["slow:head_secs=1"])``."""

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        port = port or free_port()
        arguments = ["mock", "--port", str(port)]
        for name, value in options.items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                flag = f"--{name.replace('_', '-')}"
                arguments += [flag] if one is True else [flag, str(one)]
        super().__init__(*arguments, port=port, measured=False)  # tests of its own run it in their process

    def received(self) -> list[dict[str, Any]]:
        """Return the requests it was sent (without those to /mock/…), oldest first; see ``RequestLog.describe``."""
        requests: list[dict[str, Any]] = self.call("GET", "/mock/requests")[1]["requests"]
        return requests

    def completions(self) -> list[dict[str, Any]]:
        """Return the completion requests it was sent, without the health probes."""
        return [each for each in self.received() if each["path"].endswith("completions")]

    def state(self) -> dict[str, Any]:
        """Return ``GET /mock/state``."""
        state: dict[str, Any] = self.call("GET", "/mock/state")[1]
        return state

    def set_faults(self, *faults: str | dict[str, Any]) -> None:
        """Replace the faults that are on; none turns them off."""
        status, answer = self.call("POST", "/mock/faults", {"faults": list(faults)})
        if status != 200:
            raise ValueError(answer["error"]["message"])


class RouterProcess(ServerProcess):
    """A router with ``config`` (sections as in the YAML file), which is written to a directory of its own.

    Its log goes to ``directory / "logs" / "router.log"`` when ``log.output`` is ``file``. ``instances`` becomes its
    register.yaml; ``files`` (name → text) lie beside the configuration. ``wrapper`` is a command that runs the
    router's, ``pass_fds`` what it inherits.
    """

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        *,
        port: int = 0,
        instances: list[dict[str, Any]] | None = None,
        arguments: tuple[str, ...] = (),
        files: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="fd-router-test-")
        self.directory = Path(self._temporary.name)
        port = port or free_port()
        sections = {name: dict(section) for name, section in (config or {}).items()}
        sections.setdefault("server", {}).setdefault("host", "127.0.0.1")
        sections["server"]["port"] = port
        if instances is not None:
            self._write("register.yaml", {"instances": instances})
            sections.setdefault("manager", {})["register-path"] = str(self.directory / "register.yaml")
        for name, text in (files or {}).items():
            (self.directory / name).write_text(text)
        path = self._write("config.yaml", sections)
        super().__init__(
            "--config_path", str(path), *arguments, port=port, cwd=self.directory, wrapper=wrapper, pass_fds=pass_fds
        )

    @property
    def log(self) -> str:
        """The log file's text: nothing before the first lines were written, 50 ms after the start."""
        path = self.directory / "logs" / "router.log"
        return path.read_text() if path.exists() else ""

    def log_so_far(self) -> str:
        """Return the log with all that was logged before this call: lines are written together, in their order.

        For a router that logs its access lines. Raises TimeoutError.
        """
        mark = f"/looked-at-{next(_numbers)}"
        self.call("GET", mark)
        deadline = time.monotonic() + START_SECS
        while f"[GET] {mark} " not in (log := self.log):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{mark} was never logged")
            time.sleep(0.01)
        return log

    def wait_for_instances(self, number: int, timeout: float = START_SECS) -> None:
        """Wait until so many instances are registered. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            counts = self.call("GET", "/registered_number")[1]
            if sum(counts[role] for role in ("mixed", "prefill", "decode")) >= number:
                return
            time.sleep(0.02)
        raise TimeoutError(f"fewer than {number} instances registered at {self.url}")

    def rewrite(self, name: str, change: Callable[[Any], object]) -> None:
        """Change what its ``config.yaml`` or ``register.yaml`` says; a reload makes it count."""
        value = json.loads((self.directory / name).read_text())
        change(value)
        self._write(name, value)

    def end(self) -> None:
        """End it if it still runs, and remove its directory."""
        super().end()
        self._temporary.cleanup()

    def _write(self, name: str, value: Any) -> Path:
        path = self.directory / name
        path.write_text(json.dumps(value))  # JSON is YAML
        return path
