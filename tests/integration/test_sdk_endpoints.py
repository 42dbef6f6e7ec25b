"""The official openai and anthropic packages at every endpoint that is served, over instances of two engines."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

import openai
from tests.support.fleet import QUICK, Fleet, eventually
from tests.support.mock_process import MockProcess, call

USER = [{"role": "user", "content": "Tell me a story"}]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two instances of vLLM and one of SGLang, which the router has to find out."""
    sglang = MockProcess(**QUICK, dialect="sglang")
    config = {"instances": {"detect-dialects": "always"}}
    with Fleet(2, config=config, mock={**QUICK, "dialect": "vllm"}, ports=[sglang.port]) as fleet:
        fleet.add(sglang)
        yield fleet


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(fleet: Fleet) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=fleet.url, api_key="sk-test", max_retries=0) as client:
        yield client


def test_the_engines_are_found_out(fleet: Fleet) -> None:
    def found() -> bool:
        return (
            fleet.router.log.count("speaks the dialect vllm") == 2 and "speaks the dialect sglang" in fleet.router.log
        )

    assert eventually(found)


class TestResponses:
    def test_whole(self, client: openai.OpenAI) -> None:
        response = client.responses.create(model="m", input="Tell me a story", max_output_tokens=8)
        assert response.status == "incomplete"
        assert response.output_text.startswith("mock-")
        assert response.usage is not None
        assert (response.usage.output_tokens, response.usage.input_tokens_details.cached_tokens) == (8, 0)

    def test_streamed(self, client: openai.OpenAI) -> None:
        with client.responses.create(model="m", input=USER, max_output_tokens=12, stream=True) as stream:  # type: ignore[call-overload]
            events = list(stream)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert len(deltas) == 12
        assert events[-1].response.output_text == "".join(deltas)

    def test_a_response_is_where_it_was_made(self, client: openai.OpenAI) -> None:
        made = [client.responses.create(model=f"m{number}", input="hello") for number in range(6)]
        for number, response in enumerate(made):
            assert client.responses.retrieve(response.id).model == f"m{number}"
        again = client.responses.create(model="m", input="and?", previous_response_id=made[0].id)
        assert again.status == "completed"
        assert client.responses.cancel(made[1].id).status == "cancelled"
        client.responses.delete(made[2].id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made[2].id)

    def test_one_that_nobody_knows(self, client: openai.OpenAI, fleet: Fleet) -> None:
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.responses.retrieve("resp_lost")
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.responses.create(model="m", input="and?", previous_response_id="resp_lost")
        asked = [entry for mock in fleet.mocks for entry in mock.call("GET", "/mock/requests")[1]["requests"]]
        assert sum(entry["path"] == "/v1/responses/resp_lost" for entry in asked) == 2  # and SGLang's

    def test_one_that_was_made_past_the_router(self, client: openai.OpenAI, fleet: Fleet) -> None:
        for mock in fleet.mocks:
            status, answer = mock.call("POST", "/v1/responses", {"model": mock.key, "input": "x"})
            assert status == 200
            assert client.responses.retrieve(answer["id"]).model == mock.key


class TestMessages:
    def test_whole(self, claude: anthropic.Anthropic) -> None:
        message = claude.messages.create(model="m", max_tokens=8, messages=USER, system="Be kind.")
        assert message.stop_reason == "max_tokens"
        assert message.content[0].type == "text"
        assert message.content[0].text.startswith("mock-")
        assert message.usage.output_tokens == 8

    def test_streamed(self, claude: anthropic.Anthropic) -> None:
        with claude.messages.stream(model="m", max_tokens=12, messages=USER) as stream:
            pieces = list(stream.text_stream)
            message = stream.get_final_message()
        assert len(pieces) == 12
        assert message.content[0].text == "".join(pieces)  # type: ignore[union-attr]
        assert message.usage.output_tokens == 12

    def test_counting(self, claude: anthropic.Anthropic) -> None:
        assert claude.messages.count_tokens(model="m", messages=USER).input_tokens == 4

    def test_an_error_of_the_instance(self, claude: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.BadRequestError) as caught:
            claude.messages.create(model="m", max_tokens=8, messages=[])
        assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]

    def test_an_error_of_the_router(self, fleet: Fleet) -> None:
        status, answer = fleet.router.call("POST", "/v1/messages", [])
        assert (status, answer["type"], answer["error"]["type"]) == (400, "error", "invalid_request_error")


class TestReading:
    def test_embeddings(self, client: openai.OpenAI) -> None:
        answer = client.embeddings.create(model="m", input=["one", "two", "one"], encoding_format="float")
        first, second, third = (entry.embedding for entry in answer.data)
        assert first == third != second
        assert answer.usage.total_tokens == 3

    def test_audio(self, client: openai.OpenAI) -> None:
        file = ("speech.wav", b"RIFF" + bytes(10_000))
        assert client.audio.transcriptions.create(model="m", file=file).text == "10004 bytes of speech"
        with pytest.deprecated_call():
            assert client.audio.translations.create(model="m", file=file).text == "10004 bytes of speech"
        spoken = client.audio.speech.create(model="m", voice="alloy", input="Say this.").read()
        assert spoken.startswith(b"RIFF")

    @pytest.mark.parametrize("path", ["/score", "/v1/score"])
    def test_scores(self, fleet: Fleet, path: str) -> None:
        status, answer = fleet.router.call("POST", path, {"text_1": "red fox", "text_2": ["a red fox", "a dog"]})
        assert status == 200
        assert [entry["score"] for entry in answer["data"]] == [1.0, 0.0]

    @pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
    def test_ranks(self, fleet: Fleet, path: str) -> None:
        body = {"query": "red fox", "documents": ["a dog", "a red fox"]}
        status, answer = fleet.router.call("POST", path, body)
        assert status == 200
        assert [entry["index"] for entry in answer["results"]] == [1, 0]

    @pytest.mark.parametrize("path", ["/pooling", "/classify", "/v1/reward"])
    def test_others(self, fleet: Fleet, path: str) -> None:
        status, answer = fleet.router.call("POST", path, {"input": "text"})
        assert (status, len(answer["data"])) == (200, 1)

    def test_tokens(self, fleet: Fleet) -> None:
        status, answer = fleet.router.call("POST", "/tokenize", {"messages": USER})
        assert (status, answer["count"]) == (200, len(answer["tokens"]))
        assert answer["count"] >= 4  # words; the chat's template has tokens of its own
        assert fleet.router.call("POST", "/detokenize", {"tokens": answer["tokens"]})[0] == 200

    def test_generate(self, fleet: Fleet) -> None:
        body = {"text": "Once", "sampling_params": {"max_new_tokens": 4}}
        status, answer = fleet.router.call("POST", "/generate", body)
        assert (status, answer["meta_info"]["completion_tokens"]) == (200, 4)
        status, stream = call(fleet.port, "POST", "/generate", {**body, "stream": True})
        assert stream.count(b"\ndata: ") == 5
        assert stream.endswith(b"data: [DONE]\n\n")


def test_all_of_it_is_counted(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.router.call("GET", "/v1/responses/resp_counted")
    assert fleet.metric("http_requests_total", endpoint="/v1/responses/{id}", method="GET") >= 3
    assert not [line for line in fleet.metrics().splitlines() if "resp_" in line]


def test_what_stands_behind_it(fleet: Fleet) -> None:
    def engines() -> list[str]:
        engines: list[str] = fleet.router.call("GET", "/version")[1]["engines"]
        return engines

    assert eventually(lambda: engines() == ["sglang", "vllm"])


def test_engines_paths_for_admins_are_closed_where_no_token_is_set(fleet: Fleet) -> None:
    for path in ("/flush_cache", "/sleep"):
        status, answer = fleet.router.call("POST", path, {})
        assert (status, answer["error"]["code"]) == (403, "forbidden")
    sent = [entry["path"] for mock in fleet.mocks for entry in mock.call("GET", "/mock/requests")[1]["requests"]]
    assert not {"/flush_cache", "/sleep"} & set(sent)
