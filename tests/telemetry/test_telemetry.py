from __future__ import annotations

from pathlib import Path

from fd_router.telemetry.logging.factory import open_log
from fd_router.telemetry.metrics.request import Metrics
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.telemetry import Telemetry


def test_a_finished_request_is_logged_and_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    telemetry = Telemetry(open_log(output="file", path=str(path)), Metrics())
    record = RequestRecord("GET", "/health", "10.0.0.9", 1.0)
    record.status, record.finished_at = 200, 1.25
    telemetry.finish(record)
    telemetry.log.close()
    assert path.read_text().endswith("logger.go:79: [GET] /health HTTP/1.1 200 250ms 10.0.0.9\n")
    assert path.read_text().count("\n") == 1
    assert b'http_requests_total{endpoint="/health",method="GET",status_code="200"} 1.0' in telemetry.metrics.render()


def test_the_logs_losses_are_in_the_metrics() -> None:
    telemetry = Telemetry(open_log(output="file", path="/dev/full"), Metrics())
    telemetry.log.info("lost")
    telemetry.log.close()
    assert b"fd_router_log_lines_dropped_total 1.0" in telemetry.metrics.render()


def test_a_new_record_knows_nothing_yet() -> None:
    record = RequestRecord("GET", "/health", "10.0.0.9", 1.0)
    assert (record.status, record.outcome, record.tags, record.mixed, record.attempts) == (0, "completed", "", "", 0)
    assert (record.sent_at, record.first_byte_at, record.finished_at) == (0.0, 0.0, 0.0)
    assert not record.stream
    assert not record.inference
