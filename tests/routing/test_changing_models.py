"""Models that come to matter, or are served by nobody any more, while a request is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fd_router.errors import BadRequestError, NoInstanceError
from fd_router.instances.instance import Health, Instance
from fd_router.openai.completion import Completion
from fd_router.routing.model_route import ModelSwitch
from fd_router.routing.models.names import Destination
from fd_router.scheduling.reservation import Reservation
from fd_router.scheduling.tracker import RequestTracker
from tests.routing import test_pair
from tests.routing.test_single import error_of
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import Rig, answer, post

BODY = b'{"model": "big", "prompt": "hello"}'
GONE = "The model 'big' does not exist"


class Choice:
    """Knows one model, until it is gone; it is its only group's scheduler, too."""

    def __init__(self, select: Callable[..., Any]) -> None:
        self.table = object()
        self.is_gone = False
        self.select = select

    def lose(self) -> None:
        self.table, self.is_gone = object(), True

    def find(self, *_: Any) -> Any:
        if self.is_gone:
            raise BadRequestError(GONE, status=404, code="model_not_found")
        return (Destination("big", "big"),)

    def choose(self, _chain: Any, completion: Completion, pick: Callable[[Any], Any]) -> Any:
        completion.served_as = "big"
        return pick(self)


def rig_of_models(select: Callable[..., Reservation[Instance]] | None = None) -> tuple[Rig, Choice]:
    rig, switch = Rig(), ModelSwitch()
    switch.choice = choice = Choice(select or rig.context.select)
    rig.change(models=switch)
    return rig, choice


async def test_what_the_instance_said_is_passed_on() -> None:
    rig, choice = rig_of_models()
    instance = await rig.ask(client := rig.client(), BODY)
    choice.lose()
    instance.receive(answer(b"no", "503 Unavailable"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 503 ")
    rig.assert_nothing_is_held()


async def test_one_that_waited_in_the_router_is_told() -> None:
    class Tracker(RequestTracker):
        def hold(self, send: Callable[[], None]) -> bool:
            sends.append(send)
            return True

    def select(*_: Any) -> Reservation[Instance]:
        return Reservation(instances[0], 1, Tracker())

    sends: list[Callable[[], None]] = []
    instances: list[Instance] = []
    rig, choice = rig_of_models(select)
    instances += rig.instances
    client: FakeTransport = rig.client()
    client.receive(post(BODY))
    await rig.settle()
    choice.lose()
    instances[0].health = Health.UNHEALTHY
    sends[0]()
    await rig.settle()
    assert error_of(client.take()) == (404, GONE)
    rig.assert_nothing_is_held()


def only_at(rig: Rig, place: int) -> Callable[..., Reservation[Instance]]:
    """The one model is served by one instance, and not by the others."""

    def select(_: Any, tried: Any) -> Reservation[Instance]:
        if rig.instances[place].key in tried:
            raise NoInstanceError("nobody else serves it")
        return Reservation(rig.instances[place], 1)

    return select


async def answered_by_the_second(rig: Rig, client: FakeTransport) -> None:
    """The request has gone to the second instance alone, whose answer the client gets."""
    (instance,) = rig.backend.opened
    assert instance.peer == ("10.0.0.2", 8000)
    instance.receive(answer())
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 200 ")


async def test_one_is_sent_again_to_an_instance_of_its_model_alone() -> None:
    rig, switch = Rig(), ModelSwitch()
    rig.change(models=switch)
    instance = await rig.ask(client := rig.client(), BODY)
    switch.choice = Choice(only_at(rig, 0))
    instance.receive(answer(b"no", "503 Unavailable"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 503 ")
    assert len(rig.backend.opened) == 1
    rig.assert_nothing_is_held()


async def test_one_that_waited_in_the_router_goes_to_no_other_model() -> None:
    class Tracker(RequestTracker):
        def hold(self, send: Callable[[], None]) -> bool:
            sends.append(send)
            return True

    sends: list[Callable[[], None]] = []
    rig, switch = Rig(), ModelSwitch()
    rig.change(models=switch, select=lambda *_: Reservation(rig.instances[0], 1, None if sends else Tracker()))
    (client := rig.client()).receive(post(BODY))
    await rig.settle()
    switch.choice = Choice(only_at(rig, 1))
    rig.instances[0].health = Health.UNHEALTHY
    sends[0]()
    await rig.settle()
    await answered_by_the_second(rig, client)
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("is_gone", [False, True])
async def test_one_that_was_prepared_meanwhile_goes_to_its_model(is_gone: bool) -> None:
    rig, switch, gate = Rig(), ModelSwitch(), asyncio.Event()

    async def prepared() -> None:
        await gate.wait()

    rig.change(models=switch, prepare=lambda _: prepared())
    client = rig.client()
    client.receive(post(BODY))
    await rig.settle()
    switch.choice = choice = Choice(only_at(rig, 1))
    if is_gone:
        choice.lose()
    gate.set()
    await rig.settle()
    if is_gone:
        assert error_of(client.take()) == (404, GONE)
    else:
        await answered_by_the_second(rig, client)
    rig.assert_nothing_is_held()


async def test_what_a_decode_instance_gives_back_goes_to_no_other_model() -> None:
    rig, switch = PairRig(), ModelSwitch()
    rig.change(models=switch)
    client = rig.client()
    prefill, decode = await rig.pair(client, BODY)
    switch.choice = choice = Choice(rig.pair_context.select_pair)
    choice.lose()
    prefill.receive(answer(b"{}"))
    decode.receive(test_pair.TestGivenBack.GIVEN_BACK)
    await rig.settle()
    assert b"PD Error" in client.take()
    assert [attempt.outcome for attempt in rig.records[0].all_attempts()] == ["completed"]
    rig.assert_nothing_is_held()
