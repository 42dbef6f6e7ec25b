"""Vectors of texts: ``/v1/embeddings`` and what engines have beside it."""

from __future__ import annotations

from typing import Final

from fd_router.openai.completion import Completion, Headers
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.json_body import fields_of, read_object


def read_input(body: bytes, headers: Headers) -> Completion:
    """Read a request: one text, several, or their tokens; or a conversation (vLLM)."""
    return Completion(body, headers, fields_of(read_object(body), "input", "messages", "text", "prompt"))


def _endpoint(path: str, about: str) -> Endpoint:
    return Endpoint(path=path, kind="embeddings", about=about, mode="any_instance", read=read_input)


ENDPOINTS: Final = (
    _endpoint("/v1/embeddings", "OpenAI Embeddings"),
    _endpoint("/pooling", "raw output of a pooling model (vLLM)"),
    _endpoint("/classify", "classes of texts"),
    _endpoint("/v1/classify", "the same (SGLang)"),
    _endpoint("/v1/reward", "rewards of conversations"),
)
