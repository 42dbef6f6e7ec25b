"""The demo's processes: a router and mock instances, each ended by its own handle whatever happens."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from fd_router.errors import FdRouterError, UpstreamError
from fd_router.http.client import HttpClient, Origin

START_SECS = 15.0
STOP_SECS = 3.0
_POLL_SECS = 0.03


class DemoError(FdRouterError):
    """The demo can't go on; the message says why."""


class Fleet:
    """A router at ``port`` (0: a free one) and its instances, run by this interpreter. Use it in ``with``."""

    def __init__(self, client: HttpClient, port: int) -> None:
        self._client = client
        self.port = port or _free_port()
        self.urls: dict[str, str] = {}  # an instance's name → where it serves
        self._temporary = tempfile.TemporaryDirectory(prefix="fd-router-demo-")
        self._directory = Path(self._temporary.name)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """The router's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def _origin(self) -> Origin:
        return Origin("127.0.0.1", self.port)

    @property
    def log_path(self) -> Path:
        """The router's log."""
        return self._directory / "logs" / "router.log"

    async def start_router(self, *, splitwise: bool = False) -> None:
        """Start the router with a configuration file and wait until it answers."""
        _claim(self.port)
        config = {
            "server": {"host": "127.0.0.1", "port": self.port, "splitwise": splitwise},
            "scheduler": {"policy": "request_num"},
            "manager": {"health-check-interval-secs": 1},
            "log": {"output": "file", "path": str(self.log_path)},
        }
        path = self._directory / "config.yaml"
        path.write_bytes(msgspec.yaml.encode(config))
        self._spawn("router", "--config_path", str(path))
        await self._until(self._answers, "the router doesn't answer")

    async def start_instance(self, name: str, decode_ms: float, role: str = "mixed") -> None:
        """Start an instance that registers itself, at a free port."""
        router = f"127.0.0.1:{self.port}"
        options = ("--role", role, "--router", router, "--decode-ms-per-token", str(decode_ms))
        self._spawn(name, "mock", "--name", name, *options)
        output = self._output(name)

        async def is_up() -> bool:
            return b" on http://" in output.read_bytes()

        await self._until(is_up, f"{name} doesn't start")
        self.urls[name] = output.read_text().partition(" on ")[2].split()[0]

    async def wait_until_registered(self, number: int) -> None:
        """Wait until so many instances have registered."""

        async def are_there() -> bool:
            return await self._registered() >= number

        await self._until(are_there, "the instances don't register")

    def name_of(self, url: str) -> str:
        """Return the name of the instance that serves at ``url``; "" if none does."""
        return next((name for name, each in self.urls.items() if each == url), "")

    def kill(self, name: str) -> None:
        """End an instance by SIGKILL: no good-bye, connections cut."""
        self._processes[name].kill()

    def close(self) -> None:
        """End every process and remove the directory."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self, name: str, *arguments: str) -> None:
        # The caller's own settings must not change what the demo shows.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FD_ROUTER_")}
        with self._output(name).open("wb") as output:
            self._processes[name] = subprocess.Popen(  # noqa: S603 — our own interpreter and module
                [sys.executable, "-m", "fd_router", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them in order
            )

    def _output(self, name: str) -> Path:
        return self._directory / f"{name}.out"

    async def _until(self, condition: Callable[[], Awaitable[bool]], complaint: str) -> None:
        """Wait until ``condition`` holds. Raises DemoError when it doesn't, or when a process ended."""
        deadline = time.monotonic() + START_SECS
        while not await condition():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    said = self._output(name).read_text(errors="replace").strip()
                    raise DemoError(f"{name} ended with exit code {process.returncode}: {said}")
            if time.monotonic() > deadline:
                raise DemoError(complaint)
            await asyncio.sleep(_POLL_SECS)

    async def _answers(self) -> bool:
        try:
            return (await self._client.fetch(self._origin, "GET", "/health", time_limit=1)).status == 200
        except UpstreamError:
            return False

    async def _registered(self) -> int:
        answer = await self._client.fetch(self._origin, "GET", "/registered_number")
        return sum(msgspec.json.decode(answer.body, type=dict[str, int]).values())


def _claim(port: int) -> None:
    """Raise DemoError when somebody has ``port``: a router that answers there would be taken for the demo's own."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(f"port {port}: {(error.strerror or str(error)).lower()}; choose another --port") from None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
