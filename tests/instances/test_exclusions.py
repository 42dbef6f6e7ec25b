from __future__ import annotations

from fd_router.instances.exclusions import left_out, why_none
from fd_router.instances.instance import Readiness


def test_nobody_is_there(registry) -> None:
    assert why_none(registry) == "no instance is registered"
    assert left_out(registry) == ""


def test_each_with_its_reason(registry, describe) -> None:
    instances = [registry.register(describe(port)) for port in range(1, 5)]
    instances[0].is_draining = True
    instances[1].is_ejected = True
    registry.probe_failed(instances[2], "status 500")
    told = "http://10.0.0.1:1 drains, http://10.0.0.1:2 is healthy, its circuit is open, http://10.0.0.1:3 is unhealthy"
    assert left_out(registry) == told
    instances[3].is_draining = True
    assert why_none(registry) == f"none of 4 registered instances may be chosen ({told}, http://10.0.0.1:4 drains)"


def test_what_a_source_says_of_them(registry, describe) -> None:
    for port, readiness in enumerate(Readiness, 1):
        registry.set_readiness(registry.register(describe(port)), readiness)
    assert left_out(registry) == "http://10.0.0.1:2 is not ready, http://10.0.0.1:3 terminates"


def test_only_a_few_are_named(registry, describe) -> None:
    for port in range(1, 9):
        registry.register(describe(port)).is_draining = True
    assert left_out(registry).endswith("http://10.0.0.1:5 drains, …")
