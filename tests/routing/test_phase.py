"""A request's phases, and what becomes of one that is to make a move that the table doesn't have."""

from __future__ import annotations

import pytest

from fd_router.routing.phase import (
    AT_AN_INSTANCE,
    AWAITING,
    CONNECTING,
    ENDED,
    MOVES,
    PREPARING,
    QUEUED,
    STREAMING,
    Phase,
    PhaseError,
)
from fd_router.routing.single import SingleInstanceRequest
from tests.routing.test_single import STREAMING as STREAMED
from tests.routing.test_single import error_of
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_HEAD, Rig, answer, chunk, post


def under_way(rig: Rig) -> SingleInstanceRequest:
    (request,) = rig.state.proxied_requests()
    assert isinstance(request, SingleInstanceRequest)
    return request


async def waiting(rig: Rig) -> FakeTransport:
    """Send a request that no instance has answered yet, and return its client."""
    client = rig.client()
    client.receive(post())
    await rig.settle()
    return client


class TestTable:
    def test_each_phase_has_its_moves(self) -> None:
        assert len(MOVES) == len(Phase)

    @pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not ENDED])
    def test_every_phase_may_end_and_none_comes_back(self, phase: Phase) -> None:
        assert ENDED in MOVES[phase]
        assert PREPARING not in MOVES[phase]

    def test_what_has_ended_stays_so(self) -> None:
        assert not MOVES[ENDED]

    def test_once_the_client_has_a_head_there_is_no_other_attempt(self) -> None:
        assert MOVES[STREAMING] == {ENDED}

    def test_only_what_was_sent_is_streamed(self) -> None:
        assert {phase for phase in Phase if STREAMING in MOVES[phase]} == AT_AN_INSTANCE - {STREAMING}

    @pytest.mark.parametrize(
        ("phase", "to"),
        [(PREPARING, AWAITING), (PREPARING, CONNECTING), (CONNECTING, AWAITING), (AWAITING, STREAMING)],
    )
    def test_the_moves_that_are_made_without_a_look_at_it_are_there(self, phase: Phase, to: Phase) -> None:
        """On the usual way of a request: see ``routing.single`` and ``routing.pair``."""
        assert to in MOVES[phase]

    def test_every_phase_can_be_reached(self) -> None:
        reached = {PREPARING}
        for _ in Phase:
            reached |= {after for phase in reached for after in MOVES[phase]}
        assert reached == set(Phase)


class TestPhases:
    async def test_of_a_stream(self) -> None:
        rig = Rig()
        rig.backend.hanging.add("10.0.0.1")
        await waiting(rig)
        assert under_way(rig).phase is Phase.CONNECTING
        rig = Rig()
        instance = await rig.ask(rig.client(), STREAMED)
        request = under_way(rig)
        assert request.phase is Phase.AWAITING
        instance.receive(STREAM_HEAD)
        assert request.phase is Phase.AWAITING
        instance.receive(chunk(b"one"))
        assert request.phase is Phase.STREAMING
        assert repr(request) == "<SingleInstanceRequest POST /v1/completions streaming>"
        instance.lose()
        assert request.phase is Phase.ENDED

    async def test_a_dead_connection_is_replaced(self) -> None:
        rig = Rig(1)
        client = rig.client()
        (await rig.ask(client)).receive(answer())
        await rig.settle()
        kept = await rig.ask(client)
        assert under_way(rig).phase is Phase.AWAITING
        rig.backend.hanging.add("10.0.0.1")
        kept.lose()
        assert under_way(rig).phase is Phase.CONNECTING


class TestForbiddenMoves:
    async def test_the_client_is_answered_and_nothing_stays_held(self) -> None:
        rig = Rig()
        client = await waiting(rig)
        request = under_way(rig)
        with pytest.raises(PhaseError, match="from AWAITING to PREPARING"):
            request._move(PREPARING)
        await rig.settle()
        assert error_of(client.take()) == (500, "Internal server error: see the router's log")
        assert "Internal server error" in rig.outlet.text
        rig.assert_nothing_is_held()

    async def test_a_stream_is_cut_off(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMED)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        with pytest.raises(PhaseError, match="from STREAMING to QUEUED"):
            under_way(rig)._move(QUEUED)
        await rig.settle()
        assert client.written.endswith(chunk(b"one"))
        assert client.is_closing()
        assert rig.records[0].outcome == "failed"
        rig.assert_nothing_is_held()

    async def test_what_has_ended_is_not_told_twice(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        request = under_way(rig)
        instance.receive(answer())
        await rig.settle()
        client.take()
        with pytest.raises(PhaseError):
            request._move(QUEUED)
        await rig.settle()
        assert client.take() == b""
        assert len(rig.log_lines) == len(set(rig.log_lines))
