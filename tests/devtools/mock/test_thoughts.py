"""A mock instance that thinks before it answers, and tells token ids as its engine does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions
from fd_router.openai.continuation.generated import Generated
from tests.support.http_client import Answer, fetch

CHAT = "/v1/chat/completions"
THINKING = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9, "enable_thinking": True}


@contextlib.asynccontextmanager
async def mock(**options: Any) -> AsyncIterator[MockInstance]:
    instance = MockInstance(MockOptions(name="m", thinking_tokens=4, decode_ms_per_token=0.1, **options))
    await instance.start()
    try:
        yield instance
    finally:
        await instance.stop()


async def ask(instance: MockInstance, path: str, body: dict[str, Any]) -> Answer:
    return await fetch("127.0.0.1", instance.port, "POST", path, body=json.dumps(body).encode())


def read(answer: Answer, *, chat: bool = True) -> Generated:
    generated = Generated(chat=chat)
    for event in answer.body.split(b"\n\n"):
        generated.feed_event(event)
    return generated


async def test_it_thinks_where_it_is_asked_to() -> None:
    async with mock() as instance:
        whole = json.loads((await ask(instance, CHAT, THINKING)).body)
        message = whole["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("m reads the prompt", " looks up its blocks")
        assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}
        other = {**THINKING, "enable_thinking": None, "chat_template_kwargs": {"enable_thinking": True}}
        for body in (THINKING, other):
            said = read(await ask(instance, CHAT, {**body, "stream": True}))
            assert ("".join(said.reasoning), said.whole_text) == ("m reads the prompt", " looks up its blocks")
        plain = read(await ask(instance, CHAT, {**THINKING, "enable_thinking": False, "stream": True}))
        assert not plain.reasoning


TOLD = {"fastdeploy": (True, True), "vllm": (True, True), "sglang": (False, True), "openai": (False, False)}


@pytest.mark.parametrize("dialect", TOLD)
async def test_ids_are_told_as_the_engine_does(dialect: str) -> None:
    async with mock(dialect=dialect) as instance:
        for path, chat in ((CHAT, True), ("/v1/completions", False)):
            prompt = THINKING if chat else {"prompt": "hello", "max_tokens": 9}
            answer = await ask(instance, path, {**prompt, "stream": True, "return_token_ids": True})
            if dialect == "sglang" and chat:
                assert answer.status == 400
                continue
            said = read(answer, chat=chat)
            told = TOLD[dialect][not chat]
            assert (said.prompt_ids is not None, said.ids) == (told, [*range(1000, 1009)] if told else [])
            assert (b'"completion_token_ids"' in answer.body) is (dialect == "fastdeploy")


async def test_it_goes_on_in_the_middle_of_its_thoughts() -> None:
    given = {"prompt_token_ids": [1_000_001, 1000, 1001]}
    async with mock() as fastdeploy, mock(dialect="vllm") as vllm:
        for instance, member in ((fastdeploy, given), (vllm, {"kv_transfer_params": given})):
            body = {**THINKING, **member, "stream": True, "return_token_ids": True}
            said = read(await ask(instance, CHAT, {**body, "max_tokens": 7, "stream_options": {"include_usage": True}}))
            assert ("".join(said.reasoning), said.whole_text) == (" the prompt", " looks up its blocks")
            assert (said.prompt_ids, said.ids) == ([1_000_001, 1000, 1001], [*range(1002, 1009)])
            assert instance.state()["misfits"] == 0
