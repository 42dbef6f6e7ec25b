"""How requests about stored answers begin where there are pairs."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fd_router.app.stored import paired_or_kept
from fd_router.http.client_stream import ClientStream
from fd_router.http.messages import Request, RequestHead
from fd_router.openai.endpoints import BUILT_IN
from fd_router.openai.large_bodies import VERY_LARGE
from fd_router.telemetry.record import RequestRecord

RESPONSES = next(each for each in BUILT_IN if each.path == "/v1/responses")


def begun_by(body: bytes) -> str:
    begun: list[str] = []

    def named(name: str) -> Any:
        return lambda endpoint: lambda *_: begun.append(f"{name} {endpoint.path}")

    start = paired_or_kept(named("pair"), named("kept"))(RESPONSES)
    request = Request(RequestHead("POST", RESPONSES.path), body)
    start(request, cast("ClientStream", None), cast("RequestRecord", None))
    (name,) = begun
    return name.split()[0]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"input": "x"}', "pair"),
        (b'{"input": "x", "previous_response_id": "resp_1"}', "kept"),
        (b'{"input": "x", "previous_response_id": null}', "pair"),
        (b'{"input": "x", "previous_response_id": 7}', "pair"),
        (b'{"input": "\\"previous_response_id\\""}', "pair"),
        (b'{"previous_response_id"', "pair"),
        (b'["previous_response_id"]', "pair"),
        (b'{"previous_response_id": "resp_1", "input": "' + b"x" * VERY_LARGE + b'"}', "kept"),
    ],
    ids=range(8),
)
def test_what_goes_on_from_an_answer_goes_to_who_keeps_it(body: bytes, name: str) -> None:
    assert begun_by(body) == name
