"""The shorter copy of a large body: JSON that says the same, but for the ends of long strings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.http.pace import Pace
from fd_router.openai import body_check, large_prompts, shortening
from fd_router.openai.body_check import check_body
from fd_router.openai.completion import Completion
from fd_router.openai.shortening import SHORT

MB = 1 << 20


async def shorten(body: bytes) -> tuple[bytes, int]:
    found = await check_body(body, Pace().breathe)
    return found.body(), found.unread


async def test_text_is_cut_and_counted() -> None:
    text = "some words and 你好 " * (MB // 2)
    body = json.dumps({"model": "m", "input": text, "stream": True}, ensure_ascii=False).encode()
    copy, unread = await shorten(body)
    short = json.loads(copy)
    assert len(copy) < 5 * MB
    assert (short["model"], short["stream"]) == ("m", True)
    assert text.startswith(short["input"])
    assert abs(len(short["input"]) + unread - len(text)) < len(text) // 20


async def test_what_is_no_text_goes_and_is_not_counted() -> None:
    image = "data:image/png;base64," + "QUJD" * (3 * MB)
    body = json.dumps({"a": image, "prompt": "what is it? " * 200, "z": [image, "end"]}).encode()
    copy, unread = await shorten(body)
    assert json.loads(copy) == {"a": "", "prompt": "what is it? " * 200, "z": ["", "end"]}
    assert unread == 0


async def test_one_that_is_not_so_large_stays() -> None:
    body = b'{"prompt": "%b"}' % (b"some words " * 200_000)
    copy, unread = await shorten(body)
    assert copy is body
    assert unread == 0


async def test_a_completion_counts_what_is_not_in_the_copy() -> None:
    body = b'{"prompt": "%b"}' % (b"some words " * MB)
    copy, unread = await shorten(body)
    completion, whole = Completion(copy), Completion(body)
    completion.has_more_text(unread)
    assert abs(completion.tokens - whole.tokens) < whole.tokens // 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab "\\\n,[{é你😀\ud800'), max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\,', max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (body_check, "READ_IN_PART", 0),
        (body_check, "SLICE", 7),
        (body_check, "STEPS", 3),
        (shortening, "SHORT", 8),
        (shortening, "READ", 30),
        (large_prompts, "_SEARCHED", 16),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("small_limits")
@given(st.dictionaries(st.text('k"\\,', max_size=3), JSON, max_size=5), st.booleans())
async def test_it_is_the_same_but_for_ends_of_strings(value: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    copy, _ = await shorten(body)
    _check(json.loads(copy.decode("utf-8", "surrogatepass")), value)


def _check(short: Any, full: Any) -> None:
    if isinstance(full, str):
        assert full.startswith((short, short[:-1]))  # of a pair of surrogates one may be left
    elif isinstance(full, list):
        for one, other in zip(short, full, strict=True):
            _check(one, other)
    elif isinstance(full, dict):
        for one, other in zip(short.values(), full.values(), strict=False):
            _check(one, other)
    else:
        assert short == full


def test_a_short_string_is_never_cut() -> None:
    assert SHORT > 512  # ids and names are shorter
