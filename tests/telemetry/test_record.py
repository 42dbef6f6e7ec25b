"""The record of a request and of its attempts."""

from __future__ import annotations

from fd_router.telemetry.record import AttemptRecord, RequestRecord


def test_a_request_that_was_never_sent_has_no_attempts() -> None:
    assert RequestRecord("POST", "/", "", 1.0).all_attempts() == ()


def test_those_that_failed_and_the_one_that_did_not() -> None:
    record = RequestRecord("POST", "/", "", 1.0)
    record.mixed, record.attempt_started = "http://a:1", 2.0
    record.attempt_failed(record.attempt("refused", 3.0))
    record.mixed, record.attempt_started, record.sent_at = "http://b:1", 3.0, 3.5
    record.first_byte_at, record.status, record.finished_at = 4.0, 200, 5.0
    assert record.all_attempts() == (
        AttemptRecord(("http://a:1",), 2.0, 0.0, 0.0, 3.0, "refused", 0),
        AttemptRecord(("http://b:1",), 3.0, 3.5, 4.0, 5.0, "completed", 200),
    )


def test_one_of_a_pair() -> None:
    record = RequestRecord("POST", "/", "", 1.0)
    record.prefill, record.decode, record.attempt_started = "http://p:1", "http://d:1", 2.0
    record.outcome, record.status, record.finished_at = "client_gone", 499, 2.5
    (attempt,) = record.all_attempts()
    assert attempt.instances == ("http://p:1", "http://d:1")
    assert (attempt.outcome, attempt.status) == ("client_gone", 0)
