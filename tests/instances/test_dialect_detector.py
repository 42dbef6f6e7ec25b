"""Which dialect an instance is found to speak that tells none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fd_router.errors import UpstreamError
from fd_router.instances.dialect_detector import DialectDetector
from fd_router.instances.instance import Instance
from fd_router.instances.registration import Registration
from fd_router.instances.registry import Registry
from fd_router.instances.source import NAMED, REGISTER_API, REGISTER_YAML, STATE_FILE, Source, discovery
from tests.support.fake_log import FakeLog
from tests.support.live import live_config

Describe = Callable[..., Registration]

VLLM = {"/metrics": b"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0.0\n"}
FASTDEPLOY = {"/metrics": b"fastdeploy:num_requests_running 0.0\n"}
SGLANG = {"/server_info": b'{"disaggregation_mode":"null"}'}


class Setting:
    def __init__(self, registry: Registry, log: FakeLog, describe: Describe, **options: Any) -> None:
        self.registry = registry
        self.describe = describe
        self.pages: dict[str, bytes] = {}
        self.error: UpstreamError | None = None
        self.asked: list[str] = []
        live = live_config(instances=options)
        self.detector = DialectDetector(registry, self.get, live, log=log)

    async def get(self, instance: Instance, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return (200, self.pages[path]) if path in self.pages else (404, b"")

    async def comes_up(self, source: Source = NAMED, **told: Any) -> Instance:
        instance = self.registry.register(self.describe(1, **told), source)
        self.registry.probe_succeeded(instance)
        await self.settle()
        return instance

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
def setting(registry: Registry, log: FakeLog, describe: Describe) -> Setting:
    return Setting(registry, log, describe)


@pytest.mark.parametrize(
    ("pages", "name"),
    [
        (VLLM, "vllm"),
        (FASTDEPLOY, "fastdeploy"),
        (SGLANG, "sglang"),
        ({"/metrics": b"sglang:num_running_reqs 0\n"}, "sglang"),
        ({"/version": b'{"version":"0.32.0"}'}, "vllm"),
        ({"/metrics": b"other 1\nmy_vllm:x 1\n", "/version": b'{"version":"1","of":"another"}'}, "fastdeploy"),
        ({}, "fastdeploy"),
    ],
)
async def test_what_it_answers_tells_what_it_is(setting: Setting, pages: dict[str, bytes], name: str) -> None:
    setting.pages = pages
    instance = await setting.comes_up()
    assert instance.dialect is setting.registry.dialects.named(name)


async def test_what_it_tells_itself_is_believed(setting: Setting) -> None:
    setting.pages = VLLM
    assert (await setting.comes_up(dialect="openai")).dialect.name == "openai"
    assert setting.asked == []


async def test_heartbeats_leave_it_as_it_is(setting: Setting) -> None:
    setting.pages = VLLM
    instance = await setting.comes_up()
    before = setting.registry.group("mixed").candidates()
    setting.registry.register(setting.describe(1, max_requests=5), NAMED)
    await setting.settle()
    assert instance.dialect.name == setting.registry.dialect_of(instance.registration).name == "vllm"
    assert before == (instance,)
    setting.registry.register(setting.describe(1, dialect="openai"), NAMED)
    assert instance.dialect.name == "openai"
    assert setting.asked == ["/metrics"]


async def test_another_engine_may_come_up_there(setting: Setting) -> None:
    setting.pages = VLLM
    instance = await setting.comes_up()
    setting.registry.probe_failed(instance, "status 503")
    setting.pages = SGLANG
    setting.registry.probe_succeeded(instance)
    await setting.settle()
    assert instance.dialect.name == "sglang"


async def test_one_that_doesnt_answer_keeps_its_dialect(setting: Setting) -> None:
    setting.error = UpstreamError("refused", "nobody", instance="http://10.0.0.1:1")
    assert (await setting.comes_up()).dialect.name == "fastdeploy"


@pytest.mark.parametrize(
    ("when", "source", "is_asked"),
    [
        ("auto", NAMED, True),
        ("auto", discovery("my_source", 0), True),
        ("auto", REGISTER_API, False),
        ("auto", REGISTER_YAML, False),
        ("auto", STATE_FILE, False),
        ("always", REGISTER_API, True),
        ("never", NAMED, False),
    ],
)
async def test_who_is_named_in_fastdeploys_way_is_fastdeploy(
    registry: Registry, log: FakeLog, describe: Describe, when: str, source: Source, is_asked: bool
) -> None:
    setting = Setting(registry, log, describe, detect_dialects=when)
    setting.pages = VLLM
    instance = await setting.comes_up(source)
    assert bool(setting.asked) is is_asked
    assert instance.dialect.name == ("vllm" if is_asked else "fastdeploy")


async def test_nothing_outlives_it(setting: Setting) -> None:
    run = asyncio.create_task(setting.detector.run())
    await asyncio.sleep(0)
    instance = setting.registry.register(setting.describe(1), NAMED)
    setting.registry.probe_succeeded(instance)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({"role": "prefill"}, True),
        ({"role": "decode"}, True),
        ({"role": "prefill", "connector_port": 8200}, False),
        ({"role": "decode", "rdma_ports": ["7100"]}, False),
        ({"role": "mixed"}, False),
        ({"role": "prefill", "dialect": "fastdeploy"}, False),
    ],
)
async def test_half_of_a_pair_that_tells_of_no_connector_is_asked_whoever_it_is(
    setting: Setting, told: dict[str, Any], asked: bool
) -> None:
    setting.pages = VLLM
    instance = await setting.comes_up(REGISTER_API, **told)
    assert bool(setting.asked) is asked
    assert instance.dialect.name == ("vllm" if asked else "fastdeploy")


async def test_of_a_large_fleet_that_comes_up_a_few_are_asked_at_once_and_the_others_are_no_tasks(
    setting: Setting,
) -> None:
    setting.error = UpstreamError("refused", "connection refused", instance="x")
    running = asyncio.create_task(setting.detector.run())
    for port in range(1, 1001):
        setting.registry.probe_succeeded(setting.registry.register(setting.describe(port), NAMED))
    assert repr(setting.detector) == "<DialectDetector 1000 asked>"
    assert len(asyncio.all_tasks()) < 50
    await setting.settle()
    assert len(setting.asked) > 50, "one ends, the next begins"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert repr(setting.detector) == "<DialectDetector 0 asked>"
