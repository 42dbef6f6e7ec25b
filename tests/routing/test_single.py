"""A request's whole life between a client and the instances, with fake connections at both ends."""

from __future__ import annotations

import json
import random

import pytest

from fd_router.instances.instance import Instance
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from fd_router.scheduling.ranks import Ranks
from fd_router.scheduling.scheduler import Scheduler
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post
from tests.support.scheduling_fakes import AskedGroup

STREAMING = b'{"prompt": "hello", "stream": true}'


def error_of(data: bytes) -> tuple[int, str]:
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["message"]


async def test_success_and_what_is_sent_to_the_instance() -> None:
    rig = Rig()
    client = rig.client()
    instance = await rig.ask(client, headers="X-Request-Id: me\r\nAccept: */*\r\n")
    assert instance.take() == (
        b"POST /v1/completions HTTP/1.1\r\nhost: 10.0.0.1:8000\r\ncontent-length: 19\r\nx-request-id: me\r\n"
        b"Accept: */*\r\nx-forwarded-proto: http\r\nx-forwarded-for: 10.9.9.1\r\nvia: 1.1 fd-router\r\n"
        b'\r\n{"prompt": "hello"}'
    )
    assert rig.counts() == [(1, 10), (0, 0)]
    rig.timers.now += 0.5
    instance.receive(answer(b"fine", headers="X-A: b\r\nX-Request-Id: other\r\nKeep-Alive: timeout=5\r\n"))
    await rig.settle()
    assert client.take() == b"HTTP/1.1 200 OK\r\nX-A: b\r\ncontent-length: 4\r\nx-request-id: me\r\n\r\nfine"
    rig.assert_nothing_is_held()
    (record,) = rig.records
    assert (record.status, record.outcome, record.attempts, record.bytes_out) == (200, "completed", 1, 4)
    assert (record.mixed, record.finished_at - record.started) == ("http://10.0.0.1:8000", 0.5)
    assert not client.is_closing()


async def test_an_instances_error_is_passed_on_as_it_is() -> None:
    rig = Rig(1)
    client = rig.client()
    instance = await rig.ask(client)
    instance.receive(answer(b"no", "429 Too Many Requests", "Retry-After: 3\r\n"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n")
    assert rig.failed == []


async def test_a_stream_is_relayed_as_it_comes() -> None:
    rig = Rig()
    client = rig.client()
    instance = await rig.ask(client, STREAMING)
    instance.receive(STREAM_HEAD)
    await rig.settle()
    assert client.take() == b""  # a head is no token yet
    assert rig.counts()[0] == (1, 10)
    rig.timers.now += 2.0
    instance.receive(chunk(b"one"))
    await rig.settle()
    head = STREAM_HEAD[:-2].replace(b"Transfer-E", b"transfer-e") + b"x-request-id: id-0\r\n\r\n"
    assert client.take() == head + chunk(b"one")
    assert rig.counts()[0] == (1, 0)  # the prefill is done
    instance.receive(chunk(b"two") + STREAM_END)
    await rig.settle()
    assert client.take() == chunk(b"two") + STREAM_END
    rig.assert_nothing_is_held()
    (record,) = rig.records
    assert record.first_byte_at - record.started == 2.0
    assert record.stream


async def test_tokens_of_an_answer_that_is_no_stream_are_held_to_its_end() -> None:
    rig = Rig()
    instance = await rig.ask(rig.client())
    instance.receive(answer(b"fine")[:-1])
    await rig.settle()
    assert rig.counts()[0] == (1, 10)
    instance.receive(b"e")
    rig.assert_nothing_is_held()


async def test_a_kept_connection_is_used_again() -> None:
    rig = Rig(1)
    client = rig.client()
    for _ in range(3):
        (await rig.ask(client)).receive(answer())
        await rig.settle()
    assert len(rig.backend.opened) == 1


class TestHttp10:
    async def test_a_chunked_answer_is_dechunked_and_ends_with_the_connection(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING, version="1.0", headers="Connection: keep-alive\r\n")
        instance.receive(STREAM_HEAD)
        instance.receive(chunk(b"one") + chunk(b"two"))
        instance.receive(STREAM_END)
        await rig.settle()
        head, _, body = client.take().partition(b"\r\n\r\n")
        assert body == b"onetwo"
        assert b"chunked" not in head
        assert client.closed
        assert not client.aborted
        assert rig.records[0].http_version == "1.0"

    async def test_a_chunked_answer_in_one_read(self) -> None:
        rig = Rig()
        client = rig.client()
        (await rig.ask(client, version="1.0")).receive(STREAM_HEAD + chunk(b"one") + STREAM_END)
        await rig.settle()
        assert client.take().endswith(b"\r\n\r\none")
        assert client.closed

    @pytest.mark.parametrize("keep_alive", [True, False])
    async def test_a_sized_answer(self, keep_alive: bool) -> None:
        rig = Rig()
        client = rig.client()
        headers = "Connection: keep-alive\r\n" if keep_alive else ""
        (await rig.ask(client, version="1.0", headers=headers)).receive(answer(b"fine"))
        await rig.settle()
        data = client.take()
        assert data.endswith(b"fine")
        assert (b"connection: keep-alive" in data) is keep_alive
        assert client.closed is not keep_alive

    async def test_a_broken_stream_resets_the_connection(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, version="1.0")
        instance.receive(STREAM_HEAD + chunk(b"one"))
        instance.lose()
        await rig.settle()
        assert client.aborted


class TestBackpressure:
    async def test_a_slow_client_stops_the_reading_from_the_instance(self) -> None:
        rig = Rig()
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD)
        client.protocol.pause_writing()  # type: ignore[union-attr]
        assert instance.paused
        client.protocol.resume_writing()  # type: ignore[union-attr]
        assert not instance.paused
        instance.receive(STREAM_END)
        rig.assert_nothing_is_held()

    async def test_also_when_it_was_slow_before_the_instance_was_reached(self) -> None:
        rig = Rig()
        client = rig.client()
        client.receive(post())
        client.protocol.pause_writing()  # type: ignore[union-attr]
        await rig.settle()
        (instance,) = rig.backend.opened
        assert instance.paused
        client.protocol.resume_writing()  # type: ignore[union-attr]
        assert not instance.paused

    async def test_a_connection_goes_back_to_the_pool_reading(self) -> None:
        rig = Rig(1)
        client = rig.client()
        instance = await rig.ask(client)
        client.protocol.pause_writing()  # type: ignore[union-attr]
        instance.receive(answer())  # was on its way already
        await rig.settle()
        assert not instance.paused
        rig.assert_nothing_is_held()

    async def test_a_client_that_takes_nothing_is_given_up(self) -> None:
        rig = Rig(stall_timeout_secs=5)
        client = rig.client()
        instance = await rig.ask(client, STREAMING)
        instance.receive(STREAM_HEAD + chunk(b"one"))
        client.protocol.pause_writing()  # type: ignore[union-attr]
        await rig.pass_time(6)
        assert instance.aborted
        assert client.is_closing()
        rig.assert_nothing_is_held()


async def test_a_body_that_is_no_json_is_refused_at_once() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(post(b"{"))
    await rig.settle()
    status, message = error_of(client.take())
    assert status == 400
    assert message.startswith("Invalid JSON format")
    assert not client.is_closing()
    assert rig.backend.opened == []


async def test_a_body_nested_too_deep_is_refused() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(post(b'{"a":' + b"[" * 100_000))
    await rig.settle()
    assert error_of(client.take())[0] == 400


@pytest.mark.parametrize(("header", "session"), [("X-Session-ID: h\r\n", "h"), ("X-Session-ID:\r\n", "s"), ("", "s")])
async def test_the_session_that_a_header_names_goes_first(header: str, session: str) -> None:
    rig = Rig()
    instance = await rig.ask(rig.client(), b'{"prompt": "hello", "session_id": "s"}', headers=header)
    instance.receive(answer())
    await rig.settle()
    assert rig.records[0].tags.startswith(f"[session_id:{session}] ")


async def test_the_log_tells_a_requests_life() -> None:
    rig = Rig()
    client = rig.client()
    body = b'{"prompt": "hello", "req_id": "r", "request_id": "e", "session_id": "s"}'
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    instance = await rig.ask(client, body, headers=f"traceparent: {trace}\r\n")
    instance.receive(answer())
    await rig.settle()
    tags = "[trace_id:0af7651916cd43dd8448eb211c80319c] [req_id:r] [session_id:s] [request_id:e] "
    messages = [line.partition(tags)[2] for line in rig.log_lines]
    assert messages == [
        "Parsing completed; starting worker selection.",
        "select worker (mixed): http://10.0.0.1:8000, count: 1",
        "release prefill tokens: http://10.0.0.1:8000, tokens: 0",
        "release worker: http://10.0.0.1:8000, count: 0",
        "Request completed successfully.",
        "[POST] /v1/completions HTTP/1.1 200 0s 10.9.9.1 instance=http://10.0.0.1:8000 ttft=0.0ms bytes=4 attempts=1",
    ]
    assert "hello" not in rig.outlet.text


async def test_an_instances_own_error_is_no_success_in_the_log() -> None:
    rig = Rig(1)
    client = rig.client()
    (await rig.ask(client)).receive(b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nfine")
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 500 Oops\r\n")
    assert "Request completed with an error. The instance's answer has status 500" in rig.outlet.text
    assert "successfully" not in rig.outlet.text


async def test_failures_are_counted() -> None:
    rig = Rig()
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    (await rig.ask(rig.client())).receive(answer())
    page = rig.telemetry.metrics.render().decode()
    assert 'reason="refused"' in page


def test_fake_transport_is_strict() -> None:
    transport = FakeTransport(None)
    with pytest.raises(AssertionError):
        transport.resume_reading()


class TestWhatIsNoClientsToSay:
    """Where a KV cache is, and which rank serves: an engine does as it is told there."""

    BODY = b'{"prompt": "hello", "kv_transfer_params": {"remote_host": "10.0.0.66", "do_remote_prefill": true}}'

    async def test_a_body_that_says_it_is_refused(self) -> None:
        rig = Rig()
        client = rig.client()
        client.receive(post(self.BODY))
        await rig.settle()
        status, message = error_of(client.take())
        assert status == 400
        assert message.startswith("kv_transfer_params: only a router tells this to an engine; leave it out")
        assert rig.counts() == [(0, 0), (0, 0)]
        rig.assert_nothing_is_held()

    async def test_it_passes_where_the_configuration_lets_it(self) -> None:
        rig = Rig(client_transfer_members=True)
        instance = await rig.ask(rig.client(), self.BODY)
        assert instance.take().endswith(self.BODY)

    async def test_a_header_that_names_a_rank_is_dropped(self) -> None:
        rig = Rig()
        instance = await rig.ask(rig.client(), headers="X-Data-Parallel-Rank: 7\r\nX-Kept: 1\r\n")
        sent = instance.take().lower()
        assert b"x-kept: 1" in sent
        assert b"rank" not in sent


async def test_a_rank_that_was_chosen_is_asked_for_by_a_header() -> None:
    rig = Rig(1)
    (one,) = rig.instances
    ranks = Ranks[Instance]()
    ranks.set(one, 2)
    chooser = RoundRobinPolicy(Environment(rig.timers.time, random.Random(1)))
    scheduler = Scheduler[Instance](AskedGroup(rig.available), chooser, lambda: "none is there", expand=ranks.view())
    rig.change(select=scheduler.select)
    for number in (0, 1, 0):
        client = rig.client()
        instance = await rig.ask(client, headers="X-Data-Parallel-Rank: 9\r\n")
        sent = instance.take()
        assert sent.lower().count(b"data-parallel") == 1
        assert f"x-data-parallel-rank: {number}\r\nhost: {one.key}\r\n".encode() in sent
        assert [rank.running for rank in ranks.of(one)] == [number == 0, number == 1]
        instance.receive(answer())
        await rig.settle()
        assert client.take().endswith(b"fine")
        rig.assert_nothing_is_held()
        assert [rank.running for rank in ranks.of(one)] == [0, 0]
