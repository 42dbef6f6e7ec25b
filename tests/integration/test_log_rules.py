"""A log written under load, read by FastDeploy's rules: the numbers are those of the clients and instances."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from tests.support import log_rules
from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CLIENTS, REQUESTS_EACH = 3, 20
TOKEN_MS = 2.0
ANSWER_MS = TOKEN_MS / 2  # no answer is told to have been quicker: each takes a token's time, and more
SPARE_MS = 1000.0  # what a busy machine may put between a client's clock and the router's


class Sent(NamedTuple):
    """What a client did and saw."""

    path: str
    status: int
    milliseconds: float
    session: str  # "": not a valid request
    request_id: str


class Load(NamedTuple):
    """What came of a load."""

    splitwise: bool
    sent: Sequence[Sent]
    received: Mapping[str, Sequence[Mapping[str, Any]]]  # URL → its instance's completion requests, oldest first
    lines: Sequence[log_rules.Line]

    @property
    def good(self) -> Sequence[Sent]:
        return [each for each in self.sent if each.session]

    @property
    def role(self) -> str:
        return "prefill" if self.splitwise else "mixed"


def requests_of(client: int, port: int) -> Iterator[Sent]:
    """Send one client's requests, one after the other: conversations of three sessions, both endpoints, some broken."""
    said: defaultdict[str, str] = defaultdict(str)
    for number in range(REQUESTS_EACH):
        session, name = f"s{client}-{number % 3}", f"r{client}-{number}"
        path, body = COMPLETIONS, b"{broken"
        if number % 10 == 7:
            session = ""
        else:
            said[session] += f" turn {number}: the same beginning, and then something else"
            value: dict[str, Any] = {"max_tokens": 2, "stream": number % 3 == 0, "request_id": name}
            if number % 2:
                value |= {"prompt": said[session], "session_id": session}
            else:
                path = CHAT
                value |= {
                    "messages": [{"role": "user", "content": said[session]}],
                    "extra_body": {"session_id": session},
                }
            body = json.dumps(value).encode()
        begun = time.monotonic()
        status = post(port, path, body)
        yield Sent(path, status, (time.monotonic() - begun) * 1000, session, name)


def post(port: int, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.fixture(scope="module", params=[False, True], ids=["mixed", "pd"])
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    splitwise = request.param
    scheduler = {
        "policy": "cache_aware", "prefill-policy": "cache_aware", "decode-policy": "request_num", "cache-block-size": 4,
        "load-balance-weight": 0.05, "balance-abs-threshold": 100, "stats-interval-secs": 0.2,
    }  # fmt: skip
    config = {"server": {"splitwise": splitwise}, "scheduler": scheduler, "log": {"output": "file"}}
    roles = ["prefill", "prefill", "decode", "decode"] if splitwise else ["mixed"] * 3
    with ExitStack() as stack:
        router = stack.enter_context(RouterProcess(config))
        options = {"router": router.key, "prefill_tokens_per_sec": 1_000_000, "decode_ms_per_token": TOKEN_MS}
        mocks = [stack.enter_context(MockProcess(role=role, record_bodies=True, **options)) for role in roles]
        router.wait_for_instances(len(mocks))
        with ThreadPoolExecutor(CLIENTS) as pool:
            sent = [
                each for some in pool.map(lambda n: list(requests_of(n, router.port)), range(CLIENTS)) for each in some
            ]
        router.log_so_far()  # a line of [stats] that comes behind it has nothing running
        seen = router.log.count("[stats]")
        eventually(lambda: router.log.count("[stats]") >= seen + 2)
        received = {mock.url: mock.completions() for mock in mocks}
        yield Load(splitwise, sent, received, list(log_rules.read(router.log)))


def test_all_that_is_valid_was_served(load: Load) -> None:
    assert Counter(each.status for each in load.sent) == {200: len(load.good), 400: len(load.sent) - len(load.good)}


def test_latency(load: Load) -> None:
    lines = [line for line in log_rules.request_lines(load.lines) if line.path in (CHAT, COMPLETIONS)]
    assert Counter((line.path, line.status) for line in lines) == Counter((s.path, s.status) for s in load.sent)
    assert {line.client for line in lines} == {"127.0.0.1"}
    for share in (0.5, 0.9):
        seen = log_rules.percentile([each.milliseconds for each in load.sent], share)
        told = log_rules.percentile([line.milliseconds for line in lines], share)
        assert ANSWER_MS <= told <= seen + SPARE_MS


def test_load(load: Load) -> None:
    chosen = log_rules.selections(load.lines)
    roles = ["prefill", "decode"] if load.splitwise else ["mixed"]
    assert Counter(role for role, _ in chosen) == dict.fromkeys(roles, len(load.good))
    assert Counter(url for _, url in chosen) == {
        url: len(requests) for url, requests in load.received.items() if requests
    }
    assert log_rules.unmatched(load.lines) == (0, 0)
    assert len(log_rules.token_releases(load.lines)) == len(load.good)
    told = log_rules.stats(load.lines)
    assert told[-1].running == 0
    assert all(each.running == sum(each.by_worker.values()) for each in told)


def test_hit_rate_and_stickiness(load: Load) -> None:
    told, decided = log_rules.stats(load.lines), log_rules.strategies(load.lines)
    assert len(decided) == len(load.good)
    firsts = {url for role, url in log_rules.selections(load.lines) if role == load.role}
    visits: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for url in firsts:
        for received in load.received[url]:
            body = json.loads(received["body"])
            session = body.get("session_id") or body["extra_body"]["session_id"]
            visits[session].append((len(body.get("prompt") or body["messages"][0]["content"]), url))
    in_order = [[url for _, url in sorted(each)] for each in visits.values()]  # a conversation only grows
    again = sum(before == after for urls in in_order for before, after in pairwise(urls))
    assert (sum(each.hits for each in told), sum(each.total for each in told)) == (again, len(load.good))
    assert log_rules.sticky(decided) == again
    ratios = [each.hit_ratios.get(each.selected, 0.0) for each in decided]
    assert sum(ratios) / len(ratios) > 40


def test_scheduling_time(load: Load) -> None:
    times = log_rules.scheduling_times(load.lines)
    if load.splitwise:
        assert set(times) == {each.request_id for each in load.good}
    assert all(0 <= each < 1000 for each in times.values())


def test_traces_by_request_id(load: Load) -> None:
    found = log_rules.traces(load.lines)
    for each in load.good:
        messages = found[each.request_id]
        assert messages[0] == "Parsing completed; starting worker selection."
        assert sum(message.startswith("select worker") for message in messages) == 1 + load.splitwise
        assert sum(message.startswith("release worker") for message in messages) == 1 + load.splitwise
        assert "Request completed successfully." in messages
        assert sum(message.startswith(f"[POST] {each.path} ") for message in messages) == 1
    ids = {json.loads(received["body"])["request_id"] for requests in load.received.values() for received in requests}
    assert ids == {each.request_id for each in load.good}


def test_a_life_is_told_once(load: Load) -> None:
    assert log_rules.count(load.lines, "Parsing completed; starting worker selection.") == len(load.good)
    assert log_rules.count(load.lines, "Request completed successfully.") == len(load.good)
    assert log_rules.count(load.lines, "Failed to unmarshal request JSON: ") == len(load.sent) - len(load.good)
