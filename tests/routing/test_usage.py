"""What a policy that learns hears of a request: the first token, the engine's usage, the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.http.client_stream import NOWHERE
from fd_router.http.dechunk import dechunked
from fd_router.openai.endpoints import Endpoint
from fd_router.openai.usage import find_total_tokens, find_usage
from fd_router.routing.usage import TAIL, UsageTail
from fd_router.scheduling.scheduler import Scheduler
from tests.support.outlets import Written
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk
from tests.support.scheduling_fakes import AskedGroup, LearningPolicy
from tests.support.stream_rig import StreamRig

STREAM = b'{"prompt": "hello", "stream": true}'
USAGE = {"prompt_tokens": 70, "total_tokens": 72, "prompt_tokens_details": {"cached_tokens": 64}}


def event(value: Any) -> bytes:
    return chunk(b"data: %b\n\n" % json.dumps(value).encode())


def learning_rig(instances: int = 1, **settings: Any) -> tuple[Rig, LearningPolicy]:
    rig, policy = Rig(instances, **settings), LearningPolicy()
    rig.change(select=Scheduler(AskedGroup(rig.available), policy, lambda: "none is there").select)
    return rig, policy


class TestTail:
    def test_only_the_end_is_kept(self) -> None:
        passed = Written()
        tail = UsageTail(b"x" * TAIL, passed)
        for piece in (b"a", b"b", json.dumps(USAGE).encode(), b"data: [DONE]", b"0\r\n\r\n"):
            tail.write(piece)
        assert find_usage(tail.tail()) == (70, 64)
        assert len(passed) == 5
        assert repr(tail) == "<UsageTail 107 bytes kept>"
        tail.write(b"x" * TAIL)
        assert find_usage(tail.tail()) is None

    @pytest.mark.parametrize("size", [1, 3, 7, 40, 1000, 1 << 20])
    def test_a_usage_object_is_found_whatever_follows_it(self, size: int) -> None:
        ids = b",".join([b"12345"] * 40_000)
        whole = b'{"id": "x", "usage": %b, "choices": [{"token_ids": [%b]}]}' % (json.dumps(USAGE).encode(), ids)
        passed = Written()
        tail = UsageTail(b"", passed)
        head, rest = whole[:400], whole[400:]
        for piece in [*(head[at : at + size] for at in range(0, len(head), size)), rest]:
            tail.write(piece)
        assert find_usage(tail.tail()) == (70, 64)
        assert find_total_tokens(tail.tail()) == 72
        assert b"".join(passed) == whole
        assert len(tail.tail()) < 2 * TAIL

    def test_one_that_comes_at_once_with_what_follows_too(self) -> None:
        tail = UsageTail(b'{"usage":%b,"text":"%b"}' % (json.dumps(USAGE).encode(), b"x" * 225_000), NOWHERE)
        assert find_usage(tail.tail()) == (70, 64)

    def test_the_last_of_several_counts_and_null_is_none(self) -> None:
        tail = UsageTail(b'data: {"usage": {"total_tokens": 1}}\n\n', NOWHERE)
        for number in (2, 3):
            tail.write(b'data: {"usage": {"total_tokens": %d}}\n\n' % number)
        tail.write(b'data: {"usage": null, "text": "%b"}\n\n' % (b"x" * TAIL))
        assert find_total_tokens(tail.tail()) == 3


class TestRequest:
    async def test_a_stream(self) -> None:
        rig, policy = learning_rig()
        instance = await rig.ask(client := rig.client(), STREAM)
        instance.receive(STREAM_HEAD)
        assert policy.heard == [[]]
        instance.receive(event({"text": "a"}))
        assert policy.heard == [["first token"]]
        for piece in (event({"text": "b"}), event({"usage": USAGE}), chunk(b"data: [DONE]\n\n"), STREAM_END):
            instance.receive(piece)
        assert policy.heard == [["first token", (70, 64), "end"]]
        await rig.settle()
        assert client.written.endswith(STREAM_END)
        rig.assert_nothing_is_held()

    async def test_a_stream_that_comes_at_once_to_a_client_without_chunks(self) -> None:
        rig, policy = learning_rig()
        instance = await rig.ask(client := rig.client(), STREAM, version="1.0")
        instance.receive(STREAM_HEAD + event({"text": "a"}) + event({"usage": USAGE}) + STREAM_END)
        assert policy.heard == [["first token", (70, 64), "end"]]
        await rig.settle()
        assert client.written.count(b'"cached_tokens"') == 1
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("cut", range(1, 150, 7))
    async def test_a_stream_that_is_kept(self, cut: int) -> None:
        rig, policy = StreamRig(1), LearningPolicy()
        rig.change(select=Scheduler(AskedGroup(rig.available), policy, lambda: "none is there").select)
        instance = await rig.ask(client := rig.client(), STREAM)
        body = event({"text": "a"}) + event({"usage": USAGE}) + chunk(b"data: [DONE]\n\n") + STREAM_END
        instance.receive(STREAM_HEAD + body[:cut])
        instance.receive(body[cut:])
        assert policy.heard == [["first token", (70, 64), "end"]]
        await rig.settle()
        assert dechunked(client.written.partition(b"\r\n\r\n")[2]) == dechunked(body)
        rig.assert_all_is_given_back()

    async def test_a_whole_answer_has_no_first_token(self) -> None:
        rig, policy = learning_rig()
        instance = await rig.ask(client := rig.client())
        instance.receive(answer(json.dumps({"usage": USAGE}).encode()))
        assert policy.heard == [[(70, 64), "end"]]
        instance = await rig.ask(client)  # a head that is known, and a body in two pieces
        whole = answer(json.dumps({"usage": USAGE}).encode())
        instance.receive(whole[:-20])
        instance.receive(whole[-20:])
        assert policy.heard[1] == [(70, 64), "end"]
        rig.assert_nothing_is_held()

    async def test_an_error_is_no_first_token(self) -> None:
        rig, policy = learning_rig()
        instance = await rig.ask(rig.client(), STREAM)
        instance.receive(answer(b"too long", "400 Bad Request"))
        assert policy.heard == [["end"]]

    async def test_a_client_that_leaves(self) -> None:
        rig, policy = learning_rig()
        await rig.ask(client := rig.client(), STREAM)
        client.lose()
        await rig.settle()
        assert policy.heard == [["end"]]

    async def test_every_attempt_is_a_placement_of_its_own(self) -> None:
        rig, policy = learning_rig(2)
        instance = await rig.ask(rig.client(), STREAM)
        instance.lose()
        await rig.settle()
        assert policy.heard == [["end"], []]
        assert policy.placed[0][1] is not policy.placed[1][1]


class TestBrokenEndpoint:
    """A third party's endpoint that fails to find the usage costs neither the answer nor a count."""

    @staticmethod
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    async def test_find_usage(self) -> None:
        rig, policy = learning_rig()
        rig.change(endpoint=Endpoint(path="/v1/x", find_usage=self.broken))
        instance = await rig.ask(client := rig.client())
        instance.receive(answer(b'{"a": 1}'))
        await rig.settle()
        assert client.written.endswith(b'{"a": 1}')
        assert not client.is_closing()
        assert policy.heard == [["end"]]
        assert "/v1/x" in rig.bugs.pop()["message"]
        assert rig.records[0].outcome == "completed"
        rig.assert_nothing_is_held()
