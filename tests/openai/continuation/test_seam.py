"""The seam: what another instance's events become behind those of the first one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.openai.continuation.event_splitter import EventSplitter, payload
from fd_router.openai.continuation.generated import Generated
from fd_router.openai.continuation.plan import Continuation
from fd_router.openai.continuation.seam import STARTED_OVER, Seam, last_events
from fd_router.openai.continuation.seam_text import SeamText
from fd_router.openai.continuation.source_request import SourceRequest

DONE = b"data: [DONE]\n\n"


def event(text: str | None = None, *, finish: str | None = None, name: str = "second", **more: Any) -> bytes:
    choices = [] if text is None else [{"index": 0, "text": text, "finish_reason": finish}]
    return b"data: %b\n\n" % json.dumps({"id": name, "created": 2, "choices": choices, **more}).encode()


def seam_behind(text: str, *, by: str = "text", fields: dict[str, Any] | None = None, **plan: Any) -> Seam:
    generated = Generated(chat=False)
    generated.feed_event(event(text, name="first", created=1))
    source = SourceRequest(json.dumps({"prompt": "p", **(fields or {})}).encode(), chat=False)
    return Seam(source, generated, Continuation(body=b"", by=by, **plan))  # type: ignore[arg-type]


def texts(out: bytes) -> list[str]:
    choices = [choice for one in objects(out) for choice in one["choices"]]
    return [choice["text"] for choice in choices]


def objects(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(payload(one)) for one in EventSplitter().feed(out) if payload(one) != b"[DONE]"]


class TestSplitter:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    def test_lines_may_end_in_three_ways_and_a_stream_begin_with_a_mark(self, end: bytes) -> None:
        stream = b"\xef\xbb\xbf" + (b"data: 1\n\n: ping\n\nevent: a\ndata:2\ndata:  3\n\ndata: [D").replace(b"\n", end)
        splitter = EventSplitter()
        assert [payload(one) for one in splitter.feed(stream)] == [b"1", b"", b"2\n3"]
        assert splitter.pending == b"data: [D"


class TestHead:
    def test_events_are_those_of_the_first_stream(self) -> None:
        (one,) = objects(seam_behind("Hello").feed(event(", you", system_fingerprint="fp")))
        assert (one["id"], one["created"], texts(b"data: %b\n\n" % json.dumps(one).encode())) == ("first", 1, [", you"])

    def test_where_nothing_was_sent_the_second_stream_is_the_first(self) -> None:
        source = SourceRequest(b'{"prompt": "p"}', chat=False)
        seam = Seam(source, Generated(chat=False), Continuation(body=b"", by="start"))
        assert objects(seam.feed(event("Hi")))[0]["id"] == "second"


class TestStartingOver:
    def test_by_tokens_its_first_event_tells(self) -> None:
        for wrong in (event("x", prompt_token_ids=[1]), event("x")):
            seam = seam_behind("Hello", by="tokens", expected=[1, 2])
            assert seam.feed(wrong + event("y")) == b""
            assert seam.broken == STARTED_OVER
        seam = seam_behind("Hello", by="tokens", expected=[1, 2])
        assert texts(seam.feed(event("x", prompt_token_ids=[1, 2]))) == ["x"]

    def test_by_text_it_is_held_until_it_says_something_else(self) -> None:
        seam = seam_behind("Once upon a time", beginning="Once upon a time")
        assert seam.feed(event("Once upon")) == b""
        assert texts(seam.feed(event(" two times"))) == ["Once upon", " two times"]
        seam = seam_behind("Once upon a time", beginning="Once upon a time")
        assert seam.feed(event("Once upon") + event(" a time there")) == b""
        assert seam.broken == STARTED_OVER

    def test_a_short_rest_is_handed_on(self) -> None:
        seam = seam_behind("Once upon a time", beginning="Once upon a time")
        assert seam.feed(event("Once")) == b""
        assert texts(seam.feed(event("", finish="stop") + DONE)) == ["Once", ""]
        assert seam.is_done


class TestEnd:
    def test_a_stream_that_ends_without_a_word_is_not_whole(self) -> None:
        seam = seam_behind("Once upon a time", beginning="Once upon a time")
        assert seam.feed(event("Once")) == b""
        assert seam.end() == b""
        assert seam.broken == "cut_off"

    def test_one_that_says_why_is_whole_without_a_last_event(self) -> None:
        seam = seam_behind("Once")
        assert texts(seam.feed(event(" more", finish="stop"))) == [" more"]
        assert (seam.end(), seam.broken) == (b"", "")

    @pytest.mark.parametrize("last", [event(" more", finish="stop"), event(" more") + DONE])
    def test_the_empty_line_behind_the_last_event_may_be_missing(self, last: bytes) -> None:
        seam = seam_behind("Once")
        out = seam.feed(last[:-2])
        assert texts(out + seam.end()) == [" more"]
        assert not seam.broken

    @pytest.mark.parametrize("answer", [b"", b'{"choices": []}', b"<html>\n\n", b'\x1f\x8b\x08"\n\n\0'])
    def test_what_is_no_stream_is_not_shown(self, answer: bytes) -> None:
        seam = seam_behind("Once")
        assert seam.feed(answer) + seam.end() == b""
        assert seam.broken == "cut_off"


class TestBroken:
    @pytest.mark.parametrize(
        ("last", "why"),
        [
            (event("", finish="abort"), "abort"),
            (event("", finish="pd_reschedule"), "pd_reschedule"),
            (b'data: {"error": {"message": "dead"}}\n\n', "error_event"),
            (b'data: {"object": "error", "message": "dead"}\n\n', "error_event"),
            (b'event: error\ndata: {"message": "dead"}\n\n', "error_event"),
        ],
    )
    def test_the_second_instance_gives_up_too(self, last: bytes, why: str) -> None:
        seam = seam_behind("Hello")
        assert texts(seam.feed(event(" you") + last + event("never") + DONE)) == [" you"]
        assert seam.broken == why
        assert not seam.is_done
        assert seam.end() == b""


class TestWhiteSpace:
    @pytest.mark.parametrize(
        ("repeats", "new", "shown"),
        [
            (" ", [" world"], ["world"]),
            ("\n\n", ["\n", "\n", "x"], ["x"]),
            (" ", ["world"], ["world"]),
            ("\n  ", ["\n    x"], ["  x"]),
            ("\n\n", ["\nx"], ["x"]),
        ],
    )
    def test_what_comes_again_is_left_out(self, repeats: str, new: list[str], shown: list[str]) -> None:
        seam = seam_behind("Hello" + repeats, repeats=repeats)
        assert texts(b"".join([seam.feed(event(text)) for text in new])) == shown


class TestStops:
    @pytest.mark.parametrize("new", [["CD and more"], ["C", "D", " and more"], ["C", "D and more"]])
    def test_a_text_to_stop_at_that_is_cut_in_two(self, new: list[str]) -> None:
        seam = seam_behind("xAB", fields={"stop": ["ABCD"]})
        out = b"".join([seam.feed(event(text)) for text in new])
        assert texts(out) == [""]
        assert objects(out)[-1]["choices"][0]["finish_reason"] == "stop"
        assert out.endswith(DONE)
        assert seam.is_done

    def test_it_is_shown_where_the_client_wants_it(self) -> None:
        seam = seam_behind("xAB", fields={"stop": "ABCD", "include_stop_str_in_output": True})
        assert texts(seam.feed(event("CD and more"))) == ["CD"]

    def test_what_is_shown_of_it_counts_and_tells_its_ids(self) -> None:
        fields = {"stop": "ABCD", "include_stop_str_in_output": True, "stream_options": {"include_usage": True}}
        generated = Generated(chat=False)
        generated.feed_event(event("xAB", prompt_token_ids=[1, 2], finish=None))
        generated.has_all_ids, generated.ids, generated.known = True, [3], 1
        source = SourceRequest(json.dumps({"prompt": "p", "return_token_ids": True, **fields}).encode(), chat=False)
        seam = Seam(source, generated, Continuation(body=b"", by="tokens", tokens=1))
        out = b""
        for number, text in enumerate(["C", "D and", " more"]):
            choice = {"index": 0, "text": text, "token_ids": [4 + number], "finish_reason": None, "stop_reason": None}
            out += seam.feed(b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode())
        first, last, usage = objects(out)
        assert (first["choices"][0]["text"], first["choices"][0]["token_ids"]) == ("C", [4])
        assert last["choices"] == [
            {"index": 0, "text": "D", "token_ids": [5], "finish_reason": "stop", "stop_reason": "ABCD"}
        ]
        assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}

    def test_what_only_begins_so_is_shown(self) -> None:
        seam = seam_behind("xAB", fields={"stop": ["ABCD"]})
        assert seam.feed(event("C")) == b""
        assert texts(seam.feed(event("x"))) == ["C", "x"]

    def test_one_in_the_new_text_is_the_engines_business(self) -> None:
        text = SeamText("xAB", "", "", ["ABCD"])
        text.feed(" ABCD")
        assert (text.stop, text.is_open) == ("", False)


USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


class TestUsage:
    def test_what_was_given_is_no_prompt(self) -> None:
        seam = seam_behind("Hello", by="tokens", tokens=5)
        details = {"prompt_tokens_details": {"cached_tokens": 11}}
        (one,) = objects(seam.feed(event(None, usage={**USAGE, **details})))
        assert one["usage"] == {
            "prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 7},
        }  # fmt: skip

    def test_by_text_it_is_an_estimate(self) -> None:
        (one,) = objects(seam_behind("Hello", tokens=5).feed(event(None, usage=USAGE)))
        assert one["usage"] == {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15, "estimated": True}


def test_places_of_tokens_count_from_the_beginning() -> None:
    seam = seam_behind("Hello", by="tokens")
    fields = {"choices": [{"index": 0, "text": " you", "logprobs": {"text_offset": [0, 2]}}]}
    (one,) = objects(seam.feed(b"data: %b\n\n" % json.dumps(fields).encode()))
    assert one["choices"][0]["logprobs"]["text_offset"] == [5, 7]


class TestLastEvents:
    def test_the_end_of_an_answer_that_is_there(self) -> None:
        generated = Generated(chat=False)
        generated.feed_event(event("a", name="first", prompt_token_ids=[1, 2]))
        generated.has_all_ids, generated.ids = True, [5]
        source = SourceRequest(b'{"prompt": "p", "stream_options": {"include_usage": true}}', chat=False)
        out = last_events(source, generated, "length")
        finish, usage = objects(out)
        assert finish["choices"][0]["finish_reason"] == "length"
        assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        assert last_events(source, generated, "length") == DONE

    def test_comments_pass_behind_the_first_event(self) -> None:
        seam = seam_behind("Hello")
        assert seam.feed(b": ping\n\n") == b""
        assert seam.feed(event(" you") + b": ping\n\n").endswith(b": ping\n\n")

    def test_a_lone_surrogate_stays_an_escape(self) -> None:
        out = seam_behind("Hello").feed(b'data: {"choices":[{"index":0,"text":"\\ud83d","finish_reason":null}]}\n\n')
        assert b"\\ud83d" in out


WANTED = {"stream_options": {"include_usage": True}}


class TestUsageByText:
    def joined(self, counted: int | None) -> dict[str, Any]:
        generated = Generated(chat=False)
        generated.feed_event(event("Hello", name="first", created=1))
        source = SourceRequest(json.dumps({"prompt": "p", **WANTED}).encode(), chat=False)
        seam = Seam(source, generated, Continuation(body=b"", by="text", tokens=1), lambda: counted)
        seam.feed(event(", you"))
        told = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        usage: dict[str, Any] = objects(seam.feed(event(usage=told)))[0]["usage"]
        return usage

    def test_a_tokenizer_counts(self) -> None:
        assert self.joined(3) == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}

    def test_without_one_it_is_estimated_by_events(self) -> None:
        counts = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        assert self.joined(None) == {**counts, "estimated": True}

    def test_so_it_is_where_no_instance_came_to_tell(self) -> None:
        generated = Generated(chat=False)
        for one in (event("Hello", created=1), event("", finish="stop")):
            generated.feed_event(one)
        source = SourceRequest(json.dumps({"prompt": "p", **WANTED}).encode(), chat=False)
        (last,) = objects(last_events(source, generated, "stop", 4))
        counts = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}
        assert last["usage"] == {**counts, "estimated": True}

    def test_thoughts_of_both_parts_are_counted(self) -> None:
        """The mark that opens them is in the first part: vLLM counts none in the second one."""
        generated = Generated(chat=True)
        first = [
            {"index": 0, "delta": {}, "token_ids": [7]},
            {"index": 0, "delta": {"reasoning": "a"}, "token_ids": [8]},
        ]
        for choice in first:
            generated.feed({"id": "first", "created": 1, "choices": [choice]})
        source = SourceRequest(json.dumps({"messages": [], "return_token_ids": True}).encode(), chat=True)
        seam = Seam(source, generated, Continuation(body=b"", by="tokens", tokens=2, thoughts=generated.thoughts))
        choices = [{"index": 0, "delta": {"reasoning": "b"}, "token_ids": [9]}]
        seam.feed(b"data: %b\n\n" % json.dumps({"id": "second", "choices": choices}).encode())
        told = {"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 0}}
        usage = objects(seam.feed(b"data: %b\n\n" % json.dumps({"choices": [], "usage": told}).encode()))[0]["usage"]
        assert usage == {
            "prompt_tokens": 3,
            "completion_tokens": 3,
            "completion_tokens_details": {"reasoning_tokens": 2},
        }


class TestPrompt:
    """The ids of the prompt, without which a stream that breaks off once more can't go on by tokens."""

    @pytest.mark.parametrize("wants", [True, False])
    def test_they_are_learnt_where_the_first_stream_broke_off_before_it_told_them(self, wants: bool) -> None:
        source = SourceRequest(json.dumps({"prompt": "p", "return_token_ids": wants}).encode(), chat=False)
        generated = Generated(chat=False)
        seam = Seam(source, generated, Continuation(body=b"", by="start"))
        (one,) = objects(seam.feed(event("Hi", prompt_token_ids=[1, 2], token_ids=[3])))
        assert generated.prompt_ids == [1, 2]
        assert ("prompt_token_ids" in one) is wants

    @pytest.mark.parametrize("by", ["text", "tokens"])
    def test_they_are_not_where_the_prompt_has_some_of_the_answer_in_it(self, by: str) -> None:
        seam = seam_behind("Hello", by=by)
        seam.feed(event(" you", prompt_token_ids=[1, 2, 3]))
        assert seam._generated.prompt_ids is None
