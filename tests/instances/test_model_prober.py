"""Instances are asked for their models when these matter: before they serve, and then at a slow pace."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import pytest

from fd_router.config.live import LiveConfig
from fd_router.engines.dialect import Dialect
from fd_router.errors import UpstreamError
from fd_router.instances.model_prober import ModelProber
from fd_router.instances.prober import HealthMonitor
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML
from tests.support.live import live_config, with_options
from tests.support.waiting import until


class Pages:
    """What each instance answers to ``GET /v1/models``."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes] | Exception] = {}
        self.asked: list[str] = []

    def serve(self, key: str, *names: str) -> None:
        self.answers[key] = 200, json.dumps({"data": [{"id": name} for name in names]}).encode()

    async def get_page(self, registration: Registration, path: str, _limit: float) -> tuple[int, bytes]:
        assert path == Dialect.models_path
        self.asked.append(registration.key)
        answer = self.answers.get(registration.key, (404, b""))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pages() -> Pages:
    return Pages()


def prober(registry: Registry, pages: Pages, live: LiveConfig | None = None, **options: Any) -> ModelProber:
    live = live or live_config(models={"discovery": "always", **options})
    return ModelProber(registry, pages.get_page, live)


def names(registry: Registry, key: str) -> list[str]:
    instance = registry.get(key)
    assert instance is not None
    return [card.name for card in instance.models]


async def test_they_are_known_before_the_first_request(registry, describe, pages: Pages, log) -> None:
    pages.serve("10.0.0.1:8000", "a")
    live = live_config(manager={"health_check_interval_secs": 1000.0})
    found: list[tuple[str, list[str]]] = []
    registry.on_change(lambda change: found.append((change.kind.value, [x.name for x in change.instance.models])))

    async def healthy(*_: object) -> int:
        return 200

    monitor = HealthMonitor(
        registry, healthy, clock=time.monotonic, rng=random.Random(1), live=live, log=log,
        learn=prober(registry, pages).learn,
    )  # fmt: skip
    listed = registry.register(describe(8000), REGISTER_YAML, index=0)
    await monitor.probe(listed)
    assert found == [("added", []), ("models", ["a"]), ("first up", ["a"])]
    await monitor.probe(listed)
    assert pages.asked == [listed.key], "one that serves isn't asked by each probe"
    pages.serve("10.0.0.1:8001", "b")
    await monitor.check(describe(8001))
    assert [x.name for x in registry.register(describe(8001)).models] == ["b"]


async def test_what_can_not_be_had_changes_nothing(registry, describe, pages: Pages) -> None:
    learner, registration = prober(registry, pages), describe(8000)
    registry.register(registration)
    pages.serve(registration.key, "a")
    await learner.learn(registration)
    for answer in ((404, b"{}"), (200, b"<html>"), UpstreamError("refused", "no", instance="x")):
        pages.answers[registration.key] = answer
        await learner.learn(registration)
        assert names(registry, registration.key) == ["a"]


async def test_who_tells_its_models_is_not_asked_nor_anybody_where_it_is_off(registry, describe, pages) -> None:
    await prober(registry, pages).learn(describe(8000, model="a"))
    await prober(registry, pages, discovery="never").learn(describe(8001, dialect="openai"))
    assert pages.asked == []


class TestAuto:
    """Fleets in which a model's name is nobody's concern are left alone."""

    async def test_nobody_is_asked_but_who_goes_by_the_name(self, registry, describe, pages: Pages) -> None:
        learner = prober(registry, pages, discovery="auto")
        await learner.learn(describe(8000))
        assert pages.asked == []
        await learner.learn(describe(8001, dialect="openai"))
        assert pages.asked == ["10.0.0.1:8001"]

    @pytest.mark.parametrize("sign", ["asked for", "told", "option", "learnt"])
    async def test_everybody_is_from_the_first_sign_on(self, registry, describe, pages: Pages, sign: str) -> None:
        live = live_config(models={"discovery": "auto"})
        learner = prober(registry, pages, live)
        registry.register(describe(8000))
        pages.serve("10.0.0.1:8000", "a")
        pages.serve("10.0.0.1:8001", "b")
        task = asyncio.create_task(learner.run())
        try:
            await asyncio.sleep(0.02)
            assert pages.asked == []
            if sign == "asked for":
                await learner.ensure()
                assert names(registry, "10.0.0.1:8000") == ["a"], "whoever asked gets the answer"
            elif sign == "told":
                registry.register(describe(8001, model="b"))
            elif sign == "option":
                live.replace(with_options(live.current, models={"default": "a"}))
            else:
                registry.register(describe(8001, dialect="openai"))
                await learner.learn(describe(8001, dialect="openai"))
            await until(lambda: names(registry, "10.0.0.1:8000") == ["a"])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def test_one_that_can_not_say_is_asked_once_for_all_who_want_to_know(self, registry, describe, pages) -> None:
        learner = prober(registry, pages, discovery="auto")
        registry.register(describe(8000))
        for _ in range(3):
            await learner.ensure()
        assert pages.asked == ["10.0.0.1:8000"]


async def test_an_adapter_that_is_loaded_is_noticed(registry, describe, pages: Pages) -> None:
    registry.register(describe(8000))
    registry.register(describe(8001), REGISTER_YAML)  # not healthy yet: it isn't asked
    pages.serve("10.0.0.1:8000", "a")
    task = asyncio.create_task(prober(registry, pages, refresh_interval_secs=0.01).run())
    try:
        await until(lambda: names(registry, "10.0.0.1:8000") == ["a"])
        pages.serve("10.0.0.1:8000", "a", "lora")
        await until(lambda: names(registry, "10.0.0.1:8000") == ["a", "lora"])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert set(pages.asked) == {"10.0.0.1:8000"}


async def test_who_wants_to_know_while_they_are_asked_waits_for_that(registry, describe, pages: Pages) -> None:
    gate = asyncio.Event()
    get_page = pages.get_page

    async def slow(registration: Registration, path: str, limit: float) -> tuple[int, bytes]:
        await gate.wait()
        return await get_page(registration, path, limit)

    pages.serve("10.0.0.1:8000", "a")
    registry.register(describe(8000))
    learner = ModelProber(registry, slow, live_config())
    first, second = (asyncio.create_task(learner.ensure()) for _ in range(2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    gate.set()
    await second
    assert names(registry, "10.0.0.1:8000") == ["a"]
    await first
    assert pages.asked == ["10.0.0.1:8000"]
