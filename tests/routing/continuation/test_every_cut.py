"""A stream of each dialect, cut at every byte: with what another instance adds it is the unbroken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fd_router.engines.continuation.ways import asking_ids
from tests.support.broken_stream import BrokenStream, places_to_cut
from tests.support.exact_engine import (
    LATE,
    LATE_THOUGHTS,
    PLAIN,
    SEVERAL,
    THINKING,
    TIGHT,
    ExactEngine,
    Step,
    events_of,
)
from tests.support.recorded_engine import RecordedEngine

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time


def body_of(*, chat: bool, **more: Any) -> bytes:
    prompt: dict[str, Any] = {"messages": [{"role": "user", "content": "Say it"}]} if chat else {"prompt": "Say it:"}
    return json.dumps({"model": "tiny", "stream": True, **prompt, **more}).encode()


def cut_everywhere(body: bytes, dialect: str, steps: list[Step], *, chat: bool, ways: set[str]) -> None:
    """Cut, continue, compare; ``ways``: those that were gone, all together."""
    engine = ExactEngine(dialect, steps)
    whole = engine.answer(body, chat=chat)
    expected, seen = events_of(whole), set()
    for at in places_to_cut(whole):
        for size in (3, 50, 1 << 20):
            stream = BrokenStream(body, dialect, chat=chat)
            stream.receive(whole[:at], size=17 + at % 90)
            second = ExactEngine(dialect, steps, number=1 if not stream.generated.has_begun else 2)
            seen.add(stream.go_on(second, size=size))
            assert events_of(stream.out) == expected, f"cut at byte {at}: {whole[max(0, at - 80) : at]!r}"
    assert seen == ways


RECORDED = [
    ("vllm_chat", "vllm"), ("vllm_completions", "vllm"), ("fastdeploy_chat", "fastdeploy"),
    ("fastdeploy_chat_several", "fastdeploy"), ("fastdeploy_completions", "fastdeploy"),
    ("sglang_completions", "sglang"), ("vllm_completions", "openai"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dialect"), RECORDED)
def test_recorded_ones_by_tokens(name: str, dialect: str) -> None:
    chat = "chat" in name
    body = body_of(chat=chat, return_token_ids=True, stream_options={"include_usage": True})
    whole = RecordedEngine(name).recorded
    expected, seen = apart([normal(event) for event in events_of(whole)]), set()
    for at in places_to_cut(whole):
        for size in (64, 1 << 20):
            stream = BrokenStream(body, dialect, chat=chat)
            stream.receive(whole[:at], size=1000)
            second = RecordedEngine(name, number=1 if not stream.generated.has_begun else 2)
            seen.add(stream.go_on(second, size=size))
            found = apart([normal(event) for event in events_of(stream.out)])
            assert found == expected, f"cut at byte {at}"
    assert seen == {"start", "tokens", "finished"}


def apart(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of one choice each: how many of them FastDeploy puts into one begins anew with another instance."""
    return [
        {**event, "choices": [choice]} if choice else event
        for event in events
        for choice in event.get("choices") or [None]
    ]


COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def normal(event: dict[str, Any]) -> dict[str, Any]:
    """An event with what of its usage the router knows, too: it tells that where the instance didn't come to it."""
    event.pop("system_fingerprint", None)  # vLLM tells it in the last one only
    if (usage := event.get("usage")) is not None:
        thoughts = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
        event["usage"] = {**{name: usage[name] for name in COUNTS}, "thoughts": thoughts}
    for choice in event.get("choices", ()):
        if choice.get("prompt_token_ids", ()) is None:  # as good as none
            del choice["prompt_token_ids"]
    return event


TOKENS = [
    ("vllm", True, THINKING), ("vllm", False, SEVERAL), ("fastdeploy", True, TIGHT), ("fastdeploy", False, TIGHT),
    ("sglang", False, PLAIN), ("openai", False, TIGHT), ("vllm", True, LATE), ("vllm", False, LATE),
    ("vllm", True, LATE_THOUGHTS),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "chat", "steps"), TOKENS)
def test_by_tokens(dialect: str, chat: bool, steps: list[Step]) -> None:
    body = body_of(chat=chat, return_token_ids=True, stream_options={"include_usage": True})
    cut_everywhere(body, dialect, steps, chat=chat, ways={"start", "tokens", "finished"})


@pytest.mark.parametrize("form", ["crlf", "comments", "names", "lines", "pairs"])
def test_whatever_the_form_of_events(form: str) -> None:
    body = body_of(chat=True, return_token_ids=True, stream_options={"include_usage": True})
    engine = ExactEngine("vllm", TIGHT, form=form)
    whole = engine.answer(body, chat=True)
    expected, seen = events_of(whole), set()
    for at in places_to_cut(whole):
        stream = BrokenStream(body, "vllm", chat=True)
        stream.receive(whole[:at], size=17 + at % 90)
        number = 1 if not stream.generated.has_begun else 2
        seen.add(stream.go_on(ExactEngine("vllm", TIGHT, number=number, form=form), size=1 + at % 200))
        assert events_of(stream.out) == expected, f"cut at byte {at}: {whole[max(0, at - 80) : at]!r}"
    assert seen == {"start", "tokens", "finished"}


def test_tools_that_are_offered_and_not_called() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    body = body_of(chat=True, return_token_ids=True, tools=tools, tool_choice="auto")
    cut_everywhere(body, "vllm", TIGHT, chat=True, ways={"start", "tokens", "finished"})


@pytest.mark.parametrize(
    ("dialect", "chat", "steps", "stop"),
    [("vllm", False, PLAIN, " so on"), ("fastdeploy", True, PLAIN, "界\n\n "), ("sglang", False, PLAIN, "and so")],
)
def test_a_text_to_stop_at_that_is_shown(dialect: str, chat: bool, steps: list[Step], stop: str) -> None:
    """The instance that goes on doesn't know that it had begun; its tokens count all the same."""
    wanted = {"stop": stop, "include_stop_str_in_output": True, "stream_options": {"include_usage": True}}
    body = body_of(chat=chat, return_token_ids=True, **wanted)
    cut_everywhere(body, dialect, steps, chat=chat, ways={"start", "tokens", "finished"})


TEXTS = [("vllm", True, PLAIN), ("sglang", True, TIGHT), ("openai", False, PLAIN), ("vllm", False, SEVERAL)]


def text_of(events: list[dict[str, Any]]) -> str:
    choices = [choice for event in events for choice in event.get("choices", ())]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)


def cut_everywhere_by_text(make: Callable[[int], ExactEngine | RecordedEngine], dialect: str, *, chat: bool) -> None:
    """The text is the same; a token more or less may be an event, since text is cut into tokens anew."""
    body = body_of(chat=chat, stream_options={"include_usage": True})
    engine = make(1)
    whole = engine.answer(body, chat=chat)
    seen = set()
    for at in places_to_cut(whole):
        stream = BrokenStream(body, dialect, chat=chat)
        stream.receive(whole[:at], size=1000)
        seen.add(stream.go_on(make(2), size=1 + at % 200))
        events = events_of(stream.out)
        assert text_of(events) == engine.text, f"cut at byte {at}"
        assert events.count({}) == 1
        assert [event for event in events[:-1] if event.get("usage")] == events[-2:-1] or "finished" in seen
        assert len({(event["id"], event["created"]) for event in events[:-1]}) == 1
        finishes = [choice["finish_reason"] for event in events for choice in event.get("choices", ())]
        assert [finish for finish in finishes if finish] == ["stop"]
        roles = [
            choice for event in events for choice in event.get("choices", ()) if choice.get("delta", {}).get("role")
        ]
        assert len(roles) == chat
    assert seen == {"start", "text", "finished"}


@pytest.mark.parametrize(("dialect", "chat", "steps"), TEXTS)
def test_by_text(dialect: str, chat: bool, steps: list[Step]) -> None:
    cut_everywhere_by_text(lambda number: ExactEngine(dialect, steps, number=number), dialect, chat=chat)


@pytest.mark.parametrize(("dialect", "chat", "steps"), TEXTS[:3])
def test_by_text_it_has_as_many_tokens_as_it_may(dialect: str, chat: bool, steps: list[Step]) -> None:
    """White space at the end isn't handed over: it is generated again, and not another token in its place."""
    for most in range(5, 9):
        body = body_of(chat=chat, max_tokens=most, stream_options={"include_usage": True})
        engine = ExactEngine(dialect, steps)
        whole = engine.answer(body, chat=chat)
        (usage,) = [event["usage"] for event in events_of(whole) if event.get("usage")]
        for at in places_to_cut(whole):
            stream = BrokenStream(body, dialect, chat=chat)
            stream.receive(whole[:at], size=1000)
            how = stream.go_on(ExactEngine(dialect, steps, number=2))
            events = events_of(stream.out)
            assert text_of(events) == text_of(events_of(whole))
            if how == "text":
                assert [event["usage"] for event in events if event.get("usage")] == [{**usage, "estimated": True}]


def test_a_recorded_one_by_text() -> None:
    cut_everywhere_by_text(lambda number: RecordedEngine("sglang_chat", number=number), "sglang", chat=True)


@pytest.mark.parametrize(("dialect", "chat", "steps"), TOKENS)
def test_a_stream_breaks_twice(dialect: str, chat: bool, steps: list[Step]) -> None:
    """The second instance's events are as good a beginning as the first one's."""
    body = body_of(chat=chat, return_token_ids=True, max_tokens=9, stream_options={"include_usage": True})
    engine = ExactEngine(dialect, steps)
    whole = engine.answer(body, chat=chat)
    expected = events_of(whole)
    for first in places_to_cut(whole)[::2]:
        for second in range(0, len(whole), 127):
            stream = BrokenStream(body, dialect, chat=chat)
            stream.receive(whole[:first], size=200)
            if stream.go_on(ExactEngine(dialect, steps), upto=second) != "finished" and stream.seam is not None:
                stream.out = stream.out.removesuffix(b"0\r\n\r\n")
                if not stream.seam.is_done:
                    stream.go_on(ExactEngine(dialect, steps))
                else:
                    stream.out += b"0\r\n\r\n"
            assert events_of(stream.out) == expected, (first, second)


@pytest.mark.parametrize(("dialect", "chat", "steps"), TOKENS[:5])
def test_ids_that_the_client_did_not_ask_for_are_not_shown(dialect: str, chat: bool, steps: list[Step]) -> None:
    """``exact``: the router asks for the ids, and takes them out again."""
    plain = body_of(chat=chat)
    engine = ExactEngine(dialect, steps)
    expected = [shorn(event) for event in events_of(engine.answer(plain, chat=chat))]
    whole = engine.answer(asking_ids(plain), chat=chat)
    for at in places_to_cut(whole):
        stream = BrokenStream(plain, dialect, chat=chat, exact=True)
        stream.receive(whole[:at], size=300)
        before = len(events_of(stream.out + b"0\r\n\r\n"))
        assert stream.go_on(ExactEngine(dialect, steps, number=1)) in {"start", "tokens", "finished"}
        events = events_of(stream.out)
        assert not [event for event in events[before:] if b"token_ids" in json.dumps(event).encode()]
        assert [shorn(event) for event in events] == expected


def shorn(event: dict[str, Any]) -> dict[str, Any]:
    """An event without ids, wherever they stand."""
    if isinstance(event, dict):
        return {name: shorn(value) for name, value in event.items() if not name.endswith("token_ids")}
    return [shorn(item) for item in event] if isinstance(event, list) else event
