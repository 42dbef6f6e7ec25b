"""Engines that are too busy to answer a probe serve all the same, and one bad request stops nobody else."""

from __future__ import annotations

from tests.support.fleet import Fleet, eventually

HASTY = {"manager": {"health-check-interval-secs": 0.2, "health-check-timeout-secs": 0.3}}


def test_a_fleet_that_answers_no_probe_in_time_goes_on_serving():
    with Fleet(2, config=HASTY) as fleet:
        for mock in fleet.mocks:
            mock.set_faults({"kind": "hang_before_head", "path": "/health"})
        eventually(lambda: not any(fleet.is_healthy(mock) for mock in fleet.mocks))
        assert [fleet.ask()[0] for _ in range(8)] == [200] * 8
        told = "No mixed instance is healthy: requests go to the likeliest to serve all the same"
        eventually(lambda: told in fleet.router.log)


def test_nobody_is_sent_to_instances_that_are_gone():
    with Fleet(1) as fleet:  # whose probes have time to be refused, also where the machine is busy
        fleet.mocks[0].kill()
        eventually(lambda: "refused" in found_by_a_probe(fleet))
        assert fleet.ask()[0] == 502
        assert "Request failed (attempt " not in fleet.router.log_so_far()


def found_by_a_probe(fleet: Fleet) -> str:
    _, told = fleet.router.call("GET", "/health_generate")
    return str(told["instances"][0]["detail"])
