"""The example of a third party's source in a running router: it names instances, drops them, fails, and recovers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "extend" / "source"


class Deployment:
    """Two mocks, and a router that knows of them by the file alone."""

    def __init__(self) -> None:
        self.mocks = [MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6) for _ in range(2)]
        sources = yaml.safe_load((EXAMPLE / "config.yaml").read_text())["instances"]["sources"]
        sources["fleet_file:FleetFile"]["check-secs"] = 0.05
        self.router = RouterProcess(
            {
                "instances": {"sources": sources},
                "manager": {"health-check-interval-secs": 0.2},
                "log": {"output": "file"},
            },
            files={
                "fleet_file.py": (EXAMPLE / "fleet_file.py").read_text(),
                "fleet.json": json.dumps([self.entry(self.mocks[0])]),
            },
        )

    @staticmethod
    def entry(mock: MockProcess) -> dict[str, Any]:
        return {"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port, "labels": {"rack": "b"}}

    def write(self, text: str) -> None:
        (self.router.directory / "fleet.json").write_text(text)

    def states(self) -> dict[str, str]:
        listed = self.router.call("GET", "/instances")[1]["instances"]
        assert {each["source"] for each in listed} <= {"fleet file fleet.json"}
        return {each["key"]: each["state"] for each in listed}

    def ask(self) -> int:
        return self.router.call("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 1})[0]


def test_the_file_is_followed_and_a_broken_one_changes_nothing() -> None:
    deployment = Deployment()
    router, (first, second) = deployment.router, deployment.mocks
    with first, second, router:
        eventually(lambda: deployment.states() == {first.key: "healthy"})
        assert deployment.ask() == 200
        deployment.write("[{")
        eventually(lambda: "Source fleet file fleet.json failed, its instances stay" in router.log)
        assert "JSONDecodeError" in router.log
        assert deployment.ask() == 200, "what it named stays"
        deployment.write(json.dumps([deployment.entry(second)]))
        eventually(lambda: deployment.states() == {second.key: "healthy"})
        before = len(first.completions())
        assert [deployment.ask() for _ in range(3)] == [200] * 3
        assert len(first.completions()) == before == 2
        line = f"Forgot mixed instance: {first.url} (no longer in fleet file fleet.json)"
        eventually(lambda: line in router.log)  # lines are written together, a moment later


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "instances.sources.fleet_file:FleetFile: fleet_file:FleetFile needs 'path'"),
        ({"path": "x", "chek": 1}, "instances.sources.fleet_file:FleetFile.chek: fleet_file:FleetFile has no such"),
    ],
)
def test_wrong_options_stop_the_start(options: dict[str, Any], problem: str) -> None:
    router = RouterProcess(
        {"instances": {"sources": {"fleet_file:FleetFile": options}}},
        files={"fleet_file.py": (EXAMPLE / "fleet_file.py").read_text()},
    )
    try:
        assert router.process.wait(20) == 1
        assert problem in router.output
        assert "Traceback" not in router.output
    finally:
        router.end()
