"""What an engine's list of models is read as."""

from __future__ import annotations

import json

import pytest

from fd_router.engines.model_cards import MAX_CARD_BYTES, MAX_CARDS, ModelCard, read_model_cards, told_cards


def page(*entries: object) -> bytes:
    return json.dumps({"object": "list", "data": entries}).encode()


def test_a_base_model_and_its_adapter() -> None:
    base = {"id": "big", "object": "model", "root": "/models/big", "parent": None, "max_model_len": 4096}
    adapter = {"id": "sql", "object": "model", "root": "/adapters/sql", "parent": "big"}
    assert read_model_cards(page(base, adapter)) == (ModelCard("big", "", base), ModelCard("sql", "big", adapter))


def test_what_is_no_card_is_left_out() -> None:
    odd = [None, 5, {}, {"id": 5}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 300}]
    assert read_model_cards(page(*odd, {"id": "fine", "parent": 7})) == (
        ModelCard("fine", "", {"id": "fine", "parent": 7}),
    )


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b"[" * 5000, b"\xff"])
def test_what_is_no_list(answer: bytes) -> None:
    assert read_model_cards(answer) is None


def test_bounds() -> None:
    cards = read_model_cards(page(*({"id": f"m{n}"} for n in range(MAX_CARDS + 5))))
    assert cards is not None
    assert len(cards) == MAX_CARDS
    (large,) = read_model_cards(page({"id": "m", "note": "x" * MAX_CARD_BYTES})) or ()
    assert (large.name, large.told) == ("m", {})


def test_told_names_have_the_base_model_first() -> None:
    assert [(card.name, card.base) for card in told_cards(("big", "sql"))] == [("big", ""), ("sql", "big")]
    assert told_cards(()) == ()
