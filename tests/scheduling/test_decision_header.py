"""The text of the header that tells how a request was scheduled."""

from __future__ import annotations

from fd_router.openai.completion import Completion
from fd_router.scheduling.decision_header import DecisionHeaderPolicy, decision_text
from fd_router.scheduling.explanation import Explanation, Standing
from fd_router.scheduling.policies import make_policy
from tests.support.scheduling_fakes import FakeRequest, fleet, make_environment


def completion(*, wants: bool) -> Completion:
    made = Completion(b'{"prompt": "hello"}')
    made.decisions = {} if wants else None
    return made


def test_a_request_that_wants_to_know_is_told() -> None:
    policy, candidates = (
        DecisionHeaderPolicy(make_policy("request_num", make_environment()), "mixed", "request_num"),
        fleet(2, 1),
    )
    asking = completion(wants=True)
    assert policy.choose(asking, candidates) is candidates[1]
    assert asking.decisions == {
        "mixed": "mixed=http://10.0.0.2:8000; policy=request_num; load=1; score=1; candidates=2; "
        'reason="fewest running requests: 1"'
    }
    silent = completion(wants=False)
    policy.choose(silent, candidates)
    assert silent.decisions is None
    policy.choose(FakeRequest(), candidates)  # one that has never heard of it


def test_what_a_foreign_reason_holds_does_no_harm() -> None:
    (one,) = fleet(0)
    text = decision_text("mixed", "p", Explanation('a"b\\c\r\nX: ü' + "x" * 500, [Standing(one, hit=7)], [0]), one)
    assert text.startswith('mixed=http://10.0.0.1:8000; policy=p; hit=7; candidates=1; reason="a?b?c??X: ?xxx')
    assert len(text) < 300


def test_a_choice_that_the_explanation_does_not_know() -> None:
    one, other = fleet(0, 0)
    assert decision_text("mixed", "p", Explanation("r", [Standing(one)], [0]), other).startswith(
        "mixed=http://10.0.0.2"
    )
