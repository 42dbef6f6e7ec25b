"""Anthropic's Messages: their bodies, their usage, and the shape of their errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fd_router.errors import HttpError
from fd_router.openai.completion import Completion, Headers
from fd_router.openai.endpoint import Endpoint, encoded
from fd_router.openai.json_body import fields_of, read_object
from fd_router.openai.object_request import ObjectRequest

_PROMPT: Final = ("system", "messages")
"""What its prompt is made of."""

ERROR_TYPES: Final[Mapping[int, str]] = MappingProxyType({
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 503: "overloaded_error",
    504: "timeout_error", 529: "overloaded_error",
})  # fmt: skip
"""Anthropic's word for a status."""

_NUMBER = re.compile(
    rb'"(input_tokens|output_tokens|cache_read_input_tokens|cache_creation_input_tokens)"\s*:\s*(\d{1,12})\b'
)
"""The numbers of a usage. In generated text the quotes would be escaped."""


def read_messages(body: bytes, headers: Headers) -> Completion:
    """Read a request: the system prompt, then the messages, with tools' results and thoughts."""
    return ObjectRequest(body, headers, fields_of(read_object(body), *_PROMPT), *_PROMPT)


def anthropic_error(error: HttpError) -> Mapping[str, Any]:
    """Return the body of an error in Anthropic's shape."""
    kind = ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.full_message}}


def anthropic_error_event(error: HttpError) -> bytes:
    """Return the event that Anthropic's clients raise as an error."""
    return b"event: error\ndata: %b\n\n" % encoded(anthropic_error(error))


def _usage(tail: bytes) -> Mapping[bytes, int]:
    """Return the last of each number: a stream tells them at its beginning, and those that grew again at its end."""
    return {name: int(value) for name, value in _NUMBER.findall(tail)}


def find_usage(tail: bytes) -> tuple[int, int] | None:
    """Return (prompt tokens, cached tokens); what came from a cache isn't among ``input_tokens`` (Anthropic)."""
    usage = _usage(tail)
    cached = usage.get(b"cache_read_input_tokens")
    if cached is None or b"input_tokens" not in usage:
        return None
    prompt = usage[b"input_tokens"] + cached + usage.get(b"cache_creation_input_tokens", 0)
    return (prompt, cached) if prompt else None


def find_total_tokens(tail: bytes) -> int | None:
    """Return the tokens of prompt and answer, None when they aren't told.

    The end of a stream may tell the answer's only (SGLang): then both are estimated, not the prompt left out.
    """
    usage = _usage(tail)
    return sum(usage.values()) if usage.keys() >= {b"input_tokens", b"output_tokens"} else None


ENDPOINTS: Final = (
    Endpoint(
        path="/v1/messages",
        kind="messages",
        about="Anthropic Messages",
        read=read_messages,
        find_usage=find_usage,
        find_total_tokens=find_total_tokens,
        error_body=anthropic_error,
        error_event=anthropic_error_event,
    ),
    Endpoint(
        path="/v1/messages/count_tokens",
        kind="messages",
        about="counts the tokens of Anthropic messages",
        mode="any_instance",
        read=read_messages,
        find_usage=find_usage,
        find_total_tokens=find_total_tokens,
        error_body=anthropic_error,
    ),
)
