"""What is planned for a broken stream: by tokens, by text, the end, or nothing, and each time why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.engines.continuation.engines import FASTDEPLOY, PLAIN, SGLANG, VLLM
from fd_router.engines.continuation.planning import plan_continuation
from fd_router.engines.continuation.ways import Ways
from fd_router.openai.continuation.generated import Generated
from fd_router.openai.continuation.plan import Continuation, Finished, Impossible, Plan
from fd_router.openai.continuation.source_request import SourceRequest

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
TEXT: dict[str, Any] = {"prompt": "Once"}


def generated(*, chat: bool, ids: bool = True, text: str = "a b", **last: Any) -> Generated:
    """Two tokens that were streamed, and what the second event has more."""
    result = Generated(chat=chat)
    result.feed({"id": "x", "prompt_token_ids": [1, 2] if ids else None, "choices": []})
    for number, word in enumerate((text[:1], text[1:])):
        content: dict[str, Any] = {"content": word} if chat else {"text": word}
        choice: dict[str, Any] = {"index": 0, **({"delta": content} if chat else content)}
        choice["token_ids"] = [10 + number] if ids else None
        (choice.get("delta", choice) if number else {}).update(last)
        result.feed({"id": "x", "choices": [choice]})
    return result


def planned(fields: dict[str, Any], ways: Ways, so_far: Generated | None = None, *, exact: bool = False) -> Plan:
    chat = "messages" in fields
    source = SourceRequest(json.dumps(fields).encode(), chat=chat)
    return plan_continuation(source, so_far or generated(chat=chat), ways, exact=exact)


def body_of(plan: Plan) -> dict[str, Any]:
    assert isinstance(plan, Continuation)
    fields = json.loads(plan.body)
    assert isinstance(fields, dict)
    return fields


class TestByTokens:
    def test_a_chat_of_vllm_has_its_ids_where_a_prefill_instance_puts_them(self) -> None:
        plan = planned({**CHAT, "max_tokens": 5, "min_tokens": 1, "seed": 12345678901234567890}, VLLM)
        body = body_of(plan)
        assert body["kv_transfer_params"] == {"prompt_token_ids": [1, 2, 10, 11]}
        assert body["messages"] == CHAT["messages"]
        assert (body["max_tokens"], body["min_tokens"]) == (3, 0)
        assert body["return_token_ids"] is True
        assert b"12345678901234567890" in plan.body  # type: ignore[union-attr]
        assert isinstance(plan, Continuation)
        assert (plan.by, plan.tokens, plan.expected) == ("tokens", 2, [1, 2, 10, 11])

    def test_a_chat_of_fastdeploy_has_them_in_the_prompts_place(self) -> None:
        body = body_of(planned({**CHAT, "prompt_token_ids": [1, 2], "completion_token_ids": [9]}, FASTDEPLOY))
        assert body["prompt_token_ids"] == [1, 2, 10, 11]
        assert "completion_token_ids" not in body

    @pytest.mark.parametrize("ways", [VLLM, SGLANG, FASTDEPLOY, PLAIN])
    def test_a_completions_prompt_is_ids_everywhere(self, ways: Ways) -> None:
        body = body_of(planned({**TEXT, "max_completion_tokens": 3}, ways))
        assert body["prompt"] == [1, 2, 10, 11]
        assert body["max_completion_tokens"] == 1

    def test_a_client_knows_the_ids_of_its_own_prompt(self) -> None:
        so_far = generated(chat=False)
        so_far.prompt_ids = None
        assert body_of(planned({"prompt": [5, 6]}, VLLM, so_far))["prompt"] == [5, 6, 10, 11]

    def test_hidden_ids_are_left_to_be_generated_again(self) -> None:
        so_far = generated(chat=True)
        so_far.feed({"id": "x", "choices": [{"index": 0, "delta": {"content": ""}, "token_ids": [12]}]})
        assert body_of(planned(CHAT, VLLM, so_far))["kv_transfer_params"]["prompt_token_ids"] == [1, 2, 10, 11]

    def test_truncation_was_done(self) -> None:
        assert "truncate_prompt_tokens" not in body_of(planned({**TEXT, "truncate_prompt_tokens": 2}, VLLM))

    def test_a_text_that_is_to_follow_is_in_the_ids_that_were_told(self) -> None:
        body = body_of(planned({**TEXT, "suffix": " the end"}, SGLANG))
        assert body["prompt"] == [1, 2, 10, 11]
        assert "suffix" not in body
        so_far = generated(chat=False)
        so_far.prompt_ids = None
        assert planned({"prompt": [5, 6], "suffix": "x"}, SGLANG, so_far) == Impossible("engine")

    def test_the_limit_of_thoughts_counts_from_the_beginning(self) -> None:
        for most, left in ((10, 8), (1, 1)):
            plan = planned({**CHAT, "reasoning_max_tokens": most}, FASTDEPLOY, generated(chat=True, reasoning="hm"))
            assert body_of(plan)["reasoning_max_tokens"] == left

    def test_reasoning_goes_on(self) -> None:
        plan = planned(CHAT, VLLM, generated(chat=True, reasoning_content="hm"), exact=True)
        assert isinstance(plan, Continuation)
        assert plan.by == "tokens"


class TestByText:
    def test_a_chat_of_vllm_needs_both_members(self) -> None:
        plan = planned({**CHAT, "max_tokens": 5}, VLLM, generated(chat=True, ids=False))
        body = body_of(plan)
        assert body["messages"] == [*CHAT["messages"], {"role": "assistant", "content": "a b"}]
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        assert body["max_tokens"] == 3

    def test_a_message_of_the_clients_that_is_continued_grows(self) -> None:
        own = {"role": "assistant", "content": "So: "}
        fields = {"messages": [*CHAT["messages"], own], "continue_final_message": True, "add_generation_prompt": False}
        assert body_of(planned(fields, VLLM, generated(chat=True, ids=False)))["messages"][1:] == [
            {"role": "assistant", "content": "So: a b"}
        ]

    def test_a_text_that_is_to_follow_still_is(self) -> None:
        body = body_of(planned({**TEXT, "suffix": " the end"}, PLAIN, generated(chat=False, ids=False)))
        assert (body["prompt"], body["suffix"]) == ("Oncea b", " the end")

    def test_white_space_at_the_end_is_generated_again(self) -> None:
        plan = planned(TEXT, PLAIN, generated(chat=False, ids=False, text="abc \n"))
        assert body_of(plan)["prompt"] == "Onceabc"
        assert isinstance(plan, Continuation)
        assert plan.repeats == " \n"

    def test_nothing_but_white_space_begins_again(self) -> None:
        plan = planned(CHAT, SGLANG, generated(chat=True, ids=False, text=" \n"))
        assert isinstance(plan, Continuation)
        assert (plan.by, plan.repeats, json.loads(plan.body)) == ("start", " \n", CHAT)

    def test_text_that_is_behind_its_ids(self) -> None:
        """The engine keeps back what may begin a text to stop at; going on by ids would lose it."""
        plan = planned({**CHAT, "stop": ["END"]}, VLLM)
        assert isinstance(plan, Continuation)
        assert plan.by == "text"
        for fields in ({"stop": "\n"}, {"stop": "END", "include_stop_str_in_output": True}, {"stop": []}):
            plan = planned({**CHAT, **fields}, VLLM)
            assert isinstance(plan, Continuation)
            assert plan.by == "tokens"

    def test_text_that_may_be_behind_by_half_a_character(self) -> None:
        """What leaks of the prompt then may have a text to stop at in it."""
        so_far = generated(chat=True)
        so_far.feed({"id": "x", "choices": [{"index": 0, "delta": {"content": "Gr"}, "token_ids": [11, 12]}]})
        for stop, by in (("\n", "text"), (None, "tokens")):
            plan = planned({**CHAT, "stop": stop}, VLLM, so_far)
            assert isinstance(plan, Continuation)
            assert plan.by == by


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "json_object"}}, "guided"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "guided"),
    ({"guided_regex": "a+"}, "guided"),
    ({"structured_outputs": {"choice": ["a"]}}, "guided"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"n": 2}, "choices"),
    ({"n": "2"}, "choices"),
    ({"best_of": 3}, "choices"),
    ({"use_beam_search": True}, "beam_search"),
    ({"echo": True}, "echo"),
    ({"prompt_logprobs": 1}, "prompt_logprobs"),
    ({"modalities": ["text", "audio"]}, "audio"),
    ({"kv_transfer_params": {"do_remote_decode": True}}, "kv_transfer"),
]


@pytest.mark.parametrize(("fields", "reason"), IMPOSSIBLE)
@pytest.mark.parametrize("prompt", [CHAT, TEXT])
def test_requests_that_nobody_goes_on_with(fields: dict[str, Any], reason: str, prompt: dict[str, Any]) -> None:
    assert planned({**prompt, **fields}, VLLM) == Impossible(reason)


@pytest.mark.parametrize(
    "fields", [{"response_format": {"type": "text"}}, {"tool_choice": "auto"}, {"n": 1, "best_of": 1}, {"echo": False}]
)
def test_what_only_looks_so(fields: dict[str, Any]) -> None:
    assert isinstance(planned({**CHAT, **fields}, VLLM), Continuation)


def test_what_the_stream_says() -> None:
    assert planned({"prompt": ["a", "b"]}, VLLM) == Impossible("choices")
    assert planned(CHAT, VLLM, generated(chat=True, tool_calls=[{"index": 0}])) == Impossible("tool_call")
    without = generated(chat=True, ids=False)
    assert planned(CHAT, FASTDEPLOY, without) == Impossible("engine")
    assert planned(CHAT, VLLM, without, exact=True) == Impossible("no_tokens")
    assert planned({**CHAT, "logprobs": True}, VLLM, without) == Impossible("logprobs")
    assert planned(CHAT, VLLM, generated(chat=True, ids=False, reasoning="hm")) == Impossible("reasoning")
    assert planned({**TEXT, "truncate_prompt_tokens": 3}, VLLM, generated(chat=False, ids=False)) == Impossible(
        "truncation"
    )
    assert planned({"prompt": [1, 2]}, VLLM, generated(chat=False, ids=False)) == Impossible("engine")
    media = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}
    assert planned(media, FASTDEPLOY) == Impossible("engine")
    plan = planned(media, VLLM)
    assert isinstance(plan, Continuation)
    assert plan.by == "text"


@pytest.mark.parametrize("event", [b"data: 1\n\n", b"data: not JSON\n\n", b'data: {"text":"SGLang\'s own"}\n\n'])
@pytest.mark.parametrize("prompt", [CHAT, TEXT])
def test_what_an_event_of_another_form_shows_isnt_known(prompt: dict[str, Any], event: bytes) -> None:
    so_far = Generated(chat=prompt is CHAT)
    so_far.feed_event(event)
    assert planned(prompt, VLLM, so_far) == Impossible("events")


def delta(**members: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", **members}}]}


@pytest.mark.parametrize(
    "members",
    [
        {"multimodal_content": [{"type": "text", "text": "Hi"}]},  # FastDeploy with --enable-mm-output
        {"multimodal_content": [{"type": "image", "url": "http://x"}]},
        {"content": [{"type": "text", "text": "Hi"}]},
        {"refusal": "No"},
        {"audio": {"data": "AAAA"}},
        {"somebodys_own": "Hi"},
    ],
)
@pytest.mark.parametrize("ways", [VLLM, FASTDEPLOY, PLAIN])
def test_what_a_delta_shows_in_another_member_is_not_said_twice(members: dict[str, Any], ways: Ways) -> None:
    so_far = Generated(chat=True)
    so_far.feed(delta(**members))
    assert planned(CHAT, ways, so_far) == Impossible("events")


@pytest.mark.parametrize(
    "members",
    [
        {"multimodal_content": [{"type": "text", "text": ""}], "prompt_token_ids": [1], "prompt_tokens": "Hi"},
        {"content": "", "refusal": None, "tool_calls": None, "reasoning_content": "", "number": 1, "flag": True},
    ],
)
def test_a_delta_that_shows_nothing(members: dict[str, Any]) -> None:
    so_far = Generated(chat=True)
    so_far.feed(delta(**members))
    plan = planned(CHAT, VLLM, so_far)
    assert isinstance(plan, Continuation)
    assert plan.by == "start"


def test_an_answer_that_is_there() -> None:
    assert planned({**CHAT, "max_tokens": 2}, VLLM) == Finished("length")
    assert planned({**TEXT, "max_tokens": 2}, PLAIN, generated(chat=False, ids=False)) == Finished("length")
    so_far = generated(chat=True)
    so_far.feed({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert planned({**CHAT, "n": 1}, VLLM, so_far) == Finished("stop")


@pytest.mark.parametrize(("told", "left"), [(5.0, 3), ("5", 3), (" 5.0 ", 3), (-1, -1), (0, 0), ("many", "many")])
def test_a_limit_is_read_as_engines_read_it(told: Any, left: Any) -> None:
    """LM Studio takes -1 for as long as it likes."""
    for prompt, so_far in ((TEXT, generated(chat=False, ids=False)), (CHAT, generated(chat=True))):
        assert body_of(planned({**prompt, "max_tokens": told}, VLLM, so_far))["max_tokens"] == left


def test_engines_do_not_agree_which_of_two_limits_goes_first() -> None:
    body = body_of(planned({**CHAT, "max_tokens": 2, "max_completion_tokens": 9, "min_tokens": "3"}, VLLM))
    assert (body["max_tokens"], body["max_completion_tokens"], body["min_tokens"]) == (1, 7, 1)
    assert planned({**CHAT, "max_tokens": 2, "max_completion_tokens": 1}, VLLM) == Finished("length")


@pytest.mark.parametrize("yes", [1, "true", "Yes"])
def test_a_wish_is_read_as_engines_read_it(yes: Any) -> None:
    fields = {
        **CHAT, "include_stop_str_in_output": yes, "return_token_ids": yes, "stream_options": {"include_usage": yes},
    }  # fmt: skip
    source = SourceRequest(json.dumps(fields).encode(), chat=True)
    assert source.shows_stop
    assert source.wants_ids
    assert source.wants_usage
    own = {"messages": [*CHAT["messages"], {"role": "assistant", "content": "So: "}], "continue_final_message": yes}
    body = body_of(planned(own, SGLANG, generated(chat=True, ids=False)))
    assert body["messages"][1:] == [{"role": "assistant", "content": "So: a b"}]


def test_a_body_that_only_the_standard_library_reads() -> None:
    source = SourceRequest(b'{"messages": [{"role": "user", "content": "\\ud800"}]}', chat=True)
    plan = plan_continuation(source, generated(chat=True, ids=False), VLLM, exact=False)
    assert plan == Impossible("body") or b"\\ud800" in plan.body  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="no JSON object"):
        SourceRequest(b"[]", chat=True)
