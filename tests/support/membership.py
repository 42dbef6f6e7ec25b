from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fd_router.instances.changes import Change
from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registry import Registry
from tests.support.fake_log import FakeLog
from tests.support.live import live_config


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def describe() -> Callable[..., Registration]:
    """Make a registration of 10.0.0.1:port."""

    def describe(port: int = 8000, role: str = "mixed", **more: Any) -> Registration:
        return parse_registration({"role": role, "host_ip": "10.0.0.1", "port": port, **more})

    return describe


@pytest.fixture
def make_registry(clock: FakeClock, log: FakeLog) -> Callable[..., Registry]:
    def make_registry(failures: int = 1, successes: int = 1, expiry_secs: float = 300.0) -> Registry:
        options = {
            "health_failure_threshold": failures,
            "health_success_threshold": successes,
            "instance_expiry_secs": expiry_secs,
        }
        return Registry(clock=clock, log=log, live=live_config(manager=options))

    return make_registry


@pytest.fixture
def registry(make_registry: Callable[..., Registry]) -> Registry:
    return make_registry()


@pytest.fixture
def changes(registry: Registry) -> list[Change]:
    """Every change that the registry told."""
    changes: list[Change] = []
    registry.on_change(changes.append)
    return changes
