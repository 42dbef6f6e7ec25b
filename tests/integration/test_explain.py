"""Explaining in a running router: the answer, what becomes of it, and the header of real requests."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

import pytest

from tests.support.fleet import Fleet, chat
from tests.support.mock_process import RouterProcess
from tests.support.pd_fleet import PdFleet

LONG = "word " * 60
CACHE = {"policy": "cache_aware", "cache-block-size": 16}


def explain(router: RouterProcess, text: str = LONG) -> dict[str, Any]:
    status, answer = router.call("POST", "/v1/explain", chat(text))
    assert status == 200
    assert text[:20] not in json.dumps(answer)
    role: dict[str, Any] = answer["roles"][0]
    return role


def decision(router: RouterProcess, **headers: str) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(chat(LONG, max_tokens=1)), headers)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        return response.headers["x-router-decision"]
    finally:
        connection.close()


@pytest.fixture(scope="module")
def fleet() -> Any:
    with Fleet(3, config={"scheduler": CACHE, "proxy": {"explain-header": "request"}}) as fleet:
        yield fleet


def counted(fleet: Fleet) -> list[str]:
    names = "inference_requests_total|router_cache|fd_router_instance_|fd_router_prefix_index|fd_router_decision"
    return sorted(line for line in fleet.metrics().splitlines() if re.match(rf"({names})", line))


def test_a_request_goes_where_it_was_explained_that_it_would(fleet: Fleet) -> None:
    for number in range(5):
        text = f"{number} " * 100
        status, _ = fleet.router.call("POST", "/v1/chat/completions", chat(text, max_tokens=1))
        assert status == 200
        told = explain(fleet.router, text)
        hits = {each["url"]: each["prefix_hit_percent"] for each in told["candidates"]}
        assert sorted(hits.values()) == [0, 0, 100]
        assert hits[told["choice"]] == 100
        assert "100 % of the prompt known there" in told["reason"]


def test_explaining_leaves_no_trace(fleet: Fleet) -> None:
    explain(fleet.router, "another " * 50)
    before = counted(fleet)
    sent = sum(len(mock.completions()) for mock in fleet.mocks)
    first = [explain(fleet.router, "yet another " * 50) for _ in range(3)]
    assert all(set(map(str, each["candidates"])) == set(map(str, first[0]["candidates"])) for each in first)
    assert {each["prefix_hit_percent"] for each in first[-1]["candidates"]} == {0}
    assert counted(fleet) == before
    assert sum(len(mock.completions()) for mock in fleet.mocks) == sent


def test_choices_are_measured() -> None:
    with Fleet(2, config={"scheduler": CACHE}) as fleet:
        for text in ("one " * 100, "one " * 100, "two " * 100):
            fleet.router.call("POST", "/v1/chat/completions", chat(text, max_tokens=1))
        assert fleet.metric("fd_router_decision_duration_seconds_count", role="mixed") == 1  # one of eight is timed
        assert fleet.metric("fd_router_prefix_hit_ratio_count", role="mixed") == 3
        assert fleet.metric("fd_router_prefix_hit_ratio_sum") == 1
        assert fleet.metric("fd_router_prefix_index_blocks") == 2 * (399 // 16)
        assert fleet.metric("fd_router_prefix_index_bytes") > 0
        assert fleet.metric("fd_router_prefix_index_forgotten_blocks_total") == 0


def test_a_request_that_asks_is_told(fleet: Fleet) -> None:
    assert decision(fleet.router) is None
    told = decision(fleet.router, **{"x-router-explain": "1"})
    assert told is not None
    figures = "policy=cache_aware; hit=100; load=0; score=0; candidates=3"
    assert re.fullmatch(rf'mixed=http://127\.0\.0\.1:\d+; {figures}; reason="lowest .*"', told)


def test_bad_requests_are_told_what_is_wrong(fleet: Fleet) -> None:
    status, answer = fleet.router.call("POST", "/v1/explain", [1])
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert fleet.router.call("GET", "/v1/explain")[0] == 405


@pytest.mark.parametrize(("option", "told"), [("off", False), ("always", True)])
def test_the_option_decides(option: str, told: bool) -> None:
    with Fleet(1, config={"proxy": {"explain-header": option}}) as fleet:
        assert (decision(fleet.router) is not None) == told
        assert (decision(fleet.router, **{"x-router-explain": "1"}) is not None) == told


async def test_a_pair_is_told_as_one() -> None:
    async with PdFleet(2, 2, proxy={"explain_header": "always"}) as fleet:
        answer = await fleet.chat()
        url = r"http://127\.0\.0\.1:\d+"
        told = rf'{{}}={url}; policy=round_robin; candidates=2; reason=".*"'
        pair = ", ".join(told.format(role) for role in ("prefill", "decode"))
        assert re.fullmatch(pair, answer.headers["x-router-decision"])
        explained = json.loads((await fleet.call("POST", "/v1/explain", chat())).body)
        assert [role["choice"] for role in explained["roles"]] == [fleet.of(x)[1].url for x in ("prefill", "decode")]
