"""A full fleet in which nothing moves, as clients meet it: real processes."""

from tests.support.clients import PATIENT, Clients
from tests.support.fleet import QUICK

FLEET = {
    "instances": 1,
    "mock": QUICK,
    "config": {
        "manager": PATIENT,
        "protection": {"max-requests-per-instance": 1},
        "admission": {"max-queued": 4, "queue-timeout-secs": 1},
    },
}


def test_waiting_ends_with_503(fleet):
    clients = Clients(fleet)
    with clients.holding():
        clients.send("a")
        late = clients.send_and_wait("b")
        assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
        assert "retry-after" in late.headers
        assert clients.running == 1, "the one at the instance isn't to blame"
    assert clients.join() == {"a": 200}
    assert clients.served() == ["a"]
