"""A running router records what its policies are given; the recording is recomputed, and replayed under others."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import Request, urlopen

from fd_router.cli import run
from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.recordings.reading import read_recording
from fd_router.devtools.recordings.recomputing import recompute
from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess

SECRET = "a very private question that nobody else may read"


def ask(port: int, body: dict[str, object]) -> None:
    url, data = f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode()
    with urlopen(Request(url, data, {"content-type": "application/json"}), timeout=30) as answer:
        assert b"mock" in answer.read()


def test_a_router_records_numbers_that_simulate_reads(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "recordings"
    mocks = [MockProcess(decode_ms_per_token=1, prefill_tokens_per_sec=1e6) for _ in range(2)]
    config = {
        "scheduler": {"policy": "ttft_aware"},
        "telemetry": {"recording-folder": str(folder)},
        "manager": {"health-check-interval-secs": 0.2},
    }
    instances = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in mocks]
    router = RouterProcess(config, instances=instances)
    body = {"max_tokens": 4, "session_id": "alice", "stream_options": {"include_usage": True}}
    with router, mocks[0], mocks[1]:
        router.wait_for_instances(2)
        for number in range(6):
            prompt = f"{SECRET} {number % 2} " * 20
            ask(router.port, body | {"prompt": prompt, "stream": number % 3 > 0})
        (path,) = folder.iterdir()
        eventually(lambda: path.read_bytes().count(b'"event":"ended"') == 6)
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [word for word in ("private", "alice", "127.0.0.1", *(str(mock.port) for mock in mocks)) if word in text]
    recording = read_recording(str(path))
    assert recompute(recording, SchedulerConfig()).share == 1.0
    served = recording.served()
    assert len(served) == 6
    assert all(one.prompt_tokens and one.total_tokens == one.prompt_tokens + 4 for one in served)
    assert len({one.decision.session for one in served}) == 1
    assert run(["simulate", "--what-if", "--trace", str(path), "--policy", "request_num"]) == 0
    told = capsys.readouterr().out
    assert "6 of 6 decisions (100.00%) come out the same" in told
    assert all(name in told for name in ("as recorded", "ttft_aware, simulated", "request_num"))
