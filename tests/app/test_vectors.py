from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import pytest

from fd_router.app.vectors import LOADED_FROM, load_vectors_ahead
from fd_router.instances.registry import Registry
from tests.support.membership import clock, describe, log, make_registry, registry

__all__ = ["clock", "describe", "log", "make_registry", "registry"]


class FakeLoop:
    """Notes what is to run in a thread."""

    def __init__(self) -> None:
        self.threads: list[tuple[Any, ...]] = []

    def run_in_executor(self, _executor: Executor | None, _call: Any, *arguments: Any) -> None:
        self.threads.append(arguments)


@pytest.fixture
def loop(registry: Registry) -> FakeLoop:
    loop = FakeLoop()
    load_vectors_ahead(registry, loop)  # type: ignore[arg-type]
    return loop


def test_it_is_loaded_before_a_decision_wants_it(loop: FakeLoop, registry: Registry, describe) -> None:
    for port in range(1, LOADED_FROM):
        registry.register(describe(port))
        registry.register(describe(port))  # a heartbeat
    assert loop.threads == []
    registry.register(describe(LOADED_FROM))
    assert loop.threads == [("numpy",)]


def test_a_small_fleet_whose_instances_come_and_go_never_loads_it(
    loop: FakeLoop,
    registry: Registry,
    describe,
) -> None:
    for port in range(1, 3 * LOADED_FROM):
        registry.remove(registry.register(describe(port)).key)
    assert loop.threads == []
