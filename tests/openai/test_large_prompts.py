"""Large prompts: their beginning is read, the rest counted."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.openai import completion as completion_module
from fd_router.openai import large_prompts
from fd_router.openai.completion import Completion

READ = 100_000


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_prompts, "READ", READ)
    monkeypatch.setattr(completion_module, "READ_IN_PART", 1000)


def both(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Completion, Completion]:
    """Read a body in part, and whole."""
    body = json.dumps(fields, ensure_ascii=False).encode()
    part = Completion(body)
    monkeypatch.setattr(completion_module, "READ_IN_PART", 1 << 40)
    return part, Completion(body)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("text", ["word " * 50_000, "你好" * 50_000, 'é"\n' * 60_000, "😀" * 50_000])
@pytest.mark.parametrize("shape", ["prompt", "message", "part", "messages"])
def test_the_beginning_is_read_and_the_rest_counts(shape: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {
        "prompt": {"prompt": text},
        "message": {"messages": [{"role": "user", "content": text}]},
        "part": {"messages": [{"content": [{"type": "image_url"}, {"type": "text", "text": text}]}]},
        "messages": {"messages": [{"content": text[:20_000]}, {"content": None}, {"content": text}, {"content": text}]},
    }[shape]
    part, whole = both(fields | {"stream": True, "request_id": "r", "session_id": "s", "user": "u"}, monkeypatch)
    assert whole.prompt.startswith(part.prompt)
    assert READ / 8 < len(part.prompt) < len(whole.prompt)
    assert abs(part.tokens - whole.tokens) < whole.tokens / 50
    assert (part.stream, part.request_id, part.session_id, part.user) == (True, "r", "s", "u")


@pytest.mark.usefixtures("small_limits")
def test_what_is_small_enough_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [{"content": "hello "}, {"content": [{"type": "text", "text": " you"}]}]
    part, whole = both({"messages": messages, "x": "x" * 5000}, monkeypatch)
    assert (part.prompt, part.tokens) == (whole.prompt, whole.tokens) == ("hello you", 18)


@pytest.mark.usefixtures("small_limits")
def test_tokens_are_read_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    part, whole = both({"prompt": list(range(1000))}, monkeypatch)
    assert part.token_ids == whole.token_ids
    assert part.tokens == whole.tokens


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("fields", [{"prompt": 5}, {"messages": [{"content": 5}]}, {"messages": 3}, {"stream": []}])
def test_other_types_count_as_absent(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    part, whole = both(fields | {"x": "x" * 5000}, monkeypatch)
    assert (part.prompt, part.stream) == (whole.prompt, whole.stream) == ("", False)


@pytest.mark.usefixtures("small_limits")
def test_a_text_of_nothing_but_escapes_is_cut_between_two() -> None:
    text = Completion(b'{"prompt": "%b"}' % (b"\\u4f60\\ud83d\\ude00" * 50_000)).prompt
    assert READ / 20 < len(text) < READ / 8
    assert set(text) == {"你", "😀"}


@pytest.mark.usefixtures("small_limits")
def test_a_text_that_can_be_cut_nowhere_is_read_whole() -> None:
    assert Completion(b'{"prompt": "a%b"}' % (b"\\\\" * 50_000)).prompt == "a" + "\\" * 50_000


@given(st.text(st.sampled_from('aé你😀"\\\n'), max_size=300), st.integers(0, 400), st.booleans())
def test_a_cut_is_between_characters(text: str, most: int, ascii_only: bool) -> None:
    raw = json.dumps(text, ensure_ascii=ascii_only).encode()
    before, large_prompts._SEARCHED = large_prompts._SEARCHED, 60
    try:
        cut = large_prompts.place_to_cut(memoryview(raw), min(most, len(raw) - 1))
    finally:
        large_prompts._SEARCHED = before
    assert cut <= most or cut == len(raw)
    if 0 < cut < len(raw):
        assert text.startswith(msgspec.json.decode(raw[:cut] + b'"', type=str))
