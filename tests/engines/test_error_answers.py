"""Errors of engines that speak OpenAI's protocol, told by their beginning."""

import json

import pytest

from fd_router.engines.error_answers import (
    ABORTED_ANSWER,
    ERROR_IN_STREAM,
    begins_with_error,
    end_flaw,
    error_message,
    is_aborted,
    is_clients_error,
)


@pytest.mark.parametrize(
    ("piece", "is_error"),
    [
        (b'{"error":{"message":"x"}}', True),
        (b'data: {"error": {"message":"x"}}\n\n', True),
        (b'2f\r\ndata: {"error":{"message":"x"}}\n\n\r\n', True),
        (b'{"object":"error","message":"x"}', True),
        (b'{"object": "error", "message":"x"}', True),
        (b'{"error":null,"id":1}', False),
        (b'data: {"id":"1","choices":[{"delta":{"content":"{\\"error\\":1}"}}]}\n\n', False),
        (b"", False),
    ],
)
def test_an_error_is_known_by_its_beginning(piece, is_error):
    assert begins_with_error(piece) is is_error


def test_messages_of_errors():
    assert error_message(b'{"error":{"message":"no memory"}}') == "no memory"
    assert error_message(b'12\r\ndata: {"error":{"message":"no memory"}}\n\n\r\n') == "no memory"
    assert error_message(b'{"error":"text"}') == "text"
    assert error_message(b'{"detail":"not so"}') == "not so"
    assert error_message(b"<html>") == ""
    assert error_message(b'{"error":{"message":["a"]}}') == ""
    assert len(error_message(b'{"error":{"message":"%b"}}' % (b"x" * 5000))) == 300


EVENT = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'
DONE = b"data: [DONE]\n\n"


def token(text: str = "t", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def in_chunks(data: bytes, size: int) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize("size", [1, 7, 16, 1000])
@pytest.mark.parametrize(
    ("stream", "flaw"),
    [
        (token() + token("end", "stop") + DONE, ""),
        (token() + EVENT + DONE, ERROR_IN_STREAM),
        (token() + b'data:{"object":"error","message":"x"}\n\n', ERROR_IN_STREAM),
        (token() + b'event: error\ndata: {"type":"error"}\n\n', ERROR_IN_STREAM),
        (token() + token("", "abort") + DONE, ABORTED_ANSWER),
        (token() + token("", "recover_stop") + DONE, ABORTED_ANSWER),
        (token() + b'data: {"choices":[{"finish_reason" : "abort"}]}\n\n', ABORTED_ANSWER),
        (token('"finish_reason": "abort"') + DONE, ""),
        (token("\n" + EVENT.decode()) + DONE, ""),
        (token() + b'data: {"error": null, "id": 1}\n\n' + DONE, ""),
        (token() + b'data: {"id": 1, "choices": [], "error": {"code": 500}}\n\n' + DONE, ERROR_IN_STREAM),
        (token() + b'data: {"message": "x",\ndata: "object": "error"}\n\n' + DONE, ERROR_IN_STREAM),
        (token() + b'data: {"id": 1, "tool": {"error": {"code": 500}}, "error": null}\n\n' + DONE, ""),
    ],
)
def test_what_is_wrong_with_a_stream_is_told_by_its_end(stream, flaw, size):
    framed = in_chunks(stream, size)
    for start in range(min(size, 8)):  # wherever what was kept of it begins
        assert end_flaw(framed[start:]) == flaw


@pytest.mark.parametrize(
    ("piece", "aborted", "clients"),
    [
        (b'{"choices":[{"finish_reason":"abort"}]}', True, False),
        (b'{"choices":[{"finish_reason":"recover_stop"}]}', True, False),
        (
            b'{"choices":[{"message":{"content":"\\"finish_reason\\":\\"abort\\""},"finish_reason":"stop"}]}',
            False,
            False,
        ),
        (b'data: {"error":{"message":"too long","code":400}}\n\n', False, True),
        (b'data: {"error":{"message":"gone","code":"500"}}\n\n', False, False),
        (b'{"error":{"status": "422"}}', False, True),
        (b"", False, False),
    ],
)
def test_aborts_and_errors_of_clients(piece, aborted, clients):
    assert (is_aborted(piece), is_clients_error(piece)) == (aborted, clients)
