"""Vectors of texts: ``/v1/embeddings`` and what engines have beside it."""

from __future__ import annotations

from functools import partial
from typing import Final

from fd_router.openai.completion import Completion, Headers
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.json_body import fields_of, read_object


def read_input(body: bytes, headers: Headers) -> Completion:
    """Read a request: one text, several, or their tokens; or a conversation (vLLM)."""
    return Completion(body, headers, fields_of(read_object(body), "input", "messages", "text", "prompt"))


_endpoint = partial(Endpoint, kind="embeddings", mode="any_instance", read=read_input)

ENDPOINTS: Final = (
    _endpoint(path="/v1/embeddings", about="OpenAI Embeddings"),
    _endpoint(path="/pooling", about="raw output of a pooling model (vLLM)"),
    _endpoint(path="/classify", about="classes of texts"),
    _endpoint(path="/v1/classify", about="the same (SGLang)"),
    _endpoint(path="/v1/reward", about="rewards of conversations"),
)
