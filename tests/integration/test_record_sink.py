"""A record sink of one's own in a running router: the example as its README tells, and one that fails."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess, call

EXAMPLE = Path(__file__).parents[2] / "examples" / "extend" / "record_sink" / "jsonl_sink.py"


def started(source: str, sink: str) -> tuple[RouterProcess, MockProcess]:
    """Start a router with ``source`` as ``sink.py`` beside its configuration, and a mock."""
    mock = MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6)
    config = {
        "telemetry": {"record-sinks": f"sink:{sink}"},
        "manager": {"health-check-interval-secs": 0.2},
        "log": {"output": "file"},
    }
    instances = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port}]
    return RouterProcess(config, instances=instances, files={"sink.py": source}), mock


def ask(router: RouterProcess) -> int:
    status, _ = router.call("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 1})
    return status


def test_the_example_writes_a_line_for_each_request(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    source = EXAMPLE.read_text().replace('"requests.jsonl"', repr(str(path)))
    router, mock = started(source, "JsonLines")
    with router, mock:
        router.wait_for_instances(1)
        assert [ask(router) for _ in range(3)] == [200] * 3
        eventually(lambda: path.read_bytes().count(b"\n") == 3)
        lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        assert (line["endpoint"], line["status"], line["outcome"]) == ("/v1/completions", 200, "completed")
        assert 0 < line["first_byte_ms"] <= line["total_ms"]
        (attempt,) = line["attempts"]
        assert attempt["instances"] == [mock.url]
        assert attempt["outcome"] == "completed"


def test_one_that_fails_is_logged_once_and_requests_do_not_notice() -> None:
    source = "class S:\n    def finished(self, record):\n        raise SystemExit('my secret')\n"
    router, mock = started(source, "S")
    with router, mock:
        router.wait_for_instances(1)
        assert [ask(router) for _ in range(5)] == [200] * 5
        eventually(lambda: "sink:S failed" in router.log)
        lines = [line for line in router.log.splitlines() if "sink:S" in line]
        _, page = call(router.port, "GET", "/metrics")
    assert len(lines) == 1
    assert lines[0].startswith("[ERROR] ")
    assert "The record sink sink:S failed: SystemExit at sink.py:3" in lines[0]
    assert "my secret" not in router.log
    assert b'fd_router_record_sink_errors_total{sink="sink:S"}' in page
