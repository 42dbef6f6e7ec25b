"""Answers of real engines, as they came: passed on unchanged, and read for what the router wants of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fd_router.engines.dialect import Dialect, Verdict
from fd_router.engines.dialects import Dialects
from fd_router.engines.engine_load import EngineLoad
from fd_router.http.dechunk import Dechunker
from fd_router.http.handlers import find_route
from fd_router.openai.completion import Completion
from fd_router.openai.endpoints import BUILT_IN, Endpoint
from fd_router.openai.kinds.responses import find_response_id
from fd_router.tokenization.service import EngineTokenizer
from tests.support.rig import Rig

FOLDER = Path(__file__).parents[1] / "fixtures"
TABLE: dict[str, dict[str, Endpoint]] = {}
for each in BUILT_IN:
    TABLE.setdefault(each.path, {})[each.method] = each


class Fixture(NamedTuple):
    """An answer, and what was asked."""

    engine: str
    name: str
    method: str
    path: str
    asked: bytes
    raw: bytes

    @property
    def dialect(self) -> Dialect:
        return Dialects().named(self.engine)

    @property
    def endpoint(self) -> Endpoint | None:
        path = self.path if self.path in TABLE else find_route(TABLE, self.path)
        return TABLE.get(path, {}).get(self.method)

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def status(self) -> int:
        return int(self.raw.split()[1])

    @property
    def is_chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self.head.lower()

    @property
    def body(self) -> bytes:
        """The body, out of its chunks."""
        framed, pieces = self.raw.partition(b"\r\n\r\n")[2], []
        if not self.is_chunked:
            return framed
        dechunker = Dechunker(pieces.append)
        dechunker.feed(framed)
        dechunker.close()
        return b"".join(pieces)


def load() -> list[Fixture]:
    found = []
    for index in sorted(FOLDER.glob("*/index.json")):
        for name, asked in json.loads(index.read_text()).items():
            body = asked["body"]
            sent = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
            raw = (index.parent / f"{name}.http").read_bytes()
            found.append(Fixture(index.parent.name, name, asked["method"], asked["path"], sent, raw))
    return found


ALL = load()
BY_NAME = {(each.engine, each.name): each for each in ALL}
ENGINES = sorted({each.engine for each in ALL})


def of(engine: str, name: str) -> Fixture:
    if (engine, name) not in BY_NAME:
        pytest.skip(f"no {name} of {engine}")
    return BY_NAME[engine, name]


def params(fixtures: list[Fixture]) -> list[Any]:
    return [pytest.param(each, id=f"{each.engine}-{each.name}") for each in fixtures]


@pytest.mark.parametrize("fixture", params(ALL))
async def test_it_is_passed_on_as_it_came(fixture: Fixture) -> None:
    rig = Rig(1)
    client = rig.client()
    instance = await rig.ask(client)
    instance.receive(fixture.raw)
    await rig.settle()
    head, _, body = client.take().partition(b"\r\n\r\n")
    assert head.startswith(fixture.head.split(b"\r\n")[0])
    assert body == fixture.raw.partition(b"\r\n\r\n")[2]
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("fixture", params([each for each in ALL if each.endpoint is not None and each.status < 300]))
def test_what_was_asked_is_read(fixture: Fixture) -> None:
    assert fixture.endpoint is not None
    completion = fixture.endpoint.read(fixture.asked, ((b"content-type", b"application/json"),))
    asked = json.loads(fixture.asked) if fixture.asked else {}
    assert completion.model == asked.get("model", "")
    assert completion.stream is asked.get("stream", False)
    assert (completion.tokens > 0) is bool(asked)


GENERATED = ("chat", "chat_stream", "completion", "completion_stream", "responses", "responses_stream", "messages",
             "messages_stream", "generate", "generate_stream")  # fmt: skip


@pytest.mark.parametrize("name", GENERATED)
@pytest.mark.parametrize("engine", ENGINES)
def test_its_usage_is_found(engine: str, name: str) -> None:
    fixture = of(engine, name)
    endpoint, body = fixture.endpoint, fixture.body
    assert endpoint is not None
    total = endpoint.find_total_tokens(body)
    assert total is not None
    assert total > 2
    usage = endpoint.find_usage(body)
    assert usage is not None
    assert 0 <= usage[1] <= usage[0] < total


@pytest.mark.parametrize("fixture", params([each for each in ALL if each.endpoint is not None]))
def test_what_it_means(fixture: Fixture) -> None:
    framed = fixture.raw.partition(b"\r\n\r\n")[2]
    verdict = fixture.dialect.judge("mixed", fixture.status, framed, True)
    if fixture.status == 503:
        assert verdict is Verdict.BUSY
    elif fixture.status >= 500:
        assert verdict is Verdict.ERROR
    elif fixture.status >= 400 or fixture.name == "generate_stream_error":  # by the code in it
        assert verdict is Verdict.CLIENT_ERROR
    else:
        assert verdict is Verdict.OK


@pytest.mark.parametrize("name", ["responses", "responses_stream", "responses_stored"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_stored_answers_id(engine: str, name: str) -> None:
    body = of(engine, name).body
    found = find_response_id(body)
    assert found.startswith("resp_")
    assert found.encode() in body


@pytest.mark.parametrize("name", ["responses_unknown", "responses_previous_unknown"])
@pytest.mark.parametrize("engine", ENGINES)
def test_one_that_an_instance_doesnt_keep(engine: str, name: str) -> None:
    assert of(engine, name).status == 404


def test_who_answers_so() -> None:
    table = Dialects()
    assert table.named("vllm").recognizes(of("vllm", "version").body)
    assert table.named("sglang").recognizes(of("sglang", "server_info").body)
    assert not table.named("sglang").recognizes(of("vllm", "version").body)
    for engine in ENGINES:
        page = b"\n" + of(engine, "metrics").body
        names = [one.name for one in table.all() if one.metrics_prefix and b"\n" + one.metrics_prefix in page]
        assert names == [engine]


def test_loads() -> None:
    sglang = of("sglang", "loads")
    assert sglang.dialect.read_load(sglang.body) == EngineLoad(4.0, 2.0)
    gauges = of("sglang", "metrics")
    assert gauges.dialect.read_load(gauges.body) == EngineLoad(6.0, 1.0)
    vllm = of("vllm", "metrics")
    assert vllm.dialect.read_load(vllm.body) == EngineLoad(0.0, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_tokens(engine: str) -> None:
    fixture = of(engine, "tokenize_messages")
    asked: list[Any] = []

    async def post(body: bytes, limit: float) -> tuple[int, bytes]:
        asked.append(json.loads(body))
        return fixture.status, fixture.body

    tokenizer = EngineTokenizer(post, clock=lambda: 0.0, log=None)  # type: ignore[arg-type]
    completion = Completion(fixture.asked)
    waiting = tokenizer.prepare(completion)
    assert waiting is not None
    await waiting
    assert list(completion.token_ids or ()) == json.loads(fixture.body)["tokens"]
    assert asked == [json.loads(fixture.asked)]
