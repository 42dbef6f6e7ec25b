"""A source that fails keeps its instances, is told in the log, and runs again after a while."""

from __future__ import annotations

import asyncio

import pytest

from fd_router.instances.source import discovery
from fd_router.instances.sources.members import FleetSources, SourceMembers
from fd_router.instances.sources.runner import SourceRunner


class Scripted:
    """A source that names one instance, and then does what a test says: one step a run."""

    name = "scripted"

    def __init__(self, registration, steps: list[object]) -> None:
        self.registration = registration
        self.steps = steps
        self.runs = 0

    async def run(self, members: SourceMembers) -> None:
        self.runs += 1
        members.upsert(self.registration)
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            step()
            raise OSError("the watch has ended")


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return delays


@pytest.fixture
def run(registry, describe, clock, log):
    async def run(*steps: object) -> Scripted:
        members = FleetSources(registry, lambda _: None, log=log).members_of(discovery("scripted", 0))
        source = Scripted(describe(1), list(steps))
        await SourceRunner(source, members, clock=clock, log=log).run()
        return source

    return run


async def test_one_that_returns_is_done_and_its_instances_stay(run, registry, log, delays) -> None:
    assert (await run(None)).runs == 1
    assert len(registry.all()) == 1
    assert (log.lines, delays) == ([], [])


async def test_one_that_fails_is_run_again_later_and_later(run, registry, log, delays) -> None:
    failures = [ValueError("not\nJSON"), SystemExit(3), *(OSError("no such file") for _ in range(6))]
    assert (await run(*failures, None)).runs == 9
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(registry.all()) == 1
    assert len(log.lines) == 8
    level, line = log.lines[0]
    assert level == "error"
    assert line.startswith(
        "Source scripted failed, its instances stay, it is run again in 1 s: ValueError: not JSON (test_runner.py:"
    )


async def test_after_a_long_run_it_begins_anew(run, clock, delays) -> None:
    def last_long() -> None:
        clock.now += 60

    await run(OSError(), OSError(), last_long, OSError(), None)
    assert delays == [1, 2, 1, 2]


async def test_the_end_of_the_router_ends_it(run, delays) -> None:
    with pytest.raises(asyncio.CancelledError):
        await run(asyncio.CancelledError())
    assert delays == []


def test_what_it_shows(registry, describe, clock, log) -> None:
    members = FleetSources(registry, lambda _: None, log=log).members_of(discovery("scripted", 0))
    runner = SourceRunner(Scripted(describe(1), []), members, clock=clock, log=log)
    assert repr(runner) == "<SourceRunner of <SourceMembers of scripted: 0>>"
