"""Several routers before one fleet, restarted and killed one after the other, and so is what they share, under load.

The clients do what a load balancer does: they ask every replica again and again whether it is ready, and send to those
that said so last. What was under way at a replica that was killed is lost with it; anything else that fails is a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

import msgspec

from tests.support.fleet import BUG, chat, eventually, sample
from tests.support.http_client import fetch, send
from tests.support.mock_process import MockProcess, RouterProcess, call
from tests.support.redis_server import RedisServer

CHAT = "/v1/chat/completions"
LOCALHOST = "127.0.0.1"
ANSWER_SECS = 60.0
HEAL_SECS = 60.0
"""How long everything may take to be well again: far more than it needs; machines may be busy."""

REPLICA_RESTARTED = "replica restarted"
REPLICA_KILLED = "replica killed"
ENGINE_KILLED = "engine killed"
ENGINE_STOPPED = "engine stopped"
ENGINE_RESTARTED = "engine restarted"
RESTARTED_WITHOUT_ENGINE = "replica restarted, engine killed"


class Plan(msgspec.Struct, frozen=True):
    """What happens, one after the other, and how much load there is meanwhile."""

    events: Sequence[str]
    replicas: int = 4
    workers: int = 1  # of each
    instances: int = 3
    clients: int = 12  # every other one streams
    tokens: int = 10
    stream_tokens: int = 60
    decode_ms: float = 10.0
    poll_secs: float = 0.1  # between two looks at whether a replica is ready
    drain_delay_secs: float = 0.6  # several times that
    away_secs: Sequence[float] = (1.0, 5.0)  # for which the state engine is away, in turns
    apart_secs: float = 0.5  # of load between two events
    seed: int = 1


class Report(msgspec.Struct):
    """What came of it."""

    answered: int = 0
    streams: int = 0  # of those
    lost_with_process: int = 0  # under way at a replica when that was killed
    moved: int = 0  # sent again elsewhere, since a replica that had been killed refused the connection
    done: Counter[str] = msgspec.field(default_factory=Counter)  # events
    failures: list[str] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)  # what wasn't as it should be afterwards


class Replica:
    """A router at a port, whichever process that is now."""

    def __init__(self, port: int, config: dict[str, Any]) -> None:
        self.port = port
        self.ready_until = 0.0  # by the monotonic clock: what a load balancer was told doesn't hold for ever
        self.life = 0  # which process it is, one after the other
        self.killed: set[int] = set()  # those that were killed
        self._config = config
        self._stack = contextlib.ExitStack()
        self.router = self._start()

    def _start(self) -> RouterProcess:
        wrapper = ["env"] if self._config["server"]["workers"] != "1" else []  # workers need a whole program
        router = RouterProcess(self._config, port=self.port, wrapper=wrapper)
        self._stack.callback(router.end)
        return router

    @property
    def is_ready(self) -> bool:
        """Whether the load balancer may send to it."""
        return time.monotonic() < self.ready_until

    def restart(self, *, kill: bool) -> list[str]:
        """End it, in order or by SIGKILL, and start it again. Returns what wasn't right about its end."""
        if kill:
            self.killed.add(self.life)
            self.router.kill()
            wrong = []
        else:
            code = self.router.stop()
            wrong = [f"a replica ended with {code}"] if code else []
        wrong += self.wrongs()
        self._stack.close()
        self.router = self._start()
        self.router.wait_until_up()
        self.life += 1
        return wrong

    def wrongs(self) -> list[str]:
        """What its log has that no router's may have."""
        written = self.router.output + self.router.log
        return [f"{part} in the log of {self.port}" for part in ("Traceback", BUG) if part in written]

    def metric(self, name: str) -> float:
        return sample(call(self.port, "GET", "/metrics")[1].decode(), name)

    def end(self) -> None:
        self._stack.close()


class Rollout:
    """Everything that runs. Leaving it ends it."""

    def __init__(self, plan: Plan, ports: Callable[[], int]) -> None:
        self.plan = plan
        self.report = Report()
        self.is_over = False
        self._stack = contextlib.ExitStack()
        self._dice = random.Random(plan.seed)
        self._away = itertools.cycle(plan.away_secs)
        self._engine = self._stack.enter_context(RedisServer())
        config = {
            "server": {"drain-delay-secs": plan.drain_delay_secs, "workers": str(plan.workers)},
            "state": {"url": self._engine.url, "timeout-secs": 0.5},
            "manager": {"health-check-interval-secs": 0.5},
            "log": {"output": "file"},
        }
        self.replicas = [Replica(ports(), config) for _ in range(plan.replicas)]
        for replica in self.replicas:
            self._stack.callback(replica.end)
        options = {"decode_ms_per_token": plan.decode_ms, "prefill_tokens_per_sec": 1_000_000, "heartbeat_secs": 0.5}
        keys = itertools.cycle(replica.router.key for replica in self.replicas)
        self.mocks = [MockProcess(router=next(keys), **options) for _ in range(plan.instances)]
        for mock in self.mocks:
            self._stack.callback(mock.end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # what a load balancer does

    async def look(self, replica: Replica) -> None:
        """Ask it whether it is ready, again and again."""
        while not self.is_over:
            asked_at, status = time.monotonic(), 0
            with contextlib.suppress(OSError):
                status = (await fetch(LOCALHOST, replica.port, "GET", "/ready", timeout_secs=5)).status
            # A busy machine may look late: the word must be gone before a replica that drains has closed its port.
            replica.ready_until = asked_at + self.plan.drain_delay_secs / 2 if status == 200 else 0.0
            await asyncio.sleep(self.plan.poll_secs)

    async def choose(self) -> Replica:
        """Return a replica that is ready. Raises TimeoutError when none ever is."""
        async with asyncio.timeout(HEAL_SECS):
            while not (ready := [each for each in self.replicas if each.is_ready]):  # noqa: ASYNC110
                await asyncio.sleep(self.plan.poll_secs)
        return self._dice.choice(ready)

    # clients

    async def ask_all(self, kind: Callable[[Replica], Any]) -> None:
        """Send one request after the other, each to a replica that is ready."""
        while not self.is_over:
            replica = await self.choose()
            life = replica.life
            try:
                async with asyncio.timeout(ANSWER_SECS):
                    problem = await kind(replica)
            except (OSError, EOFError, ValueError) as error:
                problem = repr(error)
                if life in replica.killed:
                    if isinstance(error, ConnectionRefusedError):
                        self.report.moved += 1
                    else:
                        self.report.lost_with_process += 1
                    continue
            if problem:
                self.report.failures.append(f"{kind.__qualname__} at {replica.port}: {problem}")
            else:
                self.report.answered += 1

    async def stream(self, replica: Replica) -> str:
        """Ask for a stream, over a connection of its own. Returns what is wrong with it, or nothing."""
        body = json.dumps(chat(max_tokens=self.plan.stream_tokens, stream=True)).encode()
        async with await send(LOCALHOST, replica.port, "POST", CHAT, body=body) as answer:
            text = await answer.read()
        events = text.count(b'"content":')
        if answer.status == 200 and text.endswith(b"data: [DONE]\n\n") and events >= self.plan.stream_tokens:
            self.report.streams += 1
            return ""
        return f"{answer.status} {text[-200:]!r}, {events} events"

    # events

    async def play(self) -> None:
        """Let everything happen that the plan says, each when all is well again after the one before."""
        turn = itertools.cycle(self.replicas)
        for event in self.plan.events:
            await asyncio.sleep(self.plan.apart_secs)
            if event in {REPLICA_RESTARTED, REPLICA_KILLED, RESTARTED_WITHOUT_ENGINE}:
                if event == RESTARTED_WITHOUT_ENGINE:
                    await asyncio.to_thread(self._engine.kill)
                wrong = await asyncio.to_thread(next(turn).restart, kill=event == REPLICA_KILLED)
                self.report.problems += wrong
                if event == RESTARTED_WITHOUT_ENGINE:
                    await asyncio.to_thread(self._engine.start)
            else:
                await self._hurt_engine(event)
            self.report.done[event] += 1
            await self.heal(event)

    async def _hurt_engine(self, event: str) -> None:
        if event == ENGINE_RESTARTED:
            await asyncio.to_thread(self._engine.stop)
            await asyncio.to_thread(self._engine.start)
        elif event == ENGINE_KILLED:
            await asyncio.to_thread(self._engine.kill)
            await asyncio.sleep(next(self._away))
            await asyncio.to_thread(self._engine.start)
        else:
            self._engine.pause()
            await asyncio.sleep(next(self._away))
            self._engine.go_on()

    async def heal(self, event: str) -> None:
        """Wait until every replica is ready, and all know of each other and of every instance."""
        try:
            await asyncio.to_thread(eventually, self._is_well, HEAL_SECS)
        except TimeoutError:
            self.report.problems.append(f"not well again {HEAL_SECS:g} s after: {event}")

    def _is_well(self) -> bool:
        if not all(replica.is_ready for replica in self.replicas):
            return False
        pages = [call(replica.port, "GET", "/metrics")[1].decode() for replica in self.replicas]
        workers, instances = self.plan.workers, len(self.mocks)
        peers = len(self.replicas) * workers
        wanted = {
            "fd_router_state_up": workers,
            "fd_router_state_peers": peers * workers,
            "fd_router_instances": instances,
        }
        return all(sample(page, name) == value for page in pages for name, value in wanted.items())

    # afterwards

    async def check(self) -> None:
        """Wait until nothing is counted anywhere, and note what is."""
        try:
            await asyncio.to_thread(eventually, lambda: not self._left(), HEAL_SECS)
        except TimeoutError:
            self.report.problems += self._left()
        for replica in self.replicas:
            self.report.problems += replica.wrongs()

    def _left(self) -> list[str]:
        left = [f"{mock.key} still runs {live}" for mock in self.mocks if (live := mock.state()["live"])]
        names = ("fd_router_instance_running_requests", "fd_router_instance_tokens")
        for replica in self.replicas:
            left += [f"{name} of {replica.port} is {count:g}" for name in names if (count := replica.metric(name))]
            for entry in replica.router.call("GET", "/instances")[1]["instances"]:
                counts = {name: entry[name] for name in ("running", "running_elsewhere") if entry.get(name)}
                left += [f"{entry['url']} at {replica.port}: {counts}"] if counts else []
        return left


class KeptClient:
    """Asks over a connection to each replica that it keeps for as long as that is ready and says that it may."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._kept: dict[Replica, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._body = json.dumps(chat(max_tokens=rollout.plan.tokens)).encode()

    async def ask(self, replica: Replica) -> str:
        """Ask for a whole answer. Returns what is wrong with it, or nothing."""
        for other in [each for each in self._kept if not each.is_ready]:
            self._kept.pop(other)[1].close()
        reader, writer = self._kept.pop(replica, None) or await asyncio.open_connection(LOCALHOST, replica.port)
        is_kept = False
        try:
            head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (CHAT.encode(), len(self._body)) + self._body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.partition(b"content-length:")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            is_kept = b"\r\nconnection: close" not in answer
        finally:
            if is_kept:
                self._kept[replica] = (reader, writer)
            else:
                writer.close()
        return "" if answer.split()[1] == b"200" else f"{answer.split()[1].decode()} {body[:200]!r}"

    def close(self) -> None:
        for _, writer in self._kept.values():
            writer.close()


@contextlib.asynccontextmanager
async def load(rollout: Rollout) -> AsyncIterator[None]:
    """Look at the replicas and send requests while this is open; wait for all answers then."""
    looks = [asyncio.create_task(rollout.look(replica)) for replica in rollout.replicas]
    kept = [KeptClient(rollout) for _ in range(rollout.plan.clients // 2)]
    await rollout.heal("the start")
    kinds: list[Callable[[Replica], Any]] = [*(client.ask for client in kept)]
    kinds += [rollout.stream] * (rollout.plan.clients - len(kept))
    clients = [asyncio.create_task(rollout.ask_all(kind)) for kind in kinds]
    try:
        yield
    finally:
        rollout.is_over = True
        await asyncio.gather(*clients, *looks)
        for client in kept:
            client.close()


async def run_rollout(plan: Plan, ports: Callable[[], int]) -> Report:
    """Run the plan to its end, and return what came of it."""
    rollout = await asyncio.to_thread(Rollout, plan, ports)
    try:
        async with load(rollout):
            await rollout.play()
            await asyncio.sleep(plan.apart_secs)
        await rollout.check()
    finally:
        await asyncio.to_thread(rollout.__exit__)
    return rollout.report
