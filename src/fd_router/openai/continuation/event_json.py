"""JSON objects of events, decoded to be changed and encoded again; also those that only the standard library reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

Fields = dict[str, Any]
"""A JSON object."""


def decode_object(text: bytes) -> Fields | None:
    """Return the JSON object ``text``, None when it is none."""
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):  # NaN, a lone surrogate, … which some engines write
        value = _decode_tolerantly(text)
    return value if isinstance(value, dict) else None


def _decode_tolerantly(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def encode(value: Any) -> bytes:
    """Return ``value`` as JSON without spaces."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate: it stays an escape
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def objects(value: Any) -> list[Fields]:
    """Return the objects of a JSON array; none if ``value`` isn't one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """Return the string called ``name``, "" if there is none."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def ids_of(fields: Mapping[str, Any], name: str) -> list[int] | None:
    """Return the list of token ids called ``name``; None if there is none."""
    value = fields.get(name)
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return value
    return None


def count_of(fields: Mapping[str, Any], name: str) -> int | None:
    """Return the whole number called ``name``; None if there is none."""
    value = fields.get(name)
    return value if type(value) is int else None
