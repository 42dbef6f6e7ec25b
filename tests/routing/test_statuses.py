"""Statuses by which an instance says that another one may do better, and those by which it doesn't."""

from __future__ import annotations

import pytest

from fd_router.instances.instance import Instance
from fd_router.routing.pair_legs import MAX_GATHERED
from tests.routing.test_blame import counts, watch
from tests.routing.test_pair import WHOLE
from tests.routing.test_single import error_of
from tests.support.pair_rig import PairRig
from tests.support.rig import Rig, answer, post

ELSEWHERE = ("408 Timeout", "425 Early", "429 Slow", "503 No", "502 Bad", "500 Oh")


@pytest.mark.parametrize("status", ELSEWHERE)
async def test_goes_to_another_instance(status: str) -> None:
    rig = Rig()
    client = rig.client()
    first = await rig.ask(client)
    first.receive(answer(b"no", status))
    await rig.settle()
    second = rig.backend.opened[1]
    assert second.peer == ("10.0.0.2", 8000)
    second.receive(answer())
    await rig.settle()
    assert client.take().endswith(b"fine")
    (record,) = rig.records
    assert [attempt.status for attempt in record.all_attempts()] == [int(status[:3]), 200]
    rig.assert_nothing_is_held()


async def test_a_304_too() -> None:
    rig = Rig()
    client = rig.client()
    (await rig.ask(client)).receive(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    await rig.settle()
    rig.backend.opened[1].receive(answer())
    await rig.settle()
    assert client.take().endswith(b"fine")
    rig.assert_nothing_is_held()


async def test_while_the_refusal_is_still_coming() -> None:
    rig = Rig()
    client = rig.client()
    first = await rig.ask(client)
    first.receive(answer(b"no" * 50, "503 No")[:-60])
    await rig.settle()
    assert first.aborted
    rig.backend.opened[1].receive(answer())
    await rig.settle()
    assert client.take().endswith(b"fine")
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("status", ["400 Bad", "404 No", "501 Not", "504 Late", "505 What", "307 There"])
async def test_stays(status: str) -> None:
    rig = Rig()
    client = rig.client()
    (await rig.ask(client)).receive(answer(b"no", status))
    await rig.settle()
    assert client.take().startswith(f"HTTP/1.1 {status}".encode())
    assert len(rig.backend.opened) == 1
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("status", ELSEWHERE)
async def test_never_when_the_answer_forbids_it(status: str) -> None:
    rig = Rig()
    client = rig.client()
    (await rig.ask(client)).receive(answer(b"no", status, "X-Should-Retry: false\r\n"))
    await rig.settle()
    assert client.take().startswith(f"HTTP/1.1 {status}".encode())
    rig.assert_nothing_is_held()


@pytest.mark.parametrize(("status", "sent"), [("503 No", 3), ("500 Oh", 2)])
async def test_the_last_answer_is_passed_on(status: str, sent: int) -> None:
    rig = Rig(5, max_attempts=3)
    client = rig.client()
    client.receive(post())
    for number in range(sent):
        await rig.settle()
        rig.backend.opened[number].receive(answer(b"%d" % number, status, "Retry-After: 7\r\n"))
    await rig.settle()
    assert len(rig.backend.opened) == sent
    got = client.take()
    assert got.startswith(f"HTTP/1.1 {status}".encode())
    assert b"Retry-After: 7\r\n" in got
    assert got.endswith(b"%d" % (sent - 1))
    rig.assert_nothing_is_held()


async def test_the_only_instances_answer_is_the_clients() -> None:
    rig = Rig(1)
    client = rig.client()
    (await rig.ask(client)).receive(answer(b"no", "429 Slow"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 429 Slow")
    rig.assert_nothing_is_held()


@pytest.mark.parametrize(("field", "seconds"), [("", 0.0), ("Retry-After: 3\r\n", 3.0), ("Retry-After: soon\r\n", 0.0)])
async def test_no_room_is_no_failure_but_told(field: str, seconds: float) -> None:
    rig = Rig()
    told: list[tuple[str, float]] = []
    breaker = watch(rig.instances[0])
    rig.instances[0].on_busy = lambda instance, secs: told.append((instance.key, secs))
    (await rig.ask(rig.client())).receive(answer(b"no", "429 Slow", field))
    await rig.settle()
    assert told == [("10.0.0.1:8000", seconds)]
    assert counts(breaker) == (0, 0)


class TestPair:
    @pytest.mark.parametrize("status", [*ELSEWHERE, "304 Not Modified"])
    @pytest.mark.parametrize("leg", [0, 1])
    async def test_goes_to_another_pair(self, leg: int, status: str) -> None:
        rig = PairRig()
        client = rig.client()
        pair = await rig.pair(client, WHOLE)
        pair[leg].receive(answer(b"", status) if "304" not in status else b"HTTP/1.1 304 Not Modified\r\n\r\n")
        await rig.settle()
        for one in rig.reached():
            one.receive(answer())
        await rig.settle()
        assert client.take().endswith(b"fine")
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("field", ["", "X-Should-Retry: false\r\n"])
    async def test_the_last_one_tells_when_to_come_back(self, field: str) -> None:
        rig = PairRig(1, 1)
        told: list[Instance] = []
        rig.decodes[0].on_busy = lambda instance, _: told.append(instance)
        client = rig.client()
        _, decode = await rig.pair(client, WHOLE)
        decode.receive(answer(b"no", "503 No", f"Retry-After: 7\r\n{field}"))
        await rig.settle()
        got = client.take()
        assert got.startswith(b"HTTP/1.1 503 No\r\n")
        assert b"Retry-After: 7\r\n" in got
        assert (b"X-Should-Retry: false\r\n" in got) is bool(field)
        assert told == [rig.decodes[0]]
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("leg", [0, 1])
    @pytest.mark.parametrize(("status", "sent"), [("503 No", 3), ("500 Oh", 2), ("501 Not", 1), ("400 Bad", 1)])
    async def test_the_last_answer_is_passed_on_as_it_came(self, leg: int, status: str, sent: int) -> None:
        rig = PairRig(5, 5, max_attempts=3)
        client = rig.client()
        client.receive(post(WHOLE))
        for number in range(sent):
            await rig.settle()
            rig.reached()[leg].receive(answer(b'{"code": %d}' % number, status, "Retry-After: 7\r\nX-Engine: e\r\n"))
        await rig.settle()
        assert len(rig.backend.opened) == 2 * sent
        head, _, body = client.take().partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status}\r\n".encode())
        for field in (b"Retry-After: 7", b"X-Engine: e", b"X-Router-Decode-URL: http://10.0.0.10%d:8000" % sent):
            assert field in head
        assert body == b'{"code": %d}' % (sent - 1)
        (record,) = rig.records
        assert (record.status, len(record.all_attempts())) == (int(status[:3]), sent)
        rig.assert_nothing_is_held()

    async def test_an_answer_of_an_attempt_before_is_not(self) -> None:
        rig = PairRig(3, 3, max_attempts=2)
        client = rig.client()
        (await rig.pair(client, WHOLE))[1].receive(answer(b"no", "502 Bad"))
        await rig.settle()
        rig.reached()[1].lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 502
        assert "reset by peer" in message
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("leg", [0, 1])
    async def test_an_error_that_is_too_long_to_be_kept_is_told_of(self, leg: int) -> None:
        rig = PairRig(1, 1)
        client = rig.client()
        long = await rig.pair(client, WHOLE)
        long[leg].receive(answer(b"x" * (MAX_GATHERED + 9), "400 Bad")[:-8])
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 400
        assert message.endswith("status 400, and more than 8 MB")
        assert long[leg].aborted
        rig.assert_nothing_is_held()

    @pytest.mark.parametrize("status", ["501 Not", "504 Late", "505 What"])
    async def test_stays(self, status: str) -> None:
        rig = PairRig()
        client = rig.client()
        _, decode = await rig.pair(client, WHOLE)
        decode.receive(answer(b"no", status))
        await rig.settle()
        assert client.take().startswith(f"HTTP/1.1 {status[:3]}".encode())
        assert len(rig.backend.opened) == 2
        rig.assert_nothing_is_held()
