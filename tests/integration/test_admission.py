"""A full fleet, as clients meet it: real processes, one request at a time at the instance."""

import threading
import time

import httpx
import pytest

from tests.support.fleet import Fleet, chat, eventually

FLEET = {
    "instances": 1,
    "mock": {"decode_ms_per_token": 20, "prefill_tokens_per_sec": 1_000_000},
    "config": {
        "protection": {"max-requests-per-instance": 1},
        "admission": {"max-queued": 4, "queue-timeout-secs": 1.5},
    },
}


class Clients:
    """Sends requests, each in a thread, in a known order; notes how they end in the order in which they do."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.ended = []
        self.threads = []

    def send(self, name, tokens=5, **headers):
        def run():
            answer = httpx.post(f"{self.fleet.url}/v1/chat/completions", json=chat(max_tokens=tokens),
                                headers=headers, timeout=20)  # fmt: skip
            self.ended.append((name, answer))

        before = self.fleet.metric("fd_router_queued_requests") + self.fleet.running(self.fleet.mocks[0])
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        eventually(lambda: self.fleet.metric("fd_router_queued_requests")
                   + self.fleet.running(self.fleet.mocks[0]) != before or self.ended)  # fmt: skip

    def join(self):
        for thread in self.threads:
            thread.join(20)
        return [(name, answer.status_code) for name, answer in self.ended]


@pytest.fixture
def clients(fleet):
    return Clients(fleet)


def test_who_waits_is_served_in_order(clients, fleet):
    clients.send("a", tokens=15)
    for name in "bcd":
        clients.send(name)
    assert clients.join() == [("a", 200), ("b", 200), ("c", 200), ("d", 200)]
    assert fleet.metric("fd_router_queue_wait_seconds_count") == 3
    assert "All instances are at their limit: requests wait now, 4 of each priority at most" in fleet.router.log


def test_more_than_may_wait(clients, fleet):
    clients.send("a", tokens=40)
    for name in "bcde":
        clients.send(name)
    refused = httpx.post(f"{fleet.url}/v1/chat/completions", json=chat(max_tokens=1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    clients.send("h", **{"x-priority": "high"})
    order = clients.join()
    assert {status for _, status in order} == {200}
    assert order[1][0] in {"b", "h"}
    assert order[2][0] in {"b", "h"}
    assert fleet.metric("fd_router_rejected_requests_total", reason="queue_full") == 1


def test_waiting_ends_with_503(clients, fleet):
    clients.send("a", tokens=150)
    clients.send("b")
    assert clients.join() == [("b", 503), ("a", 200)]
    assert clients.ended[0][1].json()["error"]["code"] == "queue_timeout"
    assert "retry-after" in clients.ended[0][1].headers


def test_a_client_that_leaves_frees_its_place(clients, fleet):
    clients.send("a", tokens=40)
    started = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{fleet.url}/v1/chat/completions", json=chat(max_tokens=1), timeout=0.2)
    eventually(lambda: fleet.metric("fd_router_queued_requests") == 0)
    assert time.monotonic() - started < 1.4, "long before its time in the line is over"
    assert clients.join() == [("a", 200)]
    assert len(fleet.mocks[0].completions()) == 1
