"""The prompt as engines have it: tools before the messages, and stand-ins for images and other parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.openai import engine_prompt as module
from fd_router.openai.completion import Completion
from fd_router.openai.engine_prompt import WORDS, stand_in
from fd_router.openai.kinds.messages import read_messages
from fd_router.openai.kinds.responses import ResponsesRequest

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
MESSAGES = [{"role": "system", "content": " You help. "}, {"role": "user", "content": "Hello"}]
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def image(url: str = PICTURE, **beside: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, **beside}


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def text(of: str) -> dict[str, str]:
    return {"type": "text", "text": of}


def encoded(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def chat(**fields: Any) -> Completion:
    return Completion(encoded({"messages": MESSAGES} | fields).encode())


class TestTools:
    def test_stand_before_the_messages_as_they_were_written(self) -> None:
        body = b'{"tools": [ {"a": 1}], "messages": [{"content": " You help. "}, {"content": "Hello"}]}'
        assert Completion(body).engine_prompt == '[ {"a": 1}] You help. Hello'

    def test_are_no_part_of_what_fastdeploys_policies_read(self) -> None:
        plain, with_tools = chat(), chat(tools=TOOLS)
        assert (with_tools.prompt, with_tools.tokens) == (plain.prompt, plain.tokens)

    @pytest.mark.parametrize("fields", [{}, {"tools": None}, {"tools": []}])
    def test_where_there_are_none_it_is_the_prompt(self, fields: dict[str, Any]) -> None:
        completion = chat(**fields)
        assert completion.engine_prompt is completion.prompt

    def test_of_a_plain_completion_no_engine_reads_them(self) -> None:
        assert Completion(json.dumps({"prompt": "Hello", "tools": TOOLS}).encode()).engine_prompt == "Hello"

    def test_of_a_large_body_are_read_again(self) -> None:
        completion = chat(tools=TOOLS, messages=user(text("a" * 70_000), image()))
        before = completion.engine_prompt
        completion.drop_texts()
        assert completion.engine_prompt == before
        assert before.startswith(encoded(TOOLS))

    def test_what_was_generated_comes_behind_all(self) -> None:
        completion = chat(tools=TOOLS)
        assert completion.continued(" Hi", []).engine_prompt == completion.engine_prompt + " Hi"
        assert chat().continued(" Hi", []).engine_prompt == "You help. Hello Hi"


class TestParts:
    def test_a_stand_in_is_where_the_image_is(self) -> None:
        messages = user(text("See "), image(), text(" and say"))
        completion = chat(messages=messages)
        words = stand_in("image_url", {"image_url": {"url": PICTURE}})
        assert completion.prompt == "See and say"
        assert completion.engine_prompt == f"See {words} and say"
        assert len(words.split()) == 1024

    @pytest.mark.parametrize("beside", [{"detail": "low"}, {"cache_control": {"type": "ephemeral"}}])
    def test_it_is_named_by_its_content_alone(self, beside: dict[str, Any]) -> None:
        same = chat(messages=user(image())).engine_prompt
        assert chat(messages=user(image(**beside))).engine_prompt == same
        assert chat(messages=user(image("http://10.0.0.1/other.png"))).engine_prompt != same

    def test_what_has_a_text_is_a_text(self) -> None:
        parts = ({"type": "input_text", "text": "See "}, {"type": "refusal", "refusal": "No"})
        assert chat(messages=user(*parts)).engine_prompt == "See No"

    def test_a_large_one_is_named_by_its_ends_and_its_length(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "HASHED", 100)
        several = ("a" * 1000, "a" * 999 + "b", "b" + "a" * 999, "a" * 1001)
        names = {stand_in("image", {"data": data}) for data in several}
        assert len(names) == 4
        assert stand_in("image", {"data": "a" * 500 + "b" + "a" * 499}) in names  # the middle isn't looked at

    @pytest.mark.parametrize(
        ("kind", "tokens"), [("image", 1024), ("video_url", 4096), ("input_audio", 512), ("file", 1024)]
    )
    def test_tokens_are_estimated_by_the_type(self, kind: str, tokens: int) -> None:
        words = stand_in(kind, {kind: "x"}).split()
        assert len(words) == tokens
        assert set(words) <= set(WORDS)

    def test_a_body_that_only_the_tolerant_decoder_reads_goes_by_its_texts(self) -> None:
        body = b'{"messages": [{"content": [{"type": "text", "text": "a"}, {"type": "image_url", "x": NaN}]}]}'
        assert Completion(body).engine_prompt == "a"

    def test_a_very_large_body_goes_by_its_texts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "READ_IN_PART", 100)
        assert chat(messages=user(text("a"), image()), tools=TOOLS).engine_prompt == encoded(TOOLS) + " a"


class TestOtherShapes:
    def test_messages(self) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
        content = [{"type": "image", "source": source}, text("Look")]
        body = {"system": "You help.", "messages": [{"role": "user", "content": content}], "tools": TOOLS}
        request = read_messages(encoded(body).encode(), ())
        words = stand_in("image", {"source": source})
        assert request.prompt == "You help. Look"
        assert request.engine_prompt == f"{encoded(TOOLS)} You help. {words} Look"

    def test_responses(self) -> None:
        content = [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": PICTURE}]
        body = {"instructions": "You help.", "input": [{"role": "user", "content": content}]}
        request = ResponsesRequest(encoded(body).encode())
        words = stand_in("input_image", {"image_url": PICTURE})
        assert request.prompt == "You help. Look"
        assert request.engine_prompt == f"You help. Look {words}"

    def test_a_tools_result_that_is_an_object_is_no_part(self) -> None:
        use = {"type": "tool_use", "id": "t", "name": "look_up", "input": {"type": ["image"], "city": "Berlin"}}
        body = {"messages": [{"role": "assistant", "content": [use, text("Well")]}]}
        request = read_messages(encoded(body).encode(), ())
        assert request.engine_prompt is request.prompt
        assert request.prompt == "Well"
