"""The example of a third party's policy, in a running router: as the documentation shows it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fd_router.cli import run
from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "extend" / "policy"


@pytest.fixture
def mocks() -> Iterator[list[MockProcess]]:
    """One instance of team a's, and one that everybody shares."""
    made = [MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6) for _ in range(2)]
    yield made
    for mock in made:
        mock.end()


@pytest.fixture
def router(mocks: list[MockProcess]) -> Iterator[RouterProcess]:
    instances: list[dict[str, Any]] = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in mocks]
    instances[0]["labels"] = {"tenant": "a"}
    config = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    files = {"by_tenant.py": (EXAMPLE / "by_tenant.py").read_text()}
    with RouterProcess(config, instances=instances, files=files) as router, mocks[0], mocks[1]:
        router.wait_for_instances(2)
        yield router


def ask(router: RouterProcess, team: str = "", max_tokens: int = 1) -> http.client.HTTPConnection:
    """Send a request; its answer is yet to be read."""
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=60)
    body = json.dumps({"prompt": "hello", "max_tokens": max_tokens})
    connection.request("POST", "/v1/completions", body, {"X-Team": team} if team else {})
    return connection


def answered(connection: http.client.HTTPConnection) -> int:
    with connection.getresponse() as response:
        response.read()
    connection.close()
    return response.status


def served(mocks: list[MockProcess]) -> list[int]:
    return [len(mock.completions()) for mock in mocks]


def test_a_tenant_s_requests_go_to_its_instances(router: RouterProcess, mocks: list[MockProcess]) -> None:
    assert [answered(ask(router, team)) for team in ("a", "a", "a", "b", "")] == [200] * 5
    assert served(mocks) == [3, 2]


def test_beyond_its_share_a_tenant_uses_the_shared_ones(router: RouterProcess, mocks: list[MockProcess]) -> None:
    first = ask(router, "a", max_tokens=1000)  # a second, and as long as the policy is told that it has not ended
    eventually(lambda: served(mocks)[0] == 1)
    assert answered(ask(router, "a")) == 200
    assert served(mocks) == [1, 1]
    assert answered(first) == 200
    assert answered(ask(router, "a")) == 200
    assert served(mocks) == [2, 1]


def test_what_explain_says(router: RouterProcess, mocks: list[MockProcess]) -> None:
    (role,) = router.call("POST", "/v1/explain", {"prompt": "hello"})[1]["roles"]
    assert (role["policy"], role["choice"]) == ("by_tenant:ByTenant", mocks[1].url)
    assert role["reason"] == "fewest requests at an instance for this tenant"


def test_check_config_finds_it_and_tells_what_is_wrong_with_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check-config", "--config_path", str(EXAMPLE / "config.yaml")]) == 0
    (tmp_path / "by_tenant.py").write_text((EXAMPLE / "by_tenant.py").read_text())
    wrong = (EXAMPLE / "config.yaml").read_text().replace("most: 1", "most: 0\n    heading: x")
    (tmp_path / "config.yaml").write_text(wrong)
    capsys.readouterr()
    assert run(["check-config", "--config_path", str(tmp_path / "config.yaml")]) == 1
    text = capsys.readouterr().out
    assert "scheduler.policy-options.most: '0' doesn't fit: expected `int` >= 1" in text
    assert "by_tenant:ByTenant has no such option; did you mean 'header'?" in text


def test_the_documentation_shows_it_as_it_is() -> None:
    page = (REPOSITORY / "docs" / "scheduling.md").read_text()
    assert f"```python\n{(EXAMPLE / 'by_tenant.py').read_text()}```\n" in page
