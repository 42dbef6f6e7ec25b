"""SGLang's dialect: its load by rank, from its own page or its metrics; how it is known, and told to abort."""

from __future__ import annotations

import json

import pytest

from fd_router.engines.dialects import Dialects
from fd_router.engines.engine_load import EngineLoad
from fd_router.engines.sglang import SglangDialect

SGLANG = SglangDialect()

LOADS = {
    "timestamp": "2026-01-01T00:00:00+00:00",
    "version": "0.5.23",
    "loads": [
        {"dp_rank": 0, "num_running_reqs": 3, "num_waiting_reqs": 1, "num_used_tokens": 100, "token_usage": 0.1},
        {"dp_rank": 1, "num_running_reqs": 2, "num_waiting_reqs": 0, "num_used_tokens": 50, "token_usage": 0.05},
    ],
}


def gauge(name: str, value: float, **labels: object) -> str:
    told = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"sglang:{name}{{{told}}} {value}\n"


def page(*samples: str) -> bytes:
    return ("# TYPE sglang:num_running_reqs gauge\n" + "".join(samples)).encode()


def test_it_is_in_the_table() -> None:
    assert type(Dialects().named("sglang")) is SglangDialect
    assert (SGLANG.health_path, SGLANG.load_path) == ("/ready", "/v1/loads?include=core")


def test_the_loads_of_all_ranks() -> None:
    assert SGLANG.read_load(json.dumps(LOADS).encode()) == EngineLoad(5.0, 1.0)


@pytest.mark.parametrize("page", [b"", b"{}", b'{"loads":[]}', b'{"loads":7}', b"{", b"sglang:num_running_reqs 1\n"])
def test_a_page_without_loads(page: bytes) -> None:
    assert SGLANG.read_load(page) is None


def test_metrics_of_an_older_version() -> None:
    told = page(gauge("num_running_reqs", 3, dp_rank=0), gauge("num_queue_reqs", 2, dp_rank=0))
    assert SGLANG.read_load(told) == EngineLoad(3.0, 2.0)


def test_priorities_are_parts_of_the_sample_without_one() -> None:
    told = page(
        gauge("num_running_reqs", 5, dp_rank=0, priority=""),
        gauge("num_running_reqs", 3, dp_rank=0, priority="1"),
        gauge("num_running_reqs", 2, dp_rank=0, priority="2"),
        gauge("num_queue_reqs", 1, dp_rank=0, priority=""),
        gauge("num_queue_reqs", 1, dp_rank=0, priority="1"),
    )
    assert SGLANG.read_load(told) == EngineLoad(5.0, 1.0)


def test_tensor_parallel_ranks_have_one_batch_and_data_parallel_ones_their_own() -> None:
    samples = [
        gauge(name, value + dp_rank, dp_rank=dp_rank, tp_rank=tp_rank)
        for name, value in (("num_running_reqs", 4), ("num_queue_reqs", 0))
        for dp_rank in (0, 1)
        for tp_rank in (0, 1, 2)
    ]
    assert SGLANG.read_load(page(*samples)) == EngineLoad(4.0 + 5.0, 0.0 + 1.0)


def test_it_is_known_by_its_settings() -> None:
    assert SGLANG.recognizes(b'{"model_path":"m","disaggregation_mode":"null","internal_states":[]}')
    assert not SGLANG.recognizes(b'{"vllm_config":"x"}')  # vLLM has the path too, in its developers' mode
    assert not SGLANG.recognizes(b"[]")


def test_each_id_is_a_message_of_its_own() -> None:
    told = SGLANG.abort(["one", "", "two"])
    assert [(message.path, json.loads(message.body)) for message in told] == [
        ("/abort_request", {"rid": "one"}),
        ("/abort_request", {"rid": "two"}),  # an empty one would be the beginning of each
    ]
    assert [json.loads(message.body) for message in SGLANG.abort(None)] == [{"abort_all": True}]
    assert SGLANG.read_abort(b"").is_silent
