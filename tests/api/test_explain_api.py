"""``/v1/explain`` over schedulers and a registry without a network."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from fd_router.api.explain import ExplainApi
from fd_router.errors import BadRequestError
from fd_router.instances.registry import Registry
from fd_router.openai.completion import Completion
from fd_router.scheduling.explanation import draw_with
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.scheduler import Scheduler
from tests.support.scheduling_fakes import make_environment

CHAT = json.dumps({"messages": [{"role": "user", "content": "the secret of life"}]}).encode()


def explaining(explain: Callable[..., Any]) -> Callable[..., Any]:
    draw = draw_with(random.Random(1))
    return lambda completion, path, body: explain(completion, draw)


def centralized(registry: Registry, policy: str, prepare: Any = None) -> ExplainApi:
    scheduler = Scheduler(
        registry.group("mixed"),
        make_policy(policy, make_environment()),
        lambda: "no instance is registered",
    )
    return ExplainApi(explaining(scheduler.explain), registry.all, {"mixed": policy}, prepare)


@pytest.fixture
def explain(ask: Any) -> Callable[..., Any]:
    async def explain(api: ExplainApi, body: bytes = CHAT, query: str = "") -> Any:
        status, answer = await ask(api.routes(), "POST", "/v1/explain", query=query, body=body)
        assert status == 200
        assert "secret" not in json.dumps(answer)
        return answer

    return explain


async def test_every_instance_is_shown_and_the_choice_with_its_reason(explain, registry, describe) -> None:
    one, two = (registry.register(describe(port)) for port in (1, 2))
    registry.register(describe(3, is_paused=True))
    registry.connection_failed(registry.register(describe(4)), "refused")
    one.acquire(10)
    answer = await explain(centralized(registry, "request_num"))
    assert answer["path"] == "/v1/chat/completions"
    assert answer["prompt"] == {"characters": 18, "tokens": 36, "estimated": True}
    (role,) = answer["roles"]
    assert {key: value for key, value in role.items() if key != "candidates"} == {
        "role": "mixed", "policy": "request_num", "choice": two.url, "reason": "fewest running requests: 0",
    }  # fmt: skip
    assert role["candidates"][0] == {
        "url": one.url, "state": "healthy", "candidate": True, "best": False, "running": 1, "tokens": 10,
        "prefix_hit_percent": None, "prefix_hit_source": None, "load": 1, "score": 1,
    }  # fmt: skip
    states = [(each["state"], each["candidate"], each["best"]) for each in role["candidates"]]
    assert states == [
        ("healthy", True, False), ("healthy", True, True), ("paused", False, False), ("suspect", False, False),
    ]  # fmt: skip
    assert (one.running, two.running) == (1, 0)


async def test_why_a_healthy_instance_gets_nothing(explain, registry, describe) -> None:
    drained, barred, full = (registry.register(describe(port)) for port in (1, 2, 3))
    registry.set_draining(drained.key, True)
    barred.is_ejected = True
    full.limit = 1
    full.acquire(1)
    (role,) = (await explain(centralized(registry, "random")))["roles"]
    assert [each["state"] for each in role["candidates"]] == ["draining", "circuit_open", "full"]


async def test_the_path_is_told_by_the_shape_or_the_query(explain, registry) -> None:
    api = centralized(registry, "random")
    assert (await explain(api, b'{"prompt": "say \\"messages\\""}'))["path"] == "/v1/completions"
    assert (await explain(api, b'{"prompt": "x"}', "path=/v1/chat/completions"))["path"] == "/v1/chat/completions"
    assert (await explain(api, b'{"messages": ["\\ud800"]}'))["path"] == "/v1/chat/completions"
    with pytest.raises(BadRequestError, match="path is '/v2'; it may be /v1/chat/completions or /v1/completions"):
        await explain(api, b"{}", "path=/v2")
    with pytest.raises(BadRequestError, match="Invalid JSON format"):
        await explain(api, b"no")


async def test_with_nothing_to_choose_from_the_reason_is_the_requests_error(explain, registry, describe) -> None:
    (role,) = (await explain(centralized(registry, "random")))["roles"]
    assert (role["choice"], role["candidates"]) == (None, [])
    assert role["reason"] == "Failed to select worker: no instance is registered"
    registry.register(describe(1, is_paused=True))
    (role,) = (await explain(centralized(registry, "random")))["roles"]
    assert [each["state"] for each in role["candidates"]] == ["paused"]


async def test_chance_decides_anew_each_time(explain, registry, describe) -> None:
    urls = {registry.register(describe(port)).url for port in (1, 2, 3)}
    api = centralized(registry, "random")
    assert {(await explain(api))["roles"][0]["choice"] for _ in range(50)} == urls


async def test_a_pair_is_one_that_fits_together(explain, registry, describe) -> None:
    for port, role, version in ((1, "prefill", "a"), (2, "prefill", "b"), (3, "decode", "b"), (4, "decode", "c")):
        registry.register(describe(port, role, version=version))
    sides = [
        Side(registry.group(role), make_policy("round_robin", make_environment())) for role in ("prefill", "decode")
    ]
    pairs = PairScheduler(*sides, lambda p, d: p.registration.version == d.registration.version)
    api = ExplainApi(explaining(pairs.explain), registry.all, {"prefill": "round_robin", "decode": "round_robin"})
    for _ in range(3):
        prefill, decode = (await explain(api))["roles"]
        assert (prefill["choice"], decode["choice"]) == ("http://10.0.0.1:2", "http://10.0.0.1:3")
        assert [each["candidate"] for each in prefill["candidates"]] == [False, True]
    chosen = pairs.select(Completion(CHAT))
    assert [each.instance.port for each in chosen] == [2, 3]
    registry.remove("10.0.0.1:3")
    prefill, decode = (await explain(api))["roles"]
    assert prefill["choice"] is decode["choice"] is None
    assert prefill["reason"].startswith("No available prefill/decode workers: 2 healthy prefill and 1 healthy decode")


async def test_the_tokenizer_is_asked_as_for_a_request(explain, registry, describe) -> None:
    async def tokenize(completion: Completion) -> None:
        completion.token_ids = array("I", [1, 2, 3])

    registry.register(describe(1))
    answer = await explain(centralized(registry, "random", tokenize))
    assert answer["prompt"] == {"characters": 18, "tokens": 3, "estimated": False}
