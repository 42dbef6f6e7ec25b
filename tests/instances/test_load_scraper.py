"""The scraper: everybody at once, again and again, one warning for a silent one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fd_router.engines.engine_load import EngineLoad
from fd_router.engines.openai import OpenAiDialect
from fd_router.errors import UpstreamError
from fd_router.instances.instance import Instance
from fd_router.instances.load_scraper import LoadScraper
from fd_router.instances.registration import Registration
from tests.support.turns import slice_finely
from tests.support.waiting import until

PAGE = "fastdeploy:num_requests_running {}\nfastdeploy:num_requests_waiting {}\navailable_gpu_block_num {}\n"


class Setting:
    """Instances with pages, and a scraper that reads them."""

    def __init__(self, instances: list[Instance], log: Any, clock: Any, **options: Any) -> None:
        self.instances = instances
        self.clock = clock
        self.pages: dict[str, str | Exception] = {}
        self.status = 200
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.most = self.now_asked = 0
        self.reports: list[tuple[str, float, float, int]] = []
        self.capacities: list[tuple[str, int]] = []
        self.scraper = LoadScraper(
            lambda: self.instances, self.get, self, clock=clock, log=log, interval=0.005, max_age=1.0,
            on_capacity=lambda instance, blocks: self.capacities.append((instance.url, blocks)), **options,
        )  # fmt: skip

    def report(self, url: str, running: float, waiting: float, own: int) -> None:
        self.reports.append((url, running, waiting, own))

    async def get(self, instance: Instance, limit: float) -> tuple[int, bytes]:
        assert limit == 1.0
        self.asked.append(instance.url)
        self.now_asked += 1
        self.most = max(self.most, self.now_asked)
        try:
            await self.gate.wait()
        finally:
            self.now_asked -= 1
        page = self.pages.get(instance.url, PAGE.format(1, 2, 0))
        if isinstance(page, Exception):
            raise page
        return self.status, page.encode()

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.scraper.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def make(describe: Callable[..., Registration], log: Any, clock: Any) -> Callable[..., Setting]:
    def make(count: int = 1, **options: Any) -> Setting:
        return Setting([Instance(describe(8001 + number)) for number in range(count)], log, clock, **options)

    return make


def refused(instance: Instance) -> UpstreamError:
    return UpstreamError("refused", "connection refused", instance=instance.url)


async def test_figures_are_reported_with_this_routers_own_count_when_it_asked(make: Callable[..., Setting]) -> None:
    setting = make()
    (instance,) = setting.instances
    setting.pages[instance.url] = PAGE.format(7, 3, 0)
    setting.gate.clear()
    instance.acquire(10)
    async with setting.running():
        await until(lambda: bool(setting.asked))
        instance.acquire(10)  # comes after the question: the answer may not know of it
        setting.gate.set()
        await until(lambda: len(setting.reports) >= 2)
    assert setting.reports[:2] == [(instance.url, 7, 3, 1), (instance.url, 7, 3, 2)]


async def test_all_are_asked_at_once_and_a_slow_one_not_twice(make: Callable[..., Setting], clock: Any) -> None:
    setting = make(5)
    setting.gate.clear()
    async with setting.running():
        await until(lambda: setting.now_asked == 5)
        await asyncio.sleep(0.03)
        assert len(setting.asked) == 5
        setting.gate.set()
        await until(lambda: len(setting.reports) >= 15)
    assert setting.now_asked == 0


async def test_no_more_than_allowed_are_asked_at_once(make: Callable[..., Setting]) -> None:
    setting = make(9, max_concurrent=3)
    async with setting.running():
        await until(lambda: len(setting.reports) >= 18)
    assert setting.most <= 3


async def test_one_warning_for_a_silent_instance(make: Callable[..., Setting], log: Any, clock: Any) -> None:
    setting = make(2)
    silent, good = setting.instances
    setting.pages[silent.url] = refused(silent)
    async with setting.running():
        await until(lambda: setting.asked.count(silent.url) >= 3)
        assert log.lines == []
        clock.now += 1.5
        await until(lambda: len(log.lines) > 0)
        asked = len(setting.asked)
        await until(lambda: len(setting.asked) >= asked + 6)
        assert [line for line in log.lines if silent.url in line[1]] == [
            ("warn", f"No load figures from {silent.url} for 1.5 s; this router's own counts are used")
        ]
        setting.pages[silent.url] = PAGE.format(1, 1, 0)
        await until(lambda: ("info", f"Load figures from {silent.url} again") in log.lines)
    assert {url for url, *_ in setting.reports} == {silent.url, good.url}


@pytest.mark.parametrize("page", ["", "nothing known 3\n"])
async def test_a_page_without_the_gauges_is_no_figure(make: Callable[..., Setting], page: str) -> None:
    setting = make()
    setting.pages[setting.instances[0].url] = page
    async with setting.running():
        await until(lambda: len(setting.asked) >= 3)
    assert setting.reports == []


async def test_an_error_page_is_no_figure(make: Callable[..., Setting]) -> None:
    setting = make()
    setting.status = 503
    async with setting.running():
        await until(lambda: len(setting.asked) >= 3)
    assert setting.reports == []


async def test_the_most_blocks_ever_told_are_the_capacity(make: Callable[..., Setting]) -> None:
    setting = make()
    (instance,) = setting.instances
    async with setting.running():
        for blocks in (50, 20, 60):
            setting.pages[instance.url] = PAGE.format(0, 0, blocks)
            count = len(setting.reports)
            await until(lambda count=count: len(setting.reports) >= count + 3)  # type: ignore[misc]
    assert setting.capacities == [(instance.url, 50), (instance.url, 60)]


async def test_an_instance_that_was_forgotten_meanwhile_reports_nothing(make: Callable[..., Setting]) -> None:
    setting = make()
    (instance,) = setting.instances
    setting.gate.clear()
    async with setting.running():
        await until(lambda: bool(setting.asked))
        setting.instances = []
        setting.scraper.forget(instance)
        setting.gate.set()
        await until(lambda: setting.now_asked == 0)
        await asyncio.sleep(0)
        assert repr(setting.scraper) == "<LoadScraper 0 instances, 0 asked, 0 silent>"
    assert setting.reports == []


async def test_one_that_is_forgotten_amid_a_round_is_not_asked(
    make: Callable[..., Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_finely(monkeypatch)
    setting = make(3)
    gone = setting.instances[2]
    round_ = asyncio.create_task(setting.scraper._start_round())
    await asyncio.sleep(0)
    setting.scraper.forget(gone)
    await round_
    await until(lambda: len(setting.reports) == 2)
    assert gone.url not in setting.asked
    assert repr(setting.scraper).startswith("<LoadScraper 2 instances")
    await setting.scraper._start_round()  # it is back
    await until(lambda: gone.url in setting.asked)


async def test_what_the_one_before_at_an_address_answers_is_no_word_of_the_next(
    make: Callable[..., Setting], clock: Any
) -> None:
    setting = make()
    (instance,) = setting.instances
    asked = 0

    async def get(_: Instance, __: float) -> tuple[int, bytes]:
        nonlocal asked
        asked += 1
        if asked > 1:
            return 200, PAGE.format(1, 1, 100).encode()
        await setting.gate.wait()
        return 200, PAGE.format(9, 9, 900).encode()

    setting.gate.clear()
    setting.scraper._get_metrics = get
    async with setting.running():
        await until(lambda: asked == 1)
        setting.scraper.forget(instance)
        clock.now += 0.5
        await until(lambda: instance.url in setting.scraper._answered)  # another round: it is known again
        setting.gate.set()
        await until(lambda: bool(setting.reports))
    assert setting.reports[0][1] == 1
    assert setting.capacities == [(instance.url, 100)]


async def test_the_end_ends_what_is_under_way(make: Callable[..., Setting]) -> None:
    setting = make(3)
    setting.gate.clear()
    async with setting.running():
        await until(lambda: setting.now_asked == 3)
    assert setting.now_asked == 0


async def test_a_dialect_that_fails_to_read_a_page_is_told_once(make: Callable[..., Setting], log: Any) -> None:
    setting = make()

    class Broken(OpenAiDialect):
        fails = True

        def read_load(self, page: bytes) -> EngineLoad | None:
            if self.fails:
                raise ZeroDivisionError
            return super().read_load(page)

    setting.instances[0].dialect = Broken()
    async with setting.running():
        await until(lambda: len(setting.asked) > 3)
        ((_, line),) = log.lines
        assert "failed in read_load for http://" in line
        assert "ZeroDivisionError at test_load_scraper.py" in line
        Broken.fails = False
        await until(lambda: bool(setting.reports))
