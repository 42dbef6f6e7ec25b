"""The body budget: all bytes of requests that are held count in it, once each, and none is left behind."""

from __future__ import annotations

import pytest

from fd_router.http.body_budget import NEVER_REFUSED, SMALL, BodyBudget, effective_budget
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post

MB = 1 << 20


def prompt(size: int) -> bytes:
    return b'{"prompt": "%b"}' % (b"a" * (size - 14))


class TestBudget:
    def test_large_bodies_leave_an_eighth_to_small_ones(self) -> None:
        budget = BodyBudget(8 * MB)
        assert budget.take(7 * MB, 7 * MB)
        assert not budget.take(SMALL + 1, SMALL + 1)
        assert all(budget.take(SMALL, SMALL) for _ in range(16))
        assert not budget.take(NEVER_REFUSED + 1, NEVER_REFUSED + 1)
        assert budget.held == 8 * MB

    def test_what_instances_and_admins_send_is_never_refused(self) -> None:
        budget = BodyBudget(8 * MB)
        assert budget.take(7 * MB, 7 * MB)
        budget.set_limit(MB)  # by a reload
        assert budget.has_room(0)
        assert budget.has_room(NEVER_REFUSED)
        assert budget.take(NEVER_REFUSED, NEVER_REFUSED)
        assert not budget.has_room(NEVER_REFUSED + 1)

    def test_what_is_refused_takes_nothing(self) -> None:
        budget = BodyBudget(MB)
        assert not budget.take(MB, MB)
        assert budget.held == 0

    def test_room_for_the_rest_of_a_body(self) -> None:
        budget = BodyBudget(8 * MB)
        assert budget.take(6 * MB, 6 * MB)
        assert not budget.has_room(2 * MB)
        assert budget.has_room(7 * MB, so_far=6 * MB)

    def test_a_quarter_of_the_memory_unless_an_option_says_more(self) -> None:
        assert effective_budget(0, 4096) == 1024
        assert effective_budget(3, 4096) == 3 * MB


def tight(mb: int = 1, **settings: object) -> Rig:
    return Rig(body_budget_mb=mb, **settings)


async def test_the_bytes_of_a_request_are_held_until_it_is_answered() -> None:
    rig = tight()
    instance = await rig.ask(rig.client(), body := prompt(1000))
    assert rig.state.budget.held == len(body) == 1000
    instance.receive(STREAM_HEAD + chunk(b"data: 1\n\n"))
    assert rig.state.budget.held == 1000
    instance.receive(STREAM_END)
    assert rig.state.budget.held == 0


async def test_a_body_that_comes_in_pieces_is_held_as_far_as_it_has_come() -> None:
    rig, message = tight(), post(prompt(1000))
    client = rig.client()
    client.receive(message[:-400])
    assert rig.state.budget.held == 600
    client.receive(message[-400:])
    assert rig.state.budget.held == 1000
    client.lose()
    assert rig.state.budget.held == 0


async def test_a_client_that_leaves_in_mid_body_takes_it_along() -> None:
    rig = tight()
    client = rig.client()
    client.receive(post(prompt(1000))[:-1])
    client.lose()
    assert rig.state.budget.held == 0


async def test_what_waits_behind_another_request_counts_and_goes_with_the_connection() -> None:
    rig = tight()
    client = rig.client()
    await rig.ask(client, prompt(1000))
    client.receive(post(prompt(500)) + post(prompt(300)))
    assert rig.state.budget.held == 1800
    client.lose()
    assert rig.state.budget.held == 0


async def test_kept_connections_count_each_request_anew() -> None:
    rig = tight()
    client = rig.client()
    for _ in range(5):  # from the second on, the head is known
        (await rig.ask(client, prompt(1000))).receive(answer())
        assert rig.state.budget.held == 0


async def test_beyond_it_the_answer_is_503_and_says_when_to_come_again() -> None:
    rig = tight()
    await rig.ask(rig.client(), prompt(600_000))
    late = rig.client()
    late.receive(post(prompt(400_000)))
    await rig.settle()
    assert late.written.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in late.written
    assert b'"code":"body_budget"' in late.written
    assert rig.state.budget.held == 600_000


async def test_small_bodies_still_have_room_then() -> None:
    rig = tight()
    await rig.ask(rig.client(), prompt(900_000))
    (await rig.ask(rig.client(), prompt(60_000))).receive(answer())


async def test_a_declared_length_without_room_is_refused_before_the_body_comes() -> None:
    rig = tight()
    await rig.ask(rig.client(), prompt(600_000))
    late = rig.client()
    late.receive(post(prompt(400_000), headers="Expect: 100-continue\r\n")[:200])
    await rig.settle()
    assert late.written.startswith(b"HTTP/1.1 503 ")


async def test_a_body_in_chunks_is_refused_where_the_room_ends() -> None:
    rig = tight()
    await rig.ask(rig.client(), prompt(600_000))
    late = rig.client()
    late.receive(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(4):
        late.receive(chunk(b"a" * 100_000))
    await rig.settle()
    assert late.written.startswith(b"HTTP/1.1 503 ")
    assert rig.state.budget.held == 600_000


async def test_a_known_head_is_refused_as_well() -> None:
    rig = tight()
    client = rig.client()
    (await rig.ask(client, prompt(200_000))).receive(answer())
    await rig.ask(rig.client(), prompt(800_000))
    client.receive(post(prompt(200_000)))
    await rig.settle()
    assert b"HTTP/1.1 503 " in client.written
    assert rig.state.budget.held == 800_000


async def test_a_body_that_could_never_be_let_in_is_too_large() -> None:
    rig = tight()
    client = rig.client()
    client.receive(post(prompt(MB)))
    await rig.settle()
    assert client.written.startswith(b"HTTP/1.1 413 ")
    assert rig.state.budget.held == 0


async def test_each_refusal_is_told() -> None:
    rig, told = tight(), []
    rig.state.budget.on_refused = lambda: told.append(1)
    await rig.ask(rig.client(), prompt(900_000))
    for _ in range(3):
        rig.client().receive(post(prompt(100_000)))
    assert len(told) == 3


@pytest.mark.parametrize("data", [b"\0", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"])
async def test_what_cannot_be_read_keeps_nothing(data: bytes) -> None:
    rig = tight()
    client = rig.client()
    client.receive(post(prompt(1000)) + post(prompt(500)) + data)
    await rig.settle()
    client.lose()
    assert rig.state.budget.held == 0
