"""Who keeps an answer that a pair made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.engines.vllm import VllmDialect
from fd_router.openai.endpoints import BUILT_IN
from fd_router.routing.stored_answers import StoredAnswers
from fd_router.routing.stored_pair import StoringPairContext, StoringPairRequest
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_HEAD, answer, chunk, post

RESPONSES = next(each for each in BUILT_IN if each.path == "/v1/responses")
TOLD = {"kv_transfer": {"kv_connector": "NixlConnector"}}


class StoringRig(PairRig):
    """Two prefill and two decode instances of vLLM, at the endpoint of stored answers."""

    def __init__(self) -> None:
        super().__init__(dialect=VllmDialect(), told=TOLD)
        self.answers = StoredAnswers()
        shared = {name: getattr(self.pair_context, name) for name in self.pair_context.__struct_fields__}
        shared["endpoint"] = RESPONSES
        self.storing = StoringPairContext(answers=self.answers, **shared)

    def _start(self, request: Any, client: Any, record: Any) -> StoringPairRequest:
        record.key = "team"
        self.records.append(record)
        return StoringPairRequest(self.storing, request, client, record)


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_decode_instance_that_made_it(streamed: bool) -> None:
    rig = StoringRig()
    client = rig.client()
    client.receive(post(json.dumps({"input": "hello", "stream": streamed}).encode()))
    await rig.settle()
    (instance,) = [each for each in rig.backend.live if each.writes]
    if streamed:
        instance.receive(STREAM_HEAD)
        instance.receive(chunk(b'event: response.created\ndata: {"response":{"id":"resp_1","object":"response"}}\n\n'))
        instance.receive(b"0\r\n\r\n")
    else:
        instance.receive(answer(b'{"id":"resp_1","object":"response","usage":null}'))
    await rig.settle()
    assert b"resp_1" in client.take()
    keeper = rig.answers.keeper("resp_1")
    assert keeper is not None
    assert keeper.instance in {each.key for each in rig.decodes}
    assert keeper.client == "team"
    rig.assert_nothing_is_held()


async def test_an_error_keeps_nothing() -> None:
    rig = StoringRig()
    client = rig.client()
    client.receive(post(b'{"input": "hello"}'))
    await rig.settle()
    (instance,) = [each for each in rig.backend.live if each.writes]
    instance.receive(answer(b'{"id":"resp_1","error":{"message":"no"}}', "400 Bad Request"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 400")
    assert rig.answers.keeper("resp_1") is None
