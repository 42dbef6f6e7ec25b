"""Instances that the command line names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.errors import ConfigError
from fd_router.instances.registration import Registration, require_served
from fd_router.instances.source import NAMED
from fd_router.instances.sources.members import FleetSources
from fd_router.instances.sources.named import NamedInstances, read_named


def accept(*, splitwise: bool = False) -> Callable[[Registration], None]:
    return partial(require_served, dialects=Dialects(), splitwise=splitwise)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", []),
        ("10.0.0.1:8000", ["http://10.0.0.1:8000"]),
        (
            "http://10.0.0.1:8000/, mixed=https://Engine.example:443",
            ["http://10.0.0.1:8000", "https://engine.example:443"],
        ),
        ("[::1]:8000,", ["http://[::1]:8000"]),
    ],
)
def test_mixed_ones(text: str, urls: list[str]) -> None:
    assert [each.url for each in read_named(text, accept())] == urls


def test_a_pair() -> None:
    found = read_named("prefill=http://a:1, DECODE=b:2", accept(splitwise=True))
    assert [(each.role, each.key) for each in found] == [("prefill", "a:1"), ("decode", "b:2")]


@pytest.mark.parametrize(
    ("text", "splitwise", "why"),
    [
        ("10.0.0.1", False, "is needed"),
        ("http://10.0.0.1:8000/v1", False, "is needed"),
        ("a:99999", False, "is needed"),
        ("ftp://a:1", False, "invalid scheme: ftp"),
        ("256.0.0.1:1", False, "invalid host_ip: 256.0.0.1"),
        ("odd=a:1", False, "invalid role: odd: it may be mixed, prefill, decode"),
        ("prefill=a:1", False, "only MIXED instances are allowed"),
        ("a:1", True, "splitwise mode only supports PREFILL/DECODE instances"),
        ("a:1, a:1", False, "a:1 is named twice"),
    ],
)
def test_what_cannot_be_used_is_told(text: str, splitwise: bool, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_named(text, accept(splitwise=splitwise))
    (problem,) = caught.value.problems
    assert problem.startswith("manager.instance: '")
    assert why in problem


async def test_they_are_members_to_be_probed(registry, log) -> None:  # type: ignore[no-untyped-def]
    fleet = FleetSources(registry, accept(), log=log)
    await NamedInstances(read_named("10.0.0.1:8000", accept())).run(fleet.members_of(NAMED))
    (instance,) = registry.all()
    assert (instance.key, instance.source, instance.takes_new) == ("10.0.0.1:8000", NAMED, False)
