"""A stream of a centralized fleet goes on at another instance: connections, counts, log and metrics."""

from __future__ import annotations

import asyncio
import json

import pytest

from fd_router.engines.continuation.ways import asking_ids
from fd_router.http.dechunk import dechunked
from fd_router.routing.continuation.gap import COMMENT
from fd_router.routing.continuation.journal import HOLD_LIMIT
from fd_router.routing.watchdog import Watchdog
from tests.support.exact_engine import SEVERAL, events_of
from tests.support.rig import STREAM_HEAD
from tests.support.stream_rig import BODY, TEXT, StreamRig, body_of


@pytest.mark.parametrize("upto", [0, 1, 150, 300, 700, 1200])
@pytest.mark.parametrize("body", [BODY, TEXT])
async def test_the_client_sees_one_whole_stream(upto: int, body: bytes) -> None:
    rig = StreamRig()
    client = rig.client()
    first = await rig.begin(client, 150 + upto, body)
    first.lose(ConnectionResetError("reset by peer"))
    await rig.answer_next()
    events, expected = events_of(body_of(client)), rig.whole(body)
    if body is BODY:
        assert events == expected
    texts = [
        "".join(choice["text"] for one in what for choice in one.get("choices", ())) for what in (events, expected)
    ]
    assert texts[0] == texts[1]
    assert client.written.count(b"HTTP/1.1 200") == 1
    assert rig.metric("continued", "cut_off") == 1
    assert rig.records[0].outcome == "completed"
    assert rig.records[0].continued == 1
    rig.assert_all_is_given_back()
    assert not client.is_closing()  # the next request may come


async def test_log_and_record_say_so() -> None:
    rig = StreamRig()
    client = rig.client()
    (await rig.begin(client, 700)).lose()
    await rig.answer_next()
    line = next(line for line in rig.log_lines if "[POST]" in line)
    assert " continued=1 from=http://10.0.0.1:8000 to=http://10.0.0.2:8000 at=" in line
    assert "instance=http://10.0.0.2:8000" in line
    assert any("by tokens" in line for line in rig.log_lines)
    text = rig.telemetry.metrics.render().decode()
    assert "fd_router_stream_continuation_gap_seconds_count 1.0" in text


async def test_it_goes_on_more_than_once() -> None:
    rig = StreamRig(4)
    client = rig.client()
    (await rig.begin(client, 500)).lose()
    (await rig.answer_next(500)).lose()
    (await rig.answer_next(500)).lose()
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert rig.records[0].continued == 3
    rig.assert_all_is_given_back()


async def test_instances_that_add_nothing_are_asked_twice() -> None:
    """What broke them may be the request itself."""
    rig = StreamRig(5)
    client = rig.client()
    (await rig.begin(client, 500)).lose()
    for _ in range(2):
        (await rig.answer_next(0)).lose()
    await rig.settle()
    assert rig.metric("impossible", "poison") == 1
    assert client.is_closing()
    assert not client.written.endswith(b"0\r\n\r\n")
    assert len(rig.backend.opened) == 3
    rig.assert_all_is_given_back()


async def test_refused_connections_are_no_such_attempts() -> None:
    rig = StreamRig(6)
    for number in range(2, 6):
        rig.backend.failures[f"10.0.0.{number}"] = [ConnectionRefusedError()]
    client = rig.client()
    (await rig.begin(client, 500)).lose()
    for _ in range(6):
        await rig.settle()
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert len(rig.failed) == 4
    rig.assert_all_is_given_back()


async def test_max_continuations() -> None:
    rig = StreamRig(3, max_continuations=1)
    client = rig.client()
    (await rig.begin(client, 500)).lose()
    (await rig.answer_next(500)).lose()
    await rig.settle()
    assert rig.metric("impossible", "too_often") == 1
    assert client.is_closing()
    rig.assert_all_is_given_back()


async def test_the_last_instance_is_gone() -> None:
    rig = StreamRig(1)
    client = rig.client()
    first = await rig.begin(client, 500)
    rig.instances[0].health = type(rig.instances[0].health).UNHEALTHY
    first.lose()
    await rig.settle()
    assert rig.metric("failed", "no_instance") == 1
    assert client.is_closing()
    rig.assert_all_is_given_back()


@pytest.mark.parametrize(
    "last",
    [
        b'data: {"error":{"message":"EngineCore encountered an issue","code":500}}\n\n',
        b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":"abort"}]}\n\n',
        b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":"pd_reschedule"}]}\n\n',
        b'data: {"id":"cmpl-1","choices":[],"error":{"message":"out of memory","code":500}}\n\n',
    ],
)
async def test_an_instance_that_gives_up_is_left(last: bytes) -> None:
    rig = StreamRig()
    client = rig.client()
    at = rig.engine.answer(BODY, chat=False).index(b"\n\n\r\n", 600) + 4
    first = await rig.begin(client, at)
    first.receive(b"%x\r\n%b\r\n" % (len(last), last))
    assert first.is_closing()
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert rig.metric("continued", "gave_up") == 1
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("rest", [b"", b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"])
async def test_an_instance_that_gives_up_in_its_first_bytes_is_left(rest: bytes) -> None:
    """Also when its whole answer comes at once, as it does on a busy machine."""
    rig = StreamRig()
    client = rig.client()
    first = await rig.ask(client, BODY)
    whole = rig.engine.answer(BODY, chat=False)
    last = b'data: {"error":{"message":"EngineCore encountered an issue"}}\n\n'
    upto = whole.index(b"\n\n\r\n", 600) + 4
    first.receive(STREAM_HEAD + whole[:upto] + b"%x\r\n%b\r\n" % (len(last), last) + rest)
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert rig.metric("continued", "gave_up") == 1
    rig.assert_all_is_given_back()


async def test_what_the_only_instance_says_before_any_token_is_told() -> None:
    rig = StreamRig(1)
    client = rig.client()
    first = await rig.ask(client, BODY)
    last = b'data: {"error":{"message":"EngineCore encountered an issue"}}\n\n'
    rest = b"%x\r\n%b\r\n" % (len(last), last) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    first.receive(STREAM_HEAD + b'18\r\ndata: {"choices": [] }\n\n\r\n' + rest)
    await rig.settle()
    assert client.written.endswith(rest)
    assert len(rig.backend.opened) == 1
    rig.assert_all_is_given_back()


async def test_what_nobody_goes_on_with_is_passed_on() -> None:
    rig = StreamRig()
    client = rig.client()
    body = json.dumps({"prompt": "Say it:", "stream": True, "guided_regex": "a+"}).encode()
    at = rig.engine.answer(body, chat=False).index(b"\n\n\r\n", 600) + 4
    first = await rig.begin(client, at, body)
    last = b'data: {"error":{"message":"dead"}}\n\n'
    rest = b"%x\r\n%b\r\n" % (len(last), last) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    first.receive(rest)
    await rig.settle()
    assert client.written.endswith(rest)
    assert rig.metric("impossible", "guided") == 1
    rig.assert_all_is_given_back()


async def answer_whole(rig: StreamRig) -> None:
    """Let it be learnt that streams say why they end."""
    await rig.begin(rig.client(), None)


async def test_a_stream_that_is_over_without_a_word_is_left() -> None:
    rig = StreamRig()
    await answer_whole(rig)
    client = rig.client()
    at = rig.engine.answer(BODY, chat=False).index(b"\n\n\r\n", 600) + 4
    first = await rig.begin(client, at)
    first.receive(b"0\r\n\r\n")
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert rig.metric("continued", "cut_off") == 1
    assert rig.records[1].outcome == "completed"
    rig.assert_all_is_given_back()


async def test_such_an_end_is_passed_on_as_a_failure_where_nobody_can_go_on() -> None:
    rig = StreamRig()
    await answer_whole(rig)
    client = rig.client()
    body = json.dumps({"prompt": "Say it:", "stream": True, "guided_regex": "a+"}).encode()
    at = rig.engine.answer(body, chat=False).index(b"\n\n\r\n", 600) + 4
    (await rig.begin(client, at, body)).receive(b"0\r\n\r\n")
    await rig.settle()
    assert client.written.endswith(b"\n\n\r\n0\r\n\r\n")
    assert not client.is_closing()
    assert (rig.records[1].outcome, rig.records[1].flaw) == ("failed", "The stream is over, and doesn't say why")
    rig.assert_all_is_given_back()


async def test_an_engine_that_never_says_so_is_done() -> None:
    rig = StreamRig()
    for number in range(3):
        client = rig.client()
        at = rig.engine.answer(BODY, chat=False).index(b"\n\n\r\n", 600) + 4
        (await rig.begin(client, at)).receive(b"0\r\n\r\n")
        await rig.settle()
        assert rig.records[number].outcome == "completed"
    assert len(rig.records) == 3
    rig.assert_all_is_given_back()


async def test_it_breaks_where_nobody_can_go_on() -> None:
    rig = StreamRig()
    client = rig.client()
    body = json.dumps({"prompt": "Say it:", "stream": True, "n": 2}).encode()
    (await rig.begin(client, 555, body)).lose()
    await rig.settle()
    assert client.is_closing()
    assert client.written.endswith(b"\n\n\r\n")  # half an event was never sent
    assert rig.records[0].outcome == "failed"
    rig.assert_all_is_given_back()


async def test_only_the_end_was_missing() -> None:
    rig = StreamRig()
    client = rig.client()
    whole = rig.engine.answer(BODY, chat=False)
    (await rig.begin(client, whole.index(b"data: [DONE]"))).lose()
    await rig.settle()
    assert events_of(body_of(client)) == rig.whole()
    assert len(rig.backend.opened) == 1
    assert rig.metric("finished", "cut_off") == 1
    rig.assert_all_is_given_back()


async def test_a_usage_that_nobody_came_to_tell_counts_the_prompts_tokens_as_far_as_they_are_known() -> None:
    rig = StreamRig()
    client = rig.client()
    body = json.dumps({**json.loads(TEXT), "stream_options": {"include_usage": True}}).encode()
    whole = rig.engine.answer(body, chat=False)
    (await rig.begin(client, whole.rindex(b"data: {"), body)).lose()
    await rig.settle()
    usage = events_of(body_of(client))[-2]["usage"]
    assert (usage["prompt_tokens"], usage["estimated"]) == (2, True)  # four characters a token


async def test_an_engine_that_starts_over_is_not_shown() -> None:
    rig = StreamRig()
    client = rig.client()
    (await rig.begin(client, 700)).lose()
    sent = len(client.written)
    rig.engine.starts_over = True
    for _ in range(2):
        await rig.answer_next()
    assert len(client.written) == sent
    assert rig.metric("impossible", "poison") == 1
    rig.assert_all_is_given_back()


@pytest.mark.parametrize(
    "answer",
    [
        STREAM_HEAD + b"0\r\n\r\n",
        STREAM_HEAD + b"8\r\n: ping\n\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n" + b'{"choices":[]',
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_end_of_the_stream_is_not_taken_for_one(answer: bytes) -> None:
    """Else the client has half an answer that looks whole."""
    rig = StreamRig()
    client = rig.client()
    (await rig.begin(client, 700)).lose()
    await rig.settle()
    rig.newest().receive(answer)
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert rig.records[0].outcome == "completed"
    rig.assert_all_is_given_back()


async def test_the_client_leaves_in_the_gap() -> None:
    rig = StreamRig()
    client = rig.client()
    (await rig.begin(client, 700)).lose()
    await rig.settle()
    client.lose()
    await rig.settle()
    assert rig.newest().is_closing()
    assert rig.records[0].outcome == "client_gone"
    rig.assert_all_is_given_back()


async def test_an_abort_is_no_break() -> None:
    rig = StreamRig()
    client = rig.client()
    body = json.dumps({**json.loads(BODY), "request_id": "mine"}).encode()
    at = rig.engine.answer(body, chat=False).index(b"\n\n\r\n", 600) + 4
    first = await rig.begin(client, at, body)
    (running,) = rig.context.in_flight.find("mine")
    running.on_abort_asked()
    last = b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":"abort"}]}\n\n'
    first.receive(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
    await rig.settle()
    assert b'"abort"' in client.written
    assert len(rig.backend.opened) == 1
    rig.assert_all_is_given_back()


async def test_an_abort_reaches_the_one_that_goes_on() -> None:
    rig = StreamRig()
    client = rig.client()
    body = json.dumps({**json.loads(BODY), "request_id": "mine"}).encode()
    (await rig.begin(client, 600, body)).lose()
    await rig.settle()
    (running,) = rig.context.in_flight.find("mine")
    assert [instance.key for instance in running.instances()] == ["10.0.0.2:8000"]
    running.on_aborted()
    await rig.settle()
    assert rig.newest().is_closing()
    assert b"aborted" in client.written
    rig.assert_all_is_given_back()


async def test_comments_keep_the_connection_alive_in_the_gap() -> None:
    rig = StreamRig(gap_comment_secs=0.001)
    client = rig.client()
    (await rig.begin(client, 600)).lose()
    for _ in range(1000):
        if client.written.count(COMMENT) > 1:
            break
        await asyncio.sleep(0.001)
    await rig.answer_next()
    number = client.written.count(COMMENT)
    assert number > 1
    assert events_of(body_of(client)) == rig.whole()
    await asyncio.sleep(0.005)
    assert client.written.count(COMMENT) == number
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
async def test_no_comment(seconds: float) -> None:
    rig = StreamRig(gap_comment_secs=seconds)
    client = rig.client()
    (await rig.begin(client, 600)).lose()
    await rig.answer_next()
    assert COMMENT not in client.written


async def test_who_wants_to_know_reads_how_it_goes_on() -> None:
    rig = StreamRig()
    rig.change(explain_header="request")
    client = rig.client()
    first = await rig.ask(client, BODY, headers="x-router-explain: 1\r\n")
    first.receive(STREAM_HEAD + rig.engine.answer(BODY, chat=False)[:700])
    first.lose()
    await rig.answer_next()
    said = b": x-router-continued: from=http://10.0.0.1:8000 to=http://10.0.0.2:8000 at=4 by=tokens reason=cut_off\n"
    assert client.written.count(said + b": x-router-decision: ") == 1
    assert events_of(body_of(client)) == rig.whole()
    rig.assert_all_is_given_back()


async def test_a_slow_client_holds_the_second_instance_up() -> None:
    rig = StreamRig()
    client = rig.client()
    (await rig.begin(client, 600)).lose()
    await rig.settle()
    client.protocol.pause_writing()  # type: ignore[union-attr]
    assert rig.newest().paused
    client.protocol.resume_writing()  # type: ignore[union-attr]
    assert not rig.newest().paused
    await rig.answer_next()
    rig.assert_all_is_given_back()


@pytest.mark.parametrize(("option", "header"), [("off", ""), ("on", "x-router-continue: off\r\n")])
async def test_off(option: str, header: str) -> None:
    rig = StreamRig(continue_streams=option)
    client = rig.client()
    first = await rig.ask(client, BODY, headers=header)
    first.receive(STREAM_HEAD + rig.engine.answer(BODY, chat=False)[:700])
    first.lose()
    await rig.settle()
    assert client.is_closing()
    assert client.written.endswith(rig.engine.answer(BODY, chat=False)[:700])
    assert rig.budget.used == 0
    rig.assert_all_is_given_back()


async def test_exact_is_by_tokens_only() -> None:
    rig = StreamRig(continue_streams="exact")
    client = rig.client()
    (await rig.begin(client, 700, TEXT)).lose()
    await rig.settle()
    assert client.is_closing()
    assert rig.metric("impossible", "no_tokens") == 1
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("journal_kb", [64, 8192])
@pytest.mark.parametrize("size", [5000, 1 << 20])
async def test_the_ids_of_a_long_prompt_are_not_shown(
    journal_kb: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its journal is too small for the first event."""
    monkeypatch.setattr("tests.support.exact_engine.PROMPT_IDS", list(range(100_000, 130_000)))
    rig = StreamRig(continue_streams="exact", stream_journal_kb=journal_kb)
    client = rig.client()
    instance = await rig.ask(client, TEXT)
    framed = rig.engine.answer(asking_ids(TEXT), chat=False)
    assert len(framed) > 2 * HOLD_LIMIT
    instance.receive(STREAM_HEAD)
    for at in range(0, 210_000, size):
        instance.receive(framed[:210_000][at : at + size])
    await rig.settle()
    if journal_kb > 64:
        instance.receive(framed[210_000:-300])
        instance.lose()
        await rig.answer_next()
    else:
        instance.receive(framed[210_000:])
        await rig.settle()
    assert events_of(body_of(client)) == rig.whole(TEXT)
    assert client.written.endswith(b"0\r\n\r\n")
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("framing", ["content-length: %d\r\n", ""])
async def test_ids_are_not_shown_where_no_chunks_are(framing: str) -> None:
    """Nothing is kept of such an answer."""
    rig = StreamRig(continue_streams="exact")
    client = rig.client()
    instance = await rig.ask(client, TEXT)
    content = dechunked(rig.engine.answer(asking_ids(TEXT), chat=False))
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing and framing % len(content)}\r\n"
    for at in range(0, len(content), 70):
        instance.receive((head.encode() if not at else b"") + content[at : at + 70])
    instance.lose()
    await rig.settle()
    shown = body_of(client)
    assert events_of(shown if framing else b"%x\r\n%b\r\n" % (len(shown), shown)) == rig.whole(TEXT)
    assert client.written.endswith(b"0\r\n\r\n" if framing else b"[DONE]\n\n")
    rig.assert_all_is_given_back()


async def test_an_http_1_0_client() -> None:
    rig = StreamRig(steps=SEVERAL)
    client = rig.client()
    first = await rig.ask(client, BODY, version="1.0")
    first.receive(STREAM_HEAD + rig.engine.answer(BODY, chat=False)[:400])
    first.lose()
    await rig.answer_next()
    content = body_of(client)
    assert content.endswith(b"data: [DONE]\n\n")
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    assert events_of(framed) == rig.whole()
    rig.assert_all_is_given_back()


async def test_whoever_goes_on_may_take_as_long_as_for_a_first_byte() -> None:
    """Without a comment now and then, the watchdog took the wait for a request that nothing happens to any more."""
    options = {"stall_timeout_secs": 1.0, "first_byte_timeout_secs": 100.0, "gap_comment_secs": 0.0}
    rig = StreamRig(2, **options)
    watchdog = Watchdog(rig.state.proxied_requests, rig.live, rig.timers.time)
    client = rig.client()
    first = await rig.begin(client, 700)
    watchdog.sweep()
    first.lose()
    await rig.settle()
    for _ in range(9):
        watchdog.sweep()
        rig.timers.now += 10  # no timers: only the watchdog looks
    watchdog.sweep()
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert not any("This is a bug" in line for line in rig.log_lines)
    rig.assert_all_is_given_back()


@pytest.mark.parametrize("legs", [1, 2])
async def test_nobody_goes_on_for_a_client_that_takes_nothing(legs: int) -> None:
    rig = StreamRig(4, stall_timeout_secs=5.0, gap_comment_secs=0.0)
    client = rig.client()
    instance = await rig.begin(client, 700)
    if legs == 2:
        instance.lose()
        instance = await rig.answer_next(500)
    client.protocol.pause_writing()  # type: ignore[union-attr]
    await rig.pass_time(6)
    await rig.resumed()
    assert instance.aborted
    assert len(rig.backend.opened) == legs
    assert rig.records[0].outcome == "failed"
    rig.assert_all_is_given_back()


async def test_a_client_that_caught_up_before_it_goes_on_waits_as_long_as_for_a_first_byte() -> None:
    rig = StreamRig(2, stall_timeout_secs=5.0, first_byte_timeout_secs=100.0, gap_comment_secs=0.0)
    client = rig.client()
    first = await rig.begin(client, 700)
    client.protocol.pause_writing()  # type: ignore[union-attr]
    first.lose()
    await rig.settle()
    client.protocol.resume_writing()  # type: ignore[union-attr]
    await rig.pass_time(50)
    await rig.answer_next()
    assert events_of(body_of(client)) == rig.whole()
    assert len(rig.backend.opened) == 2
    rig.assert_all_is_given_back()
