"""Scores of pairs of texts, and ranks of documents."""

from __future__ import annotations

from typing import Final

from fd_router.openai.completion import Completion, Headers
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.json_body import fields_of, read_object

_PROMPT: Final = (
    "query", "queries", "text_1", "data_1", "documents", "items", "text_2", "data_2",
)  # fmt: skip
"""Members that hold texts, as vLLM, SGLang, Jina and Cohere call them: first what all the others are compared with."""


def read_pairs(body: bytes, headers: Headers) -> Completion:
    """Read a request: a query, and the documents that are compared with it."""
    return Completion(body, headers, fields_of(read_object(body), *_PROMPT))


def _endpoint(path: str, about: str) -> Endpoint:
    return Endpoint(path=path, kind="scoring", about=about, mode="any_instance", read=read_pairs)


ENDPOINTS: Final = (
    _endpoint("/score", "how well texts fit together (vLLM)"),
    _endpoint("/v1/score", "the same"),
    _endpoint("/rerank", "ranks documents by a query"),
    _endpoint("/v1/rerank", "the same (Jina)"),
    _endpoint("/v2/rerank", "the same (Cohere)"),
)
