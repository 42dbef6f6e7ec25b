"""A third party's dialect that raises, in each thing that a pair asks of it: an answer, a line in the log, no count."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.engines.dialect import PairPlan, Verdict
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from tests.routing.test_single import error_of
from tests.support.fake_transport import FakeTransport
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_HEAD, answer, chunk, post

STREAMED = b'{"prompt": "hello", "stream": true}'


def fail(*_: object, **__: object) -> Any:
    raise ZeroDivisionError


class FailingPlan(PairPlan):
    prefill_body = fail
    decode_body = fail


class Judging(FastDeployDialect):
    judge = fail


class GivingBack(FastDeployDialect):
    read_given_back = fail

    def judge(self, role: object, status: int, piece: bytes, whole: bool) -> Verdict:
        return Verdict.GIVEN_BACK if role == "decode" else Verdict.OK


class Planning(FastDeployDialect):
    def plan(self, *_: object) -> PairPlan:
        return FailingPlan("r-1")


def rig_of(dialect: FastDeployDialect) -> PairRig:
    rig = PairRig(1, 1)
    for instance in rig.instances:
        instance.dialect = dialect
    return rig


async def check(rig: PairRig, client: FakeTransport) -> None:
    await rig.settle()
    assert error_of(client.take())[0] == 500
    assert isinstance(rig.bugs.pop()["exception"], ZeroDivisionError)
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(
    "data", [answer(b"{}"), answer(b"{}", status="503 Service Unavailable"), STREAM_HEAD + chunk(b"data: {}\n\n")]
)
async def test_judge(at: int, data: bytes) -> None:
    rig = rig_of(Judging())
    legs = await rig.pair(client := rig.client(), STREAMED)
    legs[at].receive(data)
    await check(rig, client)


async def test_read_given_back() -> None:
    rig = rig_of(GivingBack())
    _, decode = await rig.pair(client := rig.client(), b'{"prompt": "hello"}')
    decode.receive(answer(b"{}"))
    await check(rig, client)


async def test_the_bodies_of_a_plan() -> None:
    rig = rig_of(Planning())
    client = rig.client()
    client.receive(post(STREAMED))
    await check(rig, client)


async def test_can_pair() -> None:
    class Pairing(FastDeployDialect):
        can_pair = fail

    rig = rig_of(Pairing())
    client = rig.client()
    client.receive(post(STREAMED))
    await check(rig, client)
