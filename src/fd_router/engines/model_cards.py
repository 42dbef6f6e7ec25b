"""The model cards: what an engine tells of the models that it serves, adapters (LoRA) among them, at ``/v1/models``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fd_router.config.models import is_model_name
from fd_router.errors import UNREADABLE

MAX_CARDS: Final = 1000
"""Models of one instance. Adapters are many; more than these aren't told apart."""

MAX_CARD_BYTES: Final = 4096
"""Bytes of a card as the engine tells it. Of a larger one only the name is kept."""


class ModelCard(msgspec.Struct, frozen=True):
    """One model: the name that requests ask for, the base model of an adapter, and what else the engine tells."""

    name: str
    base: str = ""  # of an adapter; "": it is a base model itself
    told: Mapping[str, Any] = {}  # as the engine's list has it; empty where it is known by other ways


def told_cards(names: Sequence[str]) -> tuple[ModelCard, ...]:
    """Return the cards of an instance that told names: the base model first, so the others are its adapters."""
    return tuple(ModelCard(name, names[0] if name != names[0] else "") for name in names)


def read_model_cards(page: bytes) -> tuple[ModelCard, ...] | None:
    """Read the answer to ``GET /v1/models``; None when it is none. What in it is no card is left out."""
    try:
        value = msgspec.json.decode(page)
    except UNREADABLE:
        return None
    entries = value.get("data") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        return None
    cards = {card.name: card for entry in entries[:MAX_CARDS] if (card := _card(entry)) is not None}
    return tuple(cards.values())


def _card(entry: object) -> ModelCard | None:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(name, str) or not is_model_name(name):
        return None
    parent = entry.get("parent")
    base = parent if isinstance(parent, str) and is_model_name(parent) and parent != name else ""
    is_large = len(msgspec.json.encode(entry)) > MAX_CARD_BYTES
    return ModelCard(name, base, {} if is_large else entry)
