"""Scenario: the official anthropic package, unchanged but for its ``base_url``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anthropic
from bench import MODEL, Bench, Finding
from sdk import OPTIONS, findings, same_errors

SAME: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 12,
    "extra_body": {"temperature": 0},
    "system": "Be kind.",
    "messages": [{"role": "user", "content": "Tell me a story of a fox"}],
}
TOOL = {
    "name": "weather",
    "description": "Tell the weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}},
        "required": ["city"],
    },
}


def _text(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def _whole(client: anthropic.Anthropic, direct: anthropic.Anthropic) -> str:
    message = client.messages.create(**SAME)
    assert _text(message) == _text(direct.messages.create(**SAME))
    assert message.usage.output_tokens == 12
    return "the server's own text"


def _streamed(client: anthropic.Anthropic, direct: anthropic.Anthropic) -> str:
    with client.messages.stream(**SAME) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert "".join(pieces) == _text(direct.messages.create(**SAME))
    return f"{len(pieces)} pieces, the server's own text, stop reason {message.stop_reason}"


def _tool(client: anthropic.Anthropic, direct: anthropic.Anthropic) -> str:
    """Random weights don't always write an object as a tool's input; then both say the same of that."""
    forced = {"type": "tool", "name": "weather"}
    seen = []
    for each in (client, direct):
        try:
            message = each.messages.create(**{**SAME, "max_tokens": 100}, tools=[TOOL], tool_choice=forced)
            seen.append(str([(block.name, block.input) for block in message.content if block.type == "tool_use"]))
        except anthropic.APIStatusError as error:
            seen.append(f"{error.status_code} {error.body}")
    assert seen[0] == seen[1], seen
    return f"the server's own answer: {seen[0][:40]}"


def _count(client: anthropic.Anthropic, direct: anthropic.Anthropic) -> str:
    asked = {name: SAME[name] for name in ("model", "system", "messages")}
    count = client.messages.count_tokens(**asked).input_tokens
    assert count == direct.messages.count_tokens(**asked).input_tokens
    return f"{count} tokens, as the server says"


def _models(client: anthropic.Anthropic, direct: anthropic.Anthropic) -> str:
    """The two companies' lists differ in shape; what a server says in OpenAI's is read by name alone."""
    assert [model.id for model in client.models.list()] == [model.id for model in direct.models.list()] == [MODEL]
    return "listed"


def _errors(client: anthropic.Anthropic, direct: anthropic.Anthropic) -> str:
    wrong = ({**SAME, "max_tokens": 100_000}, {**SAME, "tools": [{"name": "x"}]}, {**SAME, "model": "absent"})
    both = (client.messages.create, direct.messages.create)
    return same_errors(([partial(create, **request) for create in both] for request in wrong), anthropic.APIStatusError)


STEPS: dict[str, Callable[[anthropic.Anthropic, anthropic.Anthropic], str]] = {
    "messages": _whole,
    "messages streamed": _streamed,
    "a tool": _tool,
    "count_tokens": _count,
    "models": _models,
    "errors": _errors,
}


def anthropic_sdk(bench: Bench) -> Iterator[Finding]:
    """Each step through the router, and, where an answer can be compared, at the server itself."""
    router = bench.router(scheduler={"policy": "round_robin"})
    with (
        anthropic.Anthropic(base_url=router.url, **OPTIONS) as client,
        anthropic.Anthropic(base_url=bench.servers[0].url, **OPTIONS) as direct,
    ):
        yield from findings("anthropic", STEPS, client, direct, anthropic.AnthropicError)
    router.end()
