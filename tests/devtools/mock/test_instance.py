"""The mock instance over real sockets, in this process."""

import asyncio
import contextlib
import hashlib
import json

import pytest

from fd_router.devtools.mock.instance import MockInstance
from fd_router.devtools.mock.options import MockOptions
from fd_router.errors import BadRequestError
from tests.support.http_client import CutOffError, fetch, send
from tests.support.waiting import until

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
FAST = {"prefill_tokens_per_sec": 1e6, "decode_ms_per_token": 0.5, "decode_ms_per_running": 0}
SLOW = {"decode_ms_per_token": 100}


@contextlib.asynccontextmanager
async def mock(*faults, **options):
    instance = MockInstance(MockOptions(**{"name": "mock-a", "fault": faults, **FAST, **options}))
    await instance.start()
    try:
        yield instance
    finally:
        await instance.stop()


def chat(content="hello", **extra):
    return json.dumps({"messages": [{"role": "user", "content": content}], **extra}).encode()


async def post(instance, path, body, headers=None):
    return await fetch("127.0.0.1", instance.port, "POST", path, body=body, headers=headers)


async def get(instance, path):
    return await fetch("127.0.0.1", instance.port, "GET", path)


async def state(instance):
    return json.loads((await get(instance, "/mock/state")).body)


async def read_until_it_breaks(answer):
    text = b""
    try:
        async for piece in answer:
            text += piece
    except OSError as error:
        return text, error
    return text, None


def events(body):
    parts = [part.removeprefix("data: ") for part in body.decode().split("\n\n") if part]
    assert parts[-1] == "[DONE]"
    return [json.loads(part) for part in parts[:-1]]


async def test_a_chat_completion():
    async with mock() as instance:
        answer = await post(instance, CHAT, chat(max_tokens=5, model="big", request_id="r1"), {"x-request-id": "abc"})
        value = json.loads(answer.body)
        assert answer.status == 200
        assert answer.headers["x-request-id"] == "abc"
        assert (value["id"], value["model"], value["object"]) == ("chatcmpl-r1", "big", "chat.completion")
        choice = value["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": "mock-a reads the prompt,"}
        assert choice["finish_reason"] == "length"
        assert value["usage"]["completion_tokens"] == 5
        assert value["usage"]["total_tokens"] == value["usage"]["prompt_tokens"] + 5


async def test_a_completion_with_the_defaults():
    async with mock() as instance:
        value = json.loads((await post(instance, COMPLETIONS, b'{"prompt": "hello you"}')).body)
        assert value["object"] == "text_completion"
        assert value["choices"][0]["text"].startswith("mock-a ")
        assert value["choices"][0]["finish_reason"] == "stop"
        assert value["usage"]["prompt_tokens"] == 3
        assert value["usage"]["completion_tokens"] == 16


async def test_a_chat_stream_says_the_same_as_the_whole_answer():
    async with mock() as instance:
        whole = json.loads((await post(instance, CHAT, chat(max_tokens=30))).body)
        answer = await post(instance, CHAT, chat(max_tokens=30, stream=True, stream_options={"include_usage": True}))
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(answer.body)
        assert found[0]["choices"][0]["delta"]["role"] == "assistant"
        deltas = [event["choices"][0]["delta"].get("content", "") for event in found[1:-1]]
        assert len([delta for delta in deltas if delta]) == 30
        assert "".join(deltas) == whole["choices"][0]["message"]["content"]
        assert found[-2]["choices"][0]["finish_reason"] == "length"
        assert found[-1]["usage"]["completion_tokens"] == 30


async def test_a_completion_stream_without_usage():
    async with mock() as instance:
        answer = await post(instance, COMPLETIONS, b'{"prompt": "x", "stream": true, "max_tokens": 3}')
        found = events(answer.body)
        assert "".join(event["choices"][0]["text"] for event in found) == "mock-a reads the"
        assert all("usage" not in event for event in found)


async def test_cached_tokens_of_a_repeated_prompt():
    async with mock(block_size=2) as instance:
        first = json.loads((await post(instance, CHAT, chat("x" * 100))).body)["usage"]
        second = json.loads((await post(instance, CHAT, chat("x" * 100 + "y"))).body)["usage"]
        assert first["prompt_tokens_details"]["cached_tokens"] == 0
        assert second["prompt_tokens_details"]["cached_tokens"] == 26  # 106 characters: 13 blocks of 8
        assert (await state(instance))["cache"]["blocks"] == 13


async def test_errors_have_openais_shape():
    async with mock() as instance:
        for answer, status in [
            (await post(instance, CHAT, b"{"), 400),
            (await post(instance, "/nowhere", b"{}"), 404),
            (await get(instance, CHAT), 405),
        ]:
            assert answer.status == status
            assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "request_id": "\\ud800"}'),
        ("/v1/embeddings", b'{"model": "\\ud800", "input": "x"}'),
        ("/v1/embeddings", b'{"messages": -1}'),
        ("/score", b'{"text_1": 5}'),
    ],
)
async def test_what_can_not_be_answered_is_refused(path, body):
    """A connection that is closed would look like an engine that dies."""
    async with mock() as instance:
        answer = await post(instance, path, body)
        assert answer.status == 400
        assert b"Invalid request: " in answer.body


async def test_models_and_metrics():
    async with mock(model="big", max_running=2, cache_tokens=1000, block_size=10, **SLOW) as instance:
        assert json.loads((await get(instance, "/v1/models")).body)["data"][0]["id"] == "big"
        running = [asyncio.create_task(post(instance, CHAT, chat("x" * 194, max_tokens=50))) for _ in range(3)]

        async def all_there():
            return (await state(instance))["live"] == 3

        await until(all_there)
        text = (await get(instance, "/metrics")).body.decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert lines[:2] == ["fastdeploy:num_requests_running 2", "fastdeploy:num_requests_waiting 1"]
        free = int(lines[2].removeprefix("available_gpu_block_num "))
        assert 85 <= free <= 89  # two prompts of 50 tokens, and what was generated
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_client_that_leaves_ends_the_generation():
    async with mock(**SLOW) as instance:
        async with await send("127.0.0.1", instance.port, "POST", CHAT, body=chat(stream=True, max_tokens=1000)):
            assert (await state(instance))["live"] == 1
        waiting = asyncio.create_task(post(instance, CHAT, chat(max_tokens=1000)))

        async def one_left():
            now = await state(instance)
            return (now["disconnected"], now["running"]) == (1, 1)

        await until(one_left)
        waiting.cancel()

        async def none_left():
            now = await state(instance)
            return (now["disconnected"], now["running"], now["live"], now["waiting"]) == (2, 0, 0, 0)

        await until(none_left)


async def test_abort_by_id_ends_a_stream_and_an_answer():
    async with mock(**SLOW) as instance:
        stream = asyncio.create_task(post(instance, CHAT, chat(stream=True, max_tokens=1000, request_id="s1")))
        whole = asyncio.create_task(post(instance, CHAT, chat(max_tokens=1000, request_id="w1")))
        other = asyncio.create_task(post(instance, CHAT, chat(max_tokens=1000, request_id="o1")))

        async def all_run():
            return (await state(instance))["running"] == 3

        await until(all_run)
        body = json.dumps({"req_ids": ["s1", "chatcmpl-w1_0", "nobody"]}).encode()
        value = json.loads((await post(instance, "/v1/abort_requests", body)).body)
        assert value["request_id"].startswith("control-")
        assert (value["status"], value["error_msg"]) == ("success", None)
        assert {entry["request_id"] for entry in value["result"]["aborted"]} == {"s1", "w1"}
        assert all(entry["output_token_count"] >= 0 for entry in value["result"]["aborted"])
        assert value["result"]["not_found"] == ["nobody"]
        assert events((await stream).body)[-1]["choices"][0]["finish_reason"] == "abort"
        assert json.loads((await whole).body)["choices"][0]["finish_reason"] == "abort"
        value = json.loads((await post(instance, "/v1/abort_requests", b'{"abort_all": true}')).body)
        assert [entry["request_id"] for entry in value["result"]["aborted"]] == ["o1"]
        assert (await other).status == 200
        assert (await state(instance))["aborted"] == 3


@pytest.mark.parametrize("body", [b"{}", b'{"req_ids": []}', b"x", b'{"req_ids": 5}'])
async def test_abort_needs_to_know_whom(body):
    async with mock() as instance:
        assert (await post(instance, "/v1/abort_requests", body)).status == 400


async def test_requests_are_remembered_in_order():
    async with mock(record=2) as instance:
        await get(instance, "/health")
        await post(instance, COMPLETIONS + "?x=1", b'{"prompt": "a"}', {"X-Odd": "Yes"})
        await get(instance, "/metrics")
        value = json.loads((await get(instance, "/mock/requests")).body)
        assert value["total"] == 3
        assert [(each["order"], each["path"]) for each in value["requests"]] == [(2, COMPLETIONS), (3, "/metrics")]
        first = value["requests"][0]
        assert (first["method"], first["query"], first["length"], first["http_version"]) == ("POST", "x=1", 15, "1.1")
        assert first["sha256"] == hashlib.sha256(b'{"prompt": "a"}').hexdigest()
        assert ["X-Odd", "Yes"] in first["headers"]
        await fetch("127.0.0.1", instance.port, "DELETE", "/mock/requests")
        assert json.loads((await get(instance, "/mock/requests")).body)["requests"] == []


# Faults.


async def test_reset_before_head_strikes_as_often_as_told():
    async with mock("reset_before_head:count=1") as instance:
        with pytest.raises(ConnectionResetError):
            await post(instance, CHAT, chat())
        assert (await post(instance, CHAT, chat())).status == 200
        assert (await state(instance))["struck"] == 1


async def test_hang_before_head():
    async with mock("hang_before_head") as instance:
        with pytest.raises(TimeoutError):
            await fetch("127.0.0.1", instance.port, "POST", CHAT, body=chat(), timeout_secs=0.1)

        async def noticed():
            return (await state(instance))["disconnected"] == 1

        await until(noticed)


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_cut_mid_body_of_a_stream(how):
    async with mock(f"cut_mid_body:after_tokens=2,how={how}") as instance:
        async with await send(
            "127.0.0.1", instance.port, "POST", CHAT, body=chat(stream=True, max_tokens=50)
        ) as answer:
            assert answer.status == 200
            text, error = await read_until_it_breaks(answer)
        assert type(error) is (CutOffError if how == "fin" else ConnectionResetError)
        assert text.count(b"data: ") == 3  # the role and two tokens
        now = await state(instance)
        assert (now["running"], now["live"], now["disconnected"]) == (0, 0, 0)


async def test_cut_mid_body_before_the_first_token_and_before_the_end():
    async with mock("cut_mid_body:after_tokens=0,count=1", "cut_mid_body:after_tokens=99") as instance:
        for tokens in (0, 3):
            async with await send(
                "127.0.0.1", instance.port, "POST", CHAT, body=chat(stream=True, max_tokens=4)
            ) as answer:
                text, error = await read_until_it_breaks(answer)
            assert isinstance(error, ConnectionError)
            assert text.count(b"data: ") == (tokens + 1 if tokens else 0)
            assert b"DONE" not in text


async def test_cut_mid_body_of_a_whole_answer():
    async with mock("cut_mid_body:after_bytes=10,how=fin") as instance:
        async with await send("127.0.0.1", instance.port, "POST", CHAT, body=chat()) as answer:
            text, error = await read_until_it_breaks(answer)
        assert isinstance(error, CutOffError)
        assert text == b'{"id":"cha'


async def test_slow_delays_the_head_and_every_token():
    async with mock("slow:head_secs=0.06,token_secs=0.02") as instance:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with await send("127.0.0.1", instance.port, "POST", CHAT, body=chat(stream=True, max_tokens=5)) as answer:
            head_at = loop.time()
            body = await answer.read()
        assert head_at - start >= 0.05
        assert loop.time() - head_at >= 0.09
        assert len(events(body)) == 7


async def test_status_and_garbage():
    async with mock("status:status=429,count=1", "garbage") as instance:
        answer = await post(instance, CHAT, chat())
        assert answer.status == 429
        assert json.loads(answer.body)["error"]["code"] == "injected_fault"
        with pytest.raises(CutOffError, match="not HTTP"):
            await post(instance, CHAT, chat())


async def test_close_idle_closes_without_saying_so():
    async with mock("close_idle") as instance:
        reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
        body = chat()
        writer.write(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        answer = await reader.read()  # ends: the connection was closed
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" not in answer.lower()
        writer.transport.abort()


async def test_unhealthy_until_told_otherwise_or_for_a_time():
    async with mock("unhealthy") as instance:
        assert (await get(instance, "/health")).status == 503
        await post(instance, "/mock/faults", b'{"faults": []}')
        assert (await get(instance, "/health")).status == 200
        await post(instance, "/mock/faults", b'{"faults": ["unhealthy:secs=0.05"]}')
        assert (await get(instance, "/health")).status == 503

        async def healthy():
            return (await get(instance, "/health")).status == 200

        await until(healthy)


async def test_refuse_for_a_time():
    async with mock() as instance:
        assert (await post(instance, "/mock/faults", b'{"faults": ["refuse:secs=0.1"]}')).status == 200
        with pytest.raises(ConnectionRefusedError):
            await get(instance, "/health")

        async def listens():
            try:
                return (await get(instance, "/health")).status == 200
            except ConnectionRefusedError:
                return False

        await until(listens)


async def test_a_fault_at_another_path():
    async with mock("status:path=/health,status=500,count=1", "slow:path=/metrics,head_secs=0.05") as instance:
        assert (await post(instance, CHAT, chat())).status == 200
        assert (await get(instance, "/health")).status == 500
        assert (await get(instance, "/health")).status == 200
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert (await get(instance, "/metrics")).status == 200
        assert loop.time() - start >= 0.04


async def test_wrong_faults_change_nothing():
    async with mock("unhealthy") as instance:
        for body in (b'{"faults": ["explode"]}', b'{"fault": []}', b"x"):
            assert (await post(instance, "/mock/faults", body)).status == 400
        value = json.loads((await get(instance, "/mock/faults")).body)
        assert value["faults"] == [{"kind": "unhealthy", "left": None}]
    with pytest.raises(BadRequestError):
        MockInstance(MockOptions(fault=("explode",)))


async def test_many_streams_at_once_all_end():
    async with mock(max_running=64) as instance:
        answers = await asyncio.gather(*[post(instance, CHAT, chat(stream=True, max_tokens=20)) for _ in range(200)])
        assert all(len(events(answer.body)) == 22 for answer in answers)
        now = await state(instance)
        assert (now["finished"], now["live"], now["running"]) == (200, 0, 0)


def test_urls_of_v6_hosts_are_bracketed():
    assert MockInstance(MockOptions(host="::1")).url == "http://[::1]:0"
