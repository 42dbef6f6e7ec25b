import math

import pytest

from fd_router.devtools.replay.call import ReplayCall

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"mock-a"}}]}\n\n'
MORE = b'data: {"choices":[{"index":0,"delta":{"content":" and"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":7}}}\n\n'
DONE = b"data: [DONE]\n\n"


class Clock:
    now = 100.0

    def __call__(self):
        self.now += 1
        return self.now


def answered(*pieces, status=200, headers=None):
    ended = []
    call = ReplayCall(100.0, Clock(), ended.append)
    call.on_head(status, headers or {})
    for piece in pieces:
        call.on_data(piece)
    call.on_complete()
    assert ended == [call]
    call.fail("too late")
    assert ended == [call]
    return call


def test_the_first_token_is_the_first_text():
    call = answered(ROLE, WORD, MORE, USAGE, DONE)
    assert (call.error, call.word, call.cached_tokens) == ("", "mock-a", 7)
    assert (call.first_token_at, call.ended_at) == (101.0, 102.0)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_may_be_cut_anywhere(size):
    stream = ROLE + WORD + MORE * 200 + USAGE + DONE
    call = answered(*[stream[start : start + size] for start in range(0, len(stream), size)])
    assert (call.error, call.word, call.cached_tokens) == ("", "mock-a", 7)


@pytest.mark.parametrize(
    "delta",
    [b'{"reasoning_content":"hm"}', b'{"tool_calls":[{"index":0}]}'],
)
def test_thoughts_and_tool_calls_are_tokens(delta):
    assert answered(b'data: {"choices":[{"delta":' + delta + b"}]}\n\n", DONE).error == ""


def test_completions_have_their_text_elsewhere():
    assert answered(b'data: {"choices":[{"index":0,"text":"mock-a"}]}\n\n', DONE).word == "mock-a"


@pytest.mark.parametrize(
    ("pieces", "status", "error"),
    [
        ((b'{"error":{"code":"no_instance","type":"x","message":"long"}}',), 502, "502 no_instance"),
        ((b'{"error":{"type":"internal_error","code":null}}',), 500, "500 internal_error"),
        ((b"<html>",), 404, "404"),
        ((WORD, b'data: {"error":{"type":"internal_error"}}\n\n', DONE), 200, "error event internal_error"),
        ((WORD, USAGE), 200, "stream without [DONE]"),
        ((ROLE, DONE), 200, "stream without a token"),
    ],
)
def test_failures_have_names_that_can_be_counted(pieces, status, error):
    assert answered(*pieces, status=status).error == error


def test_an_endless_opening_is_not_kept():
    call = ReplayCall(0, Clock(), lambda _: None)
    call.on_head(200, {})
    for _ in range(100):
        call.on_data(b": comment\n" * 1000)
    assert call._head is None
    assert len(call._tail) < 20_000
    assert math.isnan(call.first_token_at)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-router-prefill-url": "http://a:1", "x-router-decode-url": "http://b:1"},
        {"x-router-decision": 'mixed=http://a:1; policy=cache_aware; hit=75; reason="x=y"'},
        {"x-router-decision": "prefill=http://a:1; policy=x, decode=http://b:1; policy=y"},
    ],
)
def test_who_served_may_stand_in_a_header(headers):
    assert answered(WORD, DONE, headers=headers).instance == "http://a:1"
