"""One random schedule of faults, drawn from a seed: a router, instances, clients and admins in one loop, over loopback.

``Schedule`` is what a seed draws, and prints itself; ``play`` carries it out and returns what was wrong. When all is
over nothing may be counted, open or lost: see ``_Play._check``.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fd_router.api.abort import GRACE_SECONDS
from fd_router.app.router import Router
from fd_router.config.loading import POLICIES, Config, Loaded
from fd_router.http.http1_stream import Http11Stream
from fd_router.openai.completion import Completion
from fd_router.routing.continuation.budget import JournalBudget
from fd_router.routing.life import RequestLife
from fd_router.routing.pair_legs import PairLeg
from fd_router.routing.request_queue import QueueTicket
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.text_log import RouterLog
from tests.support.faulty_instance import FaultyInstance
from tests.support.live import with_options
from tests.support.live_router import message
from tests.support.no_collector import New, no_collector
from tests.support.ports import free_port
from tests.support.random_client import LIMIT_SECS, Plan, RandomClient, draw_plan
from tests.support.telemetry_fakes import Outlet

OF_A_REQUEST = (RequestLife, Completion, Http11Stream, PairLeg, QueueTicket, Reservation)
QUIET_SECS = 40.0
"""How long it may take, after the last answer, until nothing is held."""

BUG_WORDS = ("A bug in the router", "This is a bug", "failed in the router", "Traceback")

EVENTS = {
    "reload": 4, "drain": 3, "undrain": 3, "remove": 2, "register": 4, "flip": 3, "pause": 1, "die": 4, "rise": 5,
    "abort": 6, "abort all": 1, "scrape": 2, "list": 1, "explain": 1, "drop connections": 2,
}  # fmt: skip


class Event(NamedTuple):
    """What an admin does, or fate."""

    at: float
    what: str
    instance: int
    number: int  # any, for what it is about


class Schedule:
    """What one seed draws."""

    def __init__(self, seed: int, *, seconds: float = 0.5, clients: int = 40) -> None:
        self.seed = seed
        dice = random.Random(seed)
        self.splitwise = dice.random() < 0.5
        self.policies = tuple(dice.choice(sorted(POLICIES)) for _ in range(3))
        self.roles = ["prefill", "prefill", "decode", "decode"] if self.splitwise else ["mixed"] * dice.randrange(1, 5)
        if self.splitwise and dice.random() < 0.5:
            self.roles += [dice.choice(("prefill", "decode"))]
        self.keys = ("sk-" + "a" * 30, "sk-" + "b" * 30) if dice.random() < 0.3 else ()
        self.options = self._draw_options(dice)
        self.drains = dice.random() < 0.15
        names = [*EVENTS]
        self.events = sorted(
            Event(
                round(dice.random() * seconds, 3),
                dice.choices(names, [*EVENTS.values()])[0],
                dice.randrange(len(self.roles)),
                dice.randrange(1000),
            )
            for _ in range(dice.randrange(0, 16))
        )
        self.plans: list[Plan] = [draw_plan(number, dice, self.keys, seconds) for number in range(clients)]
        self.seconds = seconds

    def _draw_options(self, dice: random.Random) -> dict[str, dict[str, Any]]:
        limit = dice.choice((0, 0, 1, 2, 4))
        return {
            "proxy": {
                "max_attempts": dice.choice((1, 2, 3, 5)),
                "first_byte_timeout_secs": 0.25,
                "prefill_timeout_secs": 0.2,
                "stall_timeout_secs": 0.25,
                "connect_timeout_secs": 0.3,
                "request_timeout_secs": dice.choice((0.0, 0.0, 0.4)),
                "client_body_timeout_secs": 0.3,
                "client_idle_timeout_secs": 1.0,
                "body_budget_mb": dice.choice((0, 0, 1, 2)),
                "preempt_retry_count": dice.choice((0, 1, 3)),
                "preempt_retry_exclude_decode": dice.random() < 0.5,
                "explain_header": dice.choice(("off", "always")),
                "pool_idle_timeout_secs": dice.choice((0.05, 4.0)),
                "continue_streams": dice.choice(("on", "on", "exact", "off")),
                "max_continuations": dice.choice((1, 8)),
                "stream_journal_kb": dice.choice((1, 100, 8192)),
                "journals_mb": dice.choice((0, 1, 256)),
            },
            "manager": {
                "health_check_interval_secs": dice.choice((0.05, 0.3)),
                "health_check_timeout_secs": 0.2,
                "instance_expiry_secs": dice.choice((0.2, 300.0)),
            },
            "protection": {
                "max_requests_per_instance": limit,
                "breaker_failures": dice.choice((0, 3)),
                "breaker_open_secs": 0.05,
                "breaker_max_open_secs": 0.1,
                "ledger_interval_secs": 0.2,
                "slow_start_secs": dice.choice((0.0, 0.3)),
            },
            "admission": {
                "max_queued": dice.choice((0, 3, 100)),
                "queue_timeout_secs": dice.choice((0.1, 0.5)),
            },
        }

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {'splitwise' if self.splitwise else 'centralized'}",
            f"  policies (mixed, prefill, decode) {', '.join(self.policies)}, instances {', '.join(self.roles)}",
            f"  {len(self.keys)} keys{', ends with a drain' if self.drains else ''}",
            *(f"  {section}: {options}" for section, options in self.options.items()),
            *(f"  {event}" for event in self.events),
            *(f"  {plan}" for plan in self.plans),
        ]
        return "\n".join(lines)


def play(schedule: Schedule, run: Callable[[Any], Any] = asyncio.run) -> tuple[list[str], Counter[str]]:
    """Carry ``schedule`` out in a loop of its own. Returns what was wrong, and how often what happened."""
    with tempfile.TemporaryDirectory(prefix="fd-router-random-") as directory, no_collector():
        files = _open_files()
        show = _Play(schedule, Path(directory))
        run(show.run())
        _free_indexes()
        wrongs, seen = show.wrongs, show.seen
        left = _open_files() - files
        if left > 0:
            wrongs.append(f"{left} files are left open")
        del show
    return wrongs, seen


def _free_indexes() -> None:
    """Take the trees of prefixes apart: the collector doesn't know their nodes, which end with a process otherwise."""
    for index in [one for one in gc.get_objects() if isinstance(one, PrefixIndex)]:
        for name in list(index._holders):
            index.remove(name)
        while index.sweep():
            pass
        assert not index.blocks


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class _Play:
    """A schedule under way."""

    def __init__(self, schedule: Schedule, directory: Path) -> None:
        self.wrongs: list[str] = []
        self.seen: Counter[str] = Counter()
        self._schedule = schedule
        self._dice = random.Random(schedule.seed + 1)
        self._outlet = Outlet()
        self._port = _PORTS[0]
        self._directory = directory
        self._of_requests, self._budgets = New(*OF_A_REQUEST), New(JournalBudget)
        self._config = self._make_config()
        first = 1 + schedule.seed % 250
        self._instances = [
            FaultyInstance(f"127.7.{first}.{number + 1}", _PORTS[1], random.Random(schedule.seed * 100 + number))
            for number in range(len(schedule.roles))
        ]
        self._admins: set[asyncio.Task[None]] = set()

    def _make_config(self) -> Config:
        schedule = self._schedule
        sections = {name: dict(options) for name, options in schedule.options.items()}
        mixed, prefill, decode = schedule.policies
        if schedule.keys:
            entries = [
                {
                    "name": f"key-{place}",
                    "sha256": hashlib.sha256(key.encode()).hexdigest(),
                    "max-concurrent": 5 * place,
                }
                for place, key in enumerate(schedule.keys)
            ]
            (self._directory / "keys.yaml").write_text(json.dumps({"keys": entries}))
            sections["access"] = {"keys_path": str(self._directory / "keys.yaml")}
        return with_options(
            Config(),
            server={
                "host": "127.0.0.1",
                "port": self._port,
                "splitwise": schedule.splitwise,
                "drain_delay_secs": 0.0,
                "drain_timeout_secs": 0.3,
            },
            scheduler={"policy": mixed, "prefill_policy": prefill, "decode_policy": decode},
            **sections,
        )

    async def run(self) -> None:
        self._router = router = Router(self._config, RouterLog(Sink(self._outlet)), lambda: Loaded(self._config))
        self._journals = self._budgets.all()
        await router.start()
        try:
            await self._play()
        finally:
            await router.stop()
            for instance in self._instances:
                instance.down()
            await asyncio.sleep(0.02)

    async def _play(self) -> None:
        for instance, role in zip(self._instances, self._schedule.roles, strict=True):
            await instance.up()
            await self._register(instance, role)
        clients = [RandomClient(plan, self._port) for plan in self._schedule.plans]
        tasks = [asyncio.create_task(client.run()) for client in clients]
        fate = asyncio.create_task(self._fate())
        await fate
        if self._schedule.drains:
            await self._router.drain(asyncio.Event())
        else:
            await self._heal()
        await asyncio.wait(tasks, timeout=LIMIT_SECS + 2)
        for task, client in zip(tasks, clients, strict=True):
            if not task.done():
                self.wrongs.append(f"{client.plan} never ends")
                task.cancel()
            elif (error := task.exception()) is not None:
                self.wrongs.append(f"{client.plan} met {error!r}")
            self.wrongs += client.wrongs
            self.seen.update(f"status {status}" for status in client.statuses)
        del tasks, client, clients, fate
        await self._check()

    # fate

    async def _fate(self) -> None:
        begun = asyncio.get_running_loop().time()
        for event in self._schedule.events:
            await asyncio.sleep(max(0.0, begun + event.at - asyncio.get_running_loop().time()))
            admin = asyncio.create_task(self._happen(event))
            self._admins.add(admin)
        await asyncio.sleep(max(0.0, begun + self._schedule.seconds - asyncio.get_running_loop().time()))
        for error in await asyncio.gather(*self._admins, return_exceptions=True):
            if error is not None:
                self.wrongs.append(f"an admin met {error!r}")

    async def _happen(self, event: Event) -> None:
        self.seen[event.what] += 1
        instance = self._instances[event.instance]
        if event.what == "reload":
            await self._reload(event.number)
        elif event.what in {"register", "pause", "flip"}:
            await self._register_anew(event, instance)
        elif event.what in {"die", "rise", "drop connections"}:
            await self._break(event.what, instance)
        else:
            await self._call(*self._order(event, f"/instances/{instance.host}:{instance.port}"))

    def _order(self, event: Event, path: str) -> tuple[Any, ...]:
        """Return what an admin asks: method, path, perhaps a body. ``path``: of the instance."""
        ids = [f"r-{(event.number + step) % 40}" for step in range(8)]
        return {
            "drain": ("POST", f"{path}/drain"),
            "undrain": ("POST", f"{path}/undrain"),
            "remove": ("DELETE", path),
            "abort": ("POST", "/v1/abort_requests", {"req_ids": ids}),
            "abort all": ("POST", "/v1/abort_requests", {"abort_all": True}),
            "explain": ("POST", "/v1/explain", {"prompt": "hello"}),
            "scrape": ("GET", "/metrics"),
            "list": ("GET", "/instances"),
        }[event.what]

    async def _register_anew(self, event: Event, instance: FaultyInstance) -> None:
        role = self._schedule.roles[event.instance]
        if event.what == "flip":
            roles = ("prefill", "decode") if self._schedule.splitwise else ("mixed", "decode")
            role = roles[event.number % 2]
        await self._register(instance, role, **({"status": "paused"} if event.what == "pause" else {}))

    async def _break(self, how: str, instance: FaultyInstance) -> None:
        if how == "rise":
            await instance.up()
        elif how == "die":
            instance.down()
        else:
            for connection in list(instance.connections):
                connection.die()

    async def _reload(self, number: int) -> None:
        self._config = with_options(
            self._config,
            proxy={"max_attempts": 1 + number % 4, "body_budget_mb": number % 3},
            admission={"max_queued": (0, 2, 50)[number % 3]},
            manager={"health_failure_threshold": 1 + number % 2},
        )
        await self._call("POST", "/admin/reload")

    async def _register(self, instance: FaultyInstance, role: str, **more: Any) -> None:
        await self._call("POST", "/register", {"role": role, "host_ip": instance.host, "port": instance.port, **more})

    async def _call(self, method: str, path: str, body: Any = None) -> bytes:
        data = message(json.dumps(body).encode() if body is not None else b"", method=method, path=path)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(data)
        try:
            answer = await asyncio.wait_for(reader.read(), LIMIT_SECS)
        finally:
            writer.close()
        if not answer.startswith(b"HTTP/1.1 "):
            self.wrongs.append(f"{method} {path} was answered {answer[:80]!r}")
        self.seen[f"{method} {path.split('/')[1]} {answer[9:12].decode()}"] += 1
        return answer

    async def _heal(self) -> None:
        """End all faults: from now on whatever is asked can be answered."""
        for instance, role in zip(self._instances, self._schedule.roles, strict=True):
            instance.is_healed = True
            await instance.up()
            await self._register(instance, role)
            await self._call("POST", f"/instances/{instance.host}:{instance.port}/undrain")

    # what must be true in the end

    async def _check(self) -> None:
        await self._become_quiet()
        for instance in self._instances:
            self.wrongs += instance.wrongs
            self.seen.update(instance.did)
        if not self._schedule.drains:
            await self._serves_again()
            await self._become_quiet()
        if self._of_requests.all():
            await asyncio.sleep(GRACE_SECONDS + 0.1)  # for so long an abort looks whether the engine ends the answer
        if left := Counter(type(one).__name__ for one in self._of_requests.all()):
            self.wrongs.append(f"left to the collector: {dict(left)}")
        self.wrongs += [line for line in self._outlet.text.splitlines() if any(words in line for words in BUG_WORDS)]

    async def _become_quiet(self) -> None:
        """Wait until nothing is held, or say what is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + QUIET_SECS
        while (held := self._held()) and loop.time() < end:  # noqa: ASYNC110  nobody tells of all of it
            await asyncio.sleep(0.02)
        self.wrongs += held

    def _held(self) -> list[str]:
        router = self._router
        registry = router._membership.registry
        found = {
            "running": sum(instance.running for instance in (*registry.all(), *registry.removed_in_use())),
            "tokens": sum(instance.tokens for instance in (*registry.all(), *registry.removed_in_use())),
            "in flight": len(router._routing.in_flight),
            "queued": sum(router._admission.queues.lengths().values()),
            "bytes of bodies": router.state.budget.held,
            "proxied": len(router.state.proxied_requests()),
            "bytes of journals": sum(budget.used for budget in self._journals),
            "busy connections": sum(router._pools.busy(f"{one.host}:{one.port}") for one in self._instances),
        }
        if (gate := router._admission.gate) is not None:
            found["of keys"] = sum(allowance.running for allowance in gate._store.all())
        return [f"{what}: {number} are held" for what, number in found.items() if number]

    async def _serves_again(self) -> None:
        """With all instances well, requests are answered."""
        key = f"Authorization: Bearer {self._schedule.keys[0]}\r\n" if self._schedule.keys else ""
        answer = b""
        for _ in range(200):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(message(b'{"prompt": "mark-1-1"}', headers=key))
            answer = await asyncio.wait_for(reader.read(), LIMIT_SECS)
            writer.close()
            if answer.startswith(b"HTTP/1.1 200 "):
                return
            await self._register_lost()
            await asyncio.sleep(0.02)
        self.wrongs.append(f"the last request got {answer[:300]!r}")

    async def _register_lost(self) -> None:
        """Register, as a heartbeat does, what a slow machine's late probes have made the router forget."""
        for instance, role in zip(self._instances, self._schedule.roles, strict=True):
            if self._router._membership.registry.get(f"{instance.host}:{instance.port}") is None:
                await self._register(instance, role)


_PORTS = (free_port(), free_port())
"""The router's, and all instances', which have addresses of their own."""
