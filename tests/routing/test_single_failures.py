"""What goes wrong between a client and the instances, and who is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fd_router.instances.instance import Health
from fd_router.openai.endpoints import Endpoint
from fd_router.routing.in_flight import InFlight
from fd_router.routing.request import MAX_REFUSALS
from tests.routing.test_single import STREAMING, error_of
from tests.support.rig import STREAM_HEAD, Rig, answer, chunk, post


class TestRetries:
    async def test_refused_goes_to_another(self) -> None:
        rig = Rig()
        rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
        client = rig.client()
        instance = await rig.ask(client)
        assert instance.peer == ("10.0.0.2", 8000)
        instance.receive(answer())
        await rig.settle()
        assert b" 200 OK" in client.take()
        assert rig.failed == [("10.0.0.1:8000", "refused")]
        assert rig.records[0].attempts == 1, "nothing was sent to the first"
        rig.assert_nothing_is_held()

    async def test_refusals_do_not_use_up_the_attempts(self) -> None:
        """Most of a fleet is gone, and no probe has told yet."""
        rig = Rig(9, max_attempts=2)
        for host in range(1, 9):
            rig.backend.failures[f"10.0.0.{host}"] = [ConnectionRefusedError()]
        rig.client().receive(post())
        for _ in range(4):
            await rig.settle()
        (instance,) = rig.backend.opened
        assert instance.peer == ("10.0.0.9", 8000)
        instance.receive(answer())
        await rig.settle()
        assert len(rig.failed) == 8
        rig.assert_nothing_is_held()

    async def test_refusals_are_bounded_in_a_fleet_of_any_size(self) -> None:
        rig = Rig(200, max_attempts=2)
        for host in range(1, 201):
            rig.backend.failures[f"10.0.0.{host}"] = [ConnectionRefusedError()] * 9
        client = rig.client()
        client.receive(post())
        for _ in range(50):
            await rig.settle()
        assert error_of(client.take())[0] == 502
        assert len(rig.failed) == MAX_REFUSALS + 2
        rig.assert_nothing_is_held()

    async def test_resets_use_up_the_attempts(self) -> None:
        """What was sent may have cost work: it isn't sent to a whole fleet."""
        rig = Rig(9, max_attempts=2)
        client = rig.client()
        client.receive(post())
        for _ in range(2):
            await rig.settle()
            rig.backend.opened[-1].lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        assert error_of(client.take())[0] == 502
        assert len(rig.backend.opened) == 2
        rig.assert_nothing_is_held()

    async def test_reset_before_an_answer_goes_to_another(self) -> None:
        rig = Rig()
        client = rig.client()
        first = await rig.ask(client)
        first.lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        second = rig.backend.opened[1]
        assert second.peer == ("10.0.0.2", 8000)
        assert second.written.endswith(b'{"prompt": "hello"}')
        second.receive(answer())
        await rig.settle()
        assert b" 200 OK" in client.take()
        assert rig.failed == [("10.0.0.1:8000", "reset")]
        rig.assert_nothing_is_held()

    async def test_never_twice_to_one_while_another_is_left(self) -> None:
        rig = Rig(4, max_attempts=4)
        for host in range(1, 5):
            rig.backend.failures[f"10.0.0.{host}"] = [ConnectionRefusedError()] * 9
        client = rig.client()
        client.receive(post())
        await rig.settle()
        await rig.settle()
        assert sorted(key for key, _ in rig.failed[:4]) == [f"10.0.0.{n}:8000" for n in range(1, 5)]
        rig.assert_nothing_is_held()

    async def test_when_each_was_tried_any_may_be_chosen_again(self) -> None:
        rig = Rig(3, max_attempts=3)
        for host in range(1, 4):
            rig.backend.failures[f"10.0.0.{host}"] = [ConnectionRefusedError() for _ in range(9)]
        client = rig.client()
        client.receive(post())
        for _ in range(3):
            await rig.settle()
        assert error_of(client.take())[0] == 502
        first, again = rig.failed[:3], rig.failed[3:]
        assert len({key for key, _ in first}) == 3
        assert len({key for key, _ in again}) > 1
        rig.assert_nothing_is_held()

    async def test_the_only_one_is_tried_again(self) -> None:
        rig = Rig(1)
        rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()] * 2
        instance = await rig.ask(rig.client())
        instance.receive(answer())
        await rig.settle()
        assert len(rig.failed) == 2
        rig.assert_nothing_is_held()

    async def test_attempts_end(self) -> None:
        rig = Rig(1, max_attempts=3)
        rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()] * 9
        client = rig.client()
        client.receive(post())
        await rig.settle()
        assert len(rig.failed) == 4, "three attempts, and a first refusal that isn't one"
        status, message = error_of(client.take())
        assert status == 502
        assert message.startswith("Failed to connect to backend service: http://10.0.0.1:8000: connection refused")
        assert not client.is_closing()
        rig.assert_nothing_is_held()

    async def test_the_last_instance_fails_and_none_is_left(self) -> None:
        rig = Rig(1)
        client = rig.client()
        instance = await rig.ask(client)
        rig.instances[0].health = Health.SUSPECT
        instance.lose()
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 502
        assert "closed before an answer" in message
        rig.assert_nothing_is_held()

    async def test_no_instance(self) -> None:
        rig = Rig(0)
        client = rig.client()
        client.receive(post())
        await rig.settle()
        assert error_of(client.take()) == (502, "Failed to select worker: none is there")
        assert rig.records[0].outcome == "failed"

    @pytest.mark.parametrize(
        ("failure", "reason"), [(OSError("no route"), "unreachable"), (TimeoutError(), "connect_timeout")]
    )
    async def test_other_ways_not_to_connect(self, failure: BaseException, reason: str) -> None:
        rig = Rig()
        rig.backend.failures["10.0.0.1"] = [failure]
        (await rig.ask(rig.client())).receive(answer())
        assert rig.failed == [("10.0.0.1:8000", reason)]

    @pytest.mark.parametrize(
        "data", [b"SSH-2.0-x\r\n", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]
    )
    async def test_nonsense_is_not_tried_elsewhere(self, data: bytes) -> None:
        rig = Rig()
        client = rig.client()
        (await rig.ask(client)).receive(data)
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 502
        assert "HTTP/1.1" in message
        assert len(rig.backend.opened) == 1
        rig.assert_nothing_is_held()

    async def test_a_first_byte_that_never_comes_is_not_tried_elsewhere(self) -> None:
        rig = Rig(first_byte_timeout_secs=10)
        client = rig.client()
        await rig.ask(client)
        await rig.pass_time(9.5)
        assert client.take() == b""
        await rig.pass_time(1)
        assert error_of(client.take())[0] == 504
        assert len(rig.backend.opened) == 1
        rig.assert_nothing_is_held()


class TestAttemptRecords:
    async def test_each_attempt_leaves_one(self) -> None:
        rig = Rig(3)
        rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
        client = rig.client()
        second = await rig.ask(client)
        rig.timers.now += 1.0
        second.lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        rig.timers.now += 1.0
        rig.backend.opened[1].receive(answer())
        await rig.settle()
        (record,) = rig.records
        refused, reset, last = record.all_attempts()
        assert (refused.instances, refused.outcome, refused.sent_at) == (("http://10.0.0.1:8000",), "refused", 0.0)
        assert (reset.outcome, reset.ended_at - reset.sent_at, reset.first_byte_at) == ("reset", 1.0, 0.0)
        assert (last.instances, last.outcome, last.status) == (("http://10.0.0.3:8000",), "completed", 200)
        assert (last.sent_at, last.first_byte_at) == (reset.ended_at, last.ended_at)

    async def test_one_that_breaks_off(self) -> None:
        rig = Rig()
        instance = await rig.ask(rig.client(), STREAMING)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        instance.lose()
        (attempt,) = rig.records[0].all_attempts()
        assert (attempt.outcome, attempt.status) == ("cut_off", 200)

    async def test_a_request_that_nobody_could_have_has_none(self) -> None:
        rig = Rig(0)
        rig.client().receive(post())
        await rig.settle()
        assert rig.records[0].all_attempts() == ()


def broken(*_: object) -> Any:
    raise ZeroDivisionError


class TestBugs:
    async def test_a_selection_that_raises_is_answered_and_told(self) -> None:
        rig = Rig()

        def select(*_: object) -> None:
            raise ZeroDivisionError

        rig.change(select=select)
        client = rig.client()
        client.receive(post())
        await rig.settle()
        assert error_of(client.take())[0] == 500
        assert isinstance(rig.bugs.pop()["exception"], ZeroDivisionError)
        rig.assert_nothing_is_held()

    async def test_so_is_one_that_raises_at_another_attempt(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        (request,) = rig.state.proxied_requests()

        def select(*_: object) -> None:
            raise ZeroDivisionError

        request._select = select  # type: ignore[attr-defined]
        instance.lose()
        await rig.settle()
        assert error_of(client.take())[0] == 500
        assert len(rig.bugs) == 1
        rig.bugs.clear()
        rig.assert_nothing_is_held()

    async def test_and_an_endpoint_that_fails_to_read_the_request(self) -> None:
        rig = Rig()
        rig.change(endpoint=Endpoint(path="/v1/chat/completions", read=broken))
        client = rig.client()
        client.receive(post())
        await rig.settle()
        assert error_of(client.take())[0] == 500
        assert isinstance(rig.bugs.pop()["exception"], ZeroDivisionError)
        rig.assert_nothing_is_held()

    async def test_a_bug_at_the_end_keeps_no_count(self) -> None:
        rig = Rig()

        class Broken(InFlight):
            discard = broken

        rig.change(in_flight=Broken())
        client = rig.client()
        instance = await rig.ask(client, b'{"prompt": "hello", "request_id": "r-1"}')
        instance.receive(answer())
        await rig.settle()
        assert b" 200 OK" in client.take()
        assert isinstance(rig.bugs.pop()["exception"], ZeroDivisionError)
        rig.assert_nothing_is_held()

    async def test_and_a_preparation_that_raises(self) -> None:
        rig = Rig()

        async def prepare() -> None:
            raise ZeroDivisionError

        rig.change(prepare=lambda _: prepare())
        client = rig.client()
        client.receive(post())
        await rig.settle()
        assert error_of(client.take())[0] == 500
        assert len(rig.bugs) == 1


class TestStale:
    async def test_a_kept_connection_that_died_is_replaced_silently(self) -> None:
        rig = Rig(2, policy="request_num")
        rig.instances.pop()
        client = rig.client()
        (await rig.ask(client)).receive(answer())
        await rig.settle()
        client.take()
        kept = await rig.ask(client)
        kept.lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        fresh = rig.backend.opened[1]
        fresh.receive(answer(b"again"))
        await rig.settle()
        assert client.take().endswith(b"again")
        assert rig.failed == []
        assert rig.records[1].attempts == 1
        rig.assert_nothing_is_held()

    async def test_its_replacement_may_fail_like_any(self) -> None:
        rig = Rig(1, max_attempts=1)
        client = rig.client()
        (await rig.ask(client)).receive(answer())
        await rig.settle()
        client.take()
        kept = await rig.ask(client)
        rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()] * 2
        kept.lose()
        await rig.settle()
        assert error_of(client.take())[0] == 502
        assert rig.failed == [("10.0.0.1:8000", "refused")], "which counts: it was sent before"
        rig.assert_nothing_is_held()

    async def test_one_that_died_in_the_pool_is_not_used(self) -> None:
        rig = Rig(1)
        client = rig.client()
        first = await rig.ask(client)
        first.receive(answer())
        first.closed = True  # its end has not been told yet
        assert await rig.ask(client) is not first


class TestClientGone:
    async def test_while_connecting(self) -> None:
        rig = Rig()
        rig.backend.hanging.add("10.0.0.1")
        client = rig.client()
        client.receive(post())
        await rig.settle()
        assert rig.counts()[0] == (1, 10)
        client.lose()
        await rig.settle()
        assert rig.backend.opened == []
        assert (rig.records[0].status, rig.records[0].outcome) == (499, "client_gone")
        rig.assert_nothing_is_held()

    async def test_in_the_turn_in_which_the_connection_is_made(self) -> None:
        for turns in range(6):
            rig = Rig()
            client = rig.client()
            client.receive(post())
            for _ in range(turns):
                await asyncio.sleep(0)
            client.lose()
            await rig.settle()
            assert not rig.backend.live
            rig.assert_nothing_is_held()

    async def test_while_waiting(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        client.lose()
        assert instance.aborted
        await rig.settle()
        assert rig.failed == []
        rig.assert_nothing_is_held()

    async def test_while_streaming(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        client.lose(ConnectionResetError())
        assert instance.aborted
        await rig.settle()
        (record,) = rig.records
        assert (record.status, record.outcome) == (499, "client_gone")
        rig.assert_nothing_is_held()

    async def test_after_the_end(self) -> None:
        rig = Rig()
        client = rig.client()
        (await rig.ask(client)).receive(answer())
        client.lose()
        await rig.settle()
        assert rig.records[0].outcome == "completed"
        assert len(rig.backend.live) == 1
        rig.assert_nothing_is_held()


class TestCutOff:
    async def test_a_chunked_stream_ends_without_its_last_chunk(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        instance.lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        assert client.written.endswith(chunk(b"one"))
        assert client.closed
        assert rig.records[0].outcome == "failed"
        assert any("scanner error: http://10.0.0.1:8000: reset by peer in mid-answer" in line for line in rig.log_lines)
        assert len(rig.backend.opened) == 1
        rig.assert_nothing_is_held()

    async def test_a_sized_answer_stays_short(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        instance.receive(answer(b"fine")[:-2])
        instance.lose()
        await rig.settle()
        assert client.written.endswith(b"fi")
        assert client.closed

    async def test_an_answer_without_length_is_reset(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        instance.receive(b"HTTP/1.1 200 OK\r\n\r\npart")
        instance.lose(ConnectionResetError("reset by peer"))
        await rig.settle()
        assert client.aborted
        assert client.written.endswith(b"part")

    async def test_an_answer_without_length_may_end_with_the_connection(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client)
        instance.receive(b"HTTP/1.1 200 OK\r\n\r\npart")
        instance.receive(b" two")
        instance.lose()
        await rig.settle()
        assert client.written.endswith(b"part two")
        assert b"connection: close\r\n" in client.written
        assert client.closed
        assert rig.records[0].outcome == "completed"

    async def test_a_stream_that_stalls(self) -> None:
        rig = Rig(stall_timeout_secs=5)
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        await rig.pass_time(4)
        instance.receive(chunk(b"two"))
        await rig.pass_time(4)
        assert not client.is_closing()
        await rig.pass_time(2)
        assert client.closed
        assert instance.aborted
        rig.assert_nothing_is_held()
