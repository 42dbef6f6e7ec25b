"""Rows of ``loop_stalls.py`` for what comes from other routers: aborts, over a Redis server and over workers' hub."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from stall_heart import Row, beating, instance, program, running, said, settle_memory, until
from tests.support.redis_server import RedisServer

from fd_router.admission.common_limits import CommonLimits
from fd_router.app.router import Router
from fd_router.app.state import Shared
from fd_router.app.workers.seat import Seat
from fd_router.state.local.hub import Hub

HANGING = """
class Instance(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        if data.startswith(b"GET "):
            self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
        elif b"abort" in data[:40]:
            self.transport.write(b"HTTP/1.1 404 Not Found\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
"""

HOLDING = """
import asyncio, sys
async def hold(port, at):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"prompt":"a","request_id":"held-%08d"}' % at
    head = b"POST /v1/completions HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
    writer.write(head + body)
    return reader, writer
async def main():
    for line in sys.stdin:
        held = [await hold(int(sys.argv[1]), at) for at in range(int(sys.argv[2]))]
        print("sent", flush=True)
        for reader, writer in held:
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.close()
        print("ended", flush=True)
asyncio.run(main())
"""

REPLICAS, WORKERS = "abort, by another replica", "abort, by another worker"


async def rows_of_bus(only: str, rounds: int, scale: float, directory: Path) -> list[Row]:
    """Measure them all, each so often; the shortest counts."""
    number, held = int(10_000 * scale), int(5000 * scale)
    ids = [f"{at:090}" for at in range(number)]
    rows: list[Row] = []
    name = f"{WORKERS}, of 10,000 ids"
    if only in name:
        async with _workers(directory) as (one, _):
            rows.append((name, 0, await _least(one, {"req_ids": ids}, rounds)))
    if shutil.which("redis-server") is None:
        return rows
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # as ``app.process`` does
    names, everything = [f"held-{at:08}" for at in range(held)], {"abort_all": True}
    waiting = {"protection": {"max-requests-per-instance": 1}, "admission": {"max-queued": held}}
    cases: tuple[tuple[str, dict[str, Any], dict[str, Any], int], ...] = (
        ("10,000 ids", {}, {"req_ids": ids}, 0),
        ("5,000 that run here", {}, {"req_ids": names}, held),
        ("all that run here, 5,000", {}, everything, held),
        ("all that wait here, 5,000", waiting, everything, held),
    )
    for what, sections, order, clients in cases:
        name = f"{REPLICAS}, of {what}"
        if only in name:
            async with _replicas(directory, sections) as (one, two, port):
                rows.append((name, 0, min([await _held_by(one, two, port, order, clients) for _ in range(rounds)])))
    return rows


async def _held_by(one: Router, two: Router, port: int, order: dict[str, Any], number: int) -> float:
    """Return how long the loop is held, in milliseconds, when ``one`` asks ``two``, where so many requests are."""
    with program(HOLDING, str(port), str(number)) as clients:
        await said(clients, "hold")
        await until(lambda: len(two._routing.in_flight) == number)  # noqa: SLF001
        held = await _least(one, order, 1)
        await said(clients)
        return held


async def _least(router: Router, order: dict[str, Any], rounds: int) -> float:
    """Return how long, in milliseconds, the loop that both routers are on is held when one asks the other."""
    shared, body = router._shared, json.dumps(order).encode()  # noqa: SLF001
    assert isinstance(shared, Shared)
    held = []
    for _ in range(rounds):
        settle_memory()
        with beating() as heart:
            answers = [*await shared.abort_elsewhere(body)]
            await asyncio.sleep(0.5)  # longer than the grace that engines have to end what they abort
            held.append(heart.longest)
        assert len(answers) == 1
    return min(held) * 1000


@asynccontextmanager
async def _replicas(directory: Path, more: dict[str, Any]) -> AsyncIterator[tuple[Router, Router, int]]:
    """Run two routers over a Redis server, with an instance that answers nothing; gives the second one's port, too."""
    with RedisServer() as redis, instance(HANGING) as hanging:
        (directory / "hanging.yaml").write_text(f"instances: [{{role: mixed, host_ip: 127.0.0.1, port: {hanging}}}]")
        manager = {"register-path": str(directory / "hanging.yaml"), "health-check-interval-secs": 3600}
        sections = {"state": {"url": redis.url}, "manager": manager, **more}
        async with AsyncExitStack() as stack:
            both = [await stack.enter_async_context(running(directory, sections)) for _ in range(2)]
            (one, _), (two, port) = both
            await until(lambda: _are_in_step(one, two))
            await until(lambda: bool(two._membership.registry.available("mixed")))  # noqa: SLF001
            yield one, two, port


@asynccontextmanager
async def _workers(directory: Path) -> AsyncIterator[tuple[Router, Router]]:
    """Run two workers, and the hub of their supervisor, all on this loop."""
    hub = Hub(CommonLimits(time.monotonic), time.monotonic)
    async with AsyncExitStack() as stack:
        both = []
        for index in range(2):
            (hubs, ours), (outlet, inlet) = socket.socketpair(), socket.socketpair()
            hubs.setblocking(False)
            stack.enter_context(outlet)
            await hub.join(f"bench/{index}", hubs)
            seat = Seat("bench", index, 2, inlet.detach(), ours.detach())
            both.append((await stack.enter_async_context(running(directory, {}, seat=seat)))[0])
        await until(lambda: _are_in_step(*both))
        yield both[0], both[1]
    hub.close()


def _are_in_step(*routers: Router) -> bool:
    shared = [router._shared for router in routers]  # noqa: SLF001
    return all(each is not None and each.sync.is_up and len(each.sync.peers) == 2 for each in shared)
