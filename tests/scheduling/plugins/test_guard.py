"""Whatever a policy from elsewhere does, a request gets an instance, and somebody hears of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.contract import Explanation, Learner, RequestView, Standing
from fd_router.scheduling.plugins.guard import PluginErrors, guard
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, fleet, make_environment


class Scripted:
    """A policy that does what a test says."""

    def __init__(self, choose: Callable[[Sequence[Candidate]], Any]) -> None:
        self._choose = choose

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        chosen: Candidate = self._choose(candidates)
        return chosen


def guarded(policy: Any, told: list[tuple[str, str]] | None = None) -> Any:
    return guard(policy, make_environment(), lambda *what: (told if told is not None else []).append(what))


def test_a_right_choice_is_passed_on() -> None:
    told: list[tuple[str, str]] = []
    policy, candidates = guarded(Scripted(lambda candidates: candidates[1]), told), fleet(0, 5, 0)
    assert policy.choose(FakeRequest(), candidates) is candidates[1]
    assert policy.choose(FakeRequest(), candidates[:2]) is candidates[1]
    assert not told


@pytest.mark.parametrize(
    ("choose", "kind", "detail"),
    [
        (lambda _: None, "wrong_choice", "choose() returned None, which is none of the candidates"),
        (lambda c: c[0].url, "wrong_choice", "choose() returned a str, which is none of the candidates"),
        (lambda c: FakeCandidate(1), "wrong_choice", "choose() returned a FakeCandidate, which"),
        (lambda c: [c[0]], "wrong_choice", "choose() returned a list, which"),
        (lambda c: {}["the secret prompt"], "raised", "KeyError at test_guard.py:"),
        (lambda c: c[99], "raised", "IndexError at test_guard.py:"),
        (lambda _: sys.exit("the secret prompt"), "raised", "SystemExit at test_guard.py:"),
    ],
)
def test_after_an_error_the_one_with_the_fewest_requests_serves(
    choose: Callable[[Sequence[Candidate]], Any], kind: str, detail: str
) -> None:
    told: list[tuple[str, str]] = []
    candidates = fleet(3, 1, 2)
    assert guarded(Scripted(choose), told).choose(FakeRequest(), candidates) is candidates[1]
    ((told_kind, told_detail),) = told
    assert told_kind == kind
    assert told_detail.startswith(detail)
    assert "secret" not in told_detail


def test_a_candidate_that_has_left_is_a_wrong_choice() -> None:
    one, two = fleet(9, 9)
    policy = guarded(Scripted(lambda _: one))
    assert policy.choose(FakeRequest(), (one, two)) is one
    assert policy.choose(FakeRequest(), (two,)) is two


def test_trouble_is_logged_at_once_and_then_once_a_minute_with_its_number() -> None:
    lines: list[str] = []
    kinds: list[str] = []
    now = 0.0
    trouble = PluginErrors("my:P", count=kinds.append, log=lines.append, clock=lambda: now)
    for second in range(200):
        now = float(second)
        trouble("raised", f"E at {second}")
    assert len(kinds) == 200
    assert lines == [
        "The policy my:P failed, so request_num chooses instead: E at 0",
        *(
            f"The policy my:P failed, so request_num chooses instead: E at {at} (60 times since the last such line)"
            for at in (60, 120, 180)
        ),
    ]


class Explains:
    def __init__(self, explanation: Any) -> None:
        self._explanation = explanation

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        return candidates[0]

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        explanation: Explanation = self._explanation(candidates)
        return explanation


def test_its_explanation_is_passed_on_when_it_is_one() -> None:
    candidates = fleet(1, 2)
    good = Explanation("because", [Standing(candidate) for candidate in candidates], [1])
    assert guarded(Explains(lambda _: good)).explain(FakeRequest(), candidates) is good
    for bad in (
        lambda _: None,
        lambda _: 1 / 0,
        lambda c: Explanation("x", [Standing(c[0])], [0]),
        lambda c: Explanation("x", [Standing(one) for one in c], []),
        lambda c: Explanation("x", [Standing(one) for one in c], [7]),
        lambda c: Explanation(None, [Standing(one) for one in c], [0]),  # type: ignore[arg-type]
        lambda c: Explanation("x", [Standing(one, score="high") for one in c], [0]),  # type: ignore[arg-type]
        lambda c: Explanation("x", [Standing(one, load=1 + 2j) for one in c], [0]),  # type: ignore[arg-type]
    ):
        explanation = guarded(Explains(bad)).explain(FakeRequest(), candidates)
        assert explanation.reason.startswith("Explains can't explain its choice: ")
        assert len(explanation.standings) == 2


class Learns:
    """Hears of its choices, and fails where a test says."""

    def __init__(self, fails: str = "") -> None:
        self.heard: list[Any] = []
        self._fails = fails

    def _hear(self, what: str, *details: Any) -> None:
        if what == self._fails:
            raise LookupError("the secret prompt")
        self.heard.append((what, *details))

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        self._hear("choose")
        return candidates[0]

    def place(self, request: RequestView, candidate: Candidate) -> Learns:
        self._hear("place", candidate.url)
        return self

    def on_first_token(self) -> None:
        self._hear("first")

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        self._hear("usage", prompt_tokens, cached_tokens)

    def on_end(self) -> None:
        self._hear("end")


def test_only_one_that_learns_is_told_of_its_choices() -> None:
    assert isinstance(guarded(Learns()), Learner)
    assert not isinstance(guarded(Scripted(lambda c: c[0])), Learner)


@pytest.mark.parametrize("fails", ["", "choose", "place", "first", "usage", "end"])
def test_one_that_learns_hears_of_its_own_choices_and_its_errors_do_no_harm(fails: str) -> None:
    told: list[tuple[str, str]] = []
    learner, candidates = Learns(fails), fleet(0, 0)
    policy = guarded(learner, told)
    placement = policy.place(FakeRequest(), policy.choose(FakeRequest(), candidates))
    placement.on_first_token()
    placement.on_usage(10, 5)
    placement.on_end()
    expected = [("choose",), ("place", candidates[0].url), ("first",), ("usage", 10, 5), ("end",)]
    if fails in {"choose", "place"}:
        expected = expected[: ["choose", "place"].index(fails)]
    assert learner.heard == [each for each in expected if each[0] != fails]
    assert len(told) == (1 if fails else 0)
    assert "secret" not in str(told)
