"""What a request leaves behind when it is over: nothing that only the garbage collector could free."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fd_router.config.scheduling import SchedulerConfig
from fd_router.errors import UpstreamError
from fd_router.instances.instance import Health, Instance
from fd_router.openai.completion import Completion
from fd_router.routing.continuation.contracts import Move
from fd_router.routing.continuation.journal import Journal
from fd_router.routing.continuation.pair_leg import ContinuingPair
from fd_router.routing.continuation.single_leg import SingleLeg
from fd_router.routing.continuation.stream import StreamContinuation
from fd_router.routing.life import RequestLife
from fd_router.routing.pair_legs import PairLeg
from fd_router.routing.phase import HELD
from fd_router.routing.request_queue import QueueTicket
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.policies import make_policy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.reservation import Reservation
from fd_router.scheduling.scheduler import Scheduler
from tests.routing.continuation.test_pair_stream import PairStreamRig
from tests.routing.test_request_queue import CrowdedRig
from tests.routing.test_waiting import HoldingPolicy
from tests.support.no_collector import no_collector
from tests.support.pair_rig import PairRig
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post
from tests.support.scheduling_fakes import AskedGroup
from tests.support.stream_rig import StreamRig

OF_A_REQUEST = (
    RequestLife, Completion, PairLeg, QueueTicket, Reservation, StreamContinuation, ContinuingPair, SingleLeg, Journal,
    UpstreamError,
)  # fmt: skip

STREAMED = b'{"prompt": "hello", "stream": true, "request_id": "r"}'
EVENT = chunk(b'data: {"a": 1}\n\n')


@pytest.fixture(scope="module", autouse=True)
def only_what_is_new() -> None:
    """Keep what was there before out of collections and ``gc.get_objects``: a million objects, looked at often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    with no_collector():
        yield


def live() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, OF_A_REQUEST)]


async def completed() -> Rig:
    rig = Rig()
    (await rig.ask(rig.client(), STREAMED)).receive(STREAM_HEAD + EVENT + STREAM_END)
    return rig


async def completed_over_http_1_0() -> Rig:
    rig = Rig()
    (await rig.ask(rig.client(), STREAMED, version="1.0")).receive(STREAM_HEAD + EVENT + STREAM_END)
    return rig


async def refused_and_tried_elsewhere() -> Rig:
    rig = Rig()
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError()]
    (await rig.ask(rig.client())).receive(answer())
    return rig


async def out_of_attempts() -> Rig:
    rig = Rig(1)
    rig.backend.failures["10.0.0.1"] = [ConnectionRefusedError() for _ in range(9)]
    rig.client().receive(post())
    return rig


async def no_instance() -> Rig:
    rig = Rig(0)
    rig.client().receive(post())
    return rig


async def no_json() -> Rig:
    rig = Rig()
    rig.client().receive(post(b"{"))
    return rig


async def cut_off() -> Rig:
    rig = Rig()
    instance = await rig.ask(rig.client(), STREAMED)
    instance.receive(STREAM_HEAD + EVENT)
    instance.lose()
    return rig


async def client_gone() -> Rig:
    rig = Rig()
    await rig.ask(client := rig.client(), STREAMED)
    client.lose()
    return rig


async def client_gone_while_connecting() -> Rig:
    rig = Rig()
    rig.backend.hanging.add("10.0.0.1")
    client = rig.client()
    client.receive(post())
    await rig.settle()
    client.lose()
    return rig


async def client_gone_while_preparing() -> Rig:
    rig, ready = Rig(), asyncio.Event()

    async def wait() -> None:
        await ready.wait()

    rig.change(prepare=lambda _: wait())
    client = rig.client()
    client.receive(post())
    await rig.settle()
    client.lose()
    ready.set()
    return rig


async def aborted() -> Rig:
    rig = Rig()
    instance = await rig.ask(rig.client(), STREAMED)
    instance.receive(STREAM_HEAD + EVENT)
    for request in rig.context.in_flight.find("r"):
        request.on_aborted()
    del request
    return rig


async def overdue() -> Rig:
    rig = Rig()
    await rig.ask(rig.client(), STREAMED)
    for request in rig.state.proxied_requests():
        request.on_overdue(99.0)
    del request
    return rig


async def client_gone_while_queued() -> Rig:
    rig = CrowdedRig()
    await rig.send("a")
    (await rig.send("b")).lose()
    await rig.answer_one()
    return rig


async def waited_too_long() -> Rig:
    rig = CrowdedRig(queue_timeout_secs=1.0)
    await rig.send("a")
    await rig.send("b")
    await rig.pass_time(2.0)
    await rig.answer_one()
    return rig


async def queued_and_served() -> Rig:
    rig = CrowdedRig()
    for name in "ab":
        await rig.send(name)
    for _ in range(2):
        await rig.answer_one()
    return rig


def held_rig() -> tuple[Rig, HoldingPolicy]:
    rig, policy = Rig(), HoldingPolicy()
    rig.change(select=Scheduler[Instance](AskedGroup(rig.available), policy, lambda: "none is there").select)
    return rig, policy


async def client_gone_while_held() -> Rig:
    rig, policy = held_rig()
    client = rig.client()
    client.receive(post())
    await rig.settle()
    client.lose()
    policy.placed.clear()
    return rig


async def held_and_served() -> Rig:
    rig, policy = held_rig()
    rig.client().receive(post())
    await rig.settle()
    policy.send()
    await rig.settle()
    rig.backend.opened[0].receive(answer())
    policy.placed.clear()
    return rig


async def pair_completed() -> Rig:
    rig = PairRig()
    prefill, decode = await rig.pair(rig.client(), STREAMED)
    prefill.receive(STREAM_HEAD + EVENT + STREAM_END)
    decode.receive(STREAM_HEAD + EVENT + STREAM_END)
    return rig


async def pair_whose_prefill_is_drained() -> Rig:
    rig = PairRig()
    prefill, decode = await rig.pair(rig.client(), STREAMED)
    decode.receive(STREAM_HEAD + EVENT + STREAM_END)
    await rig.settle()
    prefill.receive(STREAM_HEAD + EVENT + STREAM_END)
    return rig


async def pair_whose_decode_is_lost() -> Rig:
    rig = PairRig()
    prefill, decode = await rig.pair(rig.client(), STREAMED)
    prefill.receive(STREAM_HEAD + EVENT)
    decode.receive(STREAM_HEAD + EVENT)
    decode.lose()
    return rig


async def pair_refused() -> Rig:
    rig = PairRig()
    _, decode = await rig.pair(rig.client(), STREAMED)
    decode.receive(answer(b"too long", "400 Bad Request"))
    return rig


async def pair_tried_elsewhere() -> Rig:
    rig = PairRig()
    prefill, _ = await rig.pair(rig.client(), STREAMED)
    prefill.lose()
    await rig.settle()
    for transport in rig.reached():
        transport.receive(STREAM_HEAD + EVENT + STREAM_END)
    return rig


async def pair_without_a_client() -> Rig:
    rig = PairRig()
    await rig.pair(client := rig.client(), STREAMED)
    client.lose()
    return rig


async def stream_goes_on() -> Rig:
    rig = StreamRig()
    (await rig.begin(rig.client(), 500)).lose()
    await rig.answer_next()
    return rig


async def stream_goes_on_and_its_client_leaves() -> Rig:
    rig = StreamRig()
    (await rig.begin(client := rig.client(), 500)).lose()
    await rig.answer_next(300)
    client.lose()
    return rig


async def stream_that_nobody_goes_on_with() -> Rig:
    rig = StreamRig()
    (await rig.begin(rig.client(), 500)).lose()
    for _ in range(2):
        (await rig.answer_next(0)).lose()
    return rig


async def pair_goes_on() -> Rig:
    rig = PairStreamRig()
    (await rig.begin(rig.client(), 600)).lose()
    await rig.answer_next()
    return rig


async def pair_goes_on_and_its_client_leaves() -> Rig:
    rig = PairStreamRig()
    (await rig.begin(client := rig.client(), 600)).lose()
    await rig.settle()
    client.lose()
    return rig


async def pair_goes_on_once_more() -> Rig:
    rig = PairStreamRig()
    (await rig.begin(rig.client(), 600)).lose()
    await rig.settle()
    rig.reached()[0].lose()
    await rig.answer_next()
    return rig


async def pair_that_is_moved() -> Rig:
    rig = PairStreamRig()
    await rig.begin(rig.client(), 600)
    assert rig.pair_context.in_flight.find("mine")[0].move_stream("10.0.0.101:8000", "drained") is Move.MOVED
    await rig.answer_next()
    return rig


async def pair_that_nobody_goes_on_with() -> Rig:
    rig = PairStreamRig()
    (await rig.begin(rig.client(), 600)).lose()
    for _ in range(2):
        await rig.settle()
        rig.reached()[1].lose()
    return rig


def ttft_rig() -> tuple[Rig, Policy]:
    """A rig whose policy is the real ``ttft_aware``: it begins with one long prompt at a time, the others wait."""
    rig = Rig(1)
    environment = Environment(rig.timers.time, random.Random(1), later=rig.timers.call_later)
    options = SchedulerConfig(ttft_feed_tokens=100, ttft_prefill_tokens_per_sec=1000)
    policy = make_policy("ttft_aware", environment, options)
    rig.change(select=Scheduler[Instance](AskedGroup(rig.available), policy, lambda: "none is there").select)
    return rig, policy


LONG = b'{"prompt": "%b", "stream": true}'


async def ttft_crowd() -> tuple[Rig, Policy]:
    """Send three long prompts; all but the first wait in the router."""
    rig, policy = ttft_rig()
    for _ in range(2):  # it learns that the instance tells when a prompt is done
        (await rig.ask(rig.client(), STREAMED)).receive(STREAM_HEAD + EVENT + STREAM_END)
        await rig.pass_time(1.0)
    clients = [rig.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.receive(post(LONG % (b"word %d " % number * 300)))
        await rig.settle()
    assert [request.phase for request in rig.state.proxied_requests()].count(HELD) == 2  # type: ignore[attr-defined]
    return rig, policy


async def answer_all(rig: Rig) -> None:
    """Answer what reaches the instance until nothing does any more."""
    for _ in range(20):
        busy = [x for x in rig.backend.live if not x.protocol.is_idle]  # type: ignore[union-attr]
        for transport in busy:
            transport.receive(STREAM_HEAD + EVENT + STREAM_END)
        await rig.pass_time(1.0)


async def ttft_held_and_served() -> Rig:
    rig, _ = await ttft_crowd()
    await answer_all(rig)
    return rig


async def ttft_clients_gone_while_held() -> Rig:
    rig, _ = await ttft_crowd()
    for client in rig.clients[-3:]:
        client.lose()
    await rig.pass_time(60.0)
    return rig


async def ttft_aborted_while_held() -> Rig:
    rig, _ = await ttft_crowd()
    for request in rig.state.proxied_requests():
        request.on_aborted()  # type: ignore[attr-defined]
    del request
    await rig.pass_time(60.0)
    return rig


async def ttft_instance_gone_while_held() -> Rig:
    rig, policy = await ttft_crowd()
    rig.instances[0].health = Health.UNHEALTHY
    policy.on_instance_unavailable(rig.instances[0].url)
    for transport in list(rig.backend.live):
        transport.lose()
    await answer_all(rig)
    return rig


async def aborted_while_queued() -> Rig:
    rig = CrowdedRig()
    for name in "ab":
        await rig.send(name, request_id=name)
    for request in rig.context.in_flight.find("b"):
        request.on_aborted()
    del request
    await rig.answer_one()
    return rig


async def displaced_in_the_queue() -> Rig:
    rig = CrowdedRig(max_queued=2)
    for name in "abc":
        await rig.send(name, session_id="crowd")
    await rig.send("d", session_id="other")
    for _ in range(3):
        await rig.answer_one()
    return rig


async def overdue_while_queued() -> Rig:
    rig = CrowdedRig()
    for name in "ab":
        await rig.send(name)
    for request in rig.state.proxied_requests():
        request.on_timed_out(1.0)
    del request
    return rig


ENDINGS: list[Callable[[], Awaitable[Rig]]] = [
    completed, completed_over_http_1_0, refused_and_tried_elsewhere, out_of_attempts, no_instance, no_json, cut_off,
    client_gone, client_gone_while_connecting, client_gone_while_preparing, aborted, overdue, client_gone_while_queued,
    waited_too_long, queued_and_served, client_gone_while_held, held_and_served, pair_completed,
    ttft_held_and_served, ttft_clients_gone_while_held, ttft_aborted_while_held, ttft_instance_gone_while_held,
    aborted_while_queued, displaced_in_the_queue, overdue_while_queued, pair_whose_prefill_is_drained,
    pair_whose_decode_is_lost, pair_refused, pair_tried_elsewhere, pair_without_a_client,
    stream_goes_on, stream_goes_on_and_its_client_leaves, stream_that_nobody_goes_on_with, pair_goes_on,
    pair_goes_on_and_its_client_leaves, pair_goes_on_once_more, pair_that_is_moved, pair_that_nobody_goes_on_with,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDINGS)
async def test_nothing_is_left_to_the_collector(end: Callable[[], Awaitable[Rig]]) -> None:
    before = {id(one) for one in live()}
    rig = await end()
    for _ in range(3):
        await rig.settle()
    assert rig.records
    assert all(record.finished_at for record in rig.records)
    assert [one for one in live() if id(one) not in before] == []
    rig.assert_nothing_is_held()
