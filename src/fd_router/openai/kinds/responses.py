"""OpenAI's Responses: generation whose answers the instance keeps under an id, and what is asked about those."""

from __future__ import annotations

import re
from typing import Final

from fd_router.errors import HttpError
from fd_router.openai.completion import Completion, Headers, RequestFields
from fd_router.openai.endpoint import Endpoint, encoded
from fd_router.openai.json_body import fields_of, read_object
from fd_router.openai.object_request import ObjectRequest
from fd_router.openai.usage import usage_finder

MAX_ID: Final = 256
"""Characters of an id that is remembered. Engines make some 40."""

_PROMPT: Final = ("instructions", "input")
"""What its prompt is made of."""

_ID = re.compile(rb'"id"\s*:\s*"(resp_[0-9A-Za-z_.:-]{1,%d})"' % MAX_ID)

find_usage = usage_finder("input_tokens", "cached_tokens")


class ResponsesRequest(ObjectRequest):
    """A request that may go on from a stored answer."""

    __slots__ = ("_previous",)

    def __init__(self, body: bytes, headers: Headers = (), fields: RequestFields | None = None) -> None:
        asked = read_object(body) if fields is None else {}
        if fields is None:
            fields = fields_of(asked, *_PROMPT, max_tokens="max_output_tokens")
        ObjectRequest.__init__(self, body, headers, fields, *_PROMPT)
        previous = asked.get("previous_response_id")
        self._previous = previous if isinstance(previous, str) else ""

    @property
    def previous_response_id(self) -> str:
        """The id of the stored answer, "" if there is none."""
        return self._previous


def read_without_body(body: bytes, headers: Headers) -> Completion:
    """Read a request that says all in its path."""
    return Completion(body, headers, RequestFields())


def find_response_id(piece: bytes) -> str:
    """Return the id under which an answer that begins with ``piece`` is kept, streamed or not; "": it isn't there."""
    found = _ID.search(piece)
    return found[1].decode("ascii") if found is not None else ""


def response_error_event(error: HttpError) -> bytes:
    """Return the event that clients of Responses raise as an error."""
    body = {"type": "error", "code": error.code, "message": error.full_message, "param": None}
    return b"event: error\ndata: %b\n\n" % encoded(body)


RESPONSES: Final = Endpoint(
    path="/v1/responses",
    kind="responses",
    about="OpenAI Responses",
    mode="stateful",
    read=ResponsesRequest,
    find_usage=find_usage,
    error_event=response_error_event,
)


def _stored(path: str, method: str, about: str) -> Endpoint:
    return Endpoint(
        path=path,
        method=method,
        kind="responses",
        about=about,
        mode="stored",
        read=read_without_body,
        find_usage=find_usage,
        error_event=response_error_event,
    )


ENDPOINTS: Final = (
    RESPONSES,
    _stored("/v1/responses/{id}", "GET", "a stored response, streamed with `?stream=true`"),
    _stored("/v1/responses/{id}", "DELETE", "forgets a stored response"),
    _stored("/v1/responses/{id}/cancel", "POST", "cancels a response that runs in the background"),
    _stored("/v1/responses/{id}/input_items", "GET", "what a stored response was made from"),
)
