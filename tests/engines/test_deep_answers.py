"""An engine's answer that is nested more deeply than a decoder follows is one that says nothing."""

from __future__ import annotations

import pytest

from fd_router.engines.fastdeploy.aborts import read_abort
from fd_router.engines.fastdeploy.given_back import is_given_back, read_given_back
from fd_router.engines.kv_sources import read_sglang_sources, read_vllm_sources
from fd_router.engines.sglang import SglangDialect
from fd_router.engines.vllm import VllmDialect

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "answer", [DEEP, b'{"loads": ' + DEEP + b"}", b'{"more": ' + DEEP + b"}"], ids=("list", "loads", "more")
)
def test_it_is_read_as_nothing(answer: bytes) -> None:
    assert read_abort(answer).error
    assert not is_given_back(b"pd_reschedule" + answer)
    assert read_given_back(answer).token_ids == []
    assert not read_vllm_sources(answer)
    assert not read_sglang_sources(answer)
    assert not VllmDialect().recognizes(answer)
    assert not SglangDialect().recognizes(answer)
    assert SglangDialect().read_load(answer) is None
