"""More clients than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fd_router.http.connection_limit import LOOKS, RESERVED_FOR_ADMIN, ConnectionLimiter, effective_connection_limit
from fd_router.http.messages import Request, Response
from tests.http.test_server_connection import ROUTES, get, statuses
from tests.support.rig import Rig, answer, post


class FakeGuest:
    def __init__(self, *, yields: bool, is_unproven: bool = True) -> None:
        self.yields = yields
        self.is_unproven = is_unproven
        self.asked = 0

    def evict(self) -> bool:
        self.asked += 1
        return self.yields


def make_guests(kinds: Sequence[bool]) -> list[FakeGuest]:
    return [FakeGuest(yields=kind) for kind in kinds]


class TestCrowd:
    def test_they_are_asked_in_turn(self) -> None:
        limiter, guests = ConnectionLimiter(3), make_guests([True, False, True])
        assert limiter.make_room(guests)
        assert [guest.asked for guest in guests] == [1, 0, 0]
        assert limiter.make_room(guests)
        assert [guest.asked for guest in guests] == [1, 1, 1]
        assert limiter.make_room(guests)
        assert [guest.asked for guest in guests] == [2, 1, 1]

    def test_strangers_go_before_those_who_were_served(self) -> None:
        limiter = ConnectionLimiter(3)
        known, stranger = FakeGuest(yields=True, is_unproven=False), FakeGuest(yields=True)
        assert limiter.make_room([known, stranger])
        assert (known.asked, stranger.asked) == (0, 1)
        stranger.yields = False
        assert limiter.make_room([known, stranger])
        assert known.asked == 1

    def test_it_looks_at_some_only(self) -> None:
        limiter, guests = ConnectionLimiter(3), make_guests([False] * 500)
        assert not limiter.make_room(guests)
        assert 0 < sum(guest.asked for guest in guests) <= LOOKS

    def test_without_guests(self) -> None:
        assert not ConnectionLimiter(1).make_room([])

    @pytest.mark.parametrize(("open_files", "most"), [(1024, 640), (20_000, 14_872), (50, RESERVED_FOR_ADMIN)])
    def test_the_default_leaves_files_for_instances(self, open_files: int, most: int) -> None:
        assert effective_connection_limit(0, open_files) == most
        assert effective_connection_limit(7, open_files) == 7


async def endless(_request: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


class TestConnections:
    async def test_a_flood_of_strangers_leaves_a_client_alone_that_was_served(self) -> None:
        rig = Rig(max_connections=8)
        client = rig.client()
        (await rig.ask(client)).receive(answer())
        await rig.settle()
        for _ in range(100):
            rig.client().receive(b"POST /v1/comp")
        assert not client.is_closing()

    @pytest.mark.parametrize("sent", [b"", b"POST /v1/comp", post()[:-3]], ids=["idle", "slow head", "slow body"])
    async def test_a_connection_on_which_nothing_is_answered_makes_room(self, sent: bytes) -> None:
        rig = Rig(max_connections=2)
        busy = rig.client()
        instance = await rig.ask(busy)
        slow = rig.client()
        slow.receive(sent)
        late = rig.client()
        assert slow.aborted
        assert not busy.is_closing()
        instance.receive(answer())
        second = await rig.ask(late)
        second.receive(answer())
        await rig.settle()
        assert statuses(busy.take() + late.take()) == [200, 200]
        rig.assert_nothing_is_held()

    async def test_when_all_are_being_served_there_is_room_for_control_only(self) -> None:
        rig = Rig(1, routes=ROUTES, max_connections=1)
        busy, late = rig.client(), None
        instance = await rig.ask(busy)
        late = rig.client()
        late.receive(get("/hello"))
        await rig.settle()
        assert statuses(late.take()) == [200]
        late.receive(post())
        await rig.settle()
        refusal = late.take()
        assert statuses(refusal) == [503]
        assert b"retry-after: 1\r\n" in refusal
        assert b'"too_many_connections"' in refusal
        instance.receive(answer())
        busy.lose()
        await rig.settle()
        late.receive(post())
        await rig.settle()
        assert rig.counts()[0][0] == 1, "there is room now"

    async def test_there_is_an_end_to_it(self) -> None:
        """None of these can go, since all are being answered."""
        rig = Rig(1, routes={"/endless": {"GET": endless}}, max_connections=2)
        clients = []
        for _ in range(2 + RESERVED_FOR_ADMIN):
            clients.append(rig.client())
            clients[-1].receive(get("/endless"))
        await rig.settle()
        assert not any(client.is_closing() for client in clients)
        assert rig.client().aborted
        clients[0].lose()
        await rig.settle()
        assert not rig.client().is_closing()
