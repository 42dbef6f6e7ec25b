"""A router and mock instances of any role, all on the running loop, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import httptools

from fd_router.app.router import Router
from fd_router.config.loading import Config, ProxyConfig
from fd_router.config.scheduling import SchedulerConfig
from fd_router.config.sections import ManagerConfig, ServerConfig
from fd_router.devtools.mock.heartbeat import registration
from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions
from fd_router.errors import FdRouterError
from fd_router.telemetry.logging.factory import open_log
from tests.support.http_client import Answer, fetch
from tests.support.ports import free_port

CHAT = "/v1/chat/completions"
FAST = {"prefill_tokens_per_sec": 1e6, "decode_ms_per_token": 10, "decode_ms_per_running": 0}
BUSY = ("in_flight", "live", "running", "waiting", "kv_expected", "kv_held")
"""What of a mock's state must be zero when nothing is under way."""


class PdFleet:
    """Use it in ``async with``. Options of a single mock by its name (``prefill_1={"tp_size": 2}``).

    Round robin is the default policy: the first request goes to ``prefill-1`` and ``decode-1``. With ``mixed``
    instances, and no others, the router is a centralized one.
    """

    bugs: ClassVar[list[str]] = []  # what was raised in callbacks; of all fleets, since they may share a loop

    def __init__(
        self, prefills: int = 2, decodes: int = 2, mixed: int = 0, *, proxy: dict[str, Any] | None = None,
        scheduler: dict[str, Any] | None = None, mock: dict[str, Any] | None = None, **single: dict[str, Any],
    ) -> None:  # fmt: skip
        self.port = 0
        self._directory = tempfile.TemporaryDirectory(prefix="fd-router-pd-")
        self._proxy = proxy or {}
        self._scheduler = {"prefill_policy": "round_robin", "decode_policy": "round_robin", "policy": "round_robin"}
        self._scheduler |= scheduler or {}
        self._options = {**FAST, "record_bodies": True, **(mock or {})}
        self._single = single
        self._numbers = {"mixed": mixed} if mixed else {"prefill": prefills, "decode": decodes}
        self._made: list[tuple[MockInstance, MockOptions]] = []
        self.mocks: dict[str, MockInstance] = {}
        self._router: Router
        self._log: Any = None

    @property
    def log(self) -> str:
        """The router's log."""
        self._log.flush()
        return (Path(self._directory.name) / "router.log").read_text()

    def of(self, role: str) -> list[MockInstance]:
        """Return the mocks of that role, in the order of their URLs."""
        return [mock for name, mock in self.mocks.items() if name.startswith(role)]

    async def call(self, method: str, path: str, value: Any = None, timeout_secs: float = 60) -> Answer:
        """Send the router a request and return its whole answer."""
        body = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        return await fetch("127.0.0.1", self.port, method, path, body=body, timeout_secs=timeout_secs)

    async def chat(self, **extra: Any) -> Answer:
        """Send a chat completion."""
        value = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **extra}
        return await self.call("POST", CHAT, value)

    async def register(self, name: str, **changes: Any) -> Answer:
        """Register a mock, as it would itself, but for ``changes``."""
        mock = self.mocks[name]
        options = next(options for made, options in self._made if made is mock)
        answer = await self.call("POST", "/register", {**registration(options, mock.port), **changes})
        if answer.status != 200:
            raise RuntimeError(answer.body.decode())
        return answer

    async def metric(self, name: str, *labels: str) -> float:
        """Return the sum of a metric's samples whose labels contain all of ``labels``."""
        total = 0.0
        for line in (await self.call("GET", "/metrics")).body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(label in sample for label in labels):
                total += float(value)
        return total

    async def leftovers(self) -> list[str]:
        """Return what isn't zero although nothing is under way any more: at the mocks, and in the router."""
        left = []
        for name, mock in self.mocks.items():
            state = mock.state()
            left += [f"{name} {key} {state[key]}" for key in BUSY if state.get(key)]
        for name in ("fd_router_instance_running_requests", "fd_router_instance_tokens"):
            if number := await self.metric(name):
                left.append(f"{name} {number:g}")
        return left

    async def __aenter__(self) -> Self:
        for role, number in self._numbers.items():
            await _again(lambda role=role, number=number: self._start_mocks(role, number))
        self._log = open_log(output="file", path=str(Path(self._directory.name) / "router.log"))
        await _again(self._start_router)
        for name in self.mocks:
            await self.register(name)
        return self

    async def _start_router(self) -> None:
        self.port = free_port()
        # Probes at random moments would leave connections in the pools that a test doesn't expect.
        config = Config(
            server=ServerConfig(host="127.0.0.1", port=self.port, splitwise="mixed" not in self._numbers),
            scheduler=SchedulerConfig(**self._scheduler),
            manager=ManagerConfig(health_check_interval_secs=3600.0),
            proxy=ProxyConfig(**self._proxy),
        )
        self._router = Router(config, self._log)
        try:
            await self._router.start()
        except FdRouterError:
            await self._router.stop()
            raise
        asyncio.get_running_loop().set_exception_handler(self._note_bug)

    def _note_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.bugs.append(repr(context.get("exception") or context.get("message")))

    async def _start_mocks(self, role: str, number: int) -> None:
        """Start the instances of a role; the order of their names is that of their URLs."""
        started: list[tuple[MockInstance, MockOptions]] = []
        try:
            for index, port in enumerate(sorted([free_port() for _ in range(number)], key=str), 1):
                name = f"{role}-{index}"
                single = self._single.get(name.replace("-", "_"), {})
                options = MockOptions(role=role, port=port, **{"name": name, **self._options, **single})
                mock = MockInstance(options)
                await mock.start()
                started.append((mock, options))
        except OSError:
            for mock, _ in started:
                await mock.stop()
            raise
        self._made += started
        self.mocks |= {f"{role}-{index}": mock for index, (mock, _) in enumerate(started, 1)}

    async def __aexit__(self, *_: object) -> None:
        await self._router.stop()
        for mock, _options in self._made:
            await mock.stop()
        self._log.close()
        self._directory.cleanup()
        if self.bugs:
            found = ", ".join(self.bugs)
            self.bugs.clear()
            raise RuntimeError(f"raised in a callback: {found}")


async def _again(start: Callable[[], Awaitable[None]]) -> None:
    """Call ``start`` again when a port that was free was taken in the meantime."""
    for _ in range(4):
        with contextlib.suppress(OSError, FdRouterError):
            await start()
            return
    await start()


class Streaming:
    """A client that reads what comes, tells when it came, and may leave. Made by ``ask``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self._body = bytearray()
        self.answers = 0  # whole ones
        self.error: Exception | None = None
        self.surplus = b""  # bytes behind the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.answers += 1

    async def read_some(self) -> bool:
        """Read what comes next; False at the answer's or the connection's end."""
        try:
            data = await self._reader.read(65_536)
            if data:
                self._parser.feed_data(data)
        except (OSError, httptools.HttpParserError) as error:
            self.error = error
            return False
        return bool(data) and not self.answers

    async def read(self, seconds: float = 60.0) -> Self:
        """Read to the end."""
        async with asyncio.timeout(seconds):
            while await self.read_some():
                pass
        return self

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return bytes(self._body)

    def leave(self) -> None:
        """Close the connection, whatever has come."""
        self._writer.close()

    @property
    def is_whole(self) -> bool:
        """Whether an answer came to its end."""
        return self.answers == 1 and self.error is None


_numbers = itertools.count(1)


async def ask(port: int, *, stream: bool, max_tokens: int = 20, receive_buffer: int = 0, **extra: Any) -> Streaming:
    """Send a chat completion and return the client, before anything was read.

    ``receive_buffer`` bounds, in bytes, what the kernel takes for a client that doesn't read.
    """
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 65_536)
    content = f"request {next(_numbers)}"
    value = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, "stream": stream, **extra}
    data = json.dumps(value).encode()
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(data), data))
    return Streaming(reader, writer)


@contextlib.asynccontextmanager
async def asking(port: int, *, stream: bool, max_tokens: int = 20, **extra: Any) -> AsyncIterator[Streaming]:
    """Send a chat completion; the client is closed at the end."""
    client = await ask(port, stream=stream, max_tokens=max_tokens, **extra)
    try:
        yield client
    finally:
        client.leave()
