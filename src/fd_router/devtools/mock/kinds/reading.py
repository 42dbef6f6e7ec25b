"""The endpoints of a mock instance that only read: vectors, scores, ranks, tokens, speech. Answered at once.

A text's vector is made of its hash, so equal texts have equal ones; a document scores by the words that it has in
common with the query.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from fd_router.devtools.engine_model.prompts import prompt_from_text
from fd_router.devtools.mock.answers import respond
from fd_router.devtools.mock.completions import ids_of, parse_body
from fd_router.devtools.mock.generation import request_headers
from fd_router.devtools.mock.http_server import Call
from fd_router.devtools.mock.kinds.bodies import read_asked
from fd_router.devtools.mock.request import MockRequest
from fd_router.errors import BadRequestError
from fd_router.openai.form_body import boundary_of, read_form
from fd_router.openai.json_body import texts_of

DIMENSIONS: Final = 8

Read = Callable[[MockRequest, str], Any]
"""(request, model) → the answer's JSON value, or bytes. Raises BadRequestError."""


def _embed(request: MockRequest, model: str) -> Any:
    asked = read_asked(request.body)
    texts = _inputs(asked, "input", "messages")
    data = [{"index": at, "object": "embedding", "embedding": _vector(text)} for at, text in enumerate(texts)]
    return _list("embd-mock", asked, model, data, texts)


def _pool(request: MockRequest, model: str) -> Any:
    asked = read_asked(request.body)
    texts = _inputs(asked, "input", "messages")
    data = [{"index": at, "object": "pooling", "data": _vector(text)} for at, text in enumerate(texts)]
    return _list("pool-mock", asked, model, data, texts)


def _classify(request: MockRequest, model: str) -> Any:
    asked = read_asked(request.body)
    texts = _inputs(asked, "input", "messages")
    data = [{"index": at, "label": "even", "probs": [0.5, 0.5], "num_classes": 2} for at, _ in enumerate(texts)]
    return _list("classify-mock", asked, model, data, texts)


def _score(request: MockRequest, model: str) -> Any:
    asked = read_asked(request.body)
    queries = _inputs(asked, "text_1", "queries", "data_1", "query")
    documents = _inputs(asked, "text_2", "documents", "data_2", "items")
    data = [
        {"index": at, "object": "score", "score": _likeness(queries[at % len(queries)], text)}
        for at, text in enumerate(documents)
    ]
    return _list("score-mock", asked, model, data, [*queries, *documents])


def _rerank(request: MockRequest, model: str) -> Any:
    asked = read_asked(request.body, "query", "documents")
    documents = _inputs(asked, "documents")
    scores = [(_likeness(str(asked["query"]), text), at) for at, text in enumerate(documents)]
    results = [
        {"index": at, "document": {"text": documents[at]}, "relevance_score": score}
        for score, at in sorted(scores, reverse=True)
    ]
    used = {"prompt_tokens": _count(documents), "total_tokens": _count(documents)}
    return {"id": "rerank-mock", "model": asked.get("model") or model, "usage": used, "results": results}


def _tokenize(request: MockRequest, model: str) -> Any:  # noqa: ARG001
    ids = ids_of(parse_body(request.body, chat=b'"messages"' in request.body))
    return {"count": len(ids), "max_model_len": 1 << 20, "tokens": ids, "token_strs": None, "input_ids": ids}


def _detokenize(request: MockRequest, model: str) -> Any:  # noqa: ARG001
    ids = read_asked(request.body, "tokens")["tokens"]
    return {"prompt": " ".join(f"t{token}" for token in ids), "text": " ".join(f"t{token}" for token in ids)}


def _count_tokens(request: MockRequest, model: str) -> Any:  # noqa: ARG001
    asked = read_asked(request.body, "messages")
    return {"input_tokens": _count([*texts_of(asked.get("system")), *texts_of(asked["messages"])])}


def _transcribe(request: MockRequest, model: str) -> Any:  # noqa: ARG001
    form = read_form(request.body, boundary_of(request.headers))
    if not form.file_bytes:
        raise BadRequestError("Invalid request: file is required")
    text = f"{form.file_bytes} bytes of speech"
    if form.fields.get("response_format") == "text":
        return text.encode()
    return {"text": text, "usage": {"type": "duration", "seconds": 1}}


def _speak(request: MockRequest, model: str) -> Any:  # noqa: ARG001
    return b"RIFF" + hashlib.sha256(str(read_asked(request.body, "input")["input"]).encode()).digest()


def _list(name: str, asked: Mapping[str, Any], model: str, data: list[Any], texts: Sequence[str]) -> dict[str, Any]:
    used = {"prompt_tokens": _count(texts), "total_tokens": _count(texts), "completion_tokens": 0}
    return {
        "id": name, "object": "list", "created": 0, "model": asked.get("model") or model, "data": data, "usage": used,
    }  # fmt: skip


def _inputs(asked: Mapping[str, Any], *names: str) -> list[str]:
    """Return the texts of the first member that there is. Raises BadRequestError."""
    for name in names:
        value = asked.get(name)
        if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
            return [" ".join(map(str, value))]
        if texts := [*texts_of(value)] or [" ".join(map(str, item)) for item in value or () if isinstance(item, list)]:
            return texts
    raise BadRequestError(f"Invalid request: {names[0]} is required")


def _vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return [number / 2**31 - 1 for number in struct.unpack(f">{DIMENSIONS}I", digest)]


def _likeness(query: str, text: str) -> float:
    wanted, there = set(query.lower().split()), set(text.lower().split())
    return len(wanted & there) / max(1, len(wanted))


def _count(texts: Sequence[str]) -> int:
    return sum(prompt_from_text(text, 64).tokens for text in texts)


READERS: Final[Mapping[str, Read]] = MappingProxyType({
    "/v1/embeddings": _embed,
    "/pooling": _pool,
    "/v1/reward": _pool,
    "/classify": _classify,
    "/v1/classify": _classify,
    "/score": _score,
    "/v1/score": _score,
    "/rerank": _rerank,
    "/v1/rerank": _rerank,
    "/v2/rerank": _rerank,
    "/tokenize": _tokenize,
    "/v1/tokenize": _tokenize,
    "/detokenize": _detokenize,
    "/v1/detokenize": _detokenize,
    "/v1/messages/count_tokens": _count_tokens,
    "/v1/audio/transcriptions": _transcribe,
    "/v1/audio/translations": _transcribe,
    "/v1/audio/speech": _speak,
})  # fmt: skip
"""By path."""


def answer(call: Call, model: str) -> None:
    """Answer a request to one of these paths. Raises BadRequestError."""
    value = READERS[call.request.path](call.request, model)
    if not isinstance(value, bytes):
        respond(call, value)
        return
    content_type = "audio/wav" if value.startswith(b"RIFF") else "text/plain; charset=utf-8"
    call.respond(200, value, content_type, headers=request_headers(call))
