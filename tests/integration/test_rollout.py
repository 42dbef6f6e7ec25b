"""Instances are taken out of service, and the router is restarted, while requests run: as a rollout does it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.mock_process import MockProcess, RouterProcess
from tests.support.raw_client import RawClient, request

STREAM = json.dumps(chat(max_tokens=50, stream=True)).encode()


def entry(router: RouterProcess, instance: MockProcess) -> dict[str, object]:
    status, answer = router.call("GET", f"/instances/{instance.key}")
    return dict(answer) if status == 200 else {}


@pytest.mark.slow
def test_a_drained_instance_finishes_what_it_has_and_gets_nothing_new() -> None:
    with Fleet(0) as fleet:
        options = {**QUICK, "decode_ms_per_token": 10, "router": fleet.router.key, "heartbeat_secs": 0.1}
        first, second = (fleet.add(MockProcess(**options)) for _ in range(2))
        fleet.router.wait_for_instances(2)
        with RawClient(fleet.port) as client:
            client.send(request("/v1/chat/completions", STREAM))
            client.read_head()
            busy, other = sorted((first, second), key=lambda each: -int(str(entry(fleet.router, each)["running"])))
            assert fleet.router.call("POST", f"/instances/{busy.key}/drain")[1]["draining"] is True
            before = len(busy.completions())
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: fleet.ask()[0], range(20)))
            assert answers == [200] * 20
            assert client.read_chunks([])[-1].endswith(b"data: [DONE]\n\n")
        eventually(lambda: entry(fleet.router, busy)["running"] == 0)
        assert len(busy.completions()) == before  # heartbeats don't bring it back
        assert 'endpoint="/instances/{key}"' in fleet.metrics()  # one series, however many instances
        assert busy.key not in fleet.metrics().replace(busy.url, "")

        assert fleet.router.call("DELETE", f"/instances/{busy.key}?ban_secs=600") == (
            200, {"removed": busy.key, "running": 0},
        )  # fmt: skip
        eventually(lambda: f"{busy.url} was removed by an admin, and banned" in fleet.router.log)
        assert entry(fleet.router, busy) == {}
        fleet.router.call("DELETE", f"/instances/{other.key}")  # without a ban, its next heartbeat brings it back
        eventually(lambda: entry(fleet.router, other).get("state") == "healthy")


@pytest.mark.slow
def test_instances_that_registered_themselves_outlive_a_restart_of_the_router(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = {
        "manager": {"state-path": str(tmp_path / "state.json"), "health-check-interval-secs": 0.2},
        "log": {"output": "file"},
    }
    with Fleet(0, config=config) as fleet:
        options = {**QUICK, "router": fleet.router.key, "heartbeat_secs": 600}
        instances = [fleet.add(MockProcess(**options)) for _ in range(3)]
        fleet.router.wait_for_instances(3)
        fleet.router.call("POST", f"/instances/{instances[1].key}/drain")
        assert fleet.router.stop() == 0
        instances[2].kill()
        again = fleet.add(RouterProcess(config, port=fleet.port))
        eventually(lambda: entry(again, instances[0]).get("state") == "healthy")
        eventually(lambda: entry(again, instances[1]).get("state") == "healthy")
        assert entry(again, instances[1])["draining"] is True
        assert entry(again, instances[2])["state"] == "unhealthy"
        for _ in range(5):
            assert again.call("POST", "/v1/chat/completions", chat(max_tokens=1))[0] == 200
        assert len(instances[0].completions()) == 5
