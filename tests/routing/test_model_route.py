"""One request's way by its model: the body asks for the model that was chosen, and nothing held is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fd_router.errors import BadRequestError
from fd_router.http.messages import Request, RequestHead
from fd_router.openai.completion import Completion
from fd_router.openai.endpoint import with_model
from fd_router.routing.model_route import ModelRoute, ModelSwitch
from fd_router.routing.models.names import Destination

BODY = b'{"model": "gpt", "prompt": "hello"}'


class Held:
    """A reservation."""

    def __init__(self) -> None:
        self.is_released = False

    def release(self) -> None:
        self.is_released = True


class Choice:
    """Chooses the first place that isn't ``down``; each place's scheduler gives one reservation, or a pair."""

    def __init__(self, *models: str) -> None:
        self.table: object = object()
        self.chain = tuple(Destination(model, model or "*", len(model)) for model in models)
        self.down: set[str] = set()
        self.found = 0
        self.held: list[Held] = []

    def find(self, _completion: Completion, _allowed: Any) -> Any:
        self.found += 1
        return self.chain

    def choose(self, chain: Any, completion: Completion, pick: Callable[[Any], Any]) -> Any:
        place = next(place for place in chain if place.model not in self.down)
        completion.served_as, completion.cache_seed = place.model, place.cache_seed
        return pick(self)

    def select(self, *_: Any) -> Held:
        self.held.append(Held())
        return self.held[-1]

    def select_pair(self, *_: Any) -> tuple[Held, Held]:
        return self.select(), self.select()


def route(choice: Choice, body: bytes = BODY, writer: Any = with_model) -> tuple[ModelRoute, Completion]:
    switch = ModelSwitch()
    switch.choice = choice
    completion = Completion(body)
    found = switch.route(completion, Request(RequestHead("POST", "/"), body), writer, None)
    assert found is not None
    return found, completion


def test_nobody_is_asked_where_models_do_not_matter() -> None:
    assert ModelSwitch().route(Completion(BODY), Request(RequestHead("POST", "/"), BODY), with_model, None) is None


def test_the_body_asks_for_what_was_chosen() -> None:
    choice = Choice("big", "small")
    way, completion = route(choice)
    way.select(())
    assert (json.loads(way.body)["model"], completion.served_as, completion.cache_seed) == ("big", "big", 3)
    first = way.body
    way.select(())
    assert way.body is first, "nothing is written anew for another attempt at the same model"
    choice.down = {"big"}
    way.select_pair(completion, ())
    assert (json.loads(way.body), completion.served_as) == ({"model": "small", "prompt": "hello"}, "small")


@pytest.mark.parametrize("model", ["gpt", ""])
def test_a_name_that_fits_stays_as_it_came(model: str) -> None:
    way, _ = route(Choice(model))
    way.select(())
    assert way.body is BODY


@pytest.mark.parametrize("is_pair", [False, True])
def test_what_is_held_is_given_back_when_the_body_can_not_be_written(is_pair: bool) -> None:
    def fails(*_: Any) -> bytes:
        raise ValueError("no object")

    choice = Choice("big")
    way, completion = route(choice, writer=fails)
    with pytest.raises(BadRequestError, match="Invalid JSON format: no object"):
        way.select_pair(completion, ()) if is_pair else way.select(())
    assert [held.is_released for held in choice.held] == [True] * (1 + is_pair)


def test_it_follows_a_fleet_that_changes_unless_something_was_generated() -> None:
    choice = Choice("big", "small")
    way, completion = route(choice)
    way.select(())
    choice.table, choice.chain = object(), (Destination("other", "other"),)
    way.select(())
    assert (completion.served_as, choice.found) == ("other", 2)
    choice.table, choice.chain = object(), (Destination("big", "big"),)
    way.pin()
    way.select(())
    assert (completion.served_as, choice.found) == ("other", 2)


def test_an_instance_found_in_another_way_is_asked_for_what_it_serves() -> None:
    way, completion = route(Choice("big", "small"))
    way.go_to(["small", "small-lora"])
    assert (completion.served_as, json.loads(way.body)["model"]) == ("small", "small")
    unknown, completion = route(Choice("big", "small"))
    unknown.go_to([])
    assert completion.served_as == "big"
    stranger, completion = route(Choice("big"))
    stranger.go_to(["another"])
    assert (completion.served_as, stranger.body) == ("", BODY)
