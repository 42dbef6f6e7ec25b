"""Where each endpoint's answers tell their usage, and in what shape errors are told there."""

from __future__ import annotations

import json

import pytest

from fd_router.errors import AccessError, BadRequestError, HttpError, LimitError, NoInstanceError
from fd_router.openai.endpoints import BUILT_IN
from fd_router.openai.kinds.responses import find_response_id

TABLE = {(endpoint.method, endpoint.path): endpoint for endpoint in BUILT_IN}
RESPONSES, MESSAGES = TABLE["POST", "/v1/responses"], TABLE["POST", "/v1/messages"]
GENERATE, EMBEDDINGS = TABLE["POST", "/generate"], TABLE["POST", "/v1/embeddings"]


def test_responses() -> None:
    tail = (
        b'"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":32},"output_tokens":4,"total_tokens":40}'
    )
    assert RESPONSES.find_usage(tail) == (36, 32)
    assert RESPONSES.find_total_tokens(tail) == 40
    assert RESPONSES.find_usage(b"[DONE]") is None


def test_messages_whole() -> None:
    tail = (
        b'{"usage":{"input_tokens":4,"output_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":32}}'
    )
    assert MESSAGES.find_usage(tail) == (36, 32)
    assert MESSAGES.find_total_tokens(tail) == 43


def test_messages_streamed() -> None:
    start = b'{"type":"message_start","message":{"usage":{"input_tokens":36,"output_tokens":0}}}'
    end = b'{"type":"message_delta","delta":{},"usage":{"input_tokens":36,"output_tokens":7}}'
    assert MESSAGES.find_total_tokens(start + end) == 43
    assert MESSAGES.find_total_tokens(end) == 43
    assert MESSAGES.find_usage(start + end) is None
    assert MESSAGES.find_total_tokens(b'{"type":"message_delta","usage":{"output_tokens":7}}') is None
    assert MESSAGES.find_total_tokens(b"event: message_stop") is None


def test_generate() -> None:
    first = b'{"text":"a","meta_info":{"id":"1","prompt_tokens":9,"completion_tokens":1,"cached_tokens":8}}'
    last = b'{"text":"ab","meta_info":{"id":"1","prompt_tokens":9,"completion_tokens":2,"cached_tokens":8}}'
    assert GENERATE.find_usage(first + last) == (9, 8)
    assert GENERATE.find_total_tokens(first + last) == 11
    assert GENERATE.find_total_tokens(b"") is None


def test_embeddings() -> None:
    tail = b'"usage":{"prompt_tokens":8,"total_tokens":8,"completion_tokens":0,"prompt_tokens_details":null}}'
    assert EMBEDDINGS.find_total_tokens(tail) == 8
    assert EMBEDDINGS.find_usage(tail) is None


def test_what_a_model_says_is_no_usage() -> None:
    said = json.dumps({"text": '"output_tokens": 1, "input_tokens": 1, "completion_tokens": 1'}).encode()
    assert MESSAGES.find_total_tokens(said) is GENERATE.find_total_tokens(said) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequestError("no"), "invalid_request_error"),
        (AccessError("no"), "authentication_error"),
        (AccessError("no", status=403), "permission_error"),
        (BadRequestError("no", status=413), "request_too_large"),
        (BadRequestError("no", status=422), "invalid_request_error"),
        (LimitError("no", kind="requests", retry_after=1), "rate_limit_error"),
        (NoInstanceError("no", status=503), "overloaded_error"),
        (NoInstanceError("no"), "api_error"),
        (HttpError("no"), "api_error"),
    ],
)
def test_errors_of_messages(error: HttpError, kind: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "no"}}
    assert MESSAGES.error_body(error) == body
    name, data = MESSAGES.error_event(error).decode().removesuffix("\n\n").split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == body


def test_errors_in_streams() -> None:
    error = HttpError('with "quotes" and \ud800', code="aborted")
    data = RESPONSES.error_event(error).partition(b"data: ")[2]
    assert json.loads(data) == {"type": "error", "code": "aborted", "message": error.message, "param": None}
    data = EMBEDDINGS.error_event(error).removeprefix(b"data: ")
    assert json.loads(data)["error"]["code"] == "aborted"


@pytest.mark.parametrize(
    ("piece", "found"),
    [
        (b'{"id":"resp_0123abc","created_at":1,"object":"response"}', "resp_0123abc"),
        (b'event: response.created\ndata: {"response":{"id":"resp_1-a","object":"response"}}', "resp_1-a"),
        (b'{"error":{"message":"Response with id \'resp_1\' not found."}}', ""),
        (b'{"id":"resp_%b"}' % (b"x" * 300), ""),
        (b"", ""),
    ],
)
def test_the_id_of_a_stored_answer(piece: bytes, found: str) -> None:
    assert find_response_id(piece) == found
