"""Tokens of texts, and texts of tokens, by the engine's own tokenizer."""

from __future__ import annotations

from typing import Final

from fd_router.openai.completion import Completion, Headers
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.json_body import fields_of, read_object


def read_text(body: bytes, headers: Headers) -> Completion:
    """Read what is to be cut into tokens: a text, or a conversation."""
    return Completion(body, headers, fields_of(read_object(body), "prompt", "messages", "text"))


def read_tokens(body: bytes, headers: Headers) -> Completion:
    """Read the tokens."""
    return Completion(body, headers, fields_of(read_object(body), "tokens"))


def _tokenize(path: str) -> Endpoint:
    return Endpoint(path=path, kind="tokens", about="tokens of a text", mode="any_instance", read=read_text)


def _detokenize(path: str) -> Endpoint:
    return Endpoint(path=path, kind="tokens", about="the text of tokens", mode="any_instance", read=read_tokens)


ENDPOINTS: Final = (
    _tokenize("/tokenize"),
    _tokenize("/v1/tokenize"),
    _detokenize("/detokenize"),
    _detokenize("/v1/detokenize"),
)
