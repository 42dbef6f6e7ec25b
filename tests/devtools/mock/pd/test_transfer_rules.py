"""Which requests mock instances of vLLM's and SGLang's pairs refuse: real ones would go wrong, or on in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.devtools.mock.options import MockOptions
from fd_router.devtools.mock.pd.transfer_rules import Ticket, TransferRules
from fd_router.errors import BadRequestError

PREFILL = {"do_remote_decode": True, "do_remote_prefill": False}
PULLED = {
    "do_remote_decode": False, "do_remote_prefill": True, "remote_block_ids": [[1]], "remote_engine_id": "e",
    "remote_request_id": "r", "remote_host": "10.0.0.1", "remote_port": 5600,
}  # fmt: skip
PUSHED = {**PULLED, "remote_block_ids": None, "tp_size": 1, "pp_size": 1, "transfer_id": "x"}
MOONCAKE = {
    "do_remote_decode": False, "do_remote_prefill": True, "remote_engine_id": "e", "transfer_id": "x",
    "remote_bootstrap_addr": "http://10.0.0.1:8998",
}  # fmt: skip
ROOM = {"bootstrap_host": "10.0.0.1", "bootstrap_port": 8998, "bootstrap_room": 5}


def read(role: str, connector: str, asked: dict[str, Any], headers: dict[str, str] | None = None) -> Ticket:
    dialect = "sglang" if connector == "SGLang" else "vllm"
    told = {} if dialect == "sglang" else {"kv_connector": connector}
    rules = TransferRules(MockOptions(role=role, dialect=dialect, **told), "10.0.0.1", 8998)
    return rules.read(json.dumps({"prompt": "a", **asked}).encode(), headers or {})


@pytest.mark.parametrize(
    ("role", "connector", "asked", "headers", "key"),
    [
        ("prefill", "NixlConnector", {"max_tokens": 1, "kv_transfer_params": PREFILL}, {}, ""),
        ("decode", "NixlConnector", {"kv_transfer_params": PULLED}, {}, "r"),
        ("decode", "NixlConnector", {}, {}, ""),
        ("prefill", "NixlPushConnector", {"kv_transfer_params": {**PREFILL, "transfer_id": "x"}}, {}, "x"),
        ("decode", "NixlPushConnector", {"kv_transfer_params": PUSHED}, {"x-request-id": "r"}, "x"),
        (
            "prefill", "MooncakeConnector", {"kv_transfer_params": {**PREFILL, "transfer_id": "x"}},
            {"x-data-parallel-rank": "0"}, "x",
        ),
        ("decode", "MooncakeConnector", {"kv_transfer_params": MOONCAKE}, {}, "x"),
        ("prefill", "SGLang", ROOM, {}, "5"),
        ("decode", "SGLang", {"prompt": ["a"], **{name: [value] for name, value in ROOM.items()}}, {}, "5"),
    ],
)  # fmt: skip
def test_what_is_right(role: str, connector: str, asked: dict[str, Any], headers: dict[str, str], key: str) -> None:
    assert read(role, connector, asked, headers).key == key


@pytest.mark.parametrize(
    ("role", "connector", "asked", "why"),
    [
        ("prefill", "NixlConnector", {}, "kv_transfer_params is required"),
        ("prefill", "NixlConnector", {"stream": True, "kv_transfer_params": PREFILL}, "stream must be false"),
        ("prefill", "NixlConnector", {"min_tokens": 0, "kv_transfer_params": PREFILL}, "min_tokens"),
        ("prefill", "NixlConnector", {"stream_options": {}, "kv_transfer_params": PREFILL}, "stream_options"),
        ("prefill", "NixlConnector", {"max_completion_tokens": 9, "kv_transfer_params": PREFILL}, "one token"),
        ("prefill", "NixlConnector", {"kv_transfer_params": {**PREFILL, "remote_host": "evil"}}, "expected"),
        ("prefill", "NixlPushConnector", {"kv_transfer_params": PREFILL}, "transfer_id is missing"),
        (
            "prefill", "MooncakeConnector", {"kv_transfer_params": {**PREFILL, "transfer_id": "x"}},
            "x-data-parallel-rank",
        ),
        ("decode", "NixlConnector", {"kv_transfer_params": PREFILL}, "remote_engine_id is missing"),
        ("decode", "NixlConnector", {"kv_transfer_params": {**PULLED, "remote_block_ids": []}}, "remote_block_ids"),
        ("decode", "NixlPushConnector", {"kv_transfer_params": PUSHED}, "X-Request-Id"),
        (
            "decode", "MooncakeConnector", {"kv_transfer_params": {**MOONCAKE, "remote_bootstrap_addr": "10.0.0.1:1"}},
            "no http://",
        ),
        ("prefill", "SGLang", {}, "required"),
        ("prefill", "SGLang", {**ROOM, "bootstrap_port": 1}, "mine is 10.0.0.1:8998"),
        ("decode", "SGLang", {**ROOM, "bootstrap_room": 2**63}, "no room"),
        ("decode", "SGLang", {**ROOM, "n": 2}, "lists of 2"),
        ("decode", "SGLang", {"n": 2, **{name: [value] * 2 for name, value in ROOM.items()}}, "rooms must differ"),
    ],
)  # fmt: skip
def test_what_is_refused(role: str, connector: str, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRequestError, match=why):
        read(role, connector, asked)


def test_a_member_that_is_there_twice() -> None:
    rules = TransferRules(MockOptions(role="decode", dialect="vllm"), "10.0.0.1", 8998)
    with pytest.raises(BadRequestError, match="2 times"):
        rules.read(b'{"kv_transfer_params":{},"kv_transfer_params":{}}', {})
