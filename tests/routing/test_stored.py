"""Requests about answers that an instance keeps: they go there, or are asked of one instance after the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.http.server_context import build_server_context
from fd_router.instances.instance import Health
from fd_router.openai.endpoints import BUILT_IN
from fd_router.routing.stored import StoredAnswerRequest, StoredContext
from fd_router.routing.stored_answers import StoredAnswers
from tests.support.fake_transport import FakeTransport
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post

TABLE = {(endpoint.method, endpoint.path): endpoint for endpoint in BUILT_IN if endpoint.kind == "responses"}
RESPONSES = "/v1/responses"
UNKNOWN = answer(b'{"error":{"message":"Response with id \'resp_1\' not found."}}', "404 Not Found")
MADE = answer(b'{"id":"resp_1","object":"response","usage":null}')


class StoredRig(Rig):
    """Serves the endpoints of stored answers."""

    def __init__(self, instances: int = 3, answers: StoredAnswers | None = None, **settings: Any) -> None:
        super().__init__(instances, **settings)
        self.answers = StoredAnswers() if answers is None else answers
        paths: dict[str, dict[str, Any]] = {}
        for (method, path), endpoint in TABLE.items():
            segment = 3 if "{" in path else 0
            context = StoredContext(
                **{name: getattr(self.context, name) for name in self.context.__struct_fields__ if name != "endpoint"},
                endpoint=endpoint,
                answers=self.answers,
                find_instance={instance.key: instance for instance in self.instances}.get,
                id_segment=segment,
            )
            paths.setdefault(path, {})[method] = self.starter(context)
        ids = (f"id-{number}" for number in range(1_000_000))
        self.server = build_server_context(
            {}, paths, self.live, self.state, sweeper=self.sweeper, batcher=self.batcher, clock=self.timers.time,
            make_id=ids.__next__, log=self.telemetry.log, finish=self.telemetry.finish,
        )  # fmt: skip

    def starter(self, context: StoredContext) -> Any:
        def start(request: Any, client: Any, record: Any) -> StoredAnswerRequest:
            record.key = self.key
            self.records.append(record)
            return StoredAnswerRequest(context, request, client, record)

        return start

    key = ""

    async def create(self, client: FakeTransport, said: bytes = MADE, **body: Any) -> FakeTransport:
        instance = await self.ask(client, json.dumps({"input": "hello", **body}).encode(), path=RESPONSES)
        instance.take()
        instance.receive(said)
        await self.settle()
        client.take()
        return instance

    async def get(self, client: FakeTransport, name: str = "resp_1", method: str = "GET", more: str = "") -> None:
        client.receive(f"{method} {RESPONSES}/{name}{more} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        await self.settle()

    def asked(self) -> list[FakeTransport]:
        return self.backend.opened


def first_line(transport: FakeTransport) -> str:
    return transport.take().partition(b"\r\n")[0].decode()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_it_goes_where_the_answer_is_kept(method: str) -> None:
    rig = StoredRig()
    client = rig.client()
    await rig.create(rig.client(), answer(b'{"id":"resp_0"}'))
    keeper = await rig.create(client)
    for _ in range(3):
        await rig.get(client, method=method, more="?stream=true")
        assert first_line(keeper) == f"{method} /v1/responses/resp_1?stream=true HTTP/1.1"
        keeper.receive(MADE)
        await rig.settle()
        assert client.take().endswith(b'"usage":null}')
    await rig.get(client, method="POST", more="/cancel")
    assert first_line(keeper) == "POST /v1/responses/resp_1/cancel HTTP/1.1"
    keeper.receive(MADE)
    await rig.settle()
    rig.assert_nothing_is_held()
    assert {record.endpoint for record in rig.records} == {
        RESPONSES, "/v1/responses/{id}", "/v1/responses/{id}/cancel",
    }  # fmt: skip


async def test_the_id_is_found_in_a_stream_too() -> None:
    rig = StoredRig()
    client = rig.client()
    instance = await rig.ask(client, b'{"input": "hello", "stream": true}', path=RESPONSES)
    instance.receive(STREAM_HEAD)
    instance.receive(chunk(b'event: response.created\ndata: {"response":{"id":"resp_7"}}\n\n'))
    instance.receive(chunk(b'event: x\ndata: {"response":{"id":"resp_8"}}\n\n') + STREAM_END)
    await rig.settle()
    assert rig.answers.keeper("resp_7") is not None
    assert rig.answers.keeper("resp_8") is None
    rig.assert_nothing_is_held()


async def test_a_request_that_goes_on_from_an_answer() -> None:
    rig = StoredRig()
    client = rig.client()
    keeper = await rig.create(client)
    for _ in range(3):
        body = b'{"input": "and?", "previous_response_id": "resp_1"}'
        assert await rig.ask(client, body, path=RESPONSES) is keeper
        assert rig.counts().count((1, 8)) == 1
        keeper.receive(answer(b'{"id":"resp_2"}'))
        await rig.settle()
    rig.assert_nothing_is_held()


async def test_an_unknown_id_is_asked_of_all() -> None:
    rig = StoredRig()
    client = rig.client()
    await rig.get(client)
    for number in range(3):
        instance = rig.asked()[number]
        assert first_line(instance) == "GET /v1/responses/resp_1 HTTP/1.1"
        instance.receive(UNKNOWN if number < 2 else MADE)
        await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    assert len(rig.asked()) == 3
    (record,) = rig.records
    assert (record.attempts, record.failed_attempts) == (1, ())
    rig.assert_nothing_is_held()


async def test_one_that_nobody_knows() -> None:
    rig = StoredRig(max_attempts=1)
    client = rig.client()
    await rig.get(client)
    for number in range(3):
        rig.asked()[number].receive(UNKNOWN)
        await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 404 Not Found")
    rig.assert_nothing_is_held()


async def test_an_answer_to_go_on_from_that_isnt_known_here_is_looked_for() -> None:
    rig = StoredRig(2)
    client = rig.client()
    first = await rig.ask(client, b'{"input": "and?", "previous_response_id": "resp_1"}', path=RESPONSES)
    first.receive(UNKNOWN)
    await rig.settle()
    second = next(transport for transport in rig.asked() if transport is not first)
    second.receive(answer(b'{"id":"resp_2"}'))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 200 OK")
    keeper = rig.answers.keeper("resp_2")
    assert keeper is not None
    assert keeper.instance == rig.instances[1].key
    rig.assert_nothing_is_held()


async def test_a_404_of_another_request_is_its_answer() -> None:
    rig = StoredRig()
    client = rig.client()
    instance = await rig.ask(client, b'{"input": "x", "model": "lost"}', path=RESPONSES)
    instance.receive(answer(b"no such model", "404 Not Found"))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 404 Not Found")
    assert len(rig.asked()) == 1


async def test_a_keeper_that_is_down_is_not_asked() -> None:
    rig = StoredRig(2)
    client = rig.client()
    keeper = await rig.create(client)
    rig.instances[0].health = Health.UNHEALTHY
    await rig.get(client)
    other = next(transport for transport in rig.asked() if transport is not keeper)
    other.receive(UNKNOWN)
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 404 Not Found")
    rig.assert_nothing_is_held()


async def test_another_clients_answer_is_not_there() -> None:
    rig = StoredRig()
    client = rig.client()
    rig.key = "one"
    await rig.create(client)
    rig.key = "two"
    await rig.get(client)
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body)["error"]["code"] == "not_found"
    client.receive(post(b'{"input": "and?", "previous_response_id": "resp_1"}', path=RESPONSES))
    await rig.settle()
    assert client.take().startswith(b"HTTP/1.1 404 ")
    rig.assert_nothing_is_held()


async def test_other_methods_are_not_allowed() -> None:
    rig = StoredRig()
    client = rig.client()
    await rig.get(client, method="POST")
    head = client.take()
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"allow: DELETE, GET\r\n" in head
    assert rig.server.inference_path("/v1/responses/resp_1") == "/v1/responses/{id}"


@pytest.mark.parametrize(
    "name",
    [".", "..", "../input_items", "./cancel", "%2e%2E", "..%2F..%2fflush_cache", "a%5Cb", "a\\b", "x%2fy/cancel"],
)
async def test_an_id_leads_to_no_other_path(name: str) -> None:
    """A proxy before an engine may take ``..`` and encoded slashes for what they look like: an admin's path, say."""
    rig = StoredRig()
    client = rig.client()
    await rig.get(client, name)
    head = client.take()
    assert head.startswith(b"HTTP/1.1 404 ")
    assert not rig.backend.opened


@pytest.mark.parametrize("name", ["resp_1.5", "resp%20a", "...", "a..b"])
async def test_an_id_may_have_dots_and_escapes(name: str) -> None:
    rig = StoredRig()
    await rig.get(rig.client(), name)
    assert rig.backend.opened


def test_what_is_remembered_is_bounded() -> None:
    answers = StoredAnswers(limit=3)
    for number in range(3):
        answers.keep(f"resp_{number}", "10.0.0.1:8000", "")
    assert answers.keeper("resp_0") is not None  # used last
    answers.keep("resp_3", "10.0.0.1:8000", "")
    assert len(answers) == 3
    assert answers.keeper("resp_1") is None
    assert answers.keeper("resp_0") is not None
