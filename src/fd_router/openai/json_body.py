"""JSON bodies of any shape: the object that an endpoint reads, and the texts in it, wherever they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from fd_router.errors import UNREADABLE, BadRequestError
from fd_router.openai.completion import RequestFields, body_in_utf8
from fd_router.openai.large_bodies import LARGE, as_json
from fd_router.openai.request_fields import BEYOND_TEXTS, NO_TOOLS, is_true, transfer_member

_decode = msgspec.json.Decoder().decode

_TEXTS: Final = ("text", "content", "thinking", "output", "arguments", "input")
"""Members of a content part or an item that hold what the model reads, in OpenAI's and Anthropic's shapes."""

_MEDIA: Final = frozenset((
    "image", "document", "image_url", "input_image", "input_audio", "audio_url", "video_url", "input_file", "file",
))  # fmt: skip
"""Types of parts that the model reads and that are no text."""

MAX_DEPTH: Final = 8
"""Levels in which texts are looked for: content in items in messages, and tools' results in content."""


def read_object(body: bytes) -> dict[str, Any]:
    """Return the object that ``body`` holds. Raises BadRequestError for anything else.

    What the fast decoder refuses the standard library's may take, which engines use (a lone surrogate, ``NaN``).
    """
    try:
        value = _decode(body)
    except UNREADABLE:
        value = _decode_tolerantly(body)
    if not isinstance(value, dict):
        raise BadRequestError("Invalid JSON format: the body must be a JSON object", code="invalid_json")
    return value


def _decode_tolerantly(body: bytes) -> Any:
    text = body_in_utf8(body)
    try:
        return _decode(as_json(text)) if len(text) > LARGE else json.loads(text)
    except (ValueError, RecursionError) as error:  # msgspec's DecodeError is a ValueError
        raise BadRequestError(f"Invalid JSON format: {error}", code="invalid_json") from None


def fields_of(body: Mapping[str, Any], *prompt: str, max_tokens: str = "max_tokens") -> RequestFields:
    """Return what scheduling wants of ``body``, whose members called ``prompt`` are its prompt, in that order.

    ``max_tokens``: what the most tokens of the answer are called. Values of other types than the usual ones count as
    absent: they are for the instance to judge.
    """
    media: list[Any] = []
    texts, ids = _prompt([body.get(name) for name in prompt], media.append)
    return RequestFields(
        stream=is_true(body.get("stream")),
        prompt=texts or ids,
        request_id=_id(body.get("request_id")) if "request_id" in body else msgspec.UNSET,
        session_id=_text(body.get("session_id")),
        prompt_cache_key=_text(body.get("prompt_cache_key")),
        req_id=_id(body.get("req_id")),
        model=_text(body.get("model")),
        user=body.get("user"),
        max_tokens=body.get(max_tokens),
        max_completion_tokens=body.get("max_completion_tokens"),
        service_tier=_text(body.get("service_tier")),
        tools=BEYOND_TEXTS if media or body.get("tools") else NO_TOOLS,
        disaggregate_info=body.get("disaggregate_info", msgspec.UNSET),
        transfer_member=transfer_member(body),
    )


def _prompt(values: list[Any], on_media: OnMedia) -> tuple[list[Any], list[Any]]:
    """Return the texts and the token ids of a prompt."""
    ids: list[Any] = []
    for value in values:
        if isinstance(value, list) and value and (_are_ids(value) or all(map(_are_ids, value))):
            ids += value
    texts: list[str] = []
    for value in values:
        if isinstance(value, list) and set(map(type, value)) == {str}:  # in C: there may be a hundred thousand
            texts += value
        else:
            texts += texts_of(value, on_media)
    return texts, ids


OnMedia = Callable[[dict[str, Any]], str | None]
"""Takes a part that is no text, and returns what is to be read instead."""


def _left_out(part: Mapping[str, Any]) -> None:
    """Read nothing instead."""


def texts_of(value: Any, on_media: OnMedia = _left_out, depth: int = MAX_DEPTH) -> Iterator[str]:
    """Give the texts in ``value``: a text, a content part, a message, or a list of such, one in the other."""
    if isinstance(value, str):
        yield value
    elif not depth or not value:
        return
    elif isinstance(value, list):
        if not _are_ids(value):
            for item in value:
                if type(item) is str:  # a list may have many
                    yield item
                else:
                    yield from texts_of(item, on_media, depth - 1)
    elif isinstance(value, dict):
        yield from _texts_in(value, on_media, depth - 1)


def _texts_in(value: dict[str, Any], on_media: OnMedia, depth: int) -> Iterator[str]:
    has_texts = False
    for name in _TEXTS:
        if (inner := value.get(name)) is not None:
            has_texts = True
            if type(inner) is str:  # mostly
                yield inner
            else:
                yield from texts_of(inner, on_media, depth)
    if not has_texts and is_media(value) and (instead := on_media(value)):
        yield instead


def is_media(part: Mapping[str, Any]) -> bool:
    """Tell whether a part is no text, but something that the model reads."""
    kind = part.get("type")
    return isinstance(kind, str) and kind in _MEDIA


def _are_ids(value: Any) -> bool:
    """Tell whether ``value`` is a list of tokens: by its ends, since it may be long."""
    return isinstance(value, list) and bool(value) and _is_whole(value[0]) and _is_whole(value[-1])


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _id(value: Any) -> str | int | None:
    return value if isinstance(value, str) or _is_whole(value) else None
