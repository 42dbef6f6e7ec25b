"""Whatever raises on a request's way: its client is told at once, and everything is given back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.routing.test_pair import STREAMED
from tests.routing.test_single import STREAMING
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post

OURS = (
    "fd_router/routing/",
    "fd_router/scheduling/",
    "fd_router/engines/",
    "fd_router/openai/",
    "fd_router/telemetry/",
)
"""Whose calls fail in turn: all that a request itself calls, but for the bytes, which ``http`` moves."""

MOST_CALLS = 1500


class InjectedError(Exception):
    """What a call raises that works otherwise."""


class Injector:
    """Counts the calls of the code in question, and has one of them raise."""

    def __init__(self, at: int, endings: frozenset[str]) -> None:
        """``endings``: names of calls that don't fail, nor what they call."""
        self.calls = 0
        self.where = ""
        self._at = at
        self._endings = endings

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not any(part in code.co_filename for part in OURS) or self._is_an_ending(frame):
            return
        self.calls += 1
        if self.calls == self._at:
            self.where = code.co_qualname
            raise InjectedError(self.where)

    def _is_an_ending(self, frame: FrameType) -> bool:
        at: FrameType | None = frame if self._endings else None
        while at is not None:
            if at.f_code.co_name in self._endings:
                return True
            at = at.f_back
        return False


ENDINGS = frozenset((
    "release", "_release", "_release_all", "_end_attempt", "_give_back", "_end_leg", "cancel", "_cancel",
    "_leave_instance", "_finish_client", "on_bug", "_end_by_bug", "_fail_or_cut_off", "_fail_locally", "_end",
))  # fmt: skip


async def single(injector: Injector) -> Rig:
    rig = Rig()
    sys.setprofile(injector)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    rig.client().receive(post(STREAMING))
    await rig.settle()
    for transport in rig.backend.opened:
        transport.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
        transport.receive(chunk(b"data: 2\n\n") + STREAM_END)
    await rig.settle()
    return rig


async def whole(injector: Injector) -> Rig:
    rig = Rig()
    sys.setprofile(injector)
    rig.client().receive(post())
    await rig.settle()
    for transport in rig.backend.opened:
        transport.receive(answer(b"no", "503 No"))
    await rig.settle()
    for transport in rig.backend.opened[1:]:
        transport.receive(answer())
    await rig.settle()
    return rig


async def pair(injector: Injector) -> Rig:
    rig = PairRig()
    sys.setprofile(injector)
    rig.backend.failures["10.0.0.101"] = [ConnectionRefusedError()]
    rig.client().receive(post(STREAMED))
    await rig.settle()
    for transport in tuple(rig.backend.live):
        transport.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    for transport in tuple(rig.backend.live):
        transport.receive(chunk(b"data: 2\n\n") + STREAM_END)
    await rig.settle()
    return rig


GIVE_BACK = frozenset((
    "Reservation.release", "RequestLife._release", "SingleInstanceRequest._release_all", "PairRequest._release_all",
    "SingleInstanceRequest._end_attempt", "SingleInstanceRequest._leave_instance", "PairRequest._give_back",
    "PairRequest._end_leg", "RoutedRequest._leave", "InFlight.discard",
))  # fmt: skip
"""The calls by which something is given back: where one of them fails at once, its count is lost, and audited."""


async def fail_in_turn(
    scene: Callable[[Injector], Any], endings: frozenset[str], check: Callable[[Rig, str], None]
) -> int:
    """Have each call fail once. Returns how many there are."""
    for at in range(1, MOST_CALLS):
        injector = Injector(at, endings)
        try:
            rig: Rig = await scene(injector)
        finally:
            sys.setprofile(None)
        if not injector.where:
            break
        (client,) = rig.clients
        assert client.written.startswith(b"HTTP/1.1 ") or client.is_closing(), f"no answer: {injector.where}"
        assert rig.state.proxied_requests() == [], injector.where
        assert rig.state.budget.held == 0, f"bytes of bodies: {injector.where}"
        busy = [x for x in rig.backend.live if not x.protocol.is_idle]  # type: ignore[union-attr]
        assert busy == [], f"connections: {injector.where}"
        check(rig, injector.where)
    return at


@pytest.mark.parametrize("scene", [single, whole, pair])
async def test_each_call_in_turn(scene: Callable[[Injector], Any]) -> None:
    def check(rig: Rig, where: str) -> None:
        assert rig.counts() == [(0, 0)] * len(rig.instances), f"counts: {where}"
        assert len(rig.context.in_flight) == 0, where

    assert 25 < await fail_in_turn(scene, ENDINGS, check) < MOST_CALLS - 1


@pytest.mark.parametrize("scene", [single, whole, pair])
async def test_each_call_of_an_ending_in_turn(scene: Callable[[Injector], Any]) -> None:
    """The client is told, and no connection stays busy, whatever fails; no more is lost than what that gives back."""

    def check(rig: Rig, where: str) -> None:
        if where not in GIVE_BACK:
            assert rig.counts() == [(0, 0)] * len(rig.instances), f"counts: {where}"
            assert len(rig.context.in_flight) == 0, where

    assert 25 < await fail_in_turn(scene, frozenset(), check) < MOST_CALLS - 1
