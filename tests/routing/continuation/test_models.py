"""Streams that go on in a fleet which serves several models by now, and didn't when they began."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import pytest

from fd_router.engines.model_cards import ModelCard
from fd_router.errors import BadRequestError, NoInstanceError
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.model_route import ModelSwitch
from fd_router.routing.models.names import Destination
from fd_router.scheduling.reservation import Reservation
from tests.routing.test_stream_mover import MoverRig
from tests.support.exact_engine import events_of
from tests.support.stream_rig import BODY, body_of

OLD = json.dumps({**json.loads(BODY), "model": "old"}).encode()


class Choice:
    """Knows the models that instances serve, each by its name."""

    def __init__(self, rig: MoverRig, *models: str) -> None:
        self.table = object()
        self._rig = rig
        self._models = models

    def find(self, completion: Completion, _allowed: Any) -> Any:
        if completion.model not in self._models:
            raise BadRequestError("it doesn't exist", status=404)
        return (Destination(completion.model, completion.model),)

    def choose(self, chain: Any, completion: Completion, pick: Callable[[Any], Any]) -> Any:
        completion.served_as = self._wanted = chain[0].model
        return pick(self)

    def select(self, _: Any, tried: Collection[str]) -> Reservation[Instance]:
        for instance in self._rig.instances:
            if instance.models[0].name == self._wanted and instance.key not in tried:
                return Reservation(instance, 1)
        raise NoInstanceError("nobody serves it")


def several(rig: MoverRig, *models: str) -> None:
    """From now on the instances serve these models, one each."""
    for instance, model in zip(rig.instances, models, strict=True):
        instance.models = (ModelCard(model),)
    rig.context.models.choice = Choice(rig, *models)


def rig_of(instances: int) -> MoverRig:
    rig = MoverRig(instances)
    rig.change(models=ModelSwitch())
    return rig


@pytest.mark.parametrize("how", ["breaks off", "drained"])
async def test_it_goes_on_at_the_same_model(how: str) -> None:
    rig = rig_of(3)
    first = await rig.begin(client := rig.client(), 700, OLD)
    several(rig, "old", "new", "old")
    if how == "drained":
        rig.drain(0, 0.0)
        await rig.tick(1.0)
    else:
        first.lose()
        await rig.settle()
    assert rig.newest().peer == ("10.0.0.3", 8000)
    await rig.rest(client, OLD)
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("models", [("old", "new"), ("new", "newer")])
async def test_it_goes_on_at_no_other_model(models: tuple[str, ...]) -> None:
    rig = rig_of(2)
    first = await rig.begin(client := rig.client(), 700, OLD)
    several(rig, *models)
    rig.instances[0].models = (ModelCard("old"),)
    rig.drain(0, 0.0)
    for _ in range(2):
        await rig.tick(1.0)
    assert not first.is_closing()
    first.receive(rig.engine.answer(OLD, chat=False)[700:])
    await rig.settle()
    assert events_of(body_of(client)) == rig.whole(OLD)
    assert len(rig.backend.opened) == 1
    rig.assert_all_is_given_back()


async def test_a_name_that_stands_for_another_model_by_now_leads_there_only_for_those_that_begin() -> None:
    rig = rig_of(2)
    first = await rig.begin(client := rig.client(), 700, OLD)
    several(rig, "old", "new")
    rig.context.models.choice.find = lambda *_: (Destination("new", "new"),)  # type: ignore[union-attr]
    rig.drain(0, 0.0)
    await rig.tick(1.0)
    first.lose()
    await rig.settle()
    assert client.is_closing()
    assert len(rig.backend.opened) == 1
    assert rig.metric("impossible", "no_instance") == 2
    rig.assert_all_is_given_back()
