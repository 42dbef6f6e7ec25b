"""A stream goes on at an engine that understands how it is told what there is, in a fleet of several engines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from fd_router.engines.continuation.engines import FASTDEPLOY, PLAIN, SGLANG, VLLM
from fd_router.engines.dialect import Dialect
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.engines.sglang import SglangDialect
from fd_router.engines.vllm import VllmDialect
from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.instances.instance import Health
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.openai.endpoints import CHAT as CHAT_ENDPOINT
from fd_router.routing.continuation.keeper import StreamKeeper
from fd_router.routing.continuation.leg_choice import choose_leg
from tests.support.exact_engine import PLAIN as STEPS
from tests.support.exact_engine import ExactEngine, events_of
from tests.support.rig import STREAM_HEAD, make_instance
from tests.support.stream_rig import StreamRig, body_of

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Say it"}], "stream": True}


class TestWays:
    @pytest.mark.parametrize("by", ["tokens", "text"])
    def test_a_completion_is_told_to_all_of_them_alike(self, by: Any) -> None:
        source = SourceRequest(b'{"prompt": "p"}', chat=False)
        assert all(ways.understands(VLLM, source, by, exact=False) for ways in (VLLM, SGLANG, FASTDEPLOY, PLAIN))

    @pytest.mark.parametrize("by", ["tokens", "text"])
    def test_a_chat_to_each_in_its_own_way(self, by: Any) -> None:
        source = SourceRequest(json.dumps(CHAT).encode(), chat=True)
        found = [ways.understands(VLLM, source, by, exact=False) for ways in (VLLM, SGLANG, FASTDEPLOY, PLAIN)]
        assert found == [True, False, False, False]

    def test_what_begins_anew_is_asked_for_ids_where_they_can_be_told(self) -> None:
        source = SourceRequest(json.dumps(CHAT).encode(), chat=True)
        assert SGLANG.understands(VLLM, source, "start", exact=False)
        assert not SGLANG.understands(VLLM, source, "start", exact=True)
        assert FASTDEPLOY.understands(VLLM, source, "start", exact=True)


class OneLeg:
    def __init__(self, number: int) -> None:
        self.instances = (make_instance(number),)
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Chooser:
    """Chooses the first instance that isn't excluded, or else the first one."""

    def __init__(self, *numbers: int, is_full: bool = False) -> None:
        self.numbers = numbers
        self.is_full = is_full
        self.legs: list[OneLeg] = []

    def choose(self, excluded: Sequence[str]) -> Any:
        left = [number for number in self.numbers if key(number) not in excluded]
        if self.is_full and not left:
            raise SaturatedError("all are full")
        if not self.numbers:
            raise NoInstanceError("nobody is there")
        self.legs.append(OneLeg((left or self.numbers)[0]))
        return self.legs[-1]


def key(number: int) -> str:
    return f"10.0.0.{number}:8000"


class TestChoice:
    def chosen(self, chooser: Chooser, understands: set[int], *excluded: int, falls_back: bool = True) -> str:
        keys = {key(number) for number in understands}
        leg = choose_leg(
            chooser.choose, [key(one) for one in excluded], lambda one: one.key in keys, falls_back=falls_back
        )
        assert all(each.is_cancelled for each in chooser.legs if each is not leg)
        return leg.instances[0].key

    def test_others_are_passed_over(self) -> None:
        assert self.chosen(Chooser(1, 2, 3, 4), {1, 4}, 1) == key(4)

    def test_the_one_that_broke_off_is_better_than_one_that_does_not_understand(self) -> None:
        assert self.chosen(Chooser(2, 1), {1}, 1) == key(1)

    def test_where_it_was_left_for_good_nobody_is(self) -> None:
        chooser = Chooser(2, 1)
        with pytest.raises(NoInstanceError, match="other engines"):
            self.chosen(chooser, {1}, 1, falls_back=False)
        assert all(leg.is_cancelled for leg in chooser.legs)

    def test_where_all_are_others_nobody_is(self) -> None:
        with pytest.raises(NoInstanceError):
            self.chosen(Chooser(2, 3), {1}, 1)

    def test_it_waits_for_room(self) -> None:
        with pytest.raises(SaturatedError):
            self.chosen(Chooser(2, is_full=True), {1}, 1)


def rig_of(*dialects: type[Dialect]) -> StreamRig:
    rig = StreamRig(len(dialects))
    rig.instances[:] = [make_instance(number, dialect=kind()) for number, kind in enumerate(dialects, 1)]
    keeper = StreamKeeper(rig.live, rig.budget, rig.telemetry.metrics.continuations, rig.timers.time, chat=True)
    rig.change(streams=keeper, endpoint=CHAT_ENDPOINT)
    return rig


async def begin(rig: StreamRig, *, is_dead: bool = False) -> tuple[Any, ExactEngine]:
    client, engine = rig.client(), ExactEngine("vllm", STEPS)
    body = json.dumps(CHAT).encode()
    first = await rig.ask(client, body)
    first.receive(STREAM_HEAD + engine.answer(body, chat=True)[:1500])
    await rig.settle()
    if is_dead:
        rig.instances[0].health = Health.UNHEALTHY
    first.lose()
    await rig.settle()
    return client, engine


async def test_a_chat_by_text_goes_to_its_own_engine_and_not_as_a_turn_that_has_ended_to_another() -> None:
    rig = rig_of(VllmDialect, FastDeployDialect, SglangDialect, VllmDialect)
    client, engine = await begin(rig)
    second = rig.newest()
    assert second.peer[0] == "10.0.0.4"
    body = second.written.rpartition(b"\r\n\r\n")[2]
    second.receive(STREAM_HEAD + engine.answer(body, chat=True))
    await rig.settle()
    texts = [
        "".join(choice["delta"].get("content") or "" for one in events for choice in one.get("choices", ()))
        for events in (events_of(body_of(client)), events_of(engine.answer(json.dumps(CHAT).encode(), chat=True)))
    ]
    assert texts[0] == texts[1]
    rig.assert_all_is_given_back()


async def test_where_only_another_engine_is_left_it_breaks() -> None:
    rig = rig_of(VllmDialect, FastDeployDialect)
    client, _ = await begin(rig, is_dead=True)
    assert len(rig.backend.opened) == 1
    assert rig.metric("failed", "no_instance") == 1
    assert client.is_closing()
    assert not client.written.endswith(b"0\r\n\r\n")
    rig.assert_all_is_given_back()
