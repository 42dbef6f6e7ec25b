"""A running router follows a file of instances: they come, go, and stay when the file is wrong."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fleet import eventually, sample
from tests.support.mock_process import MockProcess, RouterProcess, call


def listing(*mocks: MockProcess) -> str:
    return json.dumps({"instances": [{"role": "mixed", "host_ip": "127.0.0.1", "port": x.port} for x in mocks]})


def test_the_file_is_followed_and_a_wrong_one_changes_nothing() -> None:
    mocks = [MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6) for _ in range(2)]
    router = RouterProcess({
        "discovery": {"file": "fleet.yaml", "file-check-secs": 0.05},
        "manager": {"health-check-interval-secs": 0.2},
        "log": {"output": "file"},
    }, files={"fleet.yaml": listing(mocks[0])})  # fmt: skip

    def states() -> dict[str, str]:
        listed = router.call("GET", "/instances")[1]["instances"]
        assert {each["source"] for each in listed} <= {"file fleet.yaml"}
        return {each["key"]: each["state"] for each in listed}

    def metric(name: str) -> float:
        return sample(call(router.port, "GET", "/metrics")[1].decode(), name, source="file fleet.yaml")

    def ask() -> Any:
        return router.call("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 1})[0]

    first, second = mocks
    with first, second, router:
        eventually(lambda: states() == {first.key: "healthy"})
        assert ask() == 200
        (router.directory / "fleet.yaml").write_text('{"instances": [{}]}')
        eventually(lambda: metric("fd_router_source_up") == 0)
        assert metric("fd_router_source_failures_total") == metric("fd_router_source_instances") == 1
        assert ask() == 200, "what it named stays"
        (router.directory / "fleet.yaml").write_text(listing(second))
        eventually(lambda: states() == {second.key: "healthy"})
        assert [ask() for _ in range(3)] == [200] * 3
        assert len(first.completions()) == 2
        assert metric("fd_router_source_up") == 1
        eventually(lambda: "Source file fleet.yaml is read again" in router.log)
