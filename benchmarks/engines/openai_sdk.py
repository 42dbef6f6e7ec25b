"""Scenario: the official openai package, unchanged but for its ``base_url``, at all that vLLM serves of its surface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bench import MODEL, Bench, Finding
from sdk import OPTIONS, findings, same_errors

import openai

USER: list[Any] = [{"role": "user", "content": "Tell me a story of a fox"}]
SAME: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12, "messages": USER}
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tell the weather.", "parameters": CITY}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": {**CITY, "additionalProperties": False}}}


def _chat(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    text = client.chat.completions.create(**SAME).choices[0].message.content
    assert text == direct.chat.completions.create(**SAME).choices[0].message.content
    return "the server's own text"


def _streamed(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    options = {**SAME, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(**options))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == direct.chat.completions.create(**SAME).choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    return f"{len(chunks)} chunks, the server's own text, usage at the end"


def _several(client: openai.OpenAI, direct: openai.OpenAI) -> str:  # noqa: ARG001
    answer = client.chat.completions.create(**{**SAME, "temperature": 1, "n": 2, "seed": 3})
    assert [choice.index for choice in answer.choices] == [0, 1]
    return f"{len(answer.choices)} choices"


def _logprobs(client: openai.OpenAI, direct: openai.OpenAI) -> str:  # noqa: ARG001
    told = client.chat.completions.create(**SAME, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert [len(token.top_logprobs) for token in told.content] == [2] * 12
    return f"{len(told.content)} tokens"


def _tool(client: openai.OpenAI, direct: openai.OpenAI) -> str:  # noqa: ARG001
    forced = {"type": "function", "function": {"name": "weather"}}
    request = {**SAME, "max_tokens": 100, "tools": [TOOL], "tool_choice": forced}
    calls = client.chat.completions.create(**request).choices[0].message.tool_calls
    assert calls is not None
    function = calls[0].function  # type: ignore[union-attr]
    assert function.name == "weather"
    with client.chat.completions.create(**request, stream=True) as stream:
        pieces = [chunk.choices[0].delta.tool_calls or [] for chunk in stream if chunk.choices]
    streamed = "".join(call.function.arguments or "" for piece in pieces for call in piece)
    assert streamed == function.arguments
    return f"weather({function.arguments}), streamed alike"


def _schema(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    """Random weights may write blanks until their tokens are spent: no whole object then, nor at the server."""
    request = {**SAME, "max_tokens": 100, "response_format": SCHEMA}
    choice, own = (each.chat.completions.create(**request).choices[0] for each in (client, direct))
    text = choice.message.content or ""
    assert text == own.message.content
    assert text.lstrip().startswith("{")
    if choice.finish_reason == "stop":
        assert set(json.loads(text)) == {"city"}
    return f"the server's own text, {'whole' if choice.finish_reason == 'stop' else 'cut off'}: {text[:30].split()}"


def _token_ids(client: openai.OpenAI, direct: openai.OpenAI) -> str:  # noqa: ARG001
    answer = client.chat.completions.create(**SAME, extra_body={"return_token_ids": True})
    ids = answer.choices[0].token_ids  # type: ignore[attr-defined]
    assert len(ids) == 12
    return f"{len(answer.prompt_token_ids)} of the prompt, {len(ids)} of the answer"  # type: ignore[attr-defined]


def _completion(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    request: dict[str, Any] = {"model": MODEL, "prompt": ["Once", "Twice"], "max_tokens": 8, "temperature": 0}
    texts = [choice.text for choice in client.completions.create(**request).choices]
    assert texts == [choice.text for choice in direct.completions.create(**request).choices]
    pieces = list(client.completions.create(**{**request, "prompt": "Once"}, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == texts[0]
    return "two prompts, and a stream: the server's own text"


def _response(client: openai.OpenAI, direct: openai.OpenAI) -> str:  # noqa: ARG001
    request: dict[str, Any] = {"model": MODEL, "input": "Tell me a story", "max_output_tokens": 12, "temperature": 0}
    made = client.responses.create(**request)
    with client.responses.create(**request, stream=True) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == made.output_text
    kept = [client.responses.create(**request, store=True) for _ in range(4)]
    for response in kept:  # two servers behind it: each knows half of them
        assert client.responses.retrieve(response.id).id == response.id
        follower = client.responses.create(**request, previous_response_id=response.id)
        assert follower.previous_response_id == response.id
    return "whole, streamed alike, 4 stored ones found again and followed"


def _embeddings(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    seen = []
    for each in (client, direct):
        try:
            each.embeddings.create(model=MODEL, input="text")
        except openai.APIStatusError as error:
            seen.append((error.status_code, error.type))
    assert len(seen) == 2
    assert seen[0] == seen[1]
    return f"this model has none: {seen[0][0]}, as the server says itself"


def _models(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    assert [model.id for model in client.models.list()] == [model.id for model in direct.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    return "listed, and one by its name"


def _errors(client: openai.OpenAI, direct: openai.OpenAI) -> str:
    wrong: list[dict[str, Any]] = [
        {**SAME, "temperature": -1},
        {**SAME, "max_tokens": 100_000},
        {**SAME, "model": "absent"},
        {**SAME, "messages": [{"role": "user", "content": "a b c " * 4000}]},
    ]
    both = (client.chat.completions.create, direct.chat.completions.create)
    return same_errors(([partial(create, **request) for create in both] for request in wrong), openai.APIStatusError)


STEPS: dict[str, Callable[[openai.OpenAI, openai.OpenAI], str]] = {
    "chat": _chat,
    "chat streamed, with usage": _streamed,
    "n = 2": _several,
    "logprobs": _logprobs,
    "a tool": _tool,
    "json_schema": _schema,
    "token ids": _token_ids,
    "completions": _completion,
    "responses": _response,
    "embeddings": _embeddings,
    "models": _models,
    "errors": _errors,
}


def openai_sdk(bench: Bench) -> Iterator[Finding]:
    """Each step through the router, and, where an answer can be compared, at the server itself."""
    router = bench.router(scheduler={"policy": "round_robin"})
    with (
        openai.OpenAI(base_url=f"{router.url}/v1", **OPTIONS) as client,
        openai.OpenAI(base_url=f"{bench.servers[0].url}/v1", **OPTIONS) as direct,
    ):
        yield from findings("openai", STEPS, client, direct, openai.OpenAIError)
    router.end()
