"""Rows of ``loop_stalls.py`` for what comes by no request: KV events, a cluster's Pods, names in the DNS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from processes import HERE
from stall_heart import Row, beating, program, running, said, settle_memory, until

from fd_router.engines.kv_sources import KvEventSource
from fd_router.instances.kv_events.sockets import Subscription, Subscriptions
from fd_router.scheduling.prefix.engine_blocks import EngineBlocks

TELLER = f"import runpy, sys; sys.path[:0] = [{str(HERE)!r}]; runpy.run_module('kv_teller', run_name='__main__')"

CLUSTER = f"""
import json, sys
sys.path[:0] = [{str(HERE.parent)!r}]
from tests.support.kubernetes_server import KubernetesServer, endpoint, endpoint_slice, pod
resource, number, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def objects(network):
    places = [f"127.{{network}}.{{at >> 8}}.{{at & 255}}" for at in range(1, number + 1)]
    if resource == "pods":
        return [pod(f"pod-{{network}}-{{at}}", place, port=port) for at, place in enumerate(places)]
    return [
        endpoint_slice(f"slice-{{network}}-{{at}}", *(endpoint(place, ready=True) for place in places[at : at + 100]))
        for at in range(0, number, 100)
    ]
def swap():
    server._pods.clear()
    server._events.clear()
with KubernetesServer(resource=resource) as server:
    server.put(*objects(101))
    print(server.kubeconfig(), flush=True)
    for line in sys.stdin:
        if line == "others\\n":  # while nobody looks
            server.refuses = 503
            server.end_watches(abruptly=True)
            server._do(swap)
        server.put(*objects(102 if line == "others\\n" else 103))
        if line == "others\\n":
            server.expire()
            server.refuses = 0
        print("done", flush=True)
"""

NAMES = f"""
import sys
sys.path[:0] = [{str(HERE.parent)!r}]
from tests.support.dns_server import DnsServer
number, services = int(sys.argv[1]), int(sys.argv[2])
with DnsServer() as server:
    server.truncates = True
    server.put("many.test", *(f"127.104.{{at >> 8}}.{{at & 255}}" for at in range(1, number + 1)), ttl=3600)
    targets = [(f"t{{at}}.test", f"127.105.{{at >> 8}}.{{at & 255}}") for at in range(1, services + 1)]
    for name, place in targets:
        server.put(name, place, ttl=3600)
    told = [f"0 0 {{1000 + at}} {{name}}." for at, (name, _) in enumerate(targets)]
    server.put("_http._tcp.test", *told, kind="SRV", ttl=3600)
    print(server.port, flush=True)
    sys.stdin.readline()
"""


class KvCase(NamedTuple):
    """What engines tell; see ``kv_teller``."""

    name: str
    kind: str
    engines: int = 1
    batches: int = 1
    is_replayed: bool = False


KV_CASES = (
    KvCase("KV events: 20,000 pages of a token, an event each", "pages"),
    KvCase("KV events: 700,000 tokens in one event", "chain"),
    KvCase("KV events: 270,000 pages of a token in one event", "chain_of_pages"),
    KvCase("KV events: 225,000 evictions", "evictions"),
    KvCase("KV events: 20,000 pages, and an event that isn't known", "others"),
    KvCase("KV events: 240,000 that are none", "no_events"),
    KvCase("KV events: 4 MB of extra keys", "keys"),
    KvCase("KV events: 20,000 pages of each of 8 engines at once", "pages", engines=8),
    KvCase("KV events: 8 messages of 20,000 pages, by a replay", "pages", batches=8, is_replayed=True),
)


async def measure_kv_events(case: KvCase, scale: float) -> float:
    """Return the longest time, in seconds, for which the loop did nothing else than to listen to these engines."""
    blocks = EngineBlocks(time.monotonic)
    subscriptions = Subscriptions(time.monotonic, blocks.flush)
    given = [case.kind, case.engines, case.batches, scale, int(case.is_replayed)]
    with program(TELLER, *map(str, given)) as engines, beating(time.thread_time) as heart:
        try:
            sources = [KvEventSource(live, replays) for live, replays in json.loads(await said(engines))]
            for at, source in enumerate(sources):
                subscriptions.add("127.0.0.1", source, blocks.cache(str(at)))
            await said(engines)
            await until(lambda: not any(each.stream.is_asking for each in subscriptions.all()))
            settle_memory()
            heart.longest = 0.0
            await said(engines, "tell")
            await until(lambda: all(_has_all(each, case.batches) for each in subscriptions.all()))
            return heart.longest
        finally:
            subscriptions.close()


def _has_all(subscription: Subscription, batches: int) -> bool:
    stream = subscription.stream
    return f"at {batches}," in repr(stream) and not stream.has_more and not stream.is_asking


async def measure_cluster(resource: str, number: int, port: int, directory: Path) -> list[float]:
    """Return how long the loop is held by a list of so many Pods or endpoints, one of others, and as many changes."""
    with program(CLUSTER, resource, str(number), str(port)) as cluster:
        (directory / "kubeconfig").write_text(await said(cluster))
        entry = {"label-selector": "app=engine", "resource": resource, "port": port,
                 "kubeconfig": str(directory / "kubeconfig")}  # fmt: skip
        held = []
        async with _discovering({"kubernetes": {"fleet": entry}}, directory) as (has, holds):
            held.append(await holds(nothing, has(101, number, port)))
            for told, network in (("others", 102), ("more", 103)):
                held.append(await holds(lambda told=told: said(cluster, told), has(network, number, port)))
        return held


async def measure_names(number: int, services: int, port: int, directory: Path) -> list[float]:
    """Return how long it is held by a name with so many addresses, and one with so many services."""
    with program(NAMES, str(number), str(services)) as server:
        servers = [f"127.0.0.1:{await said(server)}"]
        held = []
        entry: dict[str, Any]
        for name, entry, network, last, last_port in (
            ("many.test", {"port": port}, 104, number, port),
            ("_http._tcp.test", {}, 105, services, 999 + services),
        ):
            names = {name: {**entry, "nameservers": servers, "timeout-secs": 60}}
            async with _discovering({"dns": names}, directory) as (has, holds):
                held.append(await holds(nothing, has(network, last, last_port)))
        return held


Has = Callable[[int, int, int], Callable[[], bool]]
Holds = Callable[[Callable[[], Awaitable[object]], Callable[[], bool]], Awaitable[float]]


@asynccontextmanager
async def _discovering(discovery: dict[str, Any], directory: Path) -> AsyncIterator[tuple[Has, Holds]]:
    """Run a router. Gives what tells whether it has an instance; and what does, waits, and says what that held."""
    sections = {"discovery": discovery, "manager": {"health-check-interval-secs": 3600}}
    with beating() as heart:
        async with running(directory, sections) as (router, _):
            registry = router._membership.registry  # noqa: SLF001

            def has(network: int, number: int, port: int) -> Callable[[], bool]:
                key = f"127.{network}.{number >> 8}.{number & 255}:{port}"
                return lambda: registry.get(key) is not None

            async def holds(tell: Callable[[], Awaitable[object]], is_there: Callable[[], bool]) -> float:
                heart.longest = 0.0
                await tell()
                await until(is_there)
                await asyncio.sleep(0.05)
                return heart.longest

            yield has, holds


async def nothing() -> None:
    """Do nothing: it comes by itself."""


async def rows_of_sources(only: str, rounds: int, scale: float, port: int, directory: Path) -> list[Row]:
    """Measure them all, each so often; the shortest counts."""
    rows: list[Row] = []

    async def add(names: list[str], measure: Callable[[], Awaitable[list[float]]]) -> None:
        if any(only in name for name in names):
            held = [await measure() for _ in range(rounds)]
            rows.extend((name, 0, min(each) * 1000) for name, each in zip(names, zip(*held, strict=True), strict=True))

    is_smoke = scale < 1
    for case in KV_CASES[::4] if is_smoke else KV_CASES:

        async def measure(case: KvCase = case) -> list[float]:
            return [await measure_kv_events(case, scale)]

        await add([case.name], measure)
    number = max(100, int(10_000 * scale))
    for resource in ("pods",) if is_smoke else ("pods", "endpointslices"):
        what = {"pods": "Pods", "endpointslices": "endpoints of slices"}[resource]
        names = [f"Kubernetes: a list of 10,000 {what}", f"Kubernetes: a list of 10,000 other {what}",
                 f"Kubernetes: a watch tells of 10,000 {what}"]  # fmt: skip
        await add(names, lambda resource=resource: measure_cluster(resource, number, port, directory))  # type: ignore[misc]
    many, services = int(4000 * scale), int(1500 * scale)
    names = ["DNS: a name of 4,000 addresses", "DNS: a name of 1,500 services"]
    await add(names, lambda: measure_names(many, services, port, directory))
    return rows
