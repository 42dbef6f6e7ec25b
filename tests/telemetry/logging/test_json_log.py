from __future__ import annotations

import json
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.logging.json_log import JsonLog
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import context_tags
from tests.support.telemetry_fakes import EVENING, Clock, FakeLoop, Outlet


def make(level: str = "debug") -> tuple[Outlet, Clock, JsonLog]:
    outlet, clock = Outlet(), Clock()
    return outlet, clock, JsonLog(Sink(outlet), level=level, clock=clock)


def test_a_line_is_one_object() -> None:
    outlet, _, log = make()
    log.info("Request completed successfully.", tags=context_tags("t1", session_id="s 1"))
    (entry,) = [json.loads(line) for line in outlet.text.splitlines()]
    stamp = entry.pop("ts")
    assert datetime.fromisoformat(stamp).timestamp() == EVENING
    assert stamp.startswith("2026-03-30T20:16:57.250")
    assert entry == {
        "level": "info", "trace_id": "t1", "session_id": "s 1", "message": "Request completed successfully.",
    }  # fmt: skip


def test_levels() -> None:
    outlet, _, log = make()
    for write in (log.debug, log.info, log.warn, log.error):
        write("x")
    assert [json.loads(line)["level"] for line in outlet.text.splitlines()] == ["debug", "info", "warn", "error"]


def test_levels_below_are_left_out() -> None:
    outlet, _, log = make("error")
    log.debug("x"), log.info("x"), log.warn("x"), log.finished(RequestRecord("GET", "/health", "", 0.0))
    assert outlet.text == ""


def test_the_request_line_has_fields() -> None:
    outlet, _, log = make()
    record = RequestRecord("POST", "/v1/completions", "10.0.0.9", 1.0)
    record.inference, record.mixed, record.status, record.finished_at = True, "http://10.0.0.1:80", 200, 1.5
    record.tags = context_tags(req_id="r")
    log.finished(record)
    entry = json.loads(outlet.text)
    assert (entry["req_id"], entry["path"], entry["status"], entry["duration_ms"], entry["instance"]) == (
        "r", "/v1/completions", 200, 500.0, "http://10.0.0.1:80",
    )  # fmt: skip
    assert entry["message"].startswith("[POST] /v1/completions HTTP/1.1 200 500ms 10.0.0.9 instance=")


def test_each_line_has_its_own_milliseconds_although_written_together() -> None:
    outlet, clock, log = make()
    loop = FakeLoop()
    log.start(loop)  # type: ignore[arg-type]
    for _ in range(3):
        log.info("x")
        clock.now += 0.5
    loop.tick()
    times = [datetime.fromisoformat(json.loads(line)["ts"]).timestamp() for line in outlet.text.splitlines()]
    assert times == [EVENING, EVENING + 0.5, EVENING + 1.0]


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/St_Johns", "UTC"])
def test_the_offset_is_the_local_one(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        outlet, clock, log = make()
        log.info("x")
        stamp = datetime.fromisoformat(json.loads(outlet.text)["ts"])
        assert stamp.timestamp() == clock.now
        assert stamp.utcoffset() == datetime.fromtimestamp(clock.now).astimezone().utcoffset()
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(st.characters()))
def test_any_message_is_one_line_of_valid_json(message: str) -> None:
    outlet, _, log = make()
    log.info(message)
    (line,) = outlet.text.split("\n")[:-1]
    assert json.loads(line)["message"] == message.encode("utf-8", "backslashreplace").decode()
