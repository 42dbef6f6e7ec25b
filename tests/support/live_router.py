"""A router in the test's own loop, with instances beside it, whose configuration a test reloads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fd_router.app.router import Router
from fd_router.config.loading import Config, Loaded
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.text_log import RouterLog
from tests.support.live import with_options
from tests.support.ports import free_port
from tests.support.telemetry_fakes import Outlet

PATH = "/v1/completions"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n"

LIMIT_SECS = 60.0
"""How long anything here may take: far more than it needs, also where the machine is busy."""


class LoopbackInstance:
    """An instance that answers each request with ``answer``; None: it closes the connection instead."""

    def __init__(self) -> None:
        self.port = free_port()
        self.health = b"200 OK"
        self.answers_probes = True
        self.answer: bytes | None = WHOLE
        self.probes: list[str] = []  # their paths
        self.models: list[str] = []  # that it lists
        self.asked_for: list[str] = []  # the models that requests asked for
        self.connections = 0
        self.last_head = ""  # of a request with a body, in lower case
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if head.startswith("get /v1/models "):
                page = json.dumps({"data": [{"id": name} for name in self.models]} if self.models else {}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))
                continue
            if head.startswith("get "):
                self.probes.append(head.split()[1])
                if self.answers_probes:
                    writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % self.health)
                continue
            self.last_head = head
            body = await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
            answer = self.answer_to(body)
            if answer is None:
                return
            writer.write(answer)

    def answer_to(self, body: bytes) -> bytes | None:
        """Return the answer to a request, None to close the connection."""
        if b'"model"' in body:
            self.asked_for.append(json.loads(body)["model"])
        return self.answer


class LiveRouter:
    """Runs a router, and the instances that are asked for. ``reload`` puts ``value`` of the option ``key`` in force."""

    def __init__(self, directory: Path, key: str, value: Any, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self.directory = directory
        self.outlet = Outlet()
        self.port = free_port()
        self.token = ""  # that is shown to the router's own endpoints
        self.instances: list[LoopbackInstance] = []
        self.connects = True  # else connections to instances are never there
        self._section, _, name = key.partition(".")
        self._key, self._options = key, {name.replace("-", "_"): value}
        own = {"host": "127.0.0.1", "port": self.port}
        rest = {name: options for name, options in sections.items() if name != "server"}
        self._config = with_options(Config(), server={**own, **sections.get("server", {})}, **rest)
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._create_connection = loop.create_connection
        loop.create_connection = self._connect  # type: ignore[method-assign,assignment]
        self.router = Router(self._config, RouterLog(Sink(self.outlet)), lambda: Loaded(self._config))
        await self.router.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.router.stop()
        for instance in self.instances:
            instance.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert "A bug in the router" not in self.outlet.text

    async def _connect(self, factory: Any, host: str, port: int, **options: Any) -> Any:
        if not self.connects and port != self.port:
            await asyncio.Event().wait()
        return await self._create_connection(factory, host, port, **options)

    async def reload(self) -> None:
        """Put the option's other value in force, as an admin does."""
        self._config = with_options(self._config, **{self._section: self._options})
        status, answer = await self.call("POST", "/admin/reload")
        assert (status, answer["changed"]) == (200, [self._key])

    async def add(self, role: str = "mixed", models: Sequence[str] = (), **fields: str) -> LoopbackInstance:
        """Start an instance, and have it registered with ``fields``; ``models``: those that it lists."""
        instance = LoopbackInstance()
        instance.models = [*models]
        await instance.start()
        self.instances.append(instance)
        entry = {"role": role, "host_ip": "127.0.0.1", "port": instance.port, **fields}
        status, _ = await self.call("POST", "/register", json.dumps(entry).encode())
        assert status == 200
        return instance

    # what clients do

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the router."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own, and return what comes until the router closes it."""
        reader, writer = await self.open()
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), LIMIT_SECS)
        finally:
            writer.close()

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Ask the router itself. Returns the status and the JSON of the answer."""
        shown = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        answer = await self.exchange(message(body, method=method, path=path, headers=shown))
        return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

    async def ask(self, body: bytes = b'{"prompt": "hello"}', headers: str = "") -> bytes:
        """Send a completion's request, and return the answer's bytes."""
        return await self.exchange(message(body, headers=headers))

    def ask_beside(self, body: bytes = b'{"prompt": "hello"}') -> None:
        """Send one whose answer isn't waited for."""
        self._tasks.append(asyncio.create_task(self.ask(body)))

    async def state(self) -> str:
        """Have the instances probed once. Returns what the router makes of the first one."""
        _, answer = await self.call("GET", "/health_generate")
        return str(answer["instances"][0]["state"])


def message(body: bytes = b"", *, method: str = "POST", path: str = PATH, headers: str = "") -> bytes:
    """Make a request after which the connection is closed."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
