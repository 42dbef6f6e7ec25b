"""The tokenizer's client: what it asks, what it does without an answer, and that nobody waits for others."""

from __future__ import annotations

import asyncio
import json
from array import array
from typing import Any

import pytest

from fd_router.errors import ConfigError, UpstreamError
from fd_router.openai.completion import Completion, RequestFields
from fd_router.tokenization.service import EngineTokenizer, ServiceTokenizer, tokenizer_address

FALLBACK = "cache-aware prefill: tokenizer failed, fallback to char tokens: "


class Service:
    """Answers with the code points, unless told otherwise."""

    def __init__(self, **options: Any) -> None:
        self.now = 10.0
        self.asked: list[dict[str, str]] = []
        self.answer: tuple[int, bytes] | Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.lines: list[tuple[str, str]] = []
        self.tokenizer = ServiceTokenizer(self.post, clock=lambda: self.now, log=self, **options)

    def warn(self, message: str, tags: str = "") -> None:
        self.lines.append((tags, message))

    async def post(self, body: bytes, limit: float) -> tuple[int, bytes]:
        self.asked.append(json.loads(body))
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or (200, json.dumps({"input_ids": list(map(ord, self.asked[-1]["text"]))}).encode())


def completion(prompt: str) -> Completion:
    made = Completion(json.dumps({"prompt": prompt}).encode())
    made.tags = "[request_id:r] "
    return made


async def prepare(service: Service, prompt: str) -> list[int] | None:
    made = completion(prompt)
    if (waiting := service.tokenizer.prepare(made)) is not None:
        await waiting
    return None if made.token_ids is None else list(made.token_ids)


async def test_the_prompt_goes_by_three_names() -> None:
    service = Service()
    assert await prepare(service, "aé") == [97, 233]
    assert service.asked == [{"text": "aé", "prompt": "aé", "message": "aé"}]
    assert service.lines == []


async def test_the_prompt_as_engines_have_it_where_policies_go_by_that() -> None:
    service = Service(reads_engine_prompt=True)
    made = Completion(b'{"messages": [{"content": "a"}], "tools": [1]}')
    if (waiting := service.tokenizer.prepare(made)) is not None:
        await waiting
    assert made.token_ids == array("I", map(ord, "[1] a"))


async def test_the_last_answers_are_remembered() -> None:
    service = Service(remembered=2)
    for prompt in ("a", "b", "a", "c", "a", "b"):
        assert await prepare(service, prompt) == [ord(prompt)]
    assert [each["text"] for each in service.asked] == ["a", "b", "c", "b"]
    assert service.tokenizer.prepare(completion("b")) is None  # at once, nothing to wait for
    assert repr(service.tokenizer) == "<ServiceTokenizer 2 answers remembered>"


async def test_answers_are_remembered_up_to_so_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fd_router.tokenization.service.REMEMBERED_TOKENS", 5)
    service = Service()
    for prompt in ("aa", "bbb", "bbb", "c", "bbb", "aa", "dddddd", "c"):
        assert await prepare(service, prompt) == list(map(ord, prompt))
    assert [each["text"] for each in service.asked] == ["aa", "bbb", "c", "aa", "dddddd", "c"]


async def test_two_answers_for_one_prompt_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fd_router.tokenization.service.REMEMBERED_TOKENS", 5)
    service = Service()
    service.gate.clear()
    both = asyncio.gather(prepare(service, "aaa"), prepare(service, "aaa"))
    await asyncio.sleep(0)
    service.gate.set()
    await both
    await prepare(service, "bb")
    assert await asyncio.gather(prepare(service, "aaa"), prepare(service, "bb")) == [[97] * 3, [98] * 2]
    assert [each["text"] for each in service.asked] == ["aaa", "aaa", "bb"]


async def test_an_empty_prompt_is_not_asked_for() -> None:
    service = Service()
    assert await prepare(service, "") is None
    assert service.asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((400, b"oops"), "status 400"),
        ((200, b'{"input_ids": []}'), "no tokens in the answer"),
        ((200, b"not json"), "JSON is malformed"),
        ((200, b'{"ids": [1]}'), "missing required field"),
        ((200, b'{"input_ids": [-1]}'), ""),
        ((200, b'{"input_ids": [99999999999]}'), ""),
        ((200, b"\xff"), ""),
    ],
)
async def test_a_bad_answer_is_one_warning_and_characters_do(answer: tuple[int, bytes], why: str) -> None:
    service = Service()
    service.answer = answer
    assert await prepare(service, "a") is None
    ((tags, line),) = service.lines
    assert tags == "[request_id:r] "
    assert line.startswith(FALLBACK + why) or why in line
    service.answer = None
    assert await prepare(service, "a") == [97]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (UpstreamError("refused", "connection refused", instance="http://t:1"), "connection refused"),
        ((500, b"oops"), "status 500"),
        ((429, b"oops"), "status 429"),
    ],
)
async def test_a_service_that_is_down_is_left_alone_for_a_while(answer: Any, why: str) -> None:
    service = Service()
    service.answer = answer
    for _ in range(5):
        assert await prepare(service, "a") is None
    assert len(service.asked) == 1
    assert service.lines == [("[request_id:r] ", FALLBACK + why)]
    service.now += 1
    service.answer = None
    assert await prepare(service, "a") == [97]


async def test_the_time_limit_includes_the_turn_and_others_go_on() -> None:
    service = Service(time_limit=0.02, max_concurrent=1)
    await prepare(service, "known")
    service.gate.clear()
    both = asyncio.gather(prepare(service, "a"), prepare(service, "b"))
    await asyncio.sleep(0)
    assert await prepare(service, "known") is not None
    assert await asyncio.wait_for(both, 5) == [None, None]
    assert [line for _, line in service.lines] == [FALLBACK + "no answer within 0.02 s"] * 2
    asked = [each["text"] for each in service.asked]
    assert asked[:2] == ["known", "a"]  # on a busy machine "b" may have its turn as its time is up


async def test_no_more_than_allowed_at_once() -> None:
    service = Service(max_concurrent=2)
    service.gate.clear()
    all_of_them = asyncio.gather(*(prepare(service, str(number)) for number in range(5)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(service.asked) == 2
    service.gate.set()
    await all_of_them
    assert len(service.asked) == 5


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://10.0.0.1:8098", ("10.0.0.1:8098", "10.0.0.1", 8098, "/tokenize")),
        ("http://10.0.0.1:8098/", ("10.0.0.1:8098", "10.0.0.1", 8098, "/tokenize")),
        ("http://t.local/v2/tok?x=1", ("t.local:80", "t.local", 80, "/v2/tok?x=1")),
        ("http://[::1]:9", ("[::1]:9", "::1", 9, "/tokenize")),
        ("t:1", ("t:1", "t", 1, "/tokenize")),
        ("t.local/tok", ("t.local:80", "t.local", 80, "/tok")),
        ("https://t", ("t:443", "t", 443, "/tokenize")),
    ],
)
def test_address(url: str, expected: tuple[str, str, int, str]) -> None:
    address = tokenizer_address(url)
    assert (address.key, address.host, address.port, address.path) == expected


@pytest.mark.parametrize(
    "url", ["ftp://t:1", "http://", "http://t:99999", "http://t:x", "http://é:1", "https://[::1", "http://[x]:1"]
)
def test_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="scheduler.tokenizer-url"):
        tokenizer_address(url)


async def test_engines_answer_by_another_name() -> None:
    service = Service()
    service.answer = (200, b'{"count":2,"max_model_len":2048,"tokens":[1,387],"token_strs":null}')
    assert await prepare(service, "x") == [1, 387]


class EngineService(Service):
    """An engine's own tokenizer: one token, whatever is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = EngineTokenizer(self.post, clock=lambda: self.now, log=self)
        self.answer = (200, b'{"count":1,"tokens":[7]}')

    async def ask(self, **body: Any) -> list[int] | None:
        made = Completion(json.dumps(body).encode())
        if (waiting := self.tokenizer.prepare(made)) is not None:
            await waiting
        return None if made.token_ids is None else list(made.token_ids)


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]}


async def test_an_engine_is_asked_with_what_its_template_goes_by() -> None:
    service = EngineService()
    assert await service.ask(**CHAT, temperature=0.5, stream=True, add_generation_prompt=False) == [7]
    assert service.asked == [{**CHAT, "add_generation_prompt": False}]
    assert await service.ask(model="m", prompt="text", max_tokens=5) == [7]
    assert service.asked[1:] == [{"model": "m", "prompt": "text"}]


async def test_an_answer_is_remembered_with_all_that_was_asked() -> None:
    service = EngineService()
    for _ in range(2):
        await service.ask(**CHAT, temperature=0.5)
        await service.ask(**CHAT, temperature=0.7)
    assert len(service.asked) == 1
    await service.ask(**CHAT, chat_template_kwargs={"enable_thinking": True})
    assert len(service.asked) == 2


async def test_what_an_engine_cant_be_asked_about() -> None:
    service = EngineService()
    embeddings = Completion(b'{"input": "x"}', (), RequestFields(prompt="x"))
    assert service.tokenizer.prepare(embeddings) is None
    assert service.asked == []
