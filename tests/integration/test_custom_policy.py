"""A policy of one's own in a running router: the example as its README tells, and one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess, call

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_policy" / "config"


def started(source: str, policy: str, **options: Any) -> tuple[RouterProcess, list[MockProcess]]:
    """Start a router with ``source`` as ``policy.py`` beside its configuration, and two mocks."""
    mocks = [MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6) for _ in range(2)]
    instances = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in mocks]
    scheduler = {"policy": f"policy:{policy}", "policy-options": options}
    config = {"scheduler": scheduler, "manager": {"health-check-interval-secs": 0.2}, "log": {"output": "file"}}
    router = RouterProcess(config, instances=instances, files={"policy.py": source})
    return router, sorted(mocks, key=lambda mock: mock.url)


class TestRunning:
    @staticmethod
    def ask(router: RouterProcess, text: str) -> int:
        status, _ = router.call("POST", "/v1/completions", {"prompt": text, "max_tokens": 1})
        return status

    def test_the_example_keeps_long_prompts_apart(self) -> None:
        router, mocks = started((EXAMPLE / "long_apart.py").read_text(), "LongApart", **{"long-tokens": 200})
        with router, mocks[0], mocks[1]:
            router.wait_for_instances(2)
            assert [self.ask(router, text) for text in ["short"] * 6 + ["long " * 100] * 3] == [200] * 9
            assert [len(mock.completions()) for mock in mocks] == [6, 3]

    def test_one_that_fails_is_served_for_and_logged_once(self) -> None:
        source = (
            "class P:\n"
            "    def choose(self, request, candidates):\n"
            "        if 'odd' in request.prompt: return None\n"
            "        return {}[request.prompt]\n"
        )
        router, mocks = started(source, "P")
        with router, mocks[0], mocks[1]:
            router.wait_for_instances(2)
            assert [self.ask(router, "my secret") for _ in range(5)] + [self.ask(router, "odd")] == [200] * 6
            lines: list[str] = []

            def is_logged() -> bool:
                lines[:] = [line for line in router.log.splitlines() if "policy:P" in line]
                return bool(lines)

            eventually(is_logged)
            (line,) = lines
            assert line.startswith("[ERROR] ")
            assert "The policy policy:P failed, so request_num chooses instead: KeyError at policy.py:4" in line
            assert "my secret" not in router.log + router.output
            page = call(router.port, "GET", "/metrics")[1].decode()
            assert 'fd_router_policy_errors_total{kind="raised",policy="policy:P"} 5.0' in page
            assert 'fd_router_policy_errors_total{kind="wrong_choice",policy="policy:P"} 1.0' in page


def test_one_that_fails_to_hear_of_a_dead_instance_leaves_nobody_without_an_answer() -> None:
    """The request that meets the dead instance is what tells of it: it used to wait for ever."""
    source = (
        "class P:\n"
        "    def choose(self, request, candidates): return candidates[0]\n"
        "    def on_gone(self, url): raise KeyError(url)\n"
    )
    router, mocks = started(source, "P")
    router.wait_until_up()
    with mocks[0], mocks[1]:
        try:
            router.wait_for_instances(2)
            mocks[0].kill()
            assert [TestRunning.ask(router, "hello") for _ in range(3)] == [200] * 3
            assert len(mocks[1].completions()) == 3
            line = "The policy policy:P failed in on_instance_unavailable: KeyError at policy.py:3"
            eventually(lambda: line in router.log)
        finally:
            router.end()


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("Lost", {}, "policy.py has no 'Lost'"),
        ("LongApart", {"shre": 1}, "policy:LongApart has no such option; did you mean 'share'?"),
        ("LongApart", {"share": 7}, "scheduler.policy-options.share: '7' doesn't fit: expected `float` <= 1.0"),
    ],
)
def test_a_router_with_a_wrong_one_does_not_start(policy: str, options: dict[str, Any], message: str) -> None:
    router, mocks = started((EXAMPLE / "long_apart.py").read_text(), policy, **options)
    try:
        assert router.process.wait(25) == 1
        assert message in router.output
        assert "Traceback" not in router.output
    finally:
        for each in (router, *mocks):
            each.end()
