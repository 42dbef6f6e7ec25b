"""Failures in words: every reason, every change that matters, and nothing of what went well or of a client."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.api.dashboard.recent import KEPT
from fd_router.api.dashboard.troubles import CHANGES, PER_FRAME, REASONS, TroubleList
from fd_router.errors import UpstreamError
from fd_router.instances.changes import Change, ChangeKind
from fd_router.telemetry.record import AttemptRecord, RequestRecord
from tests.support.rig import make_instance

URL = "http://10.0.0.1:8000"


def record(**more: Any) -> RequestRecord:
    made = RequestRecord("POST", "/v1/completions", "10.0.0.9", 1.0, inference=True, status=200, mixed=URL, attempts=1)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def told(*records: RequestRecord) -> list[dict[str, Any]]:
    troubles = TroubleList(lambda: 7.0)
    for each in records:
        troubles.finished(each)
    return troubles.take()[0]


def test_every_reason_of_a_failed_attempt_has_words() -> None:
    assert set(REASONS) == set(UpstreamError.REASONS)


@pytest.mark.parametrize(
    "fine",
    [{}, {"outcome": "client_gone", "status": 499}, {"inference": False, "status": 404}],
)
def test_what_went_well_and_clients_that_left_are_no_failures(fine: dict[str, Any]) -> None:
    assert told(record(**fine)) == []


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ({"status": 401, "attempts": 0, "mixed": ""}, "no API key that is known"),
        ({"status": 503, "attempts": 0, "outcome": "failed"}, "no instance with room"),
        ({"status": 418, "attempts": 0}, "status 418"),
        ({"status": 500, "first_byte_at": 1.5}, "the instance answered with status 500"),
        ({"status": 200, "first_byte_at": 1.5, "outcome": "failed"}, "broke off in the middle"),
    ],
)
def test_the_cause_is_told_in_words(how: dict[str, Any], cause: str) -> None:
    (entry,) = told(record(**how))
    assert cause in entry["cause"]
    assert (entry["is_good"], entry["at"]) == (False, 7.0)


def test_a_request_that_went_elsewhere_tells_of_its_attempts() -> None:
    attempt = AttemptRecord((URL,), 1.0, 1.1, 0.0, 1.2, "refused", 0)
    other = AttemptRecord((URL,), 1.0, 1.1, 0.0, 1.2, "error_answer", 500)
    (entry,) = told(record(failed_attempts=(attempt, other)))
    assert entry["cause"] == "another instance answered it"
    assert entry["is_good"]
    assert [each["cause"] for each in entry["attempts"]] == [
        REASONS["refused"],
        f"{REASONS['error_answer']} (status 500)",
    ]
    (entry,) = told(record(continued=1, continued_at=40))
    assert "behind 40 tokens" in entry["cause"]


def test_many_failures_are_counted_and_the_last_ones_kept() -> None:
    troubles = TroubleList(lambda: 7.0)
    for _ in range(PER_FRAME + 3):
        troubles.finished(record(status=502, attempts=0))
    new, unseen = troubles.take()
    assert (len(new), unseen) == (PER_FRAME, 3)
    for _ in range(KEPT):
        troubles.on_change(Change(ChangeKind.DOWN, make_instance(1), "no answer"))
    assert len(troubles.kept) == KEPT
    assert troubles.take()[0][0]["cause"] == "is unhealthy: its probes failed (no answer)"


def test_changes_without_interest_are_left_out() -> None:
    troubles = TroubleList(lambda: 7.0)
    for kind in ChangeKind:
        troubles.on_change(Change(kind, make_instance(1)))
    assert len(troubles.take()[0]) == len(CHANGES)
