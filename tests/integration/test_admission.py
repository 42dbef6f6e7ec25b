"""A full fleet, as clients meet it: real processes, one request at a time at the instance."""

import httpx
import pytest

from tests.support.clients import PATIENT, Clients
from tests.support.fleet import QUICK, chat, eventually
from tests.support.raw_client import RawClient, request

FLEET = {
    "instances": 1,
    "mock": QUICK,
    "config": {
        "manager": PATIENT,
        "protection": {"max-requests-per-instance": 1},
        "admission": {"max-queued": 4, "queue-timeout-secs": 60},  # no wait here is so long: it ends by what happens
    },
}


@pytest.fixture
def clients(fleet):
    return Clients(fleet)


def test_who_waits_is_served_in_order(clients, fleet):
    waited = fleet.metric("fd_router_queue_wait_seconds_count")
    with clients.holding():
        for name in "abcd":
            clients.send(name, tokens=5)
    assert clients.join() == dict.fromkeys("abcd", 200)
    assert clients.served() == ["a", "b", "c", "d"]
    assert fleet.metric("fd_router_queue_wait_seconds_count") - waited == 3
    assert "All instances are at their limit: requests wait now, 4 of each priority at most" in fleet.router.log


def test_more_than_may_wait(clients, fleet):
    with clients.holding():
        for name in "abcde":
            clients.send(name)
        refused = httpx.post(f"{fleet.url}/v1/chat/completions", json=chat(max_tokens=1), timeout=20)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        clients.send("h", **{"x-priority": "high"})
    assert clients.join() == dict.fromkeys("abcdeh", 200)
    assert clients.served() == ["a", "h", "b", "c", "d", "e"]
    assert fleet.metric("fd_router_rejected_requests_total", reason="queue_full") == 1


def test_a_client_that_leaves_frees_its_place(clients, fleet):
    with clients.holding():
        clients.send("a")
        with RawClient(fleet.port) as leaver:
            leaver.send(request("/v1/chat/completions", b'{"messages": []}'))
            eventually(lambda: clients.queued == 1)
        eventually(lambda: clients.queued == 0)  # long before its time in the queue is over
    assert clients.join() == {"a": 200}
    assert clients.served() == ["a"]
