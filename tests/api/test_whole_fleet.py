"""Answers that list a whole fleet: written while others have their turns, however large it is."""

from __future__ import annotations

import pytest

from fd_router.api.explain import ExplainApi
from fd_router.api.health import HealthApi
from fd_router.api.instances import InstancesApi
from fd_router.api.registration import RegistrationApi
from fd_router.errors import NoInstanceError
from fd_router.http.messages import Request, RequestHead, Routes
from fd_router.instances.prober import Outcome
from fd_router.instances.registry import Registry
from tests.support.fake_log import FakeLog
from tests.support.turns import slice_finely, turns_during

FLEET = 50


class NoDeadlines:
    def drain_by(self, instance, seconds: float) -> None:
        raise NotImplementedError

    def seconds_left(self, key: str) -> None:
        return None


@pytest.fixture
def large(registry: Registry, describe) -> Registry:
    for port in range(1, FLEET + 1):
        registry.register(describe(port, "decode"))
    return registry


@pytest.fixture
def routes(large: Registry) -> Routes:
    async def probe_all() -> list:
        return [(instance, Outcome(True, "status 200", 0.0)) for instance in large.all()]

    def refuse(*_: object) -> list:
        raise NoInstanceError("none")

    log = FakeLog()
    registration = RegistrationApi(large, None, None, splitwise=True, log=log)  # type: ignore[arg-type]  (none registers)
    return {
        **InstancesApi(large, NoDeadlines(), log=log).routes(),
        **HealthApi(probe_all, large.groups, ("decode",), lambda: False, log=log).routes(),
        **ExplainApi(refuse, large.all, {"decode": "random"}).routes(),
        **registration.routes(),
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/instances"), ("GET", "/registered"), ("GET", "/decode_instances"), ("GET", "/health_generate"),
        ("POST", "/v1/explain"),
    ],
)  # fmt: skip
async def test_others_have_turns_while_it_is_listed(routes: Routes, monkeypatch, method: str, path: str) -> None:
    slice_finely(monkeypatch)
    request = Request(RequestHead(method, path, ""), b'{"prompt":"a"}')
    assert await turns_during(routes[path][method](request)) >= FLEET
