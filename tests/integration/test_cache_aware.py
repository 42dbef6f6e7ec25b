"""Cache-aware and remote policies over real sockets: who gets a request, the log lines, the session metrics."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from fd_router.devtools.mock.instance import MockInstance
from tests.support.http_client import fetch
from tests.support.mock_process import RouterProcess
from tests.support.pd_fleet import CHAT, PdFleet
from tests.support.scripted_instance import ScriptedInstance
from tests.support.waiting import until

LONG = "Tell me the story of the seven bridges, from its very beginning. " * 20
CACHE = {"policy": "cache_aware", "cache_block_size": 16}
LINE = re.compile(
    r"\[INFO\] \S+ \S+ logger\.go:79: (?P<tags>(?:\[\w+:[^\]]*\] )*)cache-aware prefill: final strategy: "
    r"cache_aware_scoring, selected=(?P<selected>\S+), loads=map\[(?P<loads>[^\]]*)\], "
    r"hitRatios=map\[(?P<hits>[^\]]*)\]\. ts_ms=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\n"
)


def body(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 2, **more}


def counts(fleet: PdFleet, role: str = "mixed") -> list[int]:
    """Return how many completions each instance of ``role`` was sent."""
    return [sum(each["path"] == CHAT for each in mock.requests()) for mock in fleet.of(role)]


def scrapes(mock: MockInstance) -> int:
    return sum(each["path"] == "/metrics" for each in mock.requests())


async def ask(fleet: PdFleet, *values: Any) -> None:
    for value in values:
        answer = await fleet.call("POST", CHAT, value)
        assert answer.status == 200, answer.body


async def test_a_prompt_goes_where_it_was_before_however_it_is_spelled() -> None:
    async with PdFleet(mixed=3, scheduler=CACHE) as fleet:
        parts = [{"type": "text", "text": LONG}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        keys_swapped = {"max_tokens": 2, "messages": [{"content": LONG, "role": "user"}]}
        await ask(
            fleet,
            body(LONG),
            json.dumps(body(LONG), indent=3).encode(),
            json.dumps(keys_swapped).replace("story", "\\u0073tory").encode(),
            body(parts),
            {"prompt": LONG, "messages": body(LONG)["messages"], "max_tokens": 2},
        )
        assert sorted(counts(fleet)) == [0, 0, 5]
        assert not await fleet.leftovers()


async def test_the_line_of_a_choice() -> None:
    async with PdFleet(mixed=2, scheduler=CACHE) as fleet:
        await ask(fleet, body(LONG, session_id="s-1", request_id="r-1"), body(LONG, session_id="s-1", request_id="r-2"))
        first, second = LINE.finditer(fleet.log)
        urls = sorted(mock.url for mock in fleet.of("mixed"))
        assert "[session_id:s-1]" in first["tags"]
        assert [first["hits"], second["hits"]] == ["", f"{first['selected']}:100"]
        assert first["selected"] == second["selected"]
        assert second["loads"] == " ".join(f"{url}:0" for url in urls)


async def test_sessions_are_counted_by_request_and_not_by_attempt() -> None:
    async with PdFleet(mixed=2, scheduler=CACHE, proxy={"max_attempts": 3}) as fleet:
        await ask(fleet, body(LONG, session_id="s"), body(LONG, session_id="s"), body(LONG))
        await ask(fleet, body(LONG, extra_body={"session_id": "s"}), body("x" * 300, session_id="t"))
        assert await fleet.metric("router_cache_request_total") == 4
        assert await fleet.metric("router_cache_hit_total") == 2
        served = max(fleet.of("mixed"), key=lambda mock: len(mock.requests()))
        await served.stop()
        await ask(fleet, body(LONG, session_id="s"))
        assert await fleet.metric("fd_router_retries_total") == 1
        assert await fleet.metric("router_cache_request_total") == 5


async def test_imbalanced_loads_and_an_empty_prompt_are_told_of() -> None:
    scheduler = {**CACHE, "load_balance_weight": 0.05}
    async with PdFleet(mixed=2, scheduler=scheduler, mock={"decode_ms_per_token": 50}) as fleet:
        await ask(fleet, body(""))
        running = [asyncio.create_task(ask(fleet, body(LONG, max_tokens=1000))) for _ in range(3)]
        await until(lambda: sum(counts(fleet)) == 4)
        await ask(fleet, body(LONG))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        pattern = r"\[INFO\] .* final strategy: process_tokens, reason: (.*?), loads=map\[.*\]\. ts_ms="
        lines = re.findall(pattern, fleet.log)
        assert lines[0] == "tokenize failed: empty prompt for tokenizer"
        assert "load imbalanced" in lines[1:]


async def test_an_instance_that_was_started_again_has_lost_its_cache() -> None:
    async with PdFleet(mixed=2, scheduler=CACHE) as fleet:
        await ask(fleet, body(LONG), body(LONG))
        first, other = sorted(fleet.of("mixed"), key=lambda mock: -len(mock.requests()))
        await first.stop()
        await ask(fleet, body(LONG))  # finds that nobody listens there, and goes to the other
        await first.start()
        await fleet.register(first.name)
        await ask(fleet, body(LONG))
        assert list(LINE.finditer(fleet.log))[-1]["hits"] == f"{other.url}:100"
        assert [each["path"] for each in other.requests()].count(CHAT) == 2


async def test_prefill_and_decode_choose_by_cache_too() -> None:
    scheduler = {"prefill_policy": "cache_aware", "decode_policy": "remote_cache_aware", "cache_block_size": 16}
    async with PdFleet(3, 3, scheduler=scheduler) as fleet:
        await ask(fleet, *[body(LONG, session_id="s")] * 4)
        assert await fleet.metric("router_cache_request_total") == 4
        assert await fleet.metric("router_cache_hit_total") == 3
        assert (sorted(counts(fleet, "prefill")), sorted(counts(fleet, "decode"))) == ([0, 0, 4], [0, 0, 4])


@pytest.mark.parametrize("policy", ["fd_remote_metrics_score", "remote_cache_aware"])
async def test_remote_loads_keep_requests_from_an_instance_that_others_use(policy: str) -> None:
    scheduler = {"policy": policy, "load_scrape_interval_secs": 0.02, "balance_abs_threshold": 1000.0}
    async with PdFleet(mixed=2, scheduler=scheduler, mock={"decode_ms_per_token": 100}) as fleet:
        busy, idle = fleet.of("mixed")
        # As if there were another router before the same instance.
        value = json.dumps(body("elsewhere", max_tokens=200)).encode()
        others = [asyncio.create_task(fetch("127.0.0.1", busy.port, "POST", CHAT, body=value)) for _ in range(4)]
        await until(lambda: busy.state()["running"] == 4)
        scraped = scrapes(busy)
        await until(lambda: scrapes(busy) >= scraped + 2)
        await ask(fleet, *[body(f"{number}" * 200, max_tokens=1) for number in range(6)])
        assert [each["path"] for each in idle.requests()].count(CHAT) == 6
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_nobody_is_scraped_without_a_remote_policy() -> None:
    async with PdFleet(mixed=1, scheduler={**CACHE, "load_scrape_interval_secs": 0.01}) as fleet:
        await asyncio.sleep(0.1)
        assert scrapes(fleet.of("mixed")[0]) == 0


class TestTokenizer:
    """A service whose tokens are the words of a prompt."""

    @staticmethod
    def words(head: bytes, content: bytes) -> Iterable[bytes]:
        question = json.loads(content)
        assert question["text"] == question["prompt"] == question["message"]
        answer = json.dumps({"input_ids": [len(word) for word in question["text"].split()]}).encode()
        return [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)]

    @staticmethod
    def fleet(service: ScriptedInstance, **more: Any) -> PdFleet:
        scheduler = {"policy": "cache_aware", "cache_block_size": 4, "tokenizer_url": service.url, **more}
        return PdFleet(mixed=3, scheduler=scheduler)

    async def test_its_tokens_decide(self) -> None:
        with ScriptedInstance() as service:
            service.script = self.words
            async with self.fleet(service) as fleet:
                one = " ".join(["aa"] * 20)
                same_tokens = " ".join(["zz"] * 20)
                await ask(fleet, *[body(text) for text in (one, same_tokens, one, same_tokens)])
                assert sorted(counts(fleet)) == [0, 0, 4]
                assert len(service.heads) == 2  # the others' answers were remembered
                assert service.heads[0].startswith(b"POST /tokenize HTTP/1.1\r\n")

    async def test_a_silent_one_holds_up_nobody_but_the_one_that_asked(self) -> None:
        with ScriptedInstance() as service:
            async with self.fleet(service, tokenizer_timeout_secs=0.3) as fleet:
                await ask(fleet, body(LONG, request_id="r-1"))
                await ask(fleet, body(LONG), body(LONG))
                assert sorted(counts(fleet)) == [0, 0, 3]
                lines = [line for line in fleet.log.splitlines() if "tokenizer failed" in line]
                assert len(lines) == 1
                assert "[request_id:r-1]" in lines[0]
                assert lines[0].endswith(
                    "cache-aware prefill: tokenizer failed, fallback to char tokens: no answer within 0.3 s"
                )

    async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(self) -> None:
        with ScriptedInstance() as service:
            async with self.fleet(service, tokenizer_timeout_secs=0.5) as fleet:
                asking = asyncio.create_task(ask(fleet, body(LONG)))
                await until(lambda: bool(service.heads))
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await until(lambda: " 499 " in fleet.log)
                await until(lambda: "tokenizer failed" in fleet.log)  # only now, and it is too late for anything
                assert counts(fleet) == [0, 0, 0]
                assert not await fleet.leftovers()


class TestLocalTokenizer:
    """A file whose tokens are the first letters of words."""

    @staticmethod
    def save(path: Path) -> str:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "aa": 1, "bb": 2}, unk_token="?"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(path / "tokenizer.json"))
        return str(path)

    async def test_its_tokens_decide(self, tmp_path: Path) -> None:
        scheduler = {"policy": "cache_aware", "cache_block_size": 4, "tokenizer_path": self.save(tmp_path)}
        async with PdFleet(mixed=3, scheduler=scheduler) as fleet:
            same_tokens = [" ".join([word] * 400) for word in ("cc", "dd", "eeeee", "f")]  # all unknown words
            await ask(fleet, *[body(text) for text in same_tokens])
            assert sorted(counts(fleet)) == [0, 0, 4]
            assert "tokenizer failed" not in fleet.log
            explained = json.loads((await fleet.call("POST", "/v1/explain", body(same_tokens[0]))).body)
            assert explained["prompt"] == {"characters": 1199, "tokens": 400, "estimated": False}

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"tokenizer-path": "/no/where"}, "there is no file '/no/where'"),
            ({"tokenizer-path": "/no/where", "tokenizer-url": "http://t:1"}, "are both given; keep one of them"),
        ],
    )
    def test_a_router_that_cannot_have_it_does_not_start(self, options: dict[str, str], why: str) -> None:
        router = RouterProcess({"scheduler": {"policy": "cache_aware", **options}})
        try:
            assert router.process.wait(25) == 1
            assert why in router.output
            assert "Traceback" not in router.output
        finally:
            router.end()
