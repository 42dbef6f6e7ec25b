"""What prefill instances are asked before they make pairs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.engines.pairing import Question
from fd_router.errors import UpstreamError
from fd_router.instances.instance import Instance
from fd_router.instances.pair_learner import PairLearner
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from tests.support.fake_log import FakeLog
from tests.support.live import live_config

ENGINES = b'{"0":{"engine_id":"e-0","worker_addr":{}}}'
MOONCAKE: dict[str, Any] = {"dialect": "vllm", "kv_transfer": {"kv_connector": "MooncakeConnector"}}

Describe = Callable[..., Registration]


class Scene:
    def __init__(self) -> None:
        self.log = FakeLog()
        self.registry = Registry(clock=lambda: 0.0, log=self.log, live=live_config(), dialects=Dialects())
        self.answers: list[tuple[int, bytes] | UpstreamError] = []
        self.asked: list[tuple[str, Question]] = []
        self.learner = PairLearner(self.registry, self.ask, log=self.log, retry_secs=0.0)

    async def ask(self, instance: Instance, question: Question) -> tuple[int, bytes]:
        self.asked.append((instance.key, question))
        answer = self.answers.pop(0)
        if isinstance(answer, UpstreamError):
            raise answer
        return answer

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    runs = asyncio.create_task(scene.learner.run())
    yield scene
    runs.cancel()
    await asyncio.gather(runs, return_exceptions=True)


async def test_it_pairs_once_it_has_answered(scene: Scene, describe: Describe) -> None:
    scene.answers = [
        (404, b""),
        UpstreamError("refused", "connection refused", instance="x"),
        (200, b"{}"),
        (200, ENGINES),
    ]
    prefill = scene.registry.register(describe(1, role="prefill", **MOONCAKE))
    decode = scene.registry.register(describe(2, role="decode", **MOONCAKE))
    assert not prefill.can_pair_with(decode)
    before = scene.registry.group("prefill").available
    await scene.settle()
    assert scene.asked == [(prefill.key, Question(8998, "/query"))] * 4
    assert prefill.can_pair_with(decode)
    assert scene.registry.group("prefill").available is not before
    assert sum("makes no pairs yet" in line for _, line in scene.log.lines) == 3


async def test_who_needs_no_answer_is_not_asked(scene: Scene, describe: Describe) -> None:
    scene.registry.register(describe(1, role="prefill", dialect="vllm"))
    scene.registry.register(describe(2, role="decode", **MOONCAKE))
    scene.registry.register(describe(3, role="prefill"))
    await scene.settle()
    assert scene.asked == []


async def test_one_that_comes_back_while_the_one_before_it_is_asked_is_asked_too(
    scene: Scene, describe: Describe
) -> None:
    gate, ask = asyncio.Event(), scene.ask

    async def slow(instance: Instance, question: Question) -> tuple[int, bytes]:
        answer = await ask(instance, question)
        await gate.wait()
        return answer

    scene.learner._ask = slow
    scene.answers = [(503, b""), (200, ENGINES)]
    registration = describe(1, role="prefill", **MOONCAKE)
    scene.registry.register(registration)
    await scene.settle()
    scene.registry.remove(registration.key)
    prefill = scene.registry.register(registration)  # another one at the same address
    decode = scene.registry.register(describe(2, role="decode", **MOONCAKE))
    gate.set()
    await scene.settle()
    assert len(scene.asked) == 2
    assert prefill.can_pair_with(decode)


async def test_one_that_has_gone_again_meanwhile_is_not_asked(scene: Scene, describe: Describe) -> None:
    gate = asyncio.Event()

    async def slow(instance: Instance, question: Question) -> tuple[int, bytes]:
        scene.asked.append((instance.key, question))
        await gate.wait()
        return 503, b""

    scene.learner._ask = slow
    registration = describe(1, role="prefill", **MOONCAKE)
    for _ in range(2):
        scene.registry.register(registration)
        await scene.settle()
        scene.registry.remove(registration.key)
    gate.set()
    await scene.settle()
    assert len(scene.asked) == 1
    assert repr(scene.learner) == "<PairLearner 0 asked>"
