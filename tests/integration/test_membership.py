"""Who may serve: registration by heartbeat, health, expiry, restarts; as instances and their operators see it."""

import json
import socket

import httpx
import pytest

from tests.support.fleet import CALM, QUICK, Fleet, chat, eventually, sample
from tests.support.mock_process import MockProcess, RouterProcess
from tests.support.raw_client import RawClient, request

EXPIRY_SECS = 0.5
FLEET = {
    "instances": 0,
    "config": {"manager": {"instance-expiry-secs": EXPIRY_SECS, "health-check-timeout-secs": 0.5}},
}
ENDLESS = json.dumps(chat(max_tokens=1_000_000, stream=True)).encode()


@pytest.fixture
def start(fleet):
    """Start mocks that register themselves; they are killed, and expire, at the end."""
    started = []

    def start(number=1, **options):
        new = [
            MockProcess(router=fleet.router.key, **{"heartbeat_secs": 0.2, **QUICK, **options}) for _ in range(number)
        ]
        started.extend(new)
        for each in new:
            each.wait_until_up()
        eventually(lambda: all(map(fleet.is_healthy, new)))
        return new

    yield start
    for each in started:
        each.end()
    eventually(lambda: fleet.metric("fd_router_instances") == 0)


def registration(mock, **more):
    return {"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port, **more}


def registered(fleet):
    return {entry["url"]: entry for entry in fleet.router.call("GET", "/registered")[1]["mixed"]}


def begin_stream(fleet):
    client = RawClient(fleet.port)
    client.send(request("/v1/chat/completions", ENDLESS))
    client.read_head()
    client.read_chunk()
    return client


def finish(streams, *mocks):
    """Let the mocks end their streams in order; tell whether each reached its client's side whole."""
    for mock in mocks:
        assert mock.call("POST", "/v1/abort_requests", {"abort_all": True})[0] == 200
    endings = []
    for client in streams:
        with client:
            endings.append(client.read_chunks([])[-1].endswith(b"data: [DONE]\n\n"))
    return all(endings)


def test_without_instances_the_answer_says_so(fleet):
    status, answer = fleet.ask()
    assert status == 502
    assert answer["error"]["message"].startswith("Failed to select worker")
    assert answer["error"]["code"] == "no_instance"


def test_an_instance_that_registers_itself_is_served_and_listed(fleet, start):
    mocks = start(2)
    assert set(registered(fleet)) == {mock.url for mock in mocks}
    assert fleet.router.call("GET", "/registered_number")[1] == {"mixed": 2, "prefill": 0, "decode": 0}
    for _ in range(20):
        assert fleet.ask()[0] == 200
    assert all(mock.completions() for mock in mocks)


def test_a_heartbeat_replaces_data_and_disturbs_nothing(fleet, start):
    (mock,) = start(decode_ms_per_token=8, heartbeat_secs=60)
    stream = begin_stream(fleet)
    changed = registration(mock, connector_port=4711, metrics_port="9000", some_new_key={"a": 1})
    for _ in range(5):
        assert fleet.router.call("POST", "/register", changed) == (200, {"code": 200, "msg": "Register success"})
        assert fleet.running(mock) == 1
    entry = registered(fleet)[mock.url]
    assert (entry["connector_port"], entry["metrics_port"]) == ("4711", "9000")
    assert finish([stream], mock)
    fleet.settle()


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"role": "prefill"}, 400, "only MIXED instances are allowed"),
        ({"role": ""}, 400, "role is required"),
        ({"host_ip": "nowhere"}, 400, "invalid host_ip: nowhere"),
        ({"port": 99999}, 400, "invalid port: 99999"),
        ({"port": 1}, 503, "http://127.0.0.1:1 service is not healthy"),
    ],
)
def test_what_cannot_serve_is_not_registered(fleet, change, status, message):
    body = {"role": "mixed", "host_ip": "127.0.0.1", "port": 8000} | change
    got, answer = fleet.router.call("POST", "/register", body)
    assert (got, answer["code"]) == (status, status)
    assert message in answer["msg"]
    assert registered(fleet) == {}


def test_an_instance_that_dies_is_dropped_after_a_while_and_comes_back_by_itself(fleet, start):
    (mock,) = start()
    port = mock.port
    mock.kill()
    eventually(lambda: not fleet.is_healthy(mock))
    eventually(lambda: fleet.metric("fd_router_instances") == 0)
    page = fleet.metrics()
    assert mock.url not in page, "the series of an instance that is gone stay for ever"
    start(port=port)
    assert fleet.ask()[0] == 200


def test_an_unhealthy_instance_gets_nothing_new_and_finishes_what_runs(fleet, start):
    sick, other = start(2, decode_ms_per_token=8)
    streams = [begin_stream(fleet) for _ in range(4)]
    assert fleet.running(sick) == fleet.running(other) == 2
    sick.set_faults("unhealthy")
    eventually(lambda: not fleet.is_healthy(sick))
    before = len(sick.completions())
    for _ in range(10):
        assert fleet.ask()[0] == 200
    assert len(sick.completions()) == before
    page = fleet.metrics()  # where it is dropped already, its series have gone with it
    if f'instance="{sick.url}"' in page:
        assert sample(page, "fd_router_instance_running_requests", instance=sick.url) == 2, "they must stay counted"
    assert finish(streams, sick, other)
    fleet.settle()
    sick.set_faults()
    eventually(lambda: fleet.is_healthy(sick))
    for _ in range(20):
        assert fleet.ask()[0] == 200
    assert len(sick.completions()) > before


def test_an_instance_that_hangs_is_noticed_by_its_probe(fleet, start):
    hung, _ = start(2)
    hung.pause()
    try:
        eventually(lambda: not fleet.is_healthy(hung))
        assert [fleet.ask()[0] for _ in range(5)] == [200] * 5
    finally:
        hung.resume()
    eventually(lambda: fleet.is_healthy(hung))


def test_an_instance_dropped_with_requests_running_comes_back_with_its_counts(fleet, start):
    """The Go program forgets the counts, and goes below zero or stays above it when the requests end."""
    (mock,) = start(decode_ms_per_token=8)
    stream = begin_stream(fleet)
    mock.set_faults("unhealthy")
    eventually(lambda: fleet.metric("fd_router_instances") == 0)
    mock.set_faults()
    eventually(lambda: fleet.is_healthy(mock))
    assert fleet.running(mock) == 1
    assert finish([stream], mock)
    fleet.settle()


def test_health_generate_probes_now_and_reports_each(fleet, start):
    good, bad = start(2)
    bad.set_faults("unhealthy")
    status, answer = fleet.router.call("GET", "/health_generate")
    assert (status, answer["code"], answer["msg"]) == (200, 200, "Health check complete")
    found = {one["url"]: one["healthy"] for one in answer["instances"]}
    assert (found[good.url], found.get(bad.url, False)) == (True, False)  # on a slow machine, it is dropped already
    assert not fleet.is_healthy(bad), "what was learnt wasn't used"


def test_a_paused_instance_is_not_chosen(fleet, start):
    paused, other = start(2, heartbeat_secs=60)
    assert fleet.router.call("POST", "/register", registration(paused, is_paused=True))[0] == 200
    for _ in range(10):
        assert fleet.ask()[0] == 200
    assert (len(paused.completions()), len(other.completions())) == (0, 10)
    assert fleet.router.call("POST", "/register", registration(other, is_paused=True))[0] == 200
    status, answer = fleet.ask()
    assert (status, f"{other.url} is paused" in answer["error"]["message"]) == (502, True)
    assert fleet.router.call("POST", "/register", registration(paused, is_paused=False))[0] == 200


def test_a_router_that_is_started_again_is_healed_by_heartbeats():
    with Fleet(0) as fleet:
        mock = fleet.add(MockProcess(router=fleet.router.key, heartbeat_secs=0.2, **QUICK))
        eventually(lambda: fleet.is_healthy(mock))
        port = fleet.port
        assert fleet.router.stop() == 0
        fleet.router = fleet.add(RouterProcess(CALM, port=port))
        eventually(lambda: fleet.is_healthy(mock))
        assert fleet.ask()[0] == 200


def has_ipv6():
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return False
        return True


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_an_ipv6_instance_registers_and_serves(fleet, start):
    mock = MockProcess(host="::1", router=fleet.router.key, **QUICK)  # nobody answers for it at 127.0.0.1
    try:
        url = f"http://[::1]:{mock.port}"
        eventually(lambda: fleet.metric("fd_router_instance_healthy", instance=url) == 1)
        answer = httpx.post(f"{fleet.url}/v1/chat/completions", json=chat(max_tokens=1), timeout=60)
        assert answer.status_code == 200
        assert answer.json()["id"].startswith(f"chatcmpl-mock-{mock.port}")
    finally:
        mock.end()
        eventually(lambda: fleet.metric("fd_router_instances") == 0)
