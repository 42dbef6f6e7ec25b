"""Whatever a policy from elsewhere does, a request gets an instance, and somebody hears of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.explanation import Explanation, Standing
from fd_router.scheduling.plugins.errors import PluginErrors
from fd_router.scheduling.plugins.guard import PluginGuard
from fd_router.scheduling.policies.least import RequestNumPolicy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.scheduler import Scheduler
from fd_router.scheduling.tracker import RequestTracker
from tests.support.rig import Rig, answer, make_instance, post
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest, fleet, make_environment


class Scripted(Policy):
    """A policy that does what a test says."""

    def __init__(self, choose: Callable[[Sequence[Candidate]], Any]) -> None:
        self._choose = choose

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        chosen: Candidate = self._choose(candidates)
        return chosen


def guarded(policy: Policy, told: list[tuple[str, str, str]] | None = None) -> Any:
    fallback = RequestNumPolicy(make_environment())
    return PluginGuard(policy, fallback, lambda *what: (told if told is not None else []).append(what))


def test_a_right_choice_is_passed_on() -> None:
    told: list[tuple[str, str, str]] = []
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
    told: list[tuple[str, str, str]] = []
    candidates = fleet(3, 1, 2)
    assert guarded(Scripted(choose), told).choose(FakeRequest(), candidates) is candidates[1]
    ((hook, told_kind, told_detail),) = told
    assert (hook, told_kind) == ("choose", kind)
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
        trouble("choose", "raised", f"E at {second}")
    assert len(kinds) == 200
    assert lines == [
        "The policy my:P failed, so request_num chooses instead: E at 0",
        *(
            f"The policy my:P failed, so request_num chooses instead: E at {at} (60 times since the last such line)"
            for at in (60, 120, 180)
        ),
    ]


def test_the_line_names_the_hook_that_failed() -> None:
    lines: list[str] = []
    errors = PluginErrors("my:P", count=lambda _: None, log=lines.append, clock=lambda: 0.0)
    errors("on_instance_unavailable", "raised", "KeyError at p.py:3")
    assert lines == ["The policy my:P failed in on_instance_unavailable: KeyError at p.py:3"]


class Explains(Policy):
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


class Learns(Policy):
    """Hears of its choices, and fails where a test says."""

    def __init__(self, fails: str = "") -> None:
        self.heard: list[Any] = []
        self.tracker = Tracks(self)
        self._fails = fails

    def hear(self, what: str, *details: Any) -> None:
        if what == self._fails:
            raise LookupError("the secret prompt")
        self.heard.append((what, *details))

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        self.hear("choose")
        return candidates[0]

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker:
        self.hear("on_dispatch", candidate.url)
        return self.tracker

    def on_instance_unavailable(self, url: str) -> None:
        self.hear("on_instance_unavailable", url)


class Tracks(RequestTracker):
    def __init__(self, policy: Learns) -> None:
        self._hear = policy.hear

    def hold(self, send: Callable[[], None]) -> bool:
        self._hear("hold")
        send()
        return True

    def on_first_token(self) -> None:
        self._hear("on_first_token")

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        self._hear("on_usage", prompt_tokens, cached_tokens)

    def on_end(self) -> None:
        self._hear("on_end")


HOOKS = ["choose", "on_dispatch", "hold", "on_first_token", "on_usage", "on_end", "on_instance_unavailable"]


@pytest.mark.parametrize("fails", ["", *HOOKS])
def test_it_hears_of_its_own_choices_and_its_errors_do_no_harm(fails: str) -> None:
    told: list[tuple[str, str, str]] = []
    sent: list[bool] = []
    learner, candidates = Learns(fails), fleet(0, 0)
    policy = guarded(learner, told)
    tracker = policy.on_dispatch(FakeRequest(), policy.choose(FakeRequest(), candidates))
    if tracker is not None:
        assert tracker.hold(lambda: sent.append(True)) is (fails != "hold")
        tracker.on_first_token()
        tracker.on_usage(10, 5)
        tracker.on_end()
    policy.on_instance_unavailable("http://x")
    assert (tracker is None) is (fails in {"choose", "on_dispatch"})
    untold = {"choose": HOOKS[:-1], "on_dispatch": HOOKS[1:-1]}.get(fails, [fails])
    assert [each[0] for each in learner.heard] == [hook for hook in HOOKS if hook not in untold]
    assert [(hook, kind) for hook, kind, _ in told] == ([(fails, "raised")] if fails else [])
    assert sent == ([] if {"hold", *HOOKS[:2]} & {fails} else [True])
    assert "secret" not in str(told)


def test_what_comes_instead_of_a_tracker_does_no_harm() -> None:
    class Odd(Learns):
        def on_dispatch(self, request: RequestView, candidate: Candidate) -> Any:
            return 7

    told: list[tuple[str, str, str]] = []
    policy, candidates = guarded(Odd(), told), fleet(0)
    tracker = policy.on_dispatch(FakeRequest(), policy.choose(FakeRequest(), candidates))
    assert not tracker.hold(lambda: None)
    tracker.on_end()
    assert [hook for hook, _, _ in told] == ["hold", "on_end"]


def test_one_that_explains_nothing_is_said_to_keep_that_to_itself() -> None:
    explanation = guarded(Scripted(lambda c: c[0])).explain(FakeRequest(), fleet(0, 0))
    assert explanation.reason == "Scripted doesn't explain its choices"


async def test_a_request_that_meets_a_dead_instance_is_answered_whatever_the_plug_in_does() -> None:
    """The registry tells the policy, in the middle of the request's next attempt."""
    rig = Rig()
    errors: list[tuple[str, str, str]] = []
    policy = guarded(Learns("on_instance_unavailable"), errors)
    registry = Registry(clock=lambda: 0.0, log=rig.telemetry.log, live=rig.live)
    registry.on_change(lambda change: policy.on_instance_unavailable(change.instance.url))
    heard: list[str] = []
    registry.on_change(lambda change: heard.append(change.instance.url))
    rig.instances = [registry.register(make_instance(number).registration) for number in (1, 2)]
    scheduler = Scheduler[Instance](AskedGroup(rig.available), policy, str)
    rig.change(connection_failed=registry.connection_failed, select=scheduler.select)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    errors.clear()
    client = rig.client()
    client.receive(post())
    await rig.settle()
    (reached,) = rig.backend.opened
    reached.receive(answer(b"fine"))
    await rig.settle()
    assert client.take().endswith(b"\r\n\r\nfine")
    assert errors == [("on_instance_unavailable", "raised", errors[0][2])]
    assert heard[-1] == "http://10.0.0.1:8000"
    rig.assert_nothing_is_held()
