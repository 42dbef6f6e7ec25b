"""Which failures an instance's breaker hears of: those of its own making."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.capacity.breaker import Breaker, TripLimits
from fd_router.engines.openai import OpenAiDialect
from fd_router.errors import UpstreamError
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Instance
from fd_router.routing.pair_legs import Answer, DecodeLeg, PairLeg, PrefillLeg
from fd_router.scheduling.reservation import Reservation
from tests.support.rig import STREAM_HEAD, Rig, answer, chunk, make_instance, post


def watch(instance: Instance) -> Breaker:
    """Give ``instance`` a breaker that never trips."""
    instance.breaker = Breaker(TripLimits(in_a_row=0, share=0), lambda *_: None)
    return instance.breaker


def counts(breaker: Breaker) -> tuple[int, int]:
    """Return (requests, failures)."""
    return breaker.requests, breaker.failures


class TestSingle:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [("200 OK", (1, 0)), ("404 Not Found", (0, 0)), ("429 Slow", (0, 0)), ("500 No", (1, 1)), ("503 No", (0, 0))],
    )
    async def test_answers(self, status: str, expected: tuple[int, int]) -> None:
        rig = Rig(1)
        breaker = watch(rig.instances[0])
        (await rig.ask(rig.client())).receive(answer(status=status))
        assert counts(breaker) == expected

    async def test_a_connection_that_fails(self) -> None:
        rig = Rig()
        breaker = watch(rig.instances[0])
        rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
        await rig.ask(rig.client())
        assert counts(breaker) == (1, 1)

    async def test_an_answer_that_breaks_off_is_one_request_that_failed(self) -> None:
        rig = Rig(1)
        breaker = watch(rig.instances[0])
        instance = await rig.ask(rig.client(), b'{"prompt": "hello", "stream": true}')
        instance.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        instance.lose()
        assert counts(breaker) == (1, 1)

    @pytest.mark.parametrize("held_up", [True, False])
    async def test_a_stall_is_the_instances_unless_its_client_took_nothing(self, held_up: bool) -> None:
        rig = Rig(1, stall_timeout_secs=5)
        breaker = watch(rig.instances[0])
        client = rig.client()
        instance = await rig.ask(client, b'{"prompt": "hello", "stream": true}')
        instance.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        if held_up:
            client.protocol.pause_writing()  # type: ignore[union-attr]
        await rig.pass_time(6)
        assert instance.aborted
        assert counts(breaker) == (1, 0 if held_up else 1)

    async def test_a_client_that_leaves_is_nobodys_failure(self) -> None:
        rig = Rig(1)
        breaker = watch(rig.instances[0])
        client = rig.client()
        client.receive(post())
        await rig.settle()
        client.lose()
        await rig.settle()
        assert counts(breaker) == (0, 0)


class Pair:
    """Takes what legs tell, and does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize("kind", [PrefillLeg, DecodeLeg])
class TestLegs:
    def leg(self, kind: type[PairLeg]) -> tuple[PairLeg, Breaker]:
        instance = make_instance(1)
        leg = kind(Pair(), Reservation(instance, 0), False, None, None)  # type: ignore[call-arg,arg-type]
        return leg, watch(instance)

    @pytest.mark.parametrize(("status", "expected"), [(200, (1, 0)), (400, (0, 0)), (429, (0, 0)), (500, (1, 1))])
    def test_answers(self, kind: type[PairLeg], status: int, expected: tuple[int, int]) -> None:
        leg, breaker = self.leg(kind)
        leg.on_head(ResponseHead(status, b"", 2), b"{}")
        leg.on_complete()
        assert counts(breaker) == expected
        leg, breaker = self.leg(kind)
        leg.on_whole(ResponseHead(status, b"", 2), b"{}")
        assert counts(breaker) == expected

    @pytest.mark.parametrize("reason", ["refused", "reset", "first_byte_timeout", "stalled"])
    def test_failures(self, kind: type[PairLeg], reason: str) -> None:
        leg, breaker = self.leg(kind)
        leg.on_failed(UpstreamError(reason, "x", instance="x"), stale=False)
        assert counts(breaker) == (1, 1)

    def test_waiting_for_a_client_that_takes_nothing(self, kind: type[PairLeg]) -> None:
        leg, breaker = self.leg(kind)
        leg.pause()
        leg.on_failed(UpstreamError("stalled", "x", instance="x"), stale=False)
        assert counts(breaker) == (0, 0)


def test_a_decode_that_gives_a_request_back_has_not_failed() -> None:
    instance = make_instance(1)
    breaker = watch(instance)
    leg = DecodeLeg(Pair(), Reservation(instance, 0), False, None, None)  # type: ignore[arg-type]
    leg.on_head(ResponseHead(500, b"", 2), b'{"error": {"message": "PD Error: pd_reschedule"}}')
    leg.on_complete()
    assert counts(breaker) == (0, 0)


@pytest.mark.parametrize("kind", [PrefillLeg, DecodeLeg])
def test_an_instance_that_says_it_is_busy_has_not_failed(kind: type[PairLeg]) -> None:
    class Busy(OpenAiDialect):
        busy_statuses = frozenset({503})

    errors: list[UpstreamError] = []

    class Listening(Pair):
        def on_leg_failed(self, leg: PairLeg, error: UpstreamError, answer: Answer | None = None) -> None:
            errors.append(error)

    instance = make_instance(1)
    instance.dialect = Busy()
    breaker = watch(instance)
    leg = kind(Listening(), Reservation(instance, 0), False, None, None)  # type: ignore[call-arg,arg-type]
    leg.on_whole(ResponseHead(503, b"", 2), b"{}")
    assert counts(breaker) == (0, 0)
    assert [error.reason for error in errors] == ["busy"]
