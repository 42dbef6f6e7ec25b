"""A name's instances: they come and go with its answers, and stay while there are none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fd_router.config.discovery import DnsName
from fd_router.errors import ConfigError
from fd_router.instances.sources.dns_lookup import Found, LookupFailedError
from fd_router.instances.sources.dns_name import DnsInstances
from fd_router.instances.sources.template import Template
from tests.support.discoveries import accept, members_of


class ScriptedLookup:
    is_srv = False

    def __init__(self, *answers: Found | Exception) -> None:
        self.answers = [*answers]

    async def look_up(self) -> Found:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Run:
    """Runs a source until its answers are used up; what was there at each pause, and how long that was."""

    def __init__(self, registry, log, *answers: Found | Exception, networks: str = "", **options: Any) -> None:
        self.seen: list[tuple[float, list[str]]] = []
        self._registry = registry
        self._lookup = ScriptedLookup(*answers)
        given = DnsName(port=8000, **options)
        template = Template("discovery.dns.x.registration", given.registration, accept)
        self.source = DnsInstances("engines.example", given, self._lookup, template, self._pause)
        self._members = members_of(self.source, registry, log, networks=networks)

    async def _pause(self, seconds: float) -> None:
        self.seen.append((seconds, [instance.key for instance in self._registry.all()]))
        if not self._lookup.answers:
            raise asyncio.CancelledError

    async def run(self) -> list[tuple[float, list[str]]]:
        with pytest.raises(asyncio.CancelledError):
            await self.source.run(self._members)
        return self.seen


def at(*hosts: str, ttl: float = 30) -> Found:
    return Found([(host, 8000) for host in hosts], ttl)


async def test_instances_come_and_go_with_the_answers(registry, log) -> None:
    seen = await Run(registry, log, at("10.0.0.1"), at("10.0.0.2", "fd00::1", ttl=7)).run()
    assert seen == [(30, ["10.0.0.1:8000"]), (7, ["10.0.0.2:8000", "[fd00::1]:8000"])]
    assert log.lines == [
        ("info", "Forgot mixed instance: http://10.0.0.1:8000 (no longer in dns engines.example)")
    ]  # fmt: skip


async def test_a_failure_changes_nothing_and_is_tried_again_later_and_later(registry, log) -> None:
    failures = [LookupFailedError("no name server answers for engines.example")] * 4
    seen = await Run(registry, log, at("10.0.0.1"), *failures, at("10.0.0.1"), failures[0], max_secs=5).run()
    assert [secs for secs, _ in seen] == [5, 1, 2, 4, 5, 5, 1]
    assert {tuple(keys) for _, keys in seen} == {("10.0.0.1:8000",)}
    begin = "Source dns engines.example can't be read, its instances stay as they are:"
    warning = ("warn", f"{begin} no name server answers for engines.example")
    assert log.lines == [warning, ("info", "Source dns engines.example is read again"), warning]


@pytest.mark.parametrize(("ttl", "pause"), [(0, 2), (3, 3), (3600, 10)])
async def test_the_answers_time_counts_within_bounds(registry, log, ttl: float, pause: float) -> None:
    seen = await Run(registry, log, at("10.0.0.1", ttl=ttl), min_secs=2, max_secs=10).run()
    assert seen[0][0] == pause


async def test_what_holds_for_all_and_where_they_were_found(registry, log) -> None:
    given = {"dialect": "vllm", "max_requests": 7, "labels": {"rack": "b"}}
    await Run(registry, log, at("10.0.0.1"), registration=given).run()
    (instance,) = registry.all()
    assert (instance.dialect.name, instance.registration.max_requests) == ("vllm", 7)
    assert instance.labels == {"dns": "engines.example", "rack": "b"}
    assert instance.source.name == "dns engines.example"


async def test_what_is_in_none_of_the_networks_is_left_out(registry, log) -> None:
    await Run(registry, log, at("10.0.0.1", "192.0.2.1"), networks="10.0.0.0/8").run()
    assert [instance.key for instance in registry.all()] == ["10.0.0.1:8000"]
    why = "is left out: 192.0.2.1 is in none of access.register-networks"
    assert log.lines == [("warn", f"http://192.0.2.1:8000, which dns engines.example names, {why}")]


@pytest.mark.parametrize("name", ["", "10.0.0.1", "a b", "-.example"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="it is no name in the DNS"):
        DnsInstances(name, DnsName(port=1), ScriptedLookup(), Template("x", {}, accept))


def test_addresses_need_a_port() -> None:
    with pytest.raises(ConfigError) as error:
        DnsInstances("a.example", DnsName(), ScriptedLookup(), Template("x", {}, accept))
    assert str(error.value) == "discovery.dns.a.example: it needs 'port': the port of the instances"
