"""A recorded policy: what its lines tell of the candidates, and of those that no line tells of."""

from __future__ import annotations

import json

import pytest

from fd_router.errors import HttpError
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.recording.recorded_policy import RecordedPolicy
from fd_router.scheduling.recording.recorder import Recorder
from tests.support.scheduling_fakes import FakeCandidate, FakeRequest, make_environment


def test_a_decision_that_was_refused_leaves_no_gap():
    """``ttft_aware`` refuses a deadline that can't be met while it chooses."""
    lines = []
    recorder = Recorder(lambda: 1.0, lines.append, bytes(32), 16)

    class Refuses(Policy):
        def choose(self, request, candidates):
            if request.prompt:
                raise HttpError("late", status=503, code="deadline_unmeetable")
            return candidates[0]

    policy = RecordedPolicy(Refuses(make_environment()), recorder, "mixed", "refuses")
    candidates = [FakeCandidate(1), FakeCandidate(2)]
    with pytest.raises(HttpError):
        policy.choose(FakeRequest("late"), candidates)
    candidates[1].running = 3
    policy.choose(FakeRequest(), candidates)
    candidates[0].running = 2
    with pytest.raises(HttpError):
        policy.choose(FakeRequest("late"), candidates)
    policy.choose(FakeRequest(), candidates)
    first, second = (json.loads(line) for line in lines[1:])
    assert (first["candidates"], first["counts"]) == ([0, 1], [[1, 3, 0]])
    assert second["counts"] == [[0, 2, 0]]
