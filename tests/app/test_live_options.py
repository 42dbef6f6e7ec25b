"""Every option: those that say they are live are seen by their readers after a reload; the others say so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from fd_router.app.reload import merged
from fd_router.config.loading import OPTIONS, Config
from fd_router.config.options import Declared
from fd_router.routing.continuation.gap import COMMENT
from tests.support.live_router import BEGUN, LIMIT_SECS, LiveRouter, LoopbackInstance, message
from tests.support.waiting import until

NEVER = 3600.0

_GIVEN_BACK_BODY = b'{"choices":[{"index":0,"finish_reason":"pd_reschedule","text":"x","completion_token_ids":[1]}]}'
GIVEN_BACK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_GIVEN_BACK_BODY), _GIVEN_BACK_BODY)

Observe = Callable[[LiveRouter], Awaitable[None]]
"""Prepares what is needed, reloads, and fails unless the reader of the option goes by its new value."""


async def later_drain_accepts(router: LiveRouter) -> None:
    await router.reload()
    hurry = asyncio.Event()
    drain = asyncio.create_task(router.router.drain(hurry))
    await asyncio.sleep(0.1)  # long enough for a router that doesn't wait to take no more
    assert (await router.call("GET", "/health"))[0] == 503
    hurry.set()
    await drain


async def later_drain_ends(router: LiveRouter) -> None:
    instance = await router.add()
    instance.answer = b""
    router.ask_beside()
    await until(lambda: instance.last_head != "")
    await router.reload()
    await asyncio.wait_for(router.router.drain(asyncio.Event()), LIMIT_SECS)
    assert "connections are cut off: server.drain-timeout-secs (0.05 s)" in router.outlet.text


async def stats_lines_come(router: LiveRouter) -> None:
    await router.reload()
    await until(lambda: "[stats]" in router.outlet.text)


async def another_file_is_read(router: LiveRouter) -> None:
    instance = await router.add()
    entry = f"{{role: mixed, host_ip: 127.0.0.1, port: {instance.port}}}"
    (router.directory / "register.yaml").write_text(f"instances:\n- {entry}\n")
    await router.reload()
    _, answer = await router.call("GET", "/instances")
    assert [each["kept"] for each in answer["instances"]] == [True]


async def a_check_takes_more_failures(router: LiveRouter) -> None:
    instance = await router.add()
    await router.reload()
    instance.health = b"500 Broken"
    tries = len(instance.probes)
    assert (await router.state(), len(instance.probes) - tries) == ("unhealthy", 7)


async def engines_are_asked_for_their_dialect(router: LiveRouter) -> None:
    await router.add()
    await router.reload()
    asked = await router.add()
    await until(lambda: "/metrics" in asked.probes)
    assert "/metrics" not in router.instances[0].probes


async def a_check_takes_more_successes(router: LiveRouter) -> None:
    instance = await router.add()
    instance.health = b"500 Broken"
    assert await router.state() == "unhealthy"
    await router.reload()
    instance.health = b"200 OK"
    tries = len(instance.probes)
    assert (await router.state(), len(instance.probes) - tries) == ("healthy", 7)


async def probes_end(router: LiveRouter) -> None:
    instance = await router.add()
    instance.answers_probes = False
    await router.reload()
    _, answer = await router.call("GET", "/health_generate")
    assert answer["instances"][0]["detail"] == "no answer within 0.05 s"


async def probes_come(router: LiveRouter) -> None:
    instance = await router.add()
    await router.reload()
    await until(lambda: len(instance.probes) > 5)


async def probes_go_elsewhere(router: LiveRouter) -> None:
    instance = await router.add()
    await router.reload()
    await router.state()
    assert instance.probes[-1] == "/other"


async def the_unhealthy_are_dropped(router: LiveRouter) -> None:
    instance = await router.add()
    instance.health = b"500 Broken"
    await router.reload()

    async def none_is_left() -> bool:
        return (await router.call("GET", "/instances"))[1]["instances"] == []

    await until(none_is_left)


async def lines_come(router: LiveRouter) -> None:
    await router.reload()
    await until(lambda: "Reloaded: log.level changed" in router.outlet.text)


async def no_more_attempts(router: LiveRouter) -> None:
    (await router.add()).answer = None
    await router.reload()
    await router.ask()
    assert "(attempt 1/1)" in router.outlet.text


async def connecting_ends(router: LiveRouter) -> None:
    await router.add()
    await router.reload()
    router.connects = False
    await router.ask()
    assert "no connection within 0.05 s" in router.outlet.text


async def silence_ends(router: LiveRouter) -> None:
    (await router.add()).answer = b""
    await router.reload()
    assert (await router.ask()).startswith(b"HTTP/1.1 504 ")


async def a_silent_prefill_ends(router: LiveRouter) -> None:
    for role in ("prefill", "decode"):
        (await router.add(role)).answer = b""
    await router.reload()
    assert b"HTTP/1.1 504 " in await router.ask()


async def clients_may_say_where_engines_fetch(router: LiveRouter) -> None:
    await router.add()
    orders = b'{"prompt": "hello", "bootstrap_host": "10.0.0.1"}'
    assert b'"router_member"' in await router.ask(orders)
    await router.reload()
    assert (await router.ask(orders)).startswith(b"HTTP/1.1 200 ")


async def decode_serves_a_short_prompt_alone(router: LiveRouter) -> None:
    prefill, decode = [
        await router.add(role, dialect="vllm", kv_transfer="NixlConnector") for role in ("prefill", "decode")
    ]
    await router.reload()
    assert (await router.ask()).startswith(b"HTTP/1.1 200 ")
    assert (prefill.last_head, decode.last_head != "") == ("", True)


async def a_long_request_ends(router: LiveRouter) -> None:
    (await router.add()).answer = b""
    await router.reload()
    assert b'"request_timeout"' in await router.ask()


async def what_is_given_back_stays_so(router: LiveRouter) -> None:
    _, decode = [await router.add(role) for role in ("prefill", "decode")]
    decode.answer = GIVEN_BACK
    await router.reload()
    assert (await router.ask()).endswith(GIVEN_BACK.partition(b"\r\n\r\n")[2])
    assert "after 0 reschedules, which is the limit" in router.outlet.text


async def who_gave_back_is_left_out(router: LiveRouter) -> None:
    _, giver, other = [await router.add(role) for role in ("prefill", "decode", "decode")]
    giver.answer = other.answer = GIVEN_BACK
    await router.reload()
    await router.ask()
    told = [line.rpartition("): ")[2] for line in router.outlet.text.splitlines() if "select worker (decode)" in line]
    first, second = (line.partition(",")[0] for line in told[:2])
    assert first != second


async def the_pair_is_not_told(router: LiveRouter) -> None:
    for role in ("prefill", "decode"):
        await router.add(role)
    assert b"X-Router-Prefill-URL" in await router.ask()
    await router.reload()
    answer = await router.ask()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"X-Router-Prefill-URL" not in answer


async def a_pause_ends(router: LiveRouter) -> None:
    (await router.add()).answer = BEGUN
    await router.reload()
    assert (await router.ask()).endswith(b"4\r\nfine\r\n")


async def nothing_is_kept_for_long(router: LiveRouter) -> None:
    instance = await router.add()
    await router.ask()
    await until(lambda: instance.connections == 1)  # a probe's own is gone
    await router.reload()
    await router.ask()
    await until(lambda: instance.connections == 0)


async def an_idle_client_goes_for_a_new_one(router: LiveRouter) -> None:
    reader, writer = await router.open()
    writer.write(message().replace(b"Connection: close\r\n", b""))
    await reader.readuntil(b"\r\n\r\n")
    await router.reload()
    await until(lambda: len(router.router.state.connections) == 1)
    _, another = await router.open()
    assert not (await asyncio.wait_for(reader.read(), LIMIT_SECS)).startswith(b"HTTP/")
    another.close()
    writer.close()


async def a_large_body_is_refused(router: LiveRouter) -> None:
    await router.reload()
    assert (await router.ask(b" " * (2 << 20))).startswith(b"HTTP/1.1 413 ")


async def no_more_bytes_are_held(router: LiveRouter) -> None:
    (await router.add()).answer = b""
    await router.reload()
    router.ask_beside(b'{"prompt": "%b"}' % (b"a" * 700_000))
    held = router.router.state.budget
    await until(lambda: held.held > 700_000)
    assert (await router.ask(b" " * 300_000)).startswith(b"HTTP/1.1 503 ")


async def a_large_head_is_refused(router: LiveRouter) -> None:
    await router.reload()
    assert (await router.ask(headers=f"X: {'x' * 4000}\r\n")).startswith(b"HTTP/1.1 431 ")


async def a_slow_head_is_refused(router: LiveRouter) -> None:
    await router.reload()
    assert (await router.exchange(b"POST ")).startswith(b"HTTP/1.1 408 ")


async def a_slow_body_is_refused(router: LiveRouter) -> None:
    await router.reload()
    assert (await router.exchange(message(b"body")[:-1])).startswith(b"HTTP/1.1 408 ")


async def an_idle_client_goes(router: LiveRouter) -> None:
    await router.reload()
    assert await router.exchange(b"") == b""


async def no_more_may_wait(router: LiveRouter) -> None:
    instance = await router.add()
    instance.answer = b""
    router.ask_beside()
    await until(lambda: instance.last_head != "")
    await router.reload()
    assert (await router.ask()).startswith(b"HTTP/1.1 429 ")


async def waiting_ends(router: LiveRouter) -> None:
    instance = await router.add()
    instance.answer = b""
    router.ask_beside()
    await until(lambda: instance.last_head != "")
    await router.reload()
    assert b'"queue_timeout"' in await router.ask()


async def what_would_be_late_is_refused(router: LiveRouter) -> None:
    await router.add()
    hurried = "X-TTFT-Deadline-Ms: 1\r\n"
    long = b'{"prompt": "%b", "stream": true}' % (b"x" * 4000)
    assert int((await router.ask(long, hurried)).split()[1]) == 200
    await router.reload()
    assert b'"deadline_unmeetable"' in await router.ask(long.replace(b"x", b"y"), hurried)


async def status_for(router: LiveRouter, body: bytes) -> int:
    return int((await router.ask(body)).split()[1])


async def a_name_nobody_serves_is_refused(router: LiveRouter) -> None:
    await router.add(models=["a"])
    assert await status_for(router, b'{"model": "other"}') == 200
    await router.reload()
    assert await status_for(router, b'{"model": "other"}') == 404


async def who_names_none_gets_the_default(router: LiveRouter) -> None:
    one, _ = await router.add(models=["a"]), await router.add(models=["b"])
    assert await status_for(router, b'{"prompt": "hello"}') == 400
    await router.reload()
    assert await status_for(router, b'{"prompt": "hello"}') == 200
    assert one.asked_for == ["a"]


async def an_alias_leads_to_its_model(router: LiveRouter) -> None:
    one, _ = await router.add(models=["a"]), await router.add(models=["b"])
    assert await status_for(router, b'{"model": "x"}') == 404
    await router.reload()
    assert await status_for(router, b'{"model": "x"}') == 200
    assert one.asked_for == ["a"]


async def another_model_steps_in(router: LiveRouter) -> None:
    one, other = await router.add(models=["a"]), await router.add(models=["b"])
    one.health = b"500 Broken"
    await router.state()
    assert await status_for(router, b'{"model": "a"}') == 502
    await router.reload()
    assert await status_for(router, b'{"model": "a"}') == 200
    assert other.asked_for == ["b"]


async def all_are_asked_for_their_models(router: LiveRouter) -> None:
    await router.add(models=["a"])
    assert (await router.call("GET", "/instances"))[1]["instances"][0]["models"] == []
    await router.reload()

    async def is_known() -> bool:
        return (await router.call("GET", "/instances"))[1]["instances"][0]["models"] == ["a"]

    await until(is_known)


async def models_are_asked_for(router: LiveRouter) -> None:
    (await router.add(models=["a"])).models.append("adapter")
    await router.reload()

    async def is_known() -> bool:
        return (await router.call("GET", "/instances"))[1]["instances"][0]["models"] == ["a", "adapter"]

    await until(is_known)


EVENT = b'data: {"id":"x","choices":[{"index":0,"text":"well","finish_reason":null}]}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(EVENT), EVENT)


async def begin_a_stream(
    router: LiveRouter,
) -> tuple[list[LoopbackInstance], asyncio.StreamReader, asyncio.StreamWriter]:
    """Reload, then have a stream begin at the first of two instances. Returns them, and its client's connection."""
    instances = [await router.add(), await router.add()]
    for instance in instances:
        instance.answer = STREAM
    await router.reload()
    reader, writer = await router.open()
    writer.write(message(b'{"prompt": "hello", "stream": true}'))
    await reader.readuntil(EVENT)
    return sorted(instances, key=lambda instance: instance.last_head == ""), reader, writer


async def break_a_stream(router: LiveRouter) -> None:
    """Reload, then have a stream lose its instance, with another one there."""
    (first, _), _, writer = await begin_a_stream(router)
    first.stop()
    await until(lambda: "outcome=failed" in router.outlet.text)
    writer.close()


async def streams_break(router: LiveRouter) -> None:
    await break_a_stream(router)
    assert "stream can't go on" not in router.outlet.text
    assert "continue stream" not in router.outlet.text


def no_stream_goes_on(why: str) -> Observe:
    async def observe(router: LiveRouter) -> None:
        await break_a_stream(router)
        assert f"The stream can't go on at another instance: {why}" in router.outlet.text
        assert "continue stream" not in router.outlet.text

    return observe


async def comments_fill_the_gap(router: LiveRouter) -> None:
    (first, other), reader, writer = await begin_a_stream(router)
    other.answer = b""
    first.stop()
    await asyncio.wait_for(reader.readuntil(COMMENT), LIMIT_SECS)
    writer.close()


class Case(NamedTuple):
    """How the effect of an option's new ``value`` is observed, in a router that began with ``options``."""

    value: Any
    observe: Observe
    options: Mapping[str, Mapping[str, Any]] = {}


def slow(key: str, observe: Observe, value: float = 0.05, **more: Mapping[str, Any]) -> Case:
    """Make the case of a time that is endless before the reload."""
    section, _, name = key.partition(".")
    option = {name.replace("-", "_"): NEVER}
    return Case(value, observe, {**more, section: {**more.get(section, {}), **option}})


ASKED = {"discovery": "always"}
SELDOM = {"health_check_interval_secs": NEVER}
PAIRS = {"splitwise": True}
ONE = {"max_requests_per_instance": 1}

CASES: Mapping[str, Case] = {
    "server.drain-delay-secs": Case(NEVER, later_drain_accepts),
    "server.drain-timeout-secs": slow("server.drain-timeout-secs", later_drain_ends),
    "scheduler.stats-interval-secs": slow("scheduler.stats-interval-secs", stats_lines_come),
    "manager.register-path": Case("register.yaml", another_file_is_read),
    "manager.health-failure-threshold": Case(7, a_check_takes_more_failures, {"manager": SELDOM}),
    "manager.health-success-threshold": Case(7, a_check_takes_more_successes, {"manager": SELDOM}),
    "manager.health-check-timeout-secs": slow("manager.health-check-timeout-secs", probes_end, manager=SELDOM),
    "manager.health-check-interval-secs": slow("manager.health-check-interval-secs", probes_come),
    "manager.health-check-endpoint": Case("/other", probes_go_elsewhere, {"manager": SELDOM}),
    "manager.instance-expiry-secs": slow(
        "manager.instance-expiry-secs", the_unhealthy_are_dropped, manager={"health_check_interval_secs": 0.02}
    ),
    "models.strict": Case(True, a_name_nobody_serves_is_refused, {"models": ASKED}),
    "models.default": Case("a", who_names_none_gets_the_default, {"models": ASKED}),
    "models.aliases": Case({"x": "a"}, an_alias_leads_to_its_model, {"models": ASKED}),
    "models.fallbacks": Case({"a": "b"}, another_model_steps_in, {"models": ASKED}),
    "models.discovery": Case("always", all_are_asked_for_their_models),
    "models.refresh-interval-secs": slow("models.refresh-interval-secs", models_are_asked_for, models=ASKED),
    "instances.detect-dialects": Case("always", engines_are_asked_for_their_dialect),
    "log.level": Case("info", lines_come, {"log": {"level": "error"}}),
    "proxy.continue-streams": Case("off", streams_break),
    "proxy.max-continuations": Case(0, no_stream_goes_on("too_often")),
    "proxy.gap-comment-secs": Case(0.01, comments_fill_the_gap),
    "proxy.stream-journal-kb": Case(0, no_stream_goes_on("too_long")),
    "proxy.journals-mb": Case(0, no_stream_goes_on("no_budget")),
    "proxy.client-transfer-members": Case(True, clients_may_say_where_engines_fetch),
    "scheduler.decode-alone-below-tokens": Case(1000, decode_serves_a_short_prompt_alone, {"server": PAIRS}),
    "proxy.max-attempts": Case(1, no_more_attempts),
    "proxy.connect-timeout-secs": slow("proxy.connect-timeout-secs", connecting_ends),
    "proxy.first-byte-timeout-secs": slow("proxy.first-byte-timeout-secs", silence_ends),
    "proxy.prefill-timeout-secs": slow("proxy.prefill-timeout-secs", a_silent_prefill_ends, server=PAIRS),
    "proxy.request-timeout-secs": slow("proxy.request-timeout-secs", a_long_request_ends),
    "proxy.preempt-retry-count": Case(0, what_is_given_back_stays_so, {"server": PAIRS}),
    "proxy.preempt-retry-exclude-decode": Case(
        True,
        who_gave_back_is_left_out,
        {
            "server": PAIRS,
            "scheduler": {"decode_policy": "cache_aware"},
            "proxy": {"preempt_retry_exclude_decode": False},
        },
    ),
    "proxy.expose-instances": Case(False, the_pair_is_not_told, {"server": PAIRS}),
    "proxy.stall-timeout-secs": slow("proxy.stall-timeout-secs", a_pause_ends),
    "proxy.pool-idle-timeout-secs": slow("proxy.pool-idle-timeout-secs", nothing_is_kept_for_long),
    "proxy.pool-max-idle": Case(0, nothing_is_kept_for_long, {"proxy": {"pool_idle_timeout_secs": NEVER}}),
    "proxy.max-connections": Case(1, an_idle_client_goes_for_a_new_one),
    "proxy.max-body-mb": Case(1, a_large_body_is_refused),
    "proxy.body-budget-mb": Case(1, no_more_bytes_are_held),
    "proxy.max-head-kb": Case(1, a_large_head_is_refused),
    "proxy.client-head-timeout-secs": slow("proxy.client-head-timeout-secs", a_slow_head_is_refused),
    "proxy.client-body-timeout-secs": slow("proxy.client-body-timeout-secs", a_slow_body_is_refused),
    "proxy.client-request-timeout-secs": slow("proxy.client-request-timeout-secs", a_slow_body_is_refused),
    "proxy.client-idle-timeout-secs": slow("proxy.client-idle-timeout-secs", an_idle_client_goes),
    "admission.max-queued": Case(0, no_more_may_wait, {"protection": ONE}),
    "admission.refuse-late": Case(
        True,
        what_would_be_late_is_refused,
        {"scheduler": {"policy": "ttft_aware", "ttft_prefill_tokens_per_sec": 100.0}},
    ),
    "admission.queue-timeout-secs": slow("admission.queue-timeout-secs", waiting_ends, protection=ONE),
}
"""Every live option. One that is declared and missing here makes its test fail."""


def by_key(live: bool) -> list[Any]:
    return [pytest.param(option, id=option.key) for option in OPTIONS if option.option.live is live]


@pytest.mark.parametrize("option", by_key(live=True))
async def test_a_running_router_goes_by_the_new_value(option: Declared, tmp_path: Path) -> None:
    assert option.key in CASES, f"{option.key} is live: say in CASES how its effect is observed"
    case = CASES[option.key]
    value = str(tmp_path / case.value) if option.key.endswith("-path") else case.value
    async with LiveRouter(tmp_path, option.key, value, case.options) as router:
        await case.observe(router)


def another_value(option: Declared) -> Any:
    if option.kind is bool:
        return not option.default
    if option.kind is dict:
        return {"another": 1}
    if option.option.choices:
        return next(choice for choice in option.option.choices if choice != option.default)
    return f"{option.default}x" if option.kind is str else option.default + 7


@pytest.mark.parametrize("option", by_key(live=False))
def test_one_that_needs_a_restart_is_named_and_stays_as_it_was(option: Declared) -> None:
    before = Config()
    section = msgspec.structs.replace(getattr(before, option.section), **{option.attribute: another_value(option)})
    config, changed, waiting = merged(before, msgspec.structs.replace(before, **{option.section: section}))
    assert (config, changed, waiting) == (before, (), (option.key,))
