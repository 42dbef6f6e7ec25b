"""The official openai package, as applications use it."""

import asyncio
import json

import pytest

import openai
from tests.support.fleet import eventually
from tests.support.waiting import until

FLEET = {"mock": {"decode_ms_per_token": 2, "prefill_tokens_per_sec": 1_000_000}}

MESSAGES = [{"role": "user", "content": "Tell me a story — 讲个故事"}]
FOREVER = 1_000_000


@pytest.fixture(scope="module")
def client(fleet):
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(fleet):
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="sk-test", max_retries=0) as client:
        yield client


def set_faults(fleet, *faults):
    for mock in fleet.mocks:
        mock.set_faults(*faults)


def disconnected(fleet):
    return sum(mock.state()["disconnected"] for mock in fleet.mocks)


def live(fleet):
    return sum(mock.state()["live"] for mock in fleet.mocks)


def test_chat(client, fleet):
    answer = client.chat.completions.create(model="some-model", messages=MESSAGES, max_tokens=8)
    assert answer.model == "some-model"
    assert answer.choices[0].message.content.startswith("mock-")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer._request_id


def test_completions_reach_their_own_path(client, fleet):
    answer = client.completions.create(model="some-model", prompt="Once upon a time", max_tokens=4)
    assert answer.object == "text_completion"
    assert answer.choices[0].text.startswith("mock-")
    assert [one["path"] for mock in fleet.mocks for one in mock.completions()] == ["/v1/completions"]


def test_streamed_chat_is_whole(client):
    with client.chat.completions.create(
        model="m", messages=MESSAGES, max_tokens=40, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len([piece for piece in pieces if piece]) == 40
    assert "".join(pieces).startswith("mock-")
    assert "reads the prompt, looks up its blocks" in "".join(pieces)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 40


def test_streamed_completion_is_whole(client):
    with client.completions.create(model="m", prompt="Once", max_tokens=12, stream=True) as stream:
        pieces = [chunk.choices[0].text for chunk in stream]
    assert len([piece for piece in pieces if piece]) == 12


def test_a_stream_comes_as_it_is_made_not_at_its_end(client, fleet):
    with client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=FOREVER, stream=True) as stream:
        for _, chunk in zip(range(5), stream, strict=False):
            assert chunk.choices[0].finish_reason is None
        assert live(fleet) == 1


async def test_many_async_streams_at_once_dont_mix(async_client):
    async def run(number):
        stream = await async_client.chat.completions.create(
            model=f"model-{number}", messages=MESSAGES, max_tokens=10 + number, stream=True
        )
        chunks = [chunk async for chunk in stream]
        assert {chunk.model for chunk in chunks} == {f"model-{number}"}
        assert len({chunk.id for chunk in chunks}) == 1
        return len([chunk for chunk in chunks if chunk.choices[0].delta.content])

    assert await asyncio.gather(*map(run, range(40))) == [10 + number for number in range(40)]


async def test_async_chat(async_client):
    answers = await asyncio.gather(
        *[
            async_client.chat.completions.create(model=f"model-{number}", messages=MESSAGES, max_tokens=3)
            for number in range(40)
        ]
    )
    assert [answer.model for answer in answers] == [f"model-{number}" for number in range(40)]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_instances_error_keeps_its_status_and_body(client, fleet, status, kind, stream):
    set_faults(fleet, f"status:status={status}")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    assert type(caught.value) is kind
    assert caught.value.status_code == status
    assert caught.value.code == "injected_fault"
    assert f"injected fault: {status}" in caught.value.message
    most = 2 if status in {429, 500, 503} else 1  # another instance might have answered these
    assert 1 <= sum(len(mock.completions()) for mock in fleet.mocks) <= most, "an answer was tried again"


def test_models_are_listed_and_found(client):
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == ("mock-model", "model", "fd-router mock")
    assert client.models.retrieve("mock-model") == model
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/another")
    assert caught.value.code == "model_not_found"


def test_the_routers_own_errors_have_the_shape_that_clients_parse(client, fleet):
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.list()
    assert (caught.value.code, caught.value.type, caught.value.param) == ("not_found", "invalid_request_error", None)
    assert "/v1/files" in caught.value.message

    set_faults(fleet, "reset_before_head")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.status_code == 502
    assert (caught.value.code, caught.value.type) == ("reset", "upstream_error")
    assert caught.value.body["message"].startswith("Failed to connect to backend service: http://127.0.0.1:")


@pytest.mark.parametrize(("stream", "error"), [(False, openai.InternalServerError), (True, openai.APIConnectionError)])
def test_a_broken_answer_is_an_error_not_a_short_answer(client, fleet, stream, error):
    for how in ("rst", "fin"):
        set_faults(fleet, *[f"cut_mid_body:how={how}"] * 3)
        with pytest.raises(error):
            list(client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=50, stream=stream))


def test_a_clients_timeout_ends_the_work(client, fleet):
    before = disconnected(fleet)
    set_faults(fleet, "hang_before_head")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1.0).chat.completions.create(model="m", messages=MESSAGES)
    eventually(lambda: disconnected(fleet) == before + 1)
    fleet.settle()


def test_a_stream_closed_in_the_middle_ends_the_work(client, fleet):
    before = disconnected(fleet)
    stream = client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=FOREVER, stream=True)
    assert next(iter(stream)).id
    stream.close()
    eventually(lambda: disconnected(fleet) == before + 1)
    assert live(fleet) == 0
    fleet.settle()


async def test_a_cancelled_task_ends_the_work(async_client, fleet):
    before = disconnected(fleet)
    started = asyncio.Event()

    async def read():
        stream = await async_client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=FOREVER, stream=True
        )
        async for _ in stream:
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: disconnected(fleet) == before + 1, 2)
    fleet.settle()


def test_extra_headers_and_body_reach_the_instance(client, fleet):
    client.chat.completions.create(
        model="m",
        messages=MESSAGES,
        max_tokens=1,
        extra_headers={"X-Tenant": "blue"},
        extra_body={"request_id": "client-chosen", "top_k": 5},
    )
    (received,) = [one for mock in fleet.mocks for one in mock.completions()]
    headers = {name.lower(): value for name, value in received["headers"]}
    assert headers["x-tenant"] == "blue"
    assert headers["authorization"] == "Bearer sk-test"


def test_raw_and_parsed_answers_agree(client):
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, max_tokens=2)
    assert raw.status_code == 200
    assert json.loads(raw.text)["id"] == raw.parse().id
    assert len(raw.headers["x-request-id"]) == 32
