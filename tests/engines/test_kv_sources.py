"""Where engines say that their KV events are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fd_router.engines.kv_sources import KvEventSource, read_told_sources
from fd_router.engines.sglang import SglangDialect
from fd_router.engines.vllm import VllmDialect


def test_vllm_tells_each_ranks_own_ports() -> None:
    told = {
        str(rank): {
            "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://*:{24102 + rank}",
            "replay_endpoint": f"tcp://*:{24112 + rank}", "topic": "kv", "buffer_steps": 10000,
        }
        for rank in (1, 0)
    }  # fmt: skip
    sources = VllmDialect().read_kv_sources(msgspec.json.encode(told))
    assert sources == [KvEventSource(24102, 24112, "kv", "", 0), KvEventSource(24103, 24113, "kv", "", 1)]


def test_sglang_tells_the_first_ones() -> None:
    told = {
        "publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": 5557, "topic": "", "block_size": 1,
        "dp_size": 2, "replay_endpoint_port_base": 5600,
    }  # fmt: skip
    sources = SglangDialect().read_kv_sources(msgspec.json.encode({"kv_events": told}))
    assert sources == [KvEventSource(5557, 5600), KvEventSource(5558, 5601, rank=1)]


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"0": 5}', b'{"0": {"endpoint": "ipc:///x"}}', b'{"0": {"endpoint": null}}', b"\xff",
     b'{"0": {"endpoint": "tcp://*:5557", "publisher": "null"}}', b'{"0": {"endpoint": "tcp://*:99999"}}',
     b'{"kv_events": null}', b'{"kv_events": {"endpoint_port_base": 5, "publisher": "null"}}'],
)  # fmt: skip
def test_what_tells_of_none(answer: bytes) -> None:
    assert not VllmDialect().read_kv_sources(answer)
    assert not SglangDialect().read_kv_sources(answer)


@pytest.mark.parametrize(
    ("told", "ranks", "sources"),
    [
        ({"endpoint": "tcp://*:5557"}, 0, [KvEventSource(5557)]),
        ({"endpoint": "tcp://10.0.0.9:5557", "topic": "t"}, 1, [KvEventSource(5557, 0, "t", "10.0.0.9")]),
        ({"endpoint": "tcp://[fd00::9]:5557"}, 1, [KvEventSource(5557, host="fd00::9")]),  # as instances' hosts are
        (
            {"endpoint": "tcp://0.0.0.0:5557", "replay_endpoint": "tcp://*:5558", "hwm": 5},
            2,
            [KvEventSource(5557, 5558), KvEventSource(5558, 5559, rank=1)],
        ),
        ({"endpoint": "tcp://*:65535"}, 2, [KvEventSource(65535)]),
        ({"enable_kv_cache_events": False, "endpoint": "tcp://*:5557"}, 1, []),
        ({"replay_endpoint": "tcp://*:5558"}, 1, []),
        ({"endpoint": "tcp://*:5557", "topic": 5}, 1, []),
    ],
)
def test_what_a_registration_tells(told: dict[str, Any], ranks: int, sources: list[KvEventSource]) -> None:
    assert list(read_told_sources(told, ranks)) == sources
