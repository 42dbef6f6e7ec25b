"""SGLang's own way to generate: ``/generate``."""

from __future__ import annotations

import re
from typing import Any, Final

from fd_router.openai.completion import Completion, Headers
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.json_body import fields_of, read_object

_NUMBER = re.compile(rb'"(prompt_tokens|completion_tokens|cached_tokens)"\s*:\s*(\d{1,12})\b')
"""The numbers of ``meta_info``. In generated text the quotes would be escaped."""


def read_generate(body: bytes, headers: Headers) -> Completion:
    """Read a request: a text or its tokens, several of them too."""
    asked = read_object(body)
    sampling = asked.get("sampling_params")
    limit = sampling.get("max_new_tokens") if isinstance(sampling, dict) else None
    fields = fields_of(asked | {"max_tokens": limit, "request_id": asked.get("rid", "")}, "text", "input_ids")
    return Completion(body, headers, fields)


def _meta_info(tail: bytes) -> dict[bytes, Any]:
    """Return the last of each number: in a stream each event has them, the last one those of the whole answer."""
    return {name: int(value) for name, value in _NUMBER.findall(tail)}


def find_usage(tail: bytes) -> tuple[int, int] | None:
    """Return (prompt tokens, cached tokens)."""
    told = _meta_info(tail)
    prompt, cached = told.get(b"prompt_tokens"), told.get(b"cached_tokens")
    return (prompt, min(cached, prompt)) if prompt and cached is not None else None


def find_total_tokens(tail: bytes) -> int | None:
    """Return the tokens of prompt and answer, of the last prompt where there are several."""
    told = _meta_info(tail)
    if b"completion_tokens" not in told:
        return None
    return int(told.get(b"prompt_tokens", 0) + told[b"completion_tokens"])


def _as_it_is(body: bytes, _headers: Headers, _model: str) -> bytes:
    """Return the body: such a request names no model."""
    return body


ENDPOINTS: Final = (
    Endpoint(
        path="/generate",
        kind="generate",
        about="SGLang's own generation",
        read=read_generate,
        find_usage=find_usage,
        find_total_tokens=find_total_tokens,
        with_model=_as_it_is,
    ),
)
