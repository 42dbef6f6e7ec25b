"""Generating endpoints beside completions, before pairs."""

from __future__ import annotations

import json
from typing import Any

from fd_router.openai.endpoints import BUILT_IN
from fd_router.routing.other_endpoint_pair import OtherEndpointPairRequest
from tests.support.pair_rig import PairRig

MESSAGES = next(each for each in BUILT_IN if each.path == "/v1/messages")
BODY = b'{"max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}'


def serving(rig: PairRig, path: str) -> PairRig:
    """Have ``rig`` begin each request as one to ``path``."""
    endpoint = next(each for each in BUILT_IN if each.path == path)

    def start(request: Any, client: Any, record: Any) -> OtherEndpointPairRequest:
        rig.records.append(record)
        return OtherEndpointPairRequest(rig.pair_context, request, client, record)

    rig.change(endpoint=endpoint)
    rig._start = start  # type: ignore[method-assign,assignment]
    rig.server = rig._make_server({})
    return rig


async def test_what_the_engine_doesnt_serve_is_refused_before_it_is_sent() -> None:
    rig = serving(PairRig(), MESSAGES.path)
    client = rig.client()
    client.receive(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
    await rig.settle()
    head, _, body = client.take().partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.startswith(b"HTTP/1.1 404")
    assert error["message"].startswith("/v1/messages: prefill and decode instances of fastdeploy don't serve it")
    assert rig.backend.opened == []
    rig.assert_nothing_is_held()


async def test_a_third_partys_endpoint_makes_pairs() -> None:
    rig = serving(PairRig(), "/v1/completions")
    client = rig.client()
    prefill, decode = await rig.pair(client, b'{"prompt": "hello"}')
    assert b"disaggregate_info" in prefill.take()
    assert b"disaggregate_info" in decode.take()
