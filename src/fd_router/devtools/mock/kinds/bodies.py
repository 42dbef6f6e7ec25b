"""Bodies of other shapes than completions', read into the same ``Body``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fd_router.devtools.mock.completions import Body
from fd_router.errors import BadRequestError
from fd_router.openai.json_body import read_object, texts_of

_NAMES = ("model", "stream", "request_id", "mock_hash_ids", "mock_input_length", "completion_token_ids")


def read_asked(data: bytes, *needed: str) -> dict[str, Any]:
    """Return the object in ``data``. Raises BadRequestError when it is none, or lacks one of ``needed``."""
    asked = read_object(data)
    for name in needed:
        if asked.get(name) in (None, "", []):
            raise BadRequestError(f"Invalid request: {name} is required")
    return asked


def body_of(asked: Mapping[str, Any], *prompt: str, limit: object) -> Body:
    """Make a body whose prompt is the texts of the members called ``prompt``. Raises BadRequestError."""
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadRequestError("Invalid request: the limit of tokens must be an integer of at least 1")
    texts = [text for name in prompt for text in texts_of(asked.get(name))]
    known = {name: asked[name] for name in _NAMES if asked.get(name) is not None}
    return Body(prompt=" ".join(texts), max_tokens=limit, **known)
