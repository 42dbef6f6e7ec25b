import json

import pytest

from fd_router.devtools.mock.completions import Answer, Ids, Words, parse_body, prompt_of, usage_of
from fd_router.errors import BadRequestError


def chat(**extra):
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **extra}).encode()


@pytest.mark.parametrize(
    ("body", "is_chat", "reason"),
    [
        (b"{", True, "Invalid JSON"),
        (b"\xff", True, "Invalid JSON"),
        (b"[]", True, "Invalid request"),
        (b"{}", True, "messages is required"),
        (b'{"messages": []}', True, "messages is required"),
        (b"{}", False, "prompt is required"),
        (chat(max_tokens=0), True, "max_tokens"),
        (chat(n=2), True, "one choice"),
        (chat(stream="yes"), True, "stream"),
    ],
)
def test_a_bad_body_says_why(body, is_chat, reason):
    with pytest.raises(BadRequestError, match=reason) as caught:
        parse_body(body, chat=is_chat)
    assert caught.value.status == 400


def test_unknown_keys_are_ignored_and_limits_ranked():
    body = parse_body(chat(temperature=0.5, max_tokens=3, max_completion_tokens=7), chat=True)
    assert body.limit == 7


def test_the_prompt_of_a_chat_is_all_its_text():
    parts = [{"type": "text", "text": "b" * 10}, {"type": "image_url", "image_url": {"url": "…"}}]
    messages = [
        {"role": "system", "content": "a" * 10},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
    ]
    body = parse_body(json.dumps({"messages": messages}).encode(), chat=True)
    text = f"<system>{'a' * 10}<user>{'b' * 10}<assistant>"
    assert prompt_of(body, 2, 512).tokens == -(-len(text) // 4)


@pytest.mark.parametrize(("value", "tokens"), [("x" * 9, 3), (["xxxx", "xxxx"], 2), ([5, 6, 7], 3), ("", 1), ([], 1)])
def test_the_prompt_of_a_completion(value, tokens):
    assert prompt_of(parse_body(json.dumps({"prompt": value}).encode(), chat=False), 2, 512).tokens == tokens


def test_a_trace_replayer_gives_blocks_and_length():
    body = parse_body(chat(mock_hash_ids=[1, 2, 3], mock_input_length=1300), chat=True)
    prompt = prompt_of(body, 64, 512)
    assert (list(prompt.blocks), prompt.tokens, prompt.block_tokens) == ([1, 2, 3], 1300, 512)
    alone = prompt_of(parse_body(chat(mock_input_length=1300), chat=True), 64, 512)
    assert (alone.tokens, alone.block_tokens) == (1300, 64)


def test_words_name_the_instance_and_never_end():
    words = Words('m"1')
    assert json.loads(b'"' + words.text(3) + b'"') == 'm"1 reads the'
    assert words.text(500) == b"".join(words.token(number) for number in range(1, 501))
    assert all(words.token(number) for number in range(1, 501))


def test_ids_follow_the_request():
    ids = Ids("m")
    assert ids.response_id("", "chatcmpl-") == "chatcmpl-m-1"
    assert ids.response_id("", "cmpl-") == "cmpl-m-2"
    assert ids.response_id("abc", "chatcmpl-") == "chatcmpl-abc"
    assert ids.response_id("chatcmpl-abc", "chatcmpl-") == "chatcmpl-abc"


@pytest.mark.parametrize("is_chat", [True, False])
def test_every_event_is_json(is_chat):
    answer = Answer('id"1', "mo\ndel", chat=is_chat)
    stream = answer.opening() if is_chat else b""
    stream += answer.event(b"word") + answer.closing("stop", usage_of(3, 2, 1))
    events = stream.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    decoded = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {event["id"] for event in decoded} == {'id"1'}
    assert {event["model"] for event in decoded} == {"mo\ndel"}
    assert decoded[-1]["choices"] == []
    assert decoded[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert decoded[-2]["choices"][0]["finish_reason"] == "stop"
