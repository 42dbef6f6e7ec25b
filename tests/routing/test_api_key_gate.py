"""Requests that must show an API key, with fake connections at both ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from fd_router.admission.allowance import Allowance
from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.admission.keys import ApiKey, hash_key
from fd_router.admission.priorities import Priorities
from fd_router.openai.endpoints import Endpoint
from fd_router.openai.large_prompts import READ_IN_PART
from tests.routing.test_single import STREAMING
from tests.support.rig import STREAM_END, STREAM_HEAD, Rig, answer, chunk, post
from tests.support.stream_rig import BODY, TEXT, StreamRig, body_of

KEY = "fdr-" + "k" * 43  # always the same: it stands in the names of tests, which all workers must collect alike
SHOWN = f"Authorization: Bearer {KEY}\r\n"


class GatedRig(Rig):
    def __init__(self, **limits: object) -> None:
        super().__init__(2)
        ring = ApiKeyStore(Path("none"), Priorities({"normal": 1}), self.timers.time)
        ring.replace([ApiKey(name="team", sha256=hash_key(KEY), **limits)])  # type: ignore[arg-type]
        self.refusals: list[str] = []
        self.change(gate=ApiKeyGate(ring, self.timers.time, self.refusals.append))
        (self.holder,) = ring.all()
        self.server = self._make_server({}, keep_authorization=False, gate=self.context.gate)

    holder: Allowance

    def assert_nothing_is_held(self) -> None:
        super().assert_nothing_is_held()
        assert self.holder.running == 0


def refusal(data: bytes) -> tuple[int, dict[str, str], str]:
    head, _, body = data.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return int(head.split()[1]), error, f"{head.decode().lower()}\r\n"


async def test_with_a_key_the_instance_never_sees() -> None:
    rig = GatedRig()
    client = rig.client()
    for _ in range(3):  # from the second on the head is known already
        instance = await rig.ask(client, headers=SHOWN + "Accept: */*\r\n")
        seen = instance.take()
        assert b"Accept: */*" in seen
        assert b"uthorization" not in seen
        assert rig.holder.running == 1
        instance.receive(answer())
        await rig.settle()
        assert b" 200 OK" in client.take()
    assert [record.key for record in rig.records] == ["team"] * 3
    assert all(line.endswith(" key=team") for line in rig.log_lines if "HTTP/1.1" in line)
    assert KEY not in rig.outlet.text
    rig.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ("", "missing_api_key"),
        (f"Authorization: Bearer {KEY}x\r\n", "invalid_api_key"),
        (f"Authorization: Basic {KEY}\r\n", "invalid_api_key"),
        (SHOWN + SHOWN, "missing_api_key"),  # two may differ
    ],
)
async def test_without_the_key(headers: str, code: str) -> None:
    rig = GatedRig()
    client = rig.client()
    client.receive(post(b"not even JSON", headers=headers))
    await rig.settle()
    status, error, head = refusal(client.take())
    assert (status, error["type"], error["code"]) == (401, "invalid_request_error", code)
    assert "www-authenticate: bearer\r\n" in head
    assert rig.backend.opened == []
    assert KEY not in rig.outlet.text
    await rig.ask(client, headers=SHOWN)  # the connection is as good as before


@pytest.mark.parametrize("framing", ["Content-Length: 1048577", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("headers", ["", f"Authorization: Bearer {KEY}x\r\n"])
async def test_a_large_body_without_the_key_is_not_waited_for(headers: str, framing: str) -> None:
    rig = GatedRig()
    client = rig.client()
    client.receive(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{headers}{framing}\r\n\r\n".encode())
    if "chunked" in framing:
        client.receive(b"100000\r\n" + b" " * (1 << 20))
        assert client.take() == b""
        client.receive(b"\r\n1\r\n ")
    await rig.settle()
    assert refusal(client.take())[:1] == (401,)
    assert rig.refusals == ["key_unknown" if headers else "key_missing"]
    assert KEY not in rig.outlet.text


async def test_a_large_body_with_the_key_is_taken() -> None:
    rig = GatedRig()
    instance = await rig.ask(rig.client(), b" " * (1 << 20) + b"{}", headers=SHOWN)
    assert instance.take().endswith(b"{}")


class AllLetIn:
    """Stands for other routers, whose word takes a turn of the loop."""

    async def take(self, allowance: Allowance, tokens: int) -> None:
        await asyncio.sleep(0)

    def correct(self, allowance: Allowance, more: int) -> None:
        pass


async def test_what_was_read_of_a_large_body_has_all_of_it_also_where_other_routers_are_asked() -> None:
    rig, bodies = GatedRig(requests_per_minute=9), []
    assert rig.context.gate is not None
    rig.context.gate.shared = AllLetIn()  # type: ignore[assignment]
    rig.change(prepare=lambda completion: bodies.append(completion.body))  # type: ignore[attr-defined]
    body = b'{"prompt": "%b"}' % (b"word " * (2 * READ_IN_PART // 5))
    instance = await rig.ask(client := rig.client(), body, headers=SHOWN)
    assert bodies == [body]
    assert instance.take().endswith(body)
    instance.receive(answer())
    await rig.settle()
    assert b" 200 OK" in client.take()
    rig.assert_nothing_is_held()


async def test_a_key_named_by_the_connection_header_is_still_shown() -> None:
    rig = GatedRig()
    instance = await rig.ask(rig.client(), headers=SHOWN + "Connection: authorization\r\n")
    assert b"uthorization" not in instance.take()


async def test_models() -> None:
    rig = GatedRig(models=("m",))
    client = rig.client()
    client.receive(post(b'{"model": "m", "prompt": "x", "model": "other"}', headers=SHOWN))
    await rig.settle()
    status, error, _ = refusal(client.take())
    assert (status, error["code"]) == (403, "model_not_allowed")
    instance = await rig.ask(client, b'{"model": "m", "prompt": "x"}', headers=SHOWN)
    instance.receive(answer())
    await rig.settle()
    assert rig.refusals == ["model"]
    rig.assert_nothing_is_held()


async def test_a_bad_body_counts_nothing() -> None:
    rig = GatedRig(requests_per_minute=1)
    client = rig.client()
    client.receive(post(b"[]", headers=SHOWN))
    await rig.settle()
    assert refusal(client.take())[0] == 400
    await rig.ask(client, headers=SHOWN)


async def test_requests_at_once_and_every_way_they_end() -> None:
    rig = GatedRig(max_concurrent=1)
    for ending in ("answer", "client", "instance", "bad"):
        client, other = rig.client(), rig.client()
        body = b"{}" if ending == "bad" else STREAMING
        instance = await rig.ask(client, body, headers=SHOWN)
        other.receive(post(headers=SHOWN))
        await rig.settle()
        status, error, head = refusal(other.take())
        assert (status, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
        assert "retry-after: 1\r\n" in head
        if ending == "client":
            client.lose()
        elif ending == "bad":
            instance.receive(b"nonsense\r\n\r\n")
        else:
            instance.receive(STREAM_HEAD + chunk(b"one"))
            await rig.settle()
            instance.receive(STREAM_END) if ending == "answer" else instance.lose()
        await rig.settle()
        rig.assert_nothing_is_held()


async def test_tokens_a_minute_go_by_the_engines_word() -> None:
    rig = GatedRig(tokens_per_minute=100)
    client = rig.client()
    instance = await rig.ask(client, headers=SHOWN)
    instance.receive(answer(b'{"usage": {"prompt_tokens": 40, "total_tokens": 100}}'))
    await rig.settle()
    client.take()
    client.receive(post(headers=SHOWN))
    await rig.settle()
    status, error, head = refusal(client.take())
    assert (status, error["type"]) == (429, "tokens")
    assert "retry-after: 2\r\n" in head
    await rig.pass_time(1.3)
    await rig.ask(client, headers=SHOWN)


async def test_the_usage_in_a_stream_may_come_before_its_last_piece() -> None:
    rig = GatedRig(tokens_per_minute=100)
    instance = await rig.ask(rig.client(), STREAMING, headers=SHOWN)
    instance.receive(STREAM_HEAD)
    for event in (b"one", b'data: {"usage": {"total_tokens": 70}}', b"data: [DONE]"):
        instance.receive(chunk(event + b"\n\n"))
        await rig.settle()
    instance.receive(STREAM_END)
    await rig.settle()
    assert rig.holder.left() == (("tokens", 100, 30),)
    rig.assert_nothing_is_held()


@pytest.mark.parametrize("client_stays", [True, False])
async def test_a_stream_without_usage_counts_by_its_length(client_stays: bool) -> None:
    """Or not asking for the usage, or leaving before it comes, would be a way around the limit."""
    rig = GatedRig(tokens_per_minute=100)
    client = rig.client()
    instance = await rig.ask(client, STREAMING, headers=SHOWN)
    before = rig.holder.left()[0][2]
    instance.receive(STREAM_HEAD)
    for _ in range(30):
        instance.receive(chunk(b"data: " + b"x" * 242 + b"\n\n"))
        await rig.settle()
    if client_stays:
        instance.receive(STREAM_END)
    else:
        client.lose()
    await rig.settle()
    assert rig.holder.left()[0][2] - before == pytest.approx(-30, abs=1)
    rig.assert_nothing_is_held()


class GatedStreamRig(GatedRig, StreamRig):
    """With streams that go on at another instance."""


@pytest.mark.parametrize("body", [BODY, TEXT])
async def test_a_stream_that_went_on_counts_once(body: bytes) -> None:
    """By its joined usage, or by the length of both parts; its key's place is taken until its end."""
    rig = GatedStreamRig(tokens_per_minute=10_000)
    client = rig.client()
    instance = await rig.ask(client, body, headers=SHOWN)
    before, framed = rig.holder.left()[0][2], rig.engine.answer(body, chat=False)
    instance.receive(STREAM_HEAD + framed[: len(framed) // 2])
    instance.lose()
    await rig.settle()
    assert rig.holder.running == 1
    await rig.answer_next()
    if body is BODY:
        (usage,) = [event["usage"] for event in rig.whole(body) if event.get("usage")]
        assert rig.holder.left() == (("tokens", 10_000, 10_000 - usage["total_tokens"]),)
    else:
        used, parts = before - rig.holder.left()[0][2], len(body_of(client))
        assert used == pytest.approx(parts / 250, abs=2)
    rig.assert_all_is_given_back()


async def test_where_no_key_is_needed_the_header_goes_through() -> None:
    rig = Rig()
    instance = await rig.ask(rig.client(), headers=SHOWN)
    assert SHOWN.encode() in instance.take()


async def test_an_endpoint_that_fails_to_find_the_tokens_costs_no_count() -> None:
    rig = GatedRig(tokens_per_minute=1000)

    def broken(_: bytes) -> int:
        raise ZeroDivisionError

    rig.change(endpoint=Endpoint(path="/v1/x", find_total_tokens=broken))
    client = rig.client()
    instance = await rig.ask(client, headers=SHOWN)
    instance.receive(answer())
    await rig.settle()
    assert b" 200 OK" in client.take()
    assert rig.records[0].outcome == "completed"
    assert "/v1/x" in rig.bugs.pop()["message"]
    rig.assert_nothing_is_held()
