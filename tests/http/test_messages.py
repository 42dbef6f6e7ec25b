from __future__ import annotations

import json
import re
from pathlib import Path

import fd_router
from fd_router.errors import BadRequestError
from fd_router.http.messages import REASONS, Request, RequestHead, error_response, json_response


def test_header_names_have_no_case_and_the_first_value_counts() -> None:
    request = Request(RequestHead("GET", "/", headers=[(b"X-A", b"1"), (b"x-a", b"2")]))
    assert request.header(b"x-a") == b"1"
    assert request.header(b"x-b") is None


def test_repr_shows_no_prompt() -> None:
    assert repr(Request(RequestHead("POST", "/v1/completions"), b"secret")) == "<Request POST /v1/completions 6 B>"


def test_version() -> None:
    assert RequestHead("GET", "/").version == "1.1"
    assert RequestHead("GET", "/", is_http_1_0=True).version == "1.0"


def test_json_response() -> None:
    response = json_response(201, {"a": [1, None]}, (("x-a", "b"),))
    assert (response.status, response.body, response.content_type) == (201, b'{"a":[1,null]}', "application/json")
    assert response.headers == (("x-a", "b"),)


def test_error_response_has_the_shape_that_openai_clients_parse() -> None:
    error = BadRequestError('no "x"', status=405, code="odd")
    error.headers = (("allow", "GET"),)
    response = error_response(error)
    assert response.status == 405
    assert response.headers == (("allow", "GET"),)
    assert json.loads(response.body) == {
        "error": {"message": 'no "x"', "type": "invalid_request_error", "param": None, "code": "odd"}
    }


def test_every_status_that_is_answered_here_has_a_reason() -> None:
    told = re.compile(r"\bResponse\((\d+) if .*? else (\d+)|(?:status=|Response\(|json_response\()([1-5]\d\d)\b")
    package = Path(fd_router.__file__).parent
    texts = [path.read_text("utf-8") for path in package.rglob("*.py") if "devtools" not in path.parts]
    found = {int(status) for text in texts for groups in told.findall(text) for status in groups if status}
    assert {301, 307, 404, 503} <= found <= set(REASONS)
