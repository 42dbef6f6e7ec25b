"""Probes of instances that are busy: bytes outweigh silence, and who waits for a probe knows how long."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from fd_router.errors import UpstreamError
from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from fd_router.instances.prober import HealthMonitor
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_YAML
from tests.support.live import live_config


class Prober:
    """A monitor whose instances answer what ``error`` says, and deliver bytes when ``delivers`` is set."""

    def __init__(self, registry: Registry, log: Any, timeout: float = 0.05) -> None:
        self.error: UpstreamError | None = None
        self.hangs = False
        self.delivers = False
        self.probed = 0
        live = live_config(manager={"health_check_timeout_secs": timeout, "health_check_interval_secs": 1000.0})
        self.monitor = HealthMonitor(
            registry, self._get, clock=time.monotonic, rng=random.Random(1), live=live, log=log,
            delivered_at=lambda _: time.monotonic() if self.delivers else 0.0,
        )  # fmt: skip
        self.monitor.on_probed(self._on_probed)

    def _on_probed(self) -> None:
        self.probed += 1

    async def _get(self, *_: Any) -> int:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return 200


@pytest.fixture
def one(registry: Registry, describe: Any) -> Instance:
    return registry.register(describe(1))


def error(reason: str) -> UpstreamError:
    return UpstreamError(reason, "it failed", instance="http://10.0.0.1:1")


async def test_one_that_delivers_stays_though_its_probe_gets_no_answer(registry, one, log) -> None:
    prober = Prober(registry, log)
    prober.hangs = prober.delivers = True
    outcome = await prober.monitor.probe(one)
    assert (outcome.healthy, outcome.detail) == (True, "no answer within 0.05 s, but it delivers answers")
    assert one.health is Health.HEALTHY
    assert ("info", "Probe of http://10.0.0.1:1: no answer within 0.05 s, but it delivers answers") in log.lines
    registry.connection_failed(one, "reset")
    await prober.monitor.probe(one)
    assert one.health is Health.HEALTHY, "one broken connection, and the others go on"


async def test_so_does_one_that_began_to_answer_meanwhile(registry, one, log) -> None:
    prober = Prober(registry, log)
    prober.hangs = True
    one.answered_at = time.monotonic() + 1000  # in the course of the probe, however late that begins
    assert (await prober.monitor.probe(one)).healthy


async def test_without_bytes_it_is_late_and_serves_for_want_of_others(registry, one, log) -> None:
    prober = Prober(registry, log)
    prober.hangs = True
    one.answered_at = time.monotonic() - 0.01
    outcome = await prober.monitor.probe(one)
    assert (outcome.healthy, outcome.timed_out, outcome.doubt) == (False, True, Doubt.LATE)
    assert (one.health, one.doubt) == (Health.UNHEALTHY, Doubt.LATE)
    assert registry.group("mixed").candidates() == (one,)


@pytest.mark.parametrize("reason", ["refused", "reset", "protocol"])
async def test_bytes_outweigh_nothing_but_a_timeout(registry, one, log, reason: str) -> None:
    prober = Prober(registry, log)
    prober.error, prober.delivers = error(reason), True
    outcome = await prober.monitor.probe(one)
    assert (outcome.healthy, outcome.timed_out, one.health) == (False, False, Health.UNHEALTHY)


async def test_nor_what_it_said_before(registry, one, log) -> None:
    prober = Prober(registry, log)
    registry.probe_failed(one, "status 503")
    prober.hangs = prober.delivers = True
    assert not (await prober.monitor.probe(one)).healthy


async def test_hope_lasts_as_long_as_a_probe_that_may_bring_somebody_back(registry, one, log, describe) -> None:
    prober = Prober(registry, log, timeout=7.0)
    probing = asyncio.ensure_future(prober.monitor.probe(one))
    await asyncio.sleep(0)
    assert prober.monitor.hope_secs() == 0.0, "a healthy one needs none"
    await probing
    new = registry.register(describe(2), REGISTER_YAML, index=0)
    probing = asyncio.ensure_future(prober.monitor.probe(new))
    await asyncio.sleep(0)
    assert prober.monitor.hope_secs() == 7.0
    assert prober.probed == 1
    await probing
    await asyncio.sleep(0)
    assert (prober.monitor.hope_secs(), prober.probed) == (0.0, 2)


async def test_what_asks_to_register_gives_no_hope(registry, log, describe) -> None:
    prober = Prober(registry, log)
    prober.hangs = True
    asking = asyncio.ensure_future(prober.monitor.check(describe(5)))
    await asyncio.sleep(0)
    assert prober.monitor.hope_secs() == 0.0
    await asking
