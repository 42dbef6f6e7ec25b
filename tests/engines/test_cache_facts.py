"""What engines tell of their caches and ranks, in the pages that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.engines.cache_facts import CacheFacts, count_ranks
from fd_router.engines.dialects import Dialects

FIXTURES = Path(__file__).parents[1] / "fixtures"


def read(engine: str, page: bytes) -> CacheFacts | None:
    return Dialects().named(engine).read_cache(page)


def fixture(engine: str, name: str) -> bytes:
    return (FIXTURES / engine / name).read_bytes().partition(b"\r\n\r\n")[2]


def vllm_page(*engines: str, **sizes: str) -> bytes:
    told = "".join(f',{name}="{value}"' for name, value in sizes.items())
    return "".join(f'vllm:cache_config_info{{engine="{each}"{told}}} 1.0\n' for each in engines).encode()


def test_vllm() -> None:
    assert read("vllm", fixture("vllm", "metrics.http")) == CacheFacts(1_048_576, 8192, 1)


def test_an_older_vllm_tells_blocks_only() -> None:
    page = vllm_page("0", "1", block_size="16", num_gpu_blocks="100", kv_cache_size_tokens="None")
    assert read("vllm", page) == CacheFacts(1600, 100, 2)


def test_one_rank_of_vllm_with_an_address_of_its_own_is_one() -> None:
    assert read("vllm", vllm_page("3", kv_cache_size_tokens="4096")) == CacheFacts(4096, 0, 1)


def test_sglang() -> None:
    assert read("sglang", fixture("sglang", "loads.http")) == CacheFacts(4096, 0, 2)


def test_an_older_sglang() -> None:
    page = b'sglang:max_total_num_tokens{dp_rank="0",tp_rank="0"} 900\nsglang:max_total_num_tokens{dp_rank="1"} 800\n'
    assert read("sglang", page) == CacheFacts(800, 0, 2)


def test_fastdeploy() -> None:
    page = b"fastdeploy:num_requests_running 1\nfastdeploy:num_requests_waiting 0\navailable_gpu_block_num 512\n"
    assert read("fastdeploy", page) == CacheFacts(blocks=512)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "fastdeploy", "openai"])
@pytest.mark.parametrize("page", [b"", b"nonsense\n", b"{", b'{"loads": []}', b'{"loads": 1}', b"\xff\xfe"])
def test_nothing_to_read(engine: str, page: bytes) -> None:
    assert read(engine, page) is None


@pytest.mark.parametrize(
    ("told", "ranks"), [([], 1), (["0"], 1), (["1"], 1), (["1", "0", "0"], 2), (["0", "2"], 1), (["0", "x"], 1)]
)
def test_ranks_are_counted_where_they_can_be_asked_for(told: list[str], ranks: int) -> None:
    assert count_ranks(told) == ranks


def test_more_ranks_than_there_can_be_are_none() -> None:
    assert count_ranks(map(str, range(2000))) == 1
