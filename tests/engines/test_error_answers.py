"""Errors of engines that speak OpenAI's protocol, told by their beginning."""

import json

import pytest

from fd_router.engines.error_answers import ERROR_EVENT, begins_with_error, error_message


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


def test_no_generated_text_looks_like_an_error_event():
    assert ERROR_EVENT not in json.dumps({"delta": {"content": ERROR_EVENT.decode()}}).encode()
