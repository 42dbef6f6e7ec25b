"""Thousands of exchanges, broken at random in every state: whatever happens, all that was taken is given back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fd_router.instances.instance import Health
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post

STEPS = 500

REQUESTS = [
    post(),
    post(),
    post(b'{"prompt": "a b", "stream": true}'),
    post(b'{"prompt": "a b", "stream": true}', version="1.0"),
    post(version="1.0", headers="Connection: keep-alive\r\n"),
    post(headers="Connection: close\r\n"),
    post(headers="Connection: upgrade\r\nUpgrade: h2c\r\n"),
    post() * 3,
    post() * 20,
    post()[:-5],
    post()[:20],
    post(b"not json"),
    post(path="/nowhere"),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"nonsense\r\n\r\n",
    post(headers="Expect: 100-continue\r\n")[:-19],
]
ANSWERS = [
    answer(),
    answer(),
    answer(),
    STREAM_HEAD,
    STREAM_HEAD + chunk(b"one"),
    STREAM_HEAD + chunk(b"one") + STREAM_END,
    chunk(b"more"),
    chunk(b"more"),
    STREAM_END,
    STREAM_END,
    answer()[:-1],
    answer()[:20],
    answer(headers="Connection: close\r\n"),
    answer() + b"too much",
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    answer(b"", "204 No Content"),
    answer(b"bad", "500 Internal Server Error"),
    b"nonsense",
]


class Storm:
    """Does something at random to a rig, again and again."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig(
            3, policy="request_num", pool_max_idle=2, first_byte_timeout_secs=20, stall_timeout_secs=10,
            client_idle_timeout_secs=30, client_head_timeout_secs=5, client_body_timeout_secs=5,
        )  # fmt: skip
        self.full: set[FakeTransport] = set()
        self.acts: list[tuple[int, Callable[[], None]]] = [
            (30, self.request),
            (40, self.answer),
            (3, self.lose_client),
            (5, self.lose_instance),
            (4, self.fill_or_drain),
            (3, self.fail_connecting),
            (1, self.hang_or_not),
            (2, self.change_health),
            (1, self.retire),
        ]

    def pick_client(self) -> FakeTransport:
        live = [client for client in self.rig.clients if not client.is_closing()]
        if len(live) < 6:
            return self.rig.client()
        return self.rng.choice(live)

    def request(self) -> None:
        client = self.pick_client()
        if not client.paused:
            client.receive(self.rng.choice(REQUESTS), self.rng.choice((0, 0, 0, 11)))

    def answer(self) -> None:
        able = [x for x in self.rig.backend.live if not x.paused]
        busy = [x for x in able if not x.protocol.is_idle]  # type: ignore[union-attr]
        for transport in self.rng.sample(busy, min(2, len(busy))) or able[:1]:
            if not transport.is_closing() and not transport.paused:
                transport.receive(self.rng.choice(ANSWERS), self.rng.choice((0, 0, 0, 7)))

    def lose_client(self) -> None:
        self.pick_client().lose(self.rng.choice((None, ConnectionResetError())))

    def lose_instance(self) -> None:
        if live := self.rig.backend.live:
            self.rng.choice(live).lose(self.rng.choice((None, ConnectionResetError("reset by peer"))))

    def fill_or_drain(self) -> None:
        client = self.pick_client()
        if client in self.full:
            self.full.discard(client)
            client.protocol.resume_writing()  # type: ignore[union-attr]
        else:
            self.full.add(client)
            client.protocol.pause_writing()  # type: ignore[union-attr]

    def fail_connecting(self) -> None:
        error = self.rng.choice((ConnectionRefusedError(), OSError("no route"), TimeoutError()))
        self.rig.backend.failures.setdefault(f"10.0.0.{self.rng.randint(1, 3)}", []).append(error)

    def hang_or_not(self) -> None:
        self.rig.backend.hanging ^= {f"10.0.0.{self.rng.randint(1, 3)}"}

    def change_health(self) -> None:
        instance = self.rng.choice(self.rig.instances)
        instance.health = self.rng.choice((Health.HEALTHY, Health.HEALTHY, Health.SUSPECT))

    def retire(self) -> None:
        self.rig.pools.retire(self.rng.choice(self.rig.instances).key)

    async def rage(self) -> None:
        weights = [weight for weight, _ in self.acts]
        for _ in range(STEPS):
            self.rng.choices(self.acts, weights)[0][1]()
            for _ in range(self.rng.randint(0, 2)):
                await self.rig.pass_time(0.0) if self.rng.random() < 0.5 else self.rig.timers.run_soon()
            if self.rng.random() < 0.1:
                await self.rig.pass_time(self.rng.choice((0.3, 2.0, 12.0)))
            self.check()

    def check(self) -> None:
        """Hold at every moment: counts are never below zero, and never more is held than clients wait for."""
        waiting = sum(not x.protocol.is_idle for x in self.rig.clients if not x.ended)  # type: ignore[union-attr]
        running = [instance.running for instance in self.rig.instances]
        assert min(running) >= 0
        assert all(instance.tokens >= 0 for instance in self.rig.instances)
        assert sum(running) <= waiting

    async def calm(self) -> None:
        self.rig.backend.hanging.clear()
        for client in self.rig.clients:
            if not client.ended:
                client.lose()
        await self.rig.settle()


@pytest.mark.parametrize("seed", range(40))
async def test_everything_is_given_back(seed: int) -> None:
    storm = Storm(seed)
    await storm.rage()
    await storm.calm()
    rig = storm.rig
    assert rig.bugs == []
    assert rig.counts() == [(0, 0)] * 3
    assert all(transport.protocol.is_idle for transport in rig.backend.live)  # type: ignore[union-attr]
    assert not rig.state.connections
    assert len(rig.sweeper) == len(rig.backend.live)
    await rig.pass_time(5)  # the idle ones of retired pools too
    assert not rig.backend.live
    assert len(rig.sweeper) == len(rig.pools) == 0
    assert len(rig.records) > 10
    assert all(record.finished_at and record.status for record in rig.records)
    assert {record.outcome for record in rig.records} <= {"completed", "failed", "client_gone"}
