from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.access import access_fields, access_line
from fd_router.telemetry.record import RequestRecord

# Of the same meaning as those in FastDeploy's log scripts.
SCRIPTS_LINE = re.compile(
    r"\[(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS)\]\s+(/\S*)\s+HTTP/\d\.\d\s+(\d{3})\s+(\S+)\s+(\d+(?:\.\d+){3})"
)


def inference(**changes: object) -> RequestRecord:
    record = RequestRecord("POST", "/v1/chat/completions", "10.52.95.139", 100.0)
    record.path = "/v1/chat/completions"
    record.inference = True
    record.status = 200
    record.mixed = "http://10.0.0.1:8000"
    record.first_byte_at = 100.0123
    record.finished_at = 101.5
    record.bytes_out = 1234
    record.attempts = 1
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def test_a_request_to_a_mixed_instance() -> None:
    assert access_line(inference()) == (
        "[POST] /v1/chat/completions HTTP/1.1 200 1.5s 10.52.95.139"
        " instance=http://10.0.0.1:8000 ttft=12.3ms bytes=1234 attempts=1"
    )


def test_a_request_to_a_pair() -> None:
    assert access_line(inference(mixed="", prefill="http://10.0.0.1:8000", decode="http://10.0.0.2:8000")).endswith(
        " 10.52.95.139 prefill=http://10.0.0.1:8000 decode=http://10.0.0.2:8000 ttft=12.3ms bytes=1234 attempts=1"
    )


def test_a_request_that_no_instance_served() -> None:
    record = inference(mixed="", first_byte_at=0.0, status=502, outcome="failed", attempts=0, bytes_out=99)
    assert access_line(record) == (
        "[POST] /v1/chat/completions HTTP/1.1 502 1.5s 10.52.95.139 bytes=99 attempts=0 outcome=failed"
    )


def test_a_client_that_left() -> None:
    assert access_line(inference(outcome="client_gone")).endswith(" attempts=1 outcome=client_gone")


def test_a_control_request_has_no_instance() -> None:
    record = RequestRecord("GET", "/health", "10.1.1.1", 5.0)
    record.finished_at = 5.0005
    record.status = 200
    record.bytes_out = 2
    record.http_version = "1.0"
    assert access_line(record) == "[GET] /health HTTP/1.0 200 500µs 10.1.1.1 bytes=2"


def test_an_unknown_path_is_shown_as_sent_but_harmless() -> None:
    record = inference(endpoint="unmatched", path="/x y\n[ERROR]?token=secret", inference=False, bytes_out=0)
    assert access_line(record) == "[POST] /x%20y%0A%5BERROR%5D HTTP/1.1 200 1.5s 10.52.95.139"


@pytest.mark.parametrize(("client", "shown"), [("10.0.0.7", "10.0.0.7"), ("fd00::7", "fd00::7"), ("", "-")])
def test_clients_addresses(client: str, shown: str) -> None:
    assert f" 1.5s {shown} instance=" in access_line(inference(client=client))


def test_a_clock_that_never_stopped_gives_no_negative_time() -> None:
    assert " 200 0s " in access_line(inference(finished_at=0.0))


@given(
    st.sampled_from(["POST", "GET", "DELETE"]), st.text(st.characters(), max_size=99), st.integers(100, 599),
    st.floats(0, 4000), st.ip_addresses(v=4),
)  # fmt: skip
def test_the_scripts_read_every_line(method: str, path: str, status: int, seconds: float, client: object) -> None:
    record = inference(method=method, path="/" + path, status=status, finished_at=100.0 + seconds, client=str(client))
    match = SCRIPTS_LINE.match(access_line(record))
    assert match
    assert (match[1], match[3], match[5]) == (method, str(status), str(client))


@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_nothing_a_client_sends_begins_a_line_or_a_tag(method: str, path: str) -> None:
    line = access_line(inference(method=method, path=path))
    assert line.isprintable()
    assert re.fullmatch(r"\[[^\[\]]*\][^\[\]]*", line)


def test_fields_for_json() -> None:
    assert access_fields(inference(stream=True)) == {
        "method": "POST", "path": "/v1/chat/completions", "http_version": "1.1", "status": 200, "duration_ms": 1500.0,
        "client": "10.52.95.139", "outcome": "completed", "bytes": 1234, "instance": "http://10.0.0.1:8000",
        "ttft_ms": 12.3, "stream": True, "attempts": 1,
    }  # fmt: skip
