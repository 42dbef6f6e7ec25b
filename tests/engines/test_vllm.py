"""vLLM's dialect: what it answers to, how it is told to abort, what its statuses mean."""

from __future__ import annotations

import json

import pytest

from fd_router.engines.dialect import Verdict
from fd_router.engines.dialects import Dialects
from fd_router.engines.engine_load import EngineLoad

VLLM = Dialects().named("vllm")

PAGE = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 4.0
vllm:num_requests_waiting{engine="1",model_name="tiny"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 4.0
"""


def test_it_is_known_by_its_version() -> None:
    assert VLLM.recognizes(b'{"version":"0.32.0"}')
    assert not VLLM.recognizes(b'{"version":"0.32.0","engine":"other"}')
    assert not VLLM.recognizes(b'{"version":5}')
    assert not VLLM.recognizes(b"0.32.0")
    assert not VLLM.recognizes(b"\xff")


def test_its_load_is_that_of_all_ranks() -> None:
    assert VLLM.read_load(PAGE) == EngineLoad(5.0, 4.0)


def test_it_is_told_ids_as_it_may_know_them() -> None:
    (message,) = VLLM.abort(["mine", "chatcmpl-other"])
    assert message.path == "/inference/v1/abort_requests"
    assert json.loads(message.body) == {
        "request_ids": [
            "mine", "chatcmpl-mine", "cmpl-mine", "resp_mine", "cmpl-mine-0", "chatcmpl-other", "chatcmpl-other-0",
        ]
    }  # fmt: skip
    assert VLLM.abort(None) == ()
    assert VLLM.read_abort(b"").is_silent


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (503, Verdict.BUSY),
        (429, Verdict.BUSY),
        (500, Verdict.ERROR),  # EngineCore encountered an issue
        (400, Verdict.CLIENT_ERROR),
        (404, Verdict.CLIENT_ERROR),
    ],
)
def test_its_statuses(status: int, verdict: Verdict) -> None:
    body = b'{"error":{"message":"m","type":"t","param":null,"code":%d}}' % status
    assert VLLM.judge("mixed", status, body, True) is verdict
