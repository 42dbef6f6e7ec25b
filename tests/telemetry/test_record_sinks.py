"""Record sinks of third parties: how they are found, and what the guard makes of one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.app.record_sinks import open_record_sinks
from fd_router.config.telemetry import TelemetryConfig
from fd_router.errors import ConfigError
from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.record_sinks import SILENT_SECONDS, GuardedSink
from fd_router.telemetry.telemetry import Telemetry
from tests.support.telemetry_fakes import Outlet

RECORD = RequestRecord("POST", "/v1/completions", "10.0.0.9", 1.0)


class Failing:
    def finished(self, record: RequestRecord) -> None:
        raise ValueError("not to be told")


class Diary:
    def __init__(self) -> None:
        self.seen: list[RequestRecord] = []

    def finished(self, record: RequestRecord) -> None:
        self.seen.append(record)


class TestGuard:
    def guard(self) -> GuardedSink:
        self.now, self.counted, self.lines = 0.0, 0, []
        return GuardedSink("a:B", Failing(), count=self.count, log=self.lines.append, clock=lambda: self.now)

    lines: list[str]

    def count(self) -> None:
        self.counted += 1

    def test_a_failure_is_counted_each_time_and_told_once_a_minute(self) -> None:
        guard = self.guard()
        for _ in range(3):
            guard.finished(RECORD)
        assert self.counted == 3
        (line,) = self.lines
        assert line.startswith("The record sink a:B failed: ValueError at test_record_sinks.py:")
        assert "told" not in line
        self.now += SILENT_SECONDS
        guard.finished(RECORD)
        assert self.lines[1].endswith("(3 times since the last such line)")

    def test_the_others_get_the_record_all_the_same(self) -> None:
        diary, outlet = Diary(), Outlet()
        telemetry = Telemetry(RouterLog(Sink(outlet)), Metrics(), (self.guard(), diary))
        telemetry.finish(RECORD)
        assert diary.seen == [RECORD]
        assert "[POST] /v1/completions" in outlet.text
        assert b'http_requests_total{endpoint="/v1/completions"' in telemetry.metrics.render()


class TestLoading:
    def open(self, tmp_path: Path, source: str, name: str) -> tuple[object, ...]:
        (tmp_path / f"{name}.py").write_text(source)
        options = TelemetryConfig(record_sinks=f"{name}:One, {name}:Two", plugin_folder=str(tmp_path))
        return open_record_sinks(options, Metrics(), RouterLog(Sink(Outlet())))

    def test_each_class_that_is_named(self, tmp_path: Path) -> None:
        source = "class One:\n    def finished(self, record): ...\nclass Two(One): ...\n"
        sinks = self.open(tmp_path, source, "two_sinks")
        assert [repr(sink) for sink in sinks] == ["<GuardedSink two_sinks:One>", "<GuardedSink two_sinks:Two>"]

    @pytest.mark.parametrize("source", ["class One: ...\n", "One = 3\n", "class One:\n    finish = None\n"])
    def test_what_is_no_sink_is_refused(self, tmp_path: Path, source: str) -> None:
        with pytest.raises(ConfigError, match=r"telemetry.record-sinks: .*RecordSink"):
            self.open(tmp_path, source, f"no_sink_{len(source)}")

    def test_none_is_the_default(self) -> None:
        assert open_record_sinks(TelemetryConfig(), Metrics(), RouterLog(Sink(Outlet()))) == ()
