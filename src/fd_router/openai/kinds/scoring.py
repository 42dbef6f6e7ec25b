"""Scores of pairs of texts, and ranks of documents."""

from __future__ import annotations

from functools import partial
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


_endpoint = partial(Endpoint, kind="scoring", mode="any_instance", read=read_pairs)

ENDPOINTS: Final = (
    _endpoint(path="/score", about="how well texts fit together (vLLM)"),
    _endpoint(path="/v1/score", about="the same"),
    _endpoint(path="/rerank", about="ranks documents by a query"),
    _endpoint(path="/v1/rerank", about="the same (Jina)"),
    _endpoint(path="/v2/rerank", about="the same (Cohere)"),
)
