"""The endpoint: one inference path, how its body is read, where its answers tell usage, how its errors look.

The table of them is ``openai.endpoints``; each kind of them has a file in ``openai.kinds``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from fd_router.errors import ErrorBody, HttpError, openai_error
from fd_router.openai.body_check import ANY_CONTAINER
from fd_router.openai.completion import Completion, Headers
from fd_router.openai.json_splice import set_member
from fd_router.openai.large_bodies import READ_AT_ONCE
from fd_router.openai.usage import FindTotal, FindUsage, find_total_tokens, find_usage
from fd_router.spliced_body import Body

Mode = Literal["generate", "stateful", "stored", "any_instance"]
"""Where its requests go.

``generate``: to a pair in splitwise mode, else to one instance. ``stateful``: so too, and the instance keeps the answer
under an id, which later requests name (``previous_response_id``). ``stored``: is about such an answer, whose id stands
in the path: to the instance that keeps it. ``any_instance``: to one instance in every mode; in splitwise mode to a
prefill instance as long as one may be chosen, since such requests are nothing but a prompt.
"""

Read = Callable[[bytes, Headers], Completion]
"""(body, headers) → what scheduling needs to know. Raises BadRequestError for what no instance could read."""


WithModel = Callable[[bytes, Headers, str], Body]
"""(body, headers, name) → the body as it asks for the model called so. Raises ValueError for what isn't such a body."""


def with_model(body: bytes, _headers: Headers, model: str) -> Body:
    """Return a JSON object with ``model`` as its member of this name; the rest stays as it came."""
    return set_member(body, "model", msgspec.json.encode(model))


ErrorEvent = Callable[[HttpError], bytes]
"""Makes the server-sent event by which a stream that broke off tells why, as its clients read it."""


def openai_error_event(error: HttpError) -> bytes:
    """Return the event that clients of OpenAI's completions raise as an error."""
    return b"data: %b\n\n" % encoded(openai_error(error))


def encoded(value: Mapping[str, Any]) -> bytes:
    """Return ``value`` as JSON, with what UTF-8 can't hold escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One path that instances answer. ``read`` runs for each request, ``find_…`` at the end of some answers.

    ``read_at_once``: bytes of a JSON body up to which ``read`` holds the loop for some ms at most, whatever is in it.
    ``container``: what an object or a list weighs in a larger one, see ``body_check``.
    ``with_model`` is for requests that ask for a model by another name than its instances know it by.

    ``path`` may have segments in braces, which any one segment fits. ``kind``: by which ``server.open-endpoints`` opens
    it together with others of its kind. ``about``: a few words for the documentation. ``error_body`` and
    ``error_event``: the shape of the errors that the router makes there, as answers and in the middle of streams.
    """

    path: str
    method: str = "POST"
    kind: str = ""
    about: str = ""
    mode: Mode = "generate"
    read: Read = Completion
    find_usage: FindUsage = find_usage
    find_total_tokens: FindTotal = find_total_tokens
    with_model: WithModel = with_model
    error_body: ErrorBody = openai_error
    error_event: ErrorEvent = openai_error_event
    read_at_once: int = READ_AT_ONCE
    container: int = ANY_CONTAINER
