"""What scheduling is told of each endpoint's body: prompt, length, stream, model, limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fd_router.errors import BadRequestError
from fd_router.openai.completion import Completion
from fd_router.openai.endpoints import BUILT_IN
from fd_router.openai.kinds.audio import BYTES_PER_TOKEN

READ = {endpoint.path: endpoint.read for endpoint in BUILT_IN if endpoint.method == "POST"}
JSON_PATHS = [path for path in READ if not path.startswith(("/v1/audio/tr", "/v1/responses/{"))]


def read(path: str, body: dict[str, Any]) -> Completion:
    return READ[path](json.dumps(body).encode(), ())


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/v1/responses", {"input": "Hello"}, "Hello"),
        ("/v1/responses", {"instructions": "Be short.", "input": [{"role": "user", "content": "Hi"}]}, "Be short. Hi"),
        (
            "/v1/responses",
            {
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                    {"type": "function_call", "name": "weather", "arguments": '{"city":"Oslo"}', "call_id": "1"},
                    {"type": "function_call_output", "call_id": "1", "output": "Rain."},
                ]
            },
            'Weather? {"city":"Oslo"} Rain.',
        ),
        ("/v1/messages", {"system": "Be kind.", "messages": [{"role": "user", "content": "Hi"}]}, "Be kind. Hi"),
        (
            "/v1/messages",
            {
                "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"data": "aaaa"}}]},
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "xyz"}]},
                    {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "7"}]}]},
                ],
            },
            "Be kind. Hm. 7",
        ),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hi"}]}, "Hi"),
        ("/v1/embeddings", {"input": ["one", "two"]}, "one two"),
        ("/v1/embeddings", {"messages": [{"role": "user", "content": "one"}]}, "one"),
        ("/score", {"text_1": "query", "text_2": ["one", "two"]}, "query one two"),
        ("/v1/score", {"query": "query", "items": ["one"]}, "query one"),
        ("/v1/rerank", {"query": "query", "documents": ["one", {"text": "two"}]}, "query one two"),
        ("/classify", {"input": "text"}, "text"),
        ("/pooling", {"input": "text"}, "text"),
        ("/v1/audio/speech", {"input": "Say this.", "voice": "x"}, "Say this."),
        ("/tokenize", {"prompt": "text"}, "text"),
        ("/tokenize", {"messages": [{"role": "user", "content": "text"}]}, "text"),
        ("/generate", {"text": "Once", "sampling_params": {"max_new_tokens": 7}}, "Once"),
        ("/generate", {"text": ["Once", "Twice"]}, "Once Twice"),
    ],
)
def test_the_prompt(path: str, body: dict[str, Any], prompt: str) -> None:
    completion = read(path, body)
    assert completion.prompt == prompt
    assert completion.tokens == 2 * len(prompt)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": [7, 8, 9]}),
        ("/v1/embeddings", {"input": [[7], [8, 9]]}),
        ("/detokenize", {"tokens": [7, 8, 9]}),
        ("/generate", {"input_ids": [7, 8, 9]}),
        ("/generate", {"input_ids": [[7, 8], [9]]}),
    ],
)
def test_a_prompt_of_tokens(path: str, body: dict[str, Any]) -> None:
    completion = read(path, body)
    assert list(completion.token_ids or ()) == [7, 8, 9]
    assert completion.prompt == ""


@pytest.mark.parametrize("path", JSON_PATHS)
def test_model_user_and_stream(path: str) -> None:
    completion = read(path, {"model": "tiny", "user": "me", "stream": True})
    assert (completion.model, completion.user, completion.stream) == ("tiny", "me", True)
    completion = read(path, {"model": 7, "stream": "perhaps"})
    assert (completion.model, completion.user, completion.stream) == ("", "", False)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"max_output_tokens": 7}),
        ("/v1/messages", {"max_tokens": 7}),
        ("/generate", {"sampling_params": {"max_new_tokens": 7}}),
    ],
)
def test_the_most_tokens_of_the_answer(path: str, body: dict[str, Any]) -> None:
    assert read(path, body).max_tokens == 7


@pytest.mark.parametrize("path", JSON_PATHS)
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"input": ', b"\xff\xfe{\x00}\x00", b"[" * 100_000])
def test_what_no_instance_could_read(path: str, body: bytes) -> None:
    with pytest.raises(BadRequestError) as caught:
        READ[path](body, ())
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("path", JSON_PATHS)
@pytest.mark.parametrize("value", [None, 7, {}, [], [None, 1.5], [[1, "a", 2.5]], [{"text": 7}], [-1], [[2**40]]])
def test_values_of_unexpected_types_are_the_instances_matter(path: str, value: object) -> None:
    body = dict.fromkeys(("input", "messages", "query", "documents", "prompt", "text", "input_ids", "tokens"), value)
    completion = read(path, body)
    assert completion.tokens >= 0


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize("size", [10, 400_000])
def test_what_only_the_tolerant_decoder_reads(path: str, size: int) -> None:
    body = b'{"input": "%b \\ud800", "temperature": NaN}' % (b"x" * size)
    assert READ[path](body, ()).tokens >= 2 * size


def test_lists_in_lists_end_somewhere() -> None:
    nested: Any = "deep"
    for _ in range(500):
        nested = [nested]
    assert read("/v1/embeddings", {"input": nested}).prompt == ""


class TestStored:
    def test_the_answer_that_is_gone_on_from(self) -> None:
        assert read("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}).previous_response_id == "resp_1"
        assert read("/v1/responses", {"input": "x", "previous_response_id": None}).previous_response_id == ""
        assert read("/v1/chat/completions", {"previous_response_id": "resp_1"}).previous_response_id == ""

    def test_a_request_without_a_body(self) -> None:
        completion = READ["/v1/responses/{id}/cancel"](b"", ())
        assert (completion.tokens, completion.model) == (0, "")


class TestForms:
    KIND = ((b"Content-Type", b"multipart/form-data; boundary=XX"),)

    def form(self, *parts: tuple[str, bytes]) -> bytes:
        lines = [
            b'--XX\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
            for name, value in parts
        ]
        return b"".join(lines) + b"--XX--\r\n"

    def test_fields_and_the_length_of_the_recording(self) -> None:
        recording = bytes(100 * BYTES_PER_TOKEN)
        body = self.form(
            ("model", b"whisper"), ("stream", b"true"), ("prompt", b"words"), ('file"; filename="a.wav', recording)
        )
        completion = READ["/v1/audio/transcriptions"](body, self.KIND)
        assert (completion.model, completion.stream, completion.prompt) == ("whisper", True, "words")
        assert completion.tokens == 2 * len("words") + 100

    def test_a_recording_that_looks_like_fields(self) -> None:
        inside = b'\r\n--XY\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n'
        body = self.form(('file"; filename="a.wav', inside), ("model", b"whisper"))
        assert READ["/v1/audio/translations"](body, self.KIND).model == "whisper"

    def test_a_quoted_boundary(self) -> None:
        kind = ((b"content-type", b'Multipart/Form-Data; charset=utf-8; boundary="XX"'),)
        assert READ["/v1/audio/translations"](self.form(("model", b"m")), kind).model == "m"

    @pytest.mark.parametrize(
        "body", [b"", b"--XX", b"--XX\r\n", b"--XX\r\nno head", b"--XX--", b"--XX\r\n\r\n--XX\r\n"]
    )
    def test_what_isnt_whole_is_the_instances_matter(self, body: bytes) -> None:
        assert READ["/v1/audio/translations"](body, self.KIND).model == ""

    @pytest.mark.parametrize("kind", [b"", b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=X"])
    def test_what_is_no_form(self, kind: bytes) -> None:
        with pytest.raises(BadRequestError, match="multipart/form-data with a boundary"):
            READ["/v1/audio/translations"](b"", ((b"Content-Type", kind),))
