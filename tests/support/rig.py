"""A whole proxy on fake transports: clients on one side, instances on the other, and the test in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from fd_router.engines.dialect import Dialect
from fd_router.http.connection_pool import Pools
from fd_router.http.cors import CORS_FIELDS, Cors
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.forwarding import Forwarding
from fd_router.http.messages import Routes
from fd_router.http.server_connection import ServerConnection
from fd_router.http.server_context import ServerContext, ServerState, build_server_context
from fd_router.http.write_batcher import WriteBatcher
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import parse_registration
from fd_router.openai.endpoints import COMPLETIONS
from fd_router.routing.in_flight import InFlight
from fd_router.routing.single import SingleContext, SingleInstanceRequest
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from fd_router.scheduling.scheduler import Scheduler
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry
from tests.support.fake_transport import FakeLoop, FakeTransport
from tests.support.live import live_config
from tests.support.scheduling_fakes import AskedGroup
from tests.support.telemetry_fakes import Outlet

PATH = "/v1/completions"


def make_instance(
    number: int, role: str = "mixed", dialect: Dialect | None = None, told: Mapping[str, Any] | None = None
) -> Instance:
    registered = {"role": role, "host_ip": f"10.0.0.{number}", "port": 8000, **(told or {})}
    instance = Instance(parse_registration(registered), dialect)
    instance.health = Health.HEALTHY
    return instance


def make_telemetry() -> tuple[Telemetry, Outlet]:
    outlet = Outlet()
    return Telemetry(RouterLog(Sink(outlet)), Metrics()), outlet


class Backend:
    """The network behind the proxy: takes the place of the loop's ``create_connection``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.opened: list[FakeTransport] = []
        self.failures: dict[str, list[BaseException]] = {}  # host → what connecting to it raises, each once
        self.hanging: set[str] = set()  # hosts that never answer

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[FakeTransport, asyncio.Protocol]:
        await asyncio.sleep(0)
        if host in self.hanging:
            await asyncio.Event().wait()
        if self.failures.get(host):
            raise self.failures[host].pop(0)
        transport = FakeTransport(self.loop, (host, port))
        protocol = factory()
        transport.connect(protocol)
        self.opened.append(transport)
        return transport, protocol

    @property
    def live(self) -> list[FakeTransport]:
        return [transport for transport in self.opened if not transport.is_closing()]


class Rig:
    """Needs a running loop. Time limits follow ``timers``, which moves only when told to."""

    def __init__(
        self,
        instances: int = 2,
        *,
        routes: Routes | None = None,
        policy: str = "round_robin",
        admission: Mapping[str, Any] | None = None,
        trusted: Collection[str] = (),
        cors: Cors | None = None,
        **settings: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.timers = FakeLoop()
        self.backend = Backend(self.loop)
        self.bugs: list[dict[str, Any]] = []  # what callbacks of the loop raised
        self.loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        self.loop.create_connection = self.backend.create_connection  # type: ignore[method-assign,assignment]
        self.instances = [make_instance(number) for number in range(1, instances + 1)]
        self.telemetry, self.outlet = make_telemetry()
        self.sweeper = DeadlineSweeper(self.timers)  # type: ignore[arg-type]
        self.sweeper.start()
        self.batcher = WriteBatcher(self.loop)
        self.live = live_config(proxy=settings, admission=admission or {})
        dropped = CORS_FIELDS if cors is not None else frozenset()
        self.pools = Pools(self.live, self.sweeper, self.batcher, dropped=dropped)
        self.failed: list[tuple[str, str]] = []  # told to the registry
        self.records: list[RequestRecord] = []
        self.clients: list[FakeTransport] = []
        self.context = self._make_context(policy)
        self.state = ServerState(self.live, self.sweeper)
        self.server = self._make_server(routes or {}, forwarding=Forwarding(frozenset(trusted), "fd-router"), cors=cors)

    def _make_context(self, policy: str) -> SingleContext:
        kind = {"round_robin": RoundRobinPolicy, "request_num": RequestNumPolicy}[policy]
        chooser = kind(Environment(self.timers.time, random.Random(1)))
        scheduler = Scheduler[Instance](AskedGroup(self.available), chooser, lambda: "none is there")
        return SingleContext(
            endpoint=COMPLETIONS,
            select=scheduler.select,
            live=self.live,
            connection_failed=lambda instance, reason: self.failed.append((instance.key, reason)),
            pools=self.pools,
            telemetry=self.telemetry,
            clock=self.timers.time,
            in_flight=InFlight(),
        )

    def change(self, **context: Any) -> None:
        """Give the requests from now on another context."""
        self.context = msgspec.structs.replace(self.context, **context)

    def _make_server(self, routes: Routes, **more: Any) -> ServerContext:
        ids = (f"id-{number}" for number in range(1_000_000))
        return build_server_context(
            routes, {PATH: {"POST": self._start}}, self.live, self.state, sweeper=self.sweeper, batcher=self.batcher,
            clock=self.timers.time, make_id=ids.__next__, log=self.telemetry.log, finish=self.telemetry.finish, **more,
        )  # fmt: skip

    def _start(self, request: Any, client: Any, record: RequestRecord) -> SingleInstanceRequest:
        self.records.append(record)
        return SingleInstanceRequest(self.context, request, client, record)

    def available(self) -> Sequence[Instance]:
        return [instance for instance in self.instances if instance.health is Health.HEALTHY]

    # what tests do

    def client(self) -> FakeTransport:
        """Connect one more client."""
        transport = FakeTransport(self.loop, (f"10.9.9.{len(self.clients) + 1}", 4000))
        transport.connect(ServerConnection(self.server))
        self.clients.append(transport)
        return transport

    async def settle(self) -> None:
        """Let tasks and callbacks run until nothing is due."""
        for _ in range(12):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        self.timers.advance(seconds)
        await self.settle()

    async def ask(self, client: FakeTransport, body: bytes = b'{"prompt": "hello"}', **more: Any) -> FakeTransport:
        """Send a request, and return the connection on which it reached an instance."""
        before = {id(transport): len(transport.writes) for transport in self.backend.opened}
        client.receive(post(body, **more))
        await self.settle()
        (reached,) = [x for x in self.backend.opened if len(x.writes) > before.get(id(x), 0)]
        return reached

    def counts(self) -> list[tuple[int, int]]:
        return [(instance.running, instance.tokens) for instance in self.instances]

    @property
    def log_lines(self) -> list[str]:
        return self.outlet.text.splitlines()

    def assert_nothing_is_held(self) -> None:
        """Every count is zero, and what is still open is idle in a pool."""
        assert self.bugs == []
        assert self.counts() == [(0, 0)] * len(self.instances)
        assert self.state.budget.held == 0
        assert all(transport.protocol.is_idle for transport in self.backend.live)  # type: ignore[union-attr]
        assert len(self.pools) == len(self.backend.live)


def post(body: bytes = b'{"prompt": "hello"}', path: str = PATH, version: str = "1.1", headers: str = "") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer(body: bytes = b"fine", status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"
