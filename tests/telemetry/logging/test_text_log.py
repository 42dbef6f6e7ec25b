from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.logging.sink import Sink
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import context_tags
from tests.support.telemetry_fakes import Clock, FakeLoop, Outlet

HEAD = "2026/03/30 20:16:57 logger.go:79: "

# Of the same meaning as those in FastDeploy's log scripts.
SCRIPTS_MESSAGE = re.compile(r"logger\.go:\d+:\s*(?:\[[^\]]*\]\s*)*(.+)")
SCRIPTS_TAG = re.compile(r"\[(trace_id|req_id|request_id|session_id):([^\]]+)\]")


class Setting:
    def __init__(self, level: str = "info", started: bool = True, errors_apart: bool = False) -> None:
        self.outlet, self.errors, self.clock, self.loop = Outlet(), Outlet(), Clock(), FakeLoop()
        self.complaints: list[str] = []
        error_sink = Sink(self.errors) if errors_apart else None
        sink = Sink(self.outlet, limit=200, complain=self.complaints.append)
        self.log = RouterLog(sink, level=level, error_sink=error_sink, clock=self.clock)
        if started:
            self.log.start(self.loop)  # type: ignore[arg-type]


def test_an_info_line() -> None:
    setting = Setting(started=False)
    setting.log.info("Request completed successfully.", tags=context_tags("t1", "r1"))
    assert setting.outlet.text == f"[INFO] {HEAD}[trace_id:t1] [req_id:r1] Request completed successfully.\n"


def test_every_level_has_its_name() -> None:
    setting = Setting("debug", started=False)
    for write in (setting.log.debug, setting.log.info, setting.log.warn, setting.log.error):
        write("hello")
    assert setting.outlet.text == "".join(f"[{level}] {HEAD}hello\n" for level in ("DEBUG", "INFO", "WARN", "ERROR"))


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", "diwe"), ("info", "iwe"), ("warn", "we"), ("error", "e")]
)  # fmt: skip
def test_levels_below_are_left_out(level: str, shown: str) -> None:
    setting = Setting(level, started=False)
    log = setting.log
    log.debug("d"), log.info("i"), log.warn("w"), log.error("e")
    log.finished(RequestRecord("GET", "/health", "10.0.0.1", 0.0))
    lines = setting.outlet.text.splitlines()
    requests = [line for line in lines if "/health" in line]
    assert "".join(line[-1] for line in lines if line not in requests) == shown
    assert len(requests) == ("i" in shown)
    assert (log.debug_on, log.info_on, log.warn_on) == tuple(c in shown for c in "diw")


def test_the_request_line_has_the_records_tags() -> None:
    setting = Setting(started=False)
    record = RequestRecord("GET", "/health", "10.0.0.1", 1.0)
    record.finished_at, record.status, record.tags = 1.5, 200, context_tags(req_id="r")
    setting.log.finished(record)
    assert setting.outlet.text == f"[INFO] {HEAD}[req_id:r] [GET] /health HTTP/1.1 200 500ms 10.0.0.1\n"


def test_lines_wait_to_be_written_together() -> None:
    setting = Setting()
    setting.log.info("one")
    setting.log.info("two")
    assert setting.outlet.writes == []
    assert [delay for delay, _ in setting.loop.timers] == [0.05]
    setting.loop.tick()
    assert setting.outlet.writes == [f"[INFO] {HEAD}one\n[INFO] {HEAD}two\n".encode()]


def test_an_idle_log_sets_no_timer() -> None:
    setting = Setting()
    assert setting.loop.timers == []
    setting.log.info("one")
    setting.loop.tick()
    assert setting.loop.timers == []


def test_the_time_is_right_after_an_idle_period() -> None:
    setting = Setting()
    setting.log.info("one")
    setting.loop.tick()
    setting.clock.now += 3605
    setting.log.info("two")
    setting.loop.tick()
    assert setting.outlet.text.endswith("[INFO] 2026/03/30 21:17:02 logger.go:79: two\n")


def test_the_time_goes_on_under_constant_load() -> None:
    setting = Setting()
    for _ in range(40):
        setting.log.info("x")
        setting.clock.now += 0.0625  # exact in binary
        setting.loop.tick()
    stamps = [line[7:26] for line in setting.outlet.text.splitlines()]
    assert [stamps.count(f"2026/03/30 20:16:{second}") for second in (57, 58, 59)] == [12, 16, 12]


@pytest.mark.parametrize("level", ["warn", "error"])
def test_a_warning_takes_along_what_waits(level: str) -> None:
    setting = Setting()
    setting.log.info("before")
    getattr(setting.log, level)("now")
    assert setting.outlet.text == f"[INFO] {HEAD}before\n[{level.upper()}] {HEAD}now\n"
    setting.loop.tick()
    assert len(setting.outlet.writes) == 1


def test_errors_may_go_elsewhere_and_come_after_what_waited() -> None:
    setting = Setting(errors_apart=True)
    setting.log.info("before")
    setting.log.error("now")
    setting.log.warn("a warning stays")
    assert setting.outlet.text == f"[INFO] {HEAD}before\n[WARN] {HEAD}a warning stays\n"
    assert setting.errors.text == f"[ERROR] {HEAD}now\n"


def test_close_writes_everything_and_lines_before_the_start_or_after_the_stop_are_not_held() -> None:
    setting = Setting(started=False)
    setting.log.info("before")
    assert "before" in setting.outlet.text
    setting.log.start(setting.loop)  # type: ignore[arg-type]
    setting.log.info("during")
    assert "during" not in setting.outlet.text
    setting.log.stop()
    assert setting.loop.timers == []
    assert "during" in setting.outlet.text
    setting.log.info("after")
    assert "after" in setting.outlet.text
    setting.log.close()
    assert setting.outlet.writes[-1] == b"<closed>"


def test_closing_closes_the_sink_of_errors_too() -> None:
    setting = Setting(errors_apart=True)
    setting.log.close()
    assert setting.errors.writes == [b"<closed>"]


@given(st.lists(st.text(st.characters(), max_size=30), min_size=1, max_size=5))
def test_no_message_begins_a_line_of_its_own(messages: list[str]) -> None:
    setting = Setting()
    for message in messages:
        setting.log.info(message)
    setting.loop.tick()
    data = b"".join(setting.outlet.writes)
    assert data.count(b"\n") == len(messages)
    assert all(line.startswith(b"[INFO] 2026/") for line in data.split(b"\n")[:-1])


@given(st.text(st.characters(), max_size=30))
def test_warnings_which_may_quote_what_others_sent_have_no_control_characters(message: str) -> None:
    setting = Setting()
    setting.log.warn(message)
    data = b"".join(setting.outlet.writes)
    assert data.count(b"\n") == 1
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", data)


def test_only_the_lines_that_need_it_are_changed() -> None:
    setting = Setting()
    setting.log.info("fine\tµs 会")
    setting.log.info("evil\n[ERROR] fake\x1b[0m")
    setting.loop.tick()
    assert setting.outlet.text == f"[INFO] {HEAD}fine\tµs 会\n[INFO] {HEAD}evil\\x0a[ERROR] fake\\x1b[0m\n"


def test_fastdeploys_scripts_find_message_and_tags() -> None:
    setting = Setting(started=False)
    setting.log.info("select worker (mixed): http://10.0.0.1:80, count: 1", tags=context_tags("t", "r", "s", "q"))
    line = setting.outlet.text.rstrip("\n")
    match = SCRIPTS_MESSAGE.search(line)
    assert match
    assert match[1] == "select worker (mixed): http://10.0.0.1:80, count: 1"
    assert dict(SCRIPTS_TAG.findall(line)) == {"trace_id": "t", "req_id": "r", "session_id": "s", "request_id": "q"}


def test_a_fault_is_outlived_and_told_in_the_log() -> None:
    setting = Setting()
    setting.outlet.error = OSError(28, "No space left on device")
    for number in range(10):
        setting.log.info(f"line {number}")
    setting.loop.tick()
    assert len(setting.complaints) == 1
    assert setting.log.lines_lost > 0
    for _ in range(3):
        assert len(setting.loop.timers) == 1  # tried again although nothing new is logged
        setting.loop.tick()
    setting.outlet.error = None
    setting.loop.tick()
    setting.loop.tick()
    lines = setting.outlet.text.splitlines()
    assert lines[-2].endswith("line 9")
    assert lines[-1] == f"[WARN] {HEAD}Log memory can be written again, {setting.log.lines_lost} lines were lost"
    assert len(lines) - 1 + setting.log.lines_lost == 10
    assert setting.loop.timers == []


def test_a_fault_of_the_sink_of_errors_is_tried_again_too() -> None:
    setting = Setting(errors_apart=True)
    setting.errors.error = OSError(11, "busy")
    setting.log.error("important")
    setting.loop.tick()
    assert len(setting.loop.timers) == 1
    assert setting.log.lines_lost == 0
    setting.errors.error = None
    setting.loop.tick()
    setting.loop.tick()
    assert setting.errors.text == f"[ERROR] {HEAD}important\n"
    assert setting.loop.timers == []


async def test_on_a_real_loop_lines_are_written_by_themselves() -> None:
    outlet = Outlet()
    log = RouterLog(Sink(outlet))
    log.start()
    log.info("hello")
    assert outlet.writes == []
    async with asyncio.timeout(10):
        await outlet.written.wait()
    assert outlet.text.endswith("logger.go:79: hello\n")
    log.close()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError):
        RouterLog(Sink(Outlet()), level="loud")
