"""A disaggregated fleet under fire: many requests at once while instances of both roles are killed and come back.

Real processes; each instance that dies does so by SIGKILL, in the middle of whatever it does. Every request has an
id of its own, which its answer must carry, and clients keep their connections: an answer too many would be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import time
from collections import Counter
from collections.abc import Iterator

import httptools
import msgspec

from tests.support.mock_process import MockProcess, RouterProcess, call
from tests.support.ports import free_port

CHAT = "/v1/chat/completions"
ROLES = ("prefill", "decode")
ANSWER_SECS = 60.0
"""A request that takes longer has no answer."""

CALM_SECS = 15.0
"""How long counts and connections may take to come back, once nobody asks any more."""

SPARE_DESCRIPTORS = 20
"""Open files that a router may have more than before: probes under way, connections to be closed."""


class Plan(msgspec.Struct, frozen=True):
    """How much of it, and how long."""

    seconds: float = 30.0
    concurrent: int = 2000
    most: int = 200_000  # requests altogether
    instances: int = 4  # of each role
    kill_every_secs: float = 1.0
    tokens: int = 8
    decode_ms: float = 100.0


class Report(msgspec.Struct):
    """What came of it. ``endings`` counts requests by how they ended."""

    endings: Counter[str] = msgspec.field(default_factory=Counter)
    kills: int = 0
    retries: int = 0
    seconds: float = 0.0
    errors: list[str] = msgspec.field(default_factory=list)  # what those who were answered with an error were told
    unanswered: list[str] = msgspec.field(default_factory=list)
    wrong: list[str] = msgspec.field(default_factory=list)  # another request's answer, or one too many
    leaked: list[str] = msgspec.field(default_factory=list)

    @property
    def sent(self) -> int:
        """Requests altogether."""
        return self.endings.total()

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        return [*self.unanswered, *self.wrong, *self.leaked]


async def run_chaos(plan: Plan) -> Report:
    """Do it all: start, ask, kill, wait, count."""
    _allow_many_connections()
    with contextlib.ExitStack() as stack:
        fleet = _Fleet(plan, stack)
        await asyncio.to_thread(fleet.start)
        report = Report()
        before = fleet.metric("process_open_fds")
        start = time.monotonic()
        deadline = start + plan.seconds
        numbers = itertools.count(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(_kill(fleet, plan, deadline, report))
            for _ in range(plan.concurrent):
                group.create_task(_Worker(fleet.router.port, plan, numbers, report).run(deadline))
        report.seconds = time.monotonic() - start
        report.retries = round(fleet.metric("fd_router_retries_total"))
        report.leaked = await _leaks(fleet, before)
        return report


class _Fleet:
    """The processes, each ended by its own handle."""

    def __init__(self, plan: Plan, stack: contextlib.ExitStack) -> None:
        self._plan = plan
        self._stack = stack
        self._ports = {role: [free_port() for _ in range(plan.instances)] for role in ROLES}
        self._mocks: dict[tuple[str, int], MockProcess] = {}
        self.router: RouterProcess

    def start(self) -> None:
        config = {
            "server": {"splitwise": True},
            "scheduler": {"prefill-policy": "request_num"},
            "manager": {"health-check-interval-secs": 0.5, "health-check-timeout-secs": 5},
            "proxy": {"pool-idle-timeout-secs": 1, "prefill-timeout-secs": 20, "first-byte-timeout-secs": 20},
            "protection": {"ledger-interval-secs": 0.02},  # counts must be true all the time
            "log": {"output": "file", "level": "error"},
        }
        self.router = RouterProcess(config)
        self._stack.callback(self.router.end)
        self.router.wait_until_up()
        places = [(role, index) for role in ROLES for index in range(self._plan.instances)]
        for place in places:
            self.launch(*place)
        self.router.wait_for_instances(len(places))

    def launch(self, role: str, index: int) -> None:
        """Start an instance; it registers itself."""
        mock = MockProcess(
            port=self._ports[role][index], role=role, router=self.router.key, heartbeat_secs=0.5,
            decode_ms_per_token=self._plan.decode_ms, prefill_tokens_per_sec=1e6, record=0, max_running=10_000,
            kv_wait_secs=10,
        )  # fmt: skip
        self._mocks[role, index] = mock
        self._stack.callback(mock.end)

    def kill(self, role: str, index: int) -> None:
        """End an instance, whatever it is doing."""
        self._mocks[role, index].end()

    def states(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Give the state of each instance that answers."""
        for (role, index), mock in self._mocks.items():
            with contextlib.suppress(OSError):
                yield f"{role}-{index + 1}", mock.state()

    def metric(self, name: str) -> float:
        """Return the sum of a router's metric."""
        lines = call(self.router.port, "GET", "/metrics")[1].decode().splitlines()
        samples = [line.rpartition(" ") for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(value) for _, _, value in samples)


async def _kill(fleet: _Fleet, plan: Plan, deadline: float, report: Report) -> None:
    """Kill the next instance of each role every second, and start it again."""
    for index in itertools.cycle(range(plan.instances)):
        await asyncio.sleep(plan.kill_every_secs)
        if time.monotonic() > deadline - plan.kill_every_secs:
            return
        for role in ROLES:
            fleet.kill(role, index)
            fleet.launch(role, index)
            report.kills += 1


class _Worker:
    """A client: one request after the other, over a connection that is kept as long as it holds."""

    def __init__(self, port: int, plan: Plan, numbers: Iterator[int], report: Report) -> None:
        self._port = port
        self._plan = plan
        self._numbers = numbers
        self._report = report
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            number = next(self._numbers)
            if number > self._plan.most:
                break
            try:
                async with asyncio.timeout(ANSWER_SECS):
                    ending = await self._ask(f"chaos-{number}", stream=number % 2 == 0)
            except (OSError, TimeoutError, httptools.HttpParserError) as error:
                ending = "no answer"
                self._report.unanswered.append(f"chaos-{number}: {type(error).__name__} {error}")
                self._hang_up()
            self._report.endings[ending] += 1
        self._hang_up()

    async def _ask(self, request_id: str, *, stream: bool) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(_request(request_id, self._plan.tokens, stream=stream))
        answer = _Answer()
        while not answer.ends:
            data = await reader.read(65_536)
            if not data:
                break
            answer.parser.feed_data(data)
        if not (answer.ends and answer.parser.should_keep_alive()):
            self._hang_up()
        return self._judge(answer, request_id)

    def _judge(self, answer: _Answer, request_id: str) -> str:
        if answer.begins != 1 or (answer.status == 200 and f'"chatcmpl-{request_id}'.encode() not in answer.body):
            if not answer.begins:
                self._report.unanswered.append(f"{request_id}: the connection was closed")
                return "no answer"
            self._report.wrong.append(f"{request_id}: {answer.begins} answers, {bytes(answer.body[:120])!r}")
            return "wrong answer"
        if not answer.ends:
            return "a stream that broke off, as the client saw"
        if answer.status != 200:
            self._report.errors.append(f"{request_id}: {answer.status} {bytes(answer.body).decode('utf-8', 'replace')}")
            return f"an error, {answer.status}"
        return "answered"

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class _Answer:
    """What the parser has found."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.begins = 0
        self.ends = 0

    @property
    def status(self) -> int:
        return self.parser.get_status_code()

    def on_message_begin(self) -> None:
        self.begins += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def _request(request_id: str, tokens: int, *, stream: bool) -> bytes:
    body = json.dumps({
        "request_id": request_id,
        "messages": [{"role": "user", "content": "Is anybody there?"}],
        "max_tokens": tokens,
        "stream": stream,
    }).encode()  # fmt: skip
    return b"POST %b HTTP/1.1\r\nhost: router\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)


async def _leaks(fleet: _Fleet, descriptors: float) -> list[str]:
    """Return what is still counted or open after ``CALM_SECS``."""
    pause = 0.1
    found = await asyncio.to_thread(_find_leaks, fleet, descriptors)
    for _ in range(round(CALM_SECS / pause)):
        if not found:
            break
        await asyncio.sleep(pause)
        found = await asyncio.to_thread(_find_leaks, fleet, descriptors)
    return found


def _find_leaks(fleet: _Fleet, descriptors: float) -> list[str]:
    found = []
    counts = ("fd_router_instance_running_requests", "fd_router_instance_tokens", "fd_router_ledger_repairs_total")
    for name in counts:
        if number := fleet.metric(name):
            found.append(f"{name} is {number:g}")
    more = fleet.metric("process_open_fds") - descriptors
    if more > SPARE_DESCRIPTORS:
        found.append(f"the router has {more:g} open files more than before")
    for name, state in fleet.states():
        for key in ("in_flight", "live", "running", "waiting", "kv_expected", "kv_held", "duplicates", "refused_pairs"):
            if state[key]:
                found.append(f"{name}: {key} is {state[key]}")
    return found


def _allow_many_connections() -> None:
    """Raise the limit of open files for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
