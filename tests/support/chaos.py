"""Faults that strike while clients ask: what each does to four instances or the router, and what came of it.

Real processes. Every request has an id of its own, which its answer must carry; clients keep their connections as long
as these hold, so that an answer too many would be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import itertools
import json
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httptools
import msgspec

from tests.support import jumping_clock
from tests.support.fleet import BUG, sample
from tests.support.mock_process import MockProcess, RouterProcess, call
from tests.support.ports import free_port

CHAT = "/v1/chat/completions"
LIMIT_SECS = 3.0
"""How long an instance may take to begin an answer, in this router."""

ANSWER_SECS = 15.0
"""A request that takes longer is lost."""

CALM_SECS = 40.0
"""How long everything may take to be as before."""

SPARE_FILES = 40
"""Open files that the router may have more than before: kept connections."""


class Plan(msgspec.Struct, frozen=True):
    """How much of it. The fault strikes after ``before`` seconds and is undone after ``fault`` more.

    It is over ``after`` seconds later, and not before ``least`` requests were answered.
    """

    before: float = 1.0
    fault: float = 3.0
    after: float = 2.0
    clients: int = 16
    instances: int = 4
    least: int = 10


class Report(msgspec.Struct):
    """What came of one fault. ``lost``: no answer at all, and none that broke off visibly."""

    fault: str
    endings: Counter[str] = msgspec.field(default_factory=Counter)
    problems: list[str] = msgspec.field(default_factory=list)
    recovered_secs: float | None = None  # after the fault was undone; None: never

    @property
    def sent(self) -> int:
        """Requests altogether."""
        return self.endings.total()


class Fleet:
    """A router and its instances, which faults may do anything to."""

    def __init__(self, plan: Plan, stack: contextlib.ExitStack) -> None:
        self._plan = plan
        self._stack = stack
        self.router_port = free_port()
        self.ports = [free_port() for _ in range(plan.instances)]
        self.mocks: list[MockProcess] = []
        self.router: RouterProcess

    def start(self) -> None:
        """Start everything, and wait until it serves."""
        for port in self.ports:
            self.mocks.append(self.launch(port))
        self.start_router()
        for mock in self.mocks:
            mock.wait_until_up()
        self.router.wait_for_instances(len(self.mocks))
        _until(lambda: self.metric("fd_router_instance_healthy") == len(self.mocks))

    def launch(self, port: int) -> MockProcess:
        """Start an instance."""
        mock = MockProcess(port=port, decode_ms_per_token=5, prefill_tokens_per_sec=1e6, record=0, max_running=10_000)
        self._stack.callback(mock.end)
        return mock

    def start_router(self) -> None:
        """Start the router."""
        config = {
            "scheduler": {"policy": "request_num"},
            "manager": {"health-check-interval-secs": 0.5, "health-check-timeout-secs": 1},
            "proxy": {"first-byte-timeout-secs": LIMIT_SECS, "pool-idle-timeout-secs": 2},
            "log": {"output": "file"},
        }
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": port} for port in self.ports]
        self.router = RouterProcess(config, port=self.router_port, instances=entries, wrapper=jumping_clock.WRAPPER)
        self._stack.callback(self.router.end)
        self.router.wait_until_up()

    def metric(self, name: str) -> float:
        """Return the sum of a router's metric."""
        return sample(call(self.router_port, "GET", "/metrics")[1].decode(), name)


Fault = Callable[[Fleet], Callable[[], None]]
"""Does harm, and returns what undoes it."""


def nothing(fleet: Fleet) -> Callable[[], None]:
    """For comparison."""
    return lambda: None


def killed(fleet: Fleet) -> Callable[[], None]:
    """An instance ends by SIGKILL."""
    fleet.mocks[0].kill()

    def undo() -> None:
        fleet.mocks[0] = fleet.launch(fleet.ports[0])

    return undo


def stopped(fleet: Fleet) -> Callable[[], None]:
    """An instance stands still; its connections stay."""
    fleet.mocks[0].pause()
    return fleet.mocks[0].resume


def mock_fault(fault: str) -> Fault:
    """Return the fault that a mock instance does on demand."""

    def strike(fleet: Fleet) -> Callable[[], None]:
        fleet.mocks[0].set_faults(fault)
        return fleet.mocks[0].set_faults

    return strike


class _Stranger(http.server.BaseHTTPRequestHandler):
    """Another program that speaks HTTP, and knows nothing of what an engine is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(404)

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


def port_taken(fleet: Fleet) -> Callable[[], None]:
    """An instance ends, and its port is another program's."""
    fleet.mocks[0].kill()
    stranger = http.server.ThreadingHTTPServer(("127.0.0.1", fleet.ports[0]), _Stranger)
    stranger.daemon_threads = True
    thread = threading.Thread(target=stranger.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def undo() -> None:
        stranger.shutdown()
        stranger.server_close()
        thread.join()
        fleet.mocks[0] = fleet.launch(fleet.ports[0])

    return undo


def disk_full(fleet: Fleet) -> Callable[[], None]:
    """The log can't grow."""
    pid, log = fleet.router.process.pid, fleet.router.directory / "logs" / "router.log"
    size = log.stat().st_size
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None


def no_files(fleet: Fleet) -> Callable[[], None]:
    """The router may open no more files."""
    pid = fleet.router.process.pid
    opened = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before) and None


def router_killed(fleet: Fleet) -> Callable[[], None]:
    """The router ends by SIGKILL, and is started again at once."""
    fleet.router.kill()
    fleet.start_router()
    return lambda: None


class Trial(msgspec.Struct, frozen=True):
    """A fault, and what it may cost: ``endings`` that would be wrong without it."""

    name: str
    fault: Fault
    may: frozenset[str] = frozenset()


ERROR, BROKEN, LOST, WRONG, ANSWERED = "error", "broke off", "lost", "wrong", "answered"
TRIALS = (
    Trial("nothing", nothing),
    Trial("instance killed", killed, frozenset({BROKEN})),
    Trial("instance stopped", stopped, frozenset({ERROR, BROKEN})),
    Trial("instance slow", mock_fault("slow:head_secs=1")),
    Trial("instance resets", mock_fault("reset_before_head")),
    Trial("instance answers garbage", mock_fault("garbage"), frozenset({ERROR})),
    Trial("instance says nothing", mock_fault("hang_before_head"), frozenset({ERROR})),
    Trial("instance cuts answers off", mock_fault("cut_mid_body"), frozenset({BROKEN})),
    Trial("port taken by a stranger", port_taken, frozenset({ERROR, BROKEN})),
    Trial("disk full", disk_full),
    Trial("no open files left", no_files, frozenset({ERROR, LOST})),
    Trial("clock jumps", lambda fleet: jumping_clock.jump(fleet.router)),
    Trial("router killed", router_killed, frozenset({LOST, BROKEN})),
)


async def run_trial(trial: Trial, plan: Plan) -> Report:
    """Start a fleet, ask, strike, undo, wait, count."""
    report = Report(trial.name)
    with contextlib.ExitStack() as stack:
        fleet = Fleet(plan, stack)
        await asyncio.to_thread(fleet.start)
        files = fleet.metric("process_open_fds")
        load = Load(fleet.router_port, report)
        async with asyncio.TaskGroup() as group:
            for _ in range(plan.clients):
                group.create_task(load.run())
            await asyncio.sleep(plan.before)
            undo = await asyncio.to_thread(trial.fault, fleet)
            try:
                await asyncio.sleep(plan.fault)
            finally:
                await asyncio.to_thread(undo)
            undone = time.monotonic()
            await asyncio.sleep(plan.after)
            if not await _becomes(lambda: report.endings[ANSWERED] >= plan.least):
                report.problems.append("nearly nothing was answered")
            load.is_over = True
        report.problems += [f"{number} {ending}" for ending, number in report.endings.items() if _is_bad(ending, trial)]
        is_well = await _becomes(partial(_is_well, fleet, len(fleet.mocks)))
        if is_well:
            report.recovered_secs = max(0.0, load.last_failure - undone)
        else:
            report.problems.append("not all instances are back")
        allowed = files + SPARE_FILES
        if not await _becomes(lambda: not leaks(fleet, allowed)):
            report.problems += leaks(fleet, allowed)
        if BUG in fleet.router.log or "Traceback" in fleet.router.output:
            report.problems.append("the router met a bug of its own")
    return report


def _is_bad(ending: str, trial: Trial) -> bool:
    return ending != ANSWERED and ending not in trial.may


def _is_well(fleet: Fleet, number: int) -> bool:
    return fleet.metric("fd_router_instance_healthy") == number


def leaks(fleet: Fleet, files: float) -> list[str]:
    """Return what the router still counts, or holds open."""
    found = []
    for name in ("fd_router_instance_running_requests", "fd_router_instance_tokens"):
        if number := fleet.metric(name):
            found.append(f"leaked: {name} is {number:g}")
    if (opened := fleet.metric("process_open_fds")) > files:
        found.append(f"leaked: {opened:g} files are open")
    return found


class Load:
    """Clients that ask one thing after the other, every second one for a stream."""

    def __init__(self, port: int, report: Report) -> None:
        self._port = port
        self._report = report
        self._numbers = itertools.count(1)
        self.is_over = False
        self.last_failure = 0.0  # monotonic seconds

    async def run(self) -> None:
        """Be one client, until it is over."""
        connection: _Connection | None = None
        while not self.is_over:
            number = next(self._numbers)
            try:
                async with asyncio.timeout(ANSWER_SECS):
                    if connection is None:
                        connection = await _Connection.open(self._port)
                    ending = await connection.ask(f"chaos-{number}", stream=number % 2 == 0)
            except (OSError, TimeoutError, httptools.HttpParserError) as error:
                ending = LOST
                self._report.problems += [] if isinstance(error, OSError) else [f"chaos-{number}: {error!r}"]
            self._report.endings[ending] += 1
            if ending != ANSWERED:
                self.last_failure = time.monotonic()
                await asyncio.sleep(0.05)
            if connection is not None and not connection.is_usable:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


class _Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_usable = True
        self._begins = self._ends = 0
        self._body = bytearray()

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def close(self) -> None:
        self._writer.transport.abort()

    async def ask(self, request_id: str, *, stream: bool) -> str:
        """Send a request; return how it ended."""
        self.is_usable = False
        self._begins = self._ends = 0
        self._body = bytearray()
        parser = httptools.HttpResponseParser(self)
        self._writer.write(_request(request_id, stream=stream))
        while not self._ends and (data := await self._reader.read(65_536)):
            parser.feed_data(data)
        if not self._begins:
            return LOST
        if not self._ends:
            return BROKEN
        self.is_usable = parser.should_keep_alive()
        if parser.get_status_code() != 200:
            return ERROR
        return ANSWERED if self._begins == 1 and f'"chatcmpl-{request_id}'.encode() in self._body else WRONG

    def on_message_begin(self) -> None:
        self._begins += 1

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._ends += 1


def _request(request_id: str, *, stream: bool) -> bytes:
    value = {"request_id": request_id, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
    body = json.dumps({**value, "stream": stream}).encode()
    return b"POST %b HTTP/1.1\r\nhost: router\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)


async def _becomes(condition: Callable[[], bool]) -> bool:
    """Wait until ``condition`` holds; say whether it does within ``CALM_SECS``."""
    until = time.monotonic() + CALM_SECS
    while not await asyncio.to_thread(_holds, condition):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.1)
    return True


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + CALM_SECS
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("the fleet doesn't serve")
        time.sleep(0.05)
