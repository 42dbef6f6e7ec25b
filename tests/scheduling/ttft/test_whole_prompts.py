"""``ttft_aware`` goes by the prompt as engines have it: tools come first in it, images count."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fd_router.config.loading import SchedulerConfig
from fd_router.openai.completion import Completion
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.prefix.block_hashes import BlockHasher
from fd_router.scheduling.recording.recorded_policy import RecordedPolicy
from fd_router.scheduling.recording.recorder import Recorder
from fd_router.scheduling.scheduler import Scheduler
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate

SYSTEM = "You help. " * 100


def tools(name: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "description": name * 500}}]


def chat(content: Any, **fields: Any) -> Completion:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    return Completion(json.dumps({"messages": messages, "stream": True} | fields).encode())


def image(url: str) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]


class Fleet:
    def __init__(self, name: str = "ttft_aware", **options: Any) -> None:
        self.candidates = [FakeCandidate(number) for number in range(4)]
        self.environment = Environment(lambda: 0.0, random.Random(1), **options)
        self.policy = make_policy(name, self.environment, SchedulerConfig())
        self.scheduler = Scheduler(AskedGroup(lambda: self.candidates), self.policy, str)

    def send(self, request: Completion) -> str:
        reservation = self.scheduler.select(request)
        reservation.first_token()
        reservation.release()
        return reservation.instance.url

    def hits(self, request: Completion) -> dict[str, int]:
        standings = self.policy.explain(request, self.candidates).standings
        return {standing.candidate.url: standing.hit for standing in standings if standing.hit}


def test_the_same_tools_go_to_the_same_instance() -> None:
    fleet = Fleet()
    first = fleet.send(chat("Hello", tools=tools("a")))
    for question in ("How are you?", "Who are you?"):
        request = chat(question, tools=tools("a"))
        (url, hit), *others = fleet.hits(request).items()
        assert (url, others) == (first, [])
        assert hit > 90
        assert fleet.send(request) == first


def test_other_tools_share_nothing_though_the_messages_are_the_same() -> None:
    fleet = Fleet()
    fleet.send(chat("Hello", tools=tools("a")))
    assert fleet.hits(chat("Hello", tools=tools("b"))) == {}
    assert fleet.hits(chat("Hello")) == {}


def test_an_image_counts_and_only_the_same_one_is_known() -> None:
    fleet = Fleet()
    first = fleet.send(chat(image("http://10.0.0.1/a.png")))
    assert fleet.hits(chat(image("http://10.0.0.1/a.png")))[first] > 95
    assert 10 < fleet.hits(chat(image("http://10.0.0.1/b.png")))[first] < 30  # the system prompt before it


@pytest.mark.parametrize("fields", [{"tools": tools("a")}, {}])
def test_fastdeploys_policies_read_the_texts_alone(fields: dict[str, Any]) -> None:
    fleet = Fleet("cache_aware")
    first = fleet.send(chat("Hello"))
    assert fleet.hits(chat("Hello", **fields)) == {first: 100}


def test_beside_a_policy_that_goes_by_the_texts_it_does_too() -> None:
    """A shadow looks at the index of the policy in force."""
    in_force = Fleet("cache_aware")
    shadow = Fleet(index=in_force.environment.index, reads_engine_prompt=False)
    first = in_force.send(chat("Hello", tools=tools("a")))
    assert shadow.hits(chat("Hello", tools=tools("a")))[first] > 90


def test_what_it_went_by_is_recorded() -> None:
    lines: list[bytes] = []
    recorder = Recorder(lambda: 1.0, lines.append, bytes(32), 64)
    request, candidates = chat("Hello", tools=tools("a")), [FakeCandidate(1)]
    for name in ("ttft_aware", "cache_aware"):
        policy: Policy = make_policy(name, Environment(recorder.clock, recorder.random), SchedulerConfig())
        RecordedPolicy(policy, recorder, "mixed", name).choose(request, candidates)
    lengths = [json.loads(line)["length"] for line in lines if b'"decision"' in line]
    assert lengths == [len(request.engine_prompt), len(request.prompt)]
    assert len(BlockHasher(64).of_text(request.engine_prompt)) == 8 * len(json.loads(lines[1])["hash_ids"])
