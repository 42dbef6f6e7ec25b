"""Who is told of answers that refuse a client, and whose requests they were."""

from __future__ import annotations

from typing import Any

from tests.support.pair_rig import PairRig
from tests.support.rig import Rig, answer


class Listening:
    """A breaker that keeps what it is told."""

    def __init__(self) -> None:
        self.refusals: list[tuple[int, str]] = []
        self.others: list[Any] = []

    def refused(self, status: int, client: str) -> None:
        self.refusals.append((status, client))

    def answered(self, status: int) -> None:
        self.others.append(status)

    def failed(self, reason: str, *, begun: bool = False) -> None:
        self.others.append((reason, begun))


async def test_each_client_and_each_key_is_another_one() -> None:
    rig = Rig(1)
    rig.instances[0].breaker = breaker = Listening()
    for headers in ("", "", "Authorization: Bearer a\r\n", "Authorization: Bearer b\r\n"):
        client = rig.client()
        (await rig.ask(client, headers=headers)).receive(answer(b"no", "404 Not Found"))
        await rig.settle()
        assert b" 404 " in client.written
    assert [status for status, _ in breaker.refusals] == [404] * 4
    assert len({who for _, who in breaker.refusals}) == 4
    assert "Bearer" not in str(breaker.refusals)
    again = rig.clients[-1]
    (await rig.ask(again, headers="Authorization: Bearer b\r\n")).receive(answer(b"no", "401 Unauthorized"))
    await rig.settle()
    assert breaker.refusals[-1] == (401, breaker.refusals[-2][1])
    assert breaker.others == []


async def test_of_a_pair_the_one_that_refused_is_told() -> None:
    rig = PairRig(1, 1)
    listening = [Listening(), Listening()]
    for instance, breaker in zip(rig.instances, listening, strict=True):
        instance.breaker = breaker
    client = rig.client()
    prefill, _ = await rig.pair(client, b'{"prompt": "x"}')
    prefill.receive(answer(b"no", "403 Forbidden"))
    await rig.settle()
    assert b" 403 " in client.written
    assert [[status for status, _ in each.refusals] for each in listening] == [[403], []]
