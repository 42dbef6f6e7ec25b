"""The prompt that leaks behind half a character: what is taken out of the first text, and what isn't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.openai.continuation.generated import Generated
from fd_router.openai.continuation.prompt_leak import PromptLeak
from fd_router.openai.continuation.source_request import SourceRequest


def leak_behind(sent: str, prompt: Any, *, ids: int = 20) -> PromptLeak:
    chat = isinstance(prompt, list) and isinstance(prompt[0], dict)
    source = SourceRequest(json.dumps({"messages" if chat else "prompt": prompt}).encode(), chat=chat)
    generated = Generated(chat=chat)
    content = {"delta": {"content": sent}} if chat else {"text": sent}
    choice = {"index": 0, **content, "token_ids": [1, 2]}
    generated.feed({"choices": [choice], "prompt_token_ids": list(range(ids))})
    return PromptLeak(source, generated)


CHAT = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": " Tell me a text\n"}]
PARTS = [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Tell me a text"}]}]


@pytest.mark.parametrize(
    ("sent", "prompt", "first", "left"),
    [
        ("Guten Tag! Gr", "Say it: ", "Say it: Guten Tag! Grö", "ö"),
        (" Gr", " Say it:", "Say it: Grö", "ö"),  # a tokenizer that drops the first space
        ("Gr", "Say it:", "öGr", "öGr"),
        ("a", "b", "banana", "nana"),  # what nobody can tell from a leak
        ("a", "an", "banana", "banana"),
        ("Gr", CHAT, "user\nTell me a text\nassistant\nGrö", "ö"),
        ("Gr", PARTS, "Tell me a text\nGrö", "ö"),
        ("Gr", CHAT, "ö Gr Gr Gr", "ö Gr Gr Gr"),
        ("Gr", list(range(20)), "anything at all, Grö", "ö"),  # a prompt whose text isn't known
        ("Gr", list(range(20)), "Gr Grö", "Gr Grö"),
        ("", CHAT, "Tell me a text\n", "Tell me a text\n"),
    ],
)
def test_what_is_left_of_the_first_text(sent: str, prompt: Any, first: str, left: str) -> None:
    name = "content" if prompt in (CHAT, PARTS) else "text"
    leak, content = leak_behind(sent, prompt), {name: first}
    assert leak.mend(content)
    assert content[name] == left


def test_it_waits_for_the_first_text() -> None:
    leak = leak_behind("Gr", "Say it:")
    assert not leak.mend({"text": ""})
    content = {"text": "Say it:Grü"}
    assert leak.mend(content)
    assert content == {"text": "ü"}
