"""Requests of disaggregated fleets that a decode instance serves alone: which, and when."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.explanation import Explanation, Standing, Verdict
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies.least import RequestNumPolicy
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest, make_environment


class Seeker:
    def __init__(self, why: str = "") -> None:
        self.why = why
        self.told: list[str] = []

    def why_alone(self, decode: FakeCandidate) -> str:
        return self.why

    def goes_alone(self, why: str) -> None:
        self.told.append(why)


class KnowsHalf(RequestNumPolicy):
    """A decode policy that knows half of each prompt at the second instance."""

    def explain(self, request: Any, candidates: Any) -> Explanation:
        standings = [Standing(one, hit=50 if one.url.endswith("12:8000") else 0) for one in candidates]
        return Explanation("half", standings, [len(candidates) - 1])


class Fleet:
    def __init__(self, prefills: int = 1, decodes: int = 2, below: int = 0, alone: str = "1") -> None:
        self.prefills = [FakeCandidate(number) for number in range(1, prefills + 1)]
        self.decodes = [FakeCandidate(number) for number in range(11, decodes + 11)]
        environment = make_environment()
        self.scheduler = PairScheduler[FakeCandidate](
            Side(AskedGroup(lambda: self.prefills), RequestNumPolicy(environment)),
            Side(AskedGroup(lambda: self.decodes), KnowsHalf(environment)),
            lambda prefill, decode: True,
            decodes_alone=lambda decode: decode.url.startswith(f"http://10.0.0.{alone}"),
            alone_below=lambda: below,
        )

    def select(self, seeker: Seeker | None, prompt: str = "x" * 400) -> tuple[bool, str]:
        """Return whether there is a prefill instance, and which decode instance; counts are given back."""
        prefill, decode = self.scheduler.select(FakeRequest(prompt), (), None, seeker)
        if prefill is not None:
            prefill.release()
        decode.release()
        return prefill is not None, decode.instance.key


def test_what_a_pair_can_not_serve_goes_to_decode() -> None:
    fleet, seeker = Fleet(), Seeker("prompts")
    assert fleet.select(seeker) == (False, "10.0.0.11:8000")
    assert seeker.told == ["prompts"]
    assert fleet.select(Seeker())[0]
    assert fleet.select(None)[0]


def test_its_tokens_count_there() -> None:
    fleet = Fleet()
    _, decode = fleet.scheduler.select(FakeRequest("abc"), (), None, Seeker("prompts"))
    assert (decode.instance.running, decode.instance.tokens) == (1, 6)


def test_only_where_it_can() -> None:
    fleet = Fleet(alone="12")
    assert fleet.select(Seeker("prompts")) == (False, "10.0.0.12:8000")
    assert Fleet(alone="99").select(Seeker("prompts"))[0]


def test_without_prefill_instances() -> None:
    fleet = Fleet(prefills=0)
    assert not fleet.select(Seeker("prompts"))[0]
    with pytest.raises(NoInstanceError):
        fleet.select(Seeker())


def test_a_saturated_one_is_no_candidate() -> None:
    fleet = Fleet()
    fleet.decodes[0].is_saturated = True
    assert fleet.select(Seeker("prompts")) == (False, "10.0.0.12:8000")
    fleet.decodes[1].is_saturated = True
    with pytest.raises(SaturatedError):
        fleet.select(Seeker("prompts"))


@pytest.mark.parametrize(
    ("characters", "below", "has_pair"),
    [
        (396, 100, False),  # 99 tokens
        (400, 100, False),  # half of 100 are cached
        (800, 100, True),  # half of 200: 100
        (796, 100, False),
        (4, 0, True),
    ],
)
def test_a_prompt_of_which_little_is_missing(characters: int, below: int, has_pair: bool) -> None:
    seeker = Seeker()
    assert Fleet(below=below).select(seeker, "x" * characters)[0] is has_pair
    assert seeker.told == ([] if has_pair else ["short"])


def test_tokens_that_are_known_count_exactly() -> None:
    fleet, request = Fleet(below=10), FakeRequest("x" * 4)
    request.token_ids = array("I", range(20))
    assert fleet.scheduler.select(request, (), None, Seeker())[0] is not None
    request.token_ids = array("I", range(9))
    assert fleet.scheduler.select(request, (), None, Seeker())[0] is None


def test_it_is_explained() -> None:
    fleet = Fleet()

    def draw(explanation: Explanation) -> Verdict:
        return Verdict(explanation, explanation.best[0])

    prefill, decode = fleet.scheduler.explain(FakeRequest("abc"), draw, Seeker("prompts"))
    assert prefill == "none: decode serves it alone (prompts)"
    assert decode.explanation.reason == "half"
    assert isinstance(fleet.scheduler.explain(FakeRequest("abc"), draw, Seeker())[0], Verdict)
