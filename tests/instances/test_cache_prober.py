"""When instances are asked for the size of their caches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fd_router.engines.cache_facts import CacheFacts
from fd_router.engines.openai import OpenAiDialect
from fd_router.engines.vllm import VllmDialect
from fd_router.errors import UpstreamError
from fd_router.instances.cache_prober import AT_ONCE, INTERVAL_SECS, CacheProber
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import Registration

PAGE = b'vllm:cache_config_info{engine="0",kv_cache_size_tokens="4096",num_gpu_blocks="128",block_size="32"} 1.0\n'


class Rig:
    def __init__(self, instances: list[Instance]) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.told: list[tuple[str, CacheFacts]] = []
        self.answer: tuple[int, bytes] | UpstreamError = (200, PAGE)
        self.prober = CacheProber(lambda: instances, self._get, self._on_facts, lambda: self.now)

    async def _get(self, instance: Instance, time_limit: float) -> tuple[int, bytes]:
        assert time_limit > 0
        self.asked.append(instance.key)
        if isinstance(self.answer, UpstreamError):
            raise self.answer
        return self.answer

    def _on_facts(self, instance: Instance, facts: CacheFacts) -> None:
        self.told.append((instance.key, facts))


@pytest.fixture
def instance(describe: Callable[..., Registration]) -> Instance:
    instance = Instance(describe(1), VllmDialect())
    instance.health = Health.HEALTHY
    return instance


async def test_one_is_asked_when_it_is_healthy_and_again_later(instance: Instance) -> None:
    rig = Rig([instance])
    await rig.prober.ask()
    await rig.prober.ask()
    assert rig.told == [(instance.key, CacheFacts(4096, 128, 1))]
    rig.now += INTERVAL_SECS
    await rig.prober.ask()
    assert len(rig.told) == 2


async def test_one_that_was_away_is_asked_at_once(instance: Instance) -> None:
    rig = Rig([instance])
    await rig.prober.ask()
    instance.health = Health.UNHEALTHY
    rig.now += 1
    await rig.prober.ask()
    assert len(rig.asked) == 1
    instance.health = Health.HEALTHY
    await rig.prober.ask()
    assert len(rig.asked) == 2


async def test_one_whose_engine_tells_nothing_isnt_asked(describe: Callable[..., Registration]) -> None:
    plain = Instance(describe(2), OpenAiDialect())
    plain.health = Health.HEALTHY
    rig = Rig([plain])
    await rig.prober.ask()
    assert rig.asked == []


@pytest.mark.parametrize("answer", [(500, PAGE), (200, b"nothing"), UpstreamError("timeout", "late", instance="x")])
async def test_an_answer_that_says_nothing(instance: Instance, answer: tuple[int, bytes] | UpstreamError) -> None:
    rig = Rig([instance])
    rig.answer = answer
    await rig.prober.ask()
    assert (rig.asked, rig.told) == ([instance.key], [])


async def test_one_that_goes_is_not_asked_and_what_it_answers_is_not_told(
    describe: Callable[..., Registration],
) -> None:
    """Another process at its address would be thought to have its cache."""
    instances = [Instance(describe(8000 + number), VllmDialect()) for number in range(AT_ONCE + 1)]
    for each in instances:
        each.health = Health.HEALTHY
    rig, gate = Rig(instances), asyncio.Event()
    answered = rig._get

    async def slow(instance: Instance, time_limit: float) -> tuple[int, bytes]:
        await gate.wait()
        return await answered(instance, time_limit)

    rig.prober._get_page = slow
    asking = asyncio.create_task(rig.prober.ask())
    await asyncio.sleep(0)
    first, last = instances[0], instances[-1]
    first.health = last.health = Health.UNHEALTHY  # as those that were removed
    gate.set()
    await asking
    assert last.key not in rig.asked
    assert {key for key, _ in rig.told} == {each.key for each in instances[1:-1]}


class Set:
    """Several probers of the same instance; what one tells the others hear at once."""

    def __init__(self, instance: Instance) -> None:
        self.owner = 0
        self.are_heard = True
        self.rigs = [Rig([instance]) for _ in range(3)]
        for number, rig in enumerate(self.rigs):
            rig.prober = CacheProber(
                lambda: [instance], rig._get, rig._on_facts, lambda rig=rig: rig.now, self.Member(self, number)
            )

    class Member:
        def __init__(self, of: Set, number: int) -> None:
            self.of = of
            self.number = number

        def is_mine(self, key: str) -> bool:
            return self.number == self.of.owner

        def tell(self, key: str, facts: CacheFacts | None) -> None:
            for number, rig in enumerate(self.of.rigs if self.of.are_heard else ()):
                if number != self.number:
                    rig.prober.hear(key, facts)

    async def pass_time(self, seconds: float) -> list[int]:
        """Let the time go by; return how often each has asked."""
        for rig in self.rigs:
            rig.asked.clear()
        for _ in range(int(seconds)):
            for rig in self.rigs:
                await rig.prober.ask()
                rig.now += 1
        return [len(rig.asked) for rig in self.rigs]


@pytest.mark.parametrize("answer", [(200, PAGE), (200, b"nothing")])
async def test_of_several_processes_one_asks_again_and_the_others_hear_of_it(
    instance: Instance, answer: tuple[int, bytes]
) -> None:
    several = Set(instance)
    for rig in several.rigs:
        rig.answer = answer
    assert await several.pass_time(1) == [1, 1, 1], "each wants to know at once"
    for rig in several.rigs:
        rig.told.clear()
    assert await several.pass_time(10 * INTERVAL_SECS) == [10, 0, 0]
    assert {len(rig.told) for rig in several.rigs} == {10 if answer[1] == PAGE else 0}
    several.owner = 2  # the first one has ended, say
    asked = await several.pass_time(10 * INTERVAL_SECS)
    assert asked[0] <= 1
    assert asked[1] == 0
    assert asked[2] >= 8


async def test_who_hears_nothing_asks_for_itself(instance: Instance) -> None:
    several = Set(instance)
    several.are_heard = False  # the owner is of an older version, or can't reach the instance
    asked = await several.pass_time(10 * INTERVAL_SECS)
    assert asked == [10, 5, 5]


async def test_what_others_say_of_one_that_is_down_here_is_passed_over(instance: Instance) -> None:
    rig = Rig([instance])
    await rig.prober.ask()
    rig.told.clear()
    instance.health = Health.UNHEALTHY
    rig.prober.hear(instance.key, CacheFacts(1, 1, 1))
    rig.prober.hear("nobody's", CacheFacts(1, 1, 1))
    assert rig.told == []
