"""The usage found in the end of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.openai.usage import find_total_tokens, find_usage

USAGE = {"prompt_tokens": 70, "total_tokens": 72, "prompt_tokens_details": {"cached_tokens": 64}}


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.text(), st.booleans())
def test_it_finds_what_a_parser_would(prompt: int, cached: int, text: str, first: bool) -> None:
    usage: dict[str, Any] = {"completion_tokens": 3}
    for name in ("prompt_tokens", "details") if first else ("details", "prompt_tokens"):
        usage |= {"prompt_tokens": prompt} if name == "prompt_tokens" else {"details": {"cached_tokens": cached}}
    body = json.dumps({"text": text + '"cached_tokens": 1', "usage": usage}).encode()
    assert find_usage(body) == (prompt, min(cached, prompt))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"usage": null}',
        b'{"usage": {"prompt_tokens": 70}}',
        b'{"usage": {"cached_tokens": 64}}',
        b'{"usage": {"prompt_tokens": 0, "cached_tokens": 0}}',
        b'{"usage": {"prompt_tokens": 70, "cached_tokens": null}}',
        b'{"usage": {"prompt_tokens": 70, "cached_tokens": -1}}',
        b'{"usage": {"prompt_tokens": 70, "cached_tokens": 9999999999999999}}',
        json.dumps({"text": json.dumps(USAGE)}).encode(),
    ],
)
def test_what_does_not_tell(body: bytes) -> None:
    assert find_usage(body) is None


@pytest.mark.parametrize(
    ("tail", "total"),
    [
        (json.dumps({"usage": USAGE}).encode(), 72),
        (b'{"usage":{"total_tokens":1}}\n\ndata: {"usage":{"total_tokens" : 9}}', 9),
        (json.dumps({"text": json.dumps(USAGE)}).encode(), None),
        (b'{"content":"\\"total_tokens\\": 999999","usage":{"total_tokens":8}}', 8),
        (b'{"usage": null}', None),
        (b"", None),
    ],
)
def test_total_tokens(tail: bytes, total: int | None) -> None:
    assert find_total_tokens(tail) == total
