"""FastDeploy's /v1/abort_requests, both ways."""

import json

import pytest

from fd_router.engines.dialect import AbortReply
from fd_router.engines.fastdeploy.dialect import FastDeployDialect


@pytest.mark.parametrize(("ids", "order"), [(["a", "b"], {"req_ids": ["a", "b"]}), (None, {"abort_all": True})])
def test_one_message_for_all(ids, order):
    (message,) = FastDeployDialect().abort(ids)
    assert message.path == "/v1/abort_requests"
    assert json.loads(message.body) == order


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"", AbortReply(is_silent=True)),
        (b"{}", AbortReply(is_silent=True)),
        (b"<html>", AbortReply(error="the answer isn't JSON")),
        (b"[]", AbortReply(error="the answer is no object")),
        (b'{"error_msg":"engine is gone"}', AbortReply(error="engine is gone")),
        (b'{"result":{"aborted":null}}', AbortReply()),
        (
            b'{"result":{"aborted":[{"request_id":"a_0","output_token_count":3},7]}}',
            AbortReply([{"request_id": "a_0", "output_token_count": 3}], frozenset({"a_0", "a"})),
        ),
    ],
)
def test_answers(answer, reply):
    assert FastDeployDialect().read_abort(answer) == reply
