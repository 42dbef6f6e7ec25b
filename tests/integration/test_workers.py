"""Several workers under a supervisor, as real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal

import pytest

from tests.support.fleet import QUICK, chat, eventually, sample
from tests.support.mock_process import MockProcess, RouterProcess, call

CONNECTIONS = 12


@pytest.fixture(scope="module")
def mocks():
    mocks = [MockProcess(**QUICK) for _ in range(2)]
    try:
        yield [mock.wait_until_up() for mock in mocks]
    finally:
        for mock in mocks:
            mock.end()


@pytest.fixture
def connect():
    """Make clients of a router that keep their connections."""
    clients = []

    def connect(router, number):
        clients.extend(made := [Client(router.port) for _ in range(number)])
        return made

    yield connect
    for client in clients:
        client.connection.close()


@pytest.fixture
def router(mocks):
    entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in mocks]
    sections = {"server": {"workers": "2"}, "log": {"output": "file"}}
    router = RouterProcess(sections, instances=entries, wrapper=["env"])
    try:
        router.wait_until_up()
        router.wait_for_instances(2)
        yield router
    finally:
        router.end()


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, **more):
        body = json.dumps(chat(**{"max_tokens": 1, **more}))
        self.connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


def workers(router):
    """Return the workers' process ids: the supervisor's children."""
    pid = router.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(child) for child in file.read().split()]


def page(router):
    return call(router.port, "GET", "/metrics")[1].decode()


def test_workers_serve_one_port_alike_and_one_that_dies_is_started_again(router, connect):
    clients = connect(router, CONNECTIONS)
    before = sample(page(router), "inference_requests_total")
    assert [client.ask() for client in clients * 3] == [200] * 3 * CONNECTIONS
    text = page(router)
    assert sample(text, "inference_requests_total") - before == 3 * CONNECTIONS
    cpu = [line for line in text.splitlines() if line.startswith("process_cpu_seconds_total{")]
    assert sorted(line.partition('"')[2].partition('"')[0] for line in cpu) == ["0", "1"]
    dead, alive = workers(router)
    os.kill(dead, signal.SIGKILL)
    survived = 0
    for client in clients:
        try:
            survived += client.ask() == 200
        except (OSError, http.client.HTTPException):
            continue
    assert CONNECTIONS * 0.4 <= survived <= CONNECTIONS * 0.6  # the other worker's, none of which notices anything
    eventually(lambda: len(workers(router)) == 2 and alive in workers(router))
    eventually(lambda: sum("process_cpu_seconds_total{worker=" in line for line in page(router).splitlines()) == 2)
    assert "it is started again" in router.log
    assert [client.ask() for client in connect(router, 6)] == [200] * 6


def test_all_of_them_reload_drain_and_end(router, mocks, connect):
    status, answer = router.call("POST", "/admin/reload")
    assert (status, answer["status"], answer["warnings"]) == (200, "reloaded", [])
    router.call("POST", f"/instances/{mocks[0].key}/drain")
    eventually(lambda: all(router.call("GET", f"/instances/{mocks[0].key}")[1]["draining"] for _ in range(6)))
    (client,) = connect(router, 1)
    body = json.dumps(chat("go on", stream=True, max_tokens=40))
    mocks[1].set_faults()
    client.connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answer = client.connection.getresponse()
    router.process.send_signal(signal.SIGTERM)
    assert answer.read().rstrip().endswith(b"[DONE]")
    client.connection.close()
    assert router.process.wait(30) == 0


def test_a_configuration_that_cannot_be_used_ends_the_supervisor_too(mocks):
    router = RouterProcess({"server": {"workers": "2"}, "access": {"keys-path": "/nowhere/keys.yaml"}}, wrapper=["env"])
    try:
        assert router.process.wait(60) == 1
        assert "/nowhere/keys.yaml" in router.output
    finally:
        router.end()


def test_the_streams_of_all_workers_leave_an_instance_whose_deadline_is_over():
    mocks = [MockProcess(name="one of them", decode_ms_per_token=20) for _ in range(2)]
    entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in mocks]
    sections = {"server": {"workers": "2"}, "scheduler": {"policy": "round_robin"}}
    router = RouterProcess(sections, instances=entries, wrapper=["env"])
    clients = []
    try:
        for process in (*mocks, router):
            process.wait_until_up()
        router.wait_for_instances(2)
        body = json.dumps({"prompt": "go on", "stream": True, "max_tokens": 400})
        for _ in range(8):  # four at each worker, two of these at each instance
            clients.append(client := http.client.HTTPConnection("127.0.0.1", router.port, timeout=60))
            client.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        answers = [client.getresponse() for client in clients]
        for answer in answers:
            answer.read(100)
        eventually(lambda: [mock.state()["live"] for mock in mocks] == [4, 4])
        router.call("POST", f"/instances/{mocks[0].key}/drain?deadline_secs=0")
        eventually(lambda: [mock.state()["live"] for mock in mocks] == [0, 8])
        assert all(b"[DONE]" in answer.read() for answer in answers)
    finally:
        for client in clients:
            client.close()
        for process in (router, *mocks):
            process.end()


def test_a_login_to_the_dashboard_holds_at_all_workers():
    token = "a-token-for-the-admins"
    router = RouterProcess({"server": {"workers": "2"}, "access": {"admin-token": token}}, wrapper=["env"])

    def ask(path, value=None, **headers):
        client = http.client.HTTPConnection("127.0.0.1", router.port, timeout=30)
        try:
            client.request("POST", path, json.dumps(value), {"content-type": "application/json", **headers})
            answer = client.getresponse()
            answer.read()
            return answer.status, answer.getheader("set-cookie", "").partition(";")[0]
        finally:
            client.close()

    def statuses(cookie):
        return {ask("/dashboard/instances/10.0.0.9:8000/drain", cookie=cookie)[0] for _ in range(6)}

    with router:
        status, cookie = ask("/dashboard/login", {"token": token})
        assert status == 200
        eventually(lambda: statuses(cookie) == {404})
        ask("/dashboard/logout", cookie=cookie)
        eventually(lambda: statuses(cookie) == {401})


def test_sums_do_not_fall_when_a_worker_ends(router, connect):
    """Else each count of the others would be a new one to Prometheus."""
    assert {client.ask() for client in connect(router, 6)} == {200}
    before = sample(page(router), "inference_requests_total")
    dead, alive = workers(router)
    os.kill(dead, signal.SIGKILL)
    eventually(lambda: len(workers(router)) == 2 and alive in workers(router))
    eventually(lambda: page(router).count("process_cpu_seconds_total{worker=") == 2)
    assert [sample(page(router), "inference_requests_total") for _ in range(4)] == [before] * 4
    os.kill(alive, signal.SIGKILL)  # the other one knows it from this one
    eventually(lambda: len(workers(router)) == 2 and alive not in workers(router))
    eventually(lambda: page(router).count("process_cpu_seconds_total{worker=") == 2)
    assert [sample(page(router), "inference_requests_total") for _ in range(4)] == [before] * 4


@pytest.mark.parametrize("how", ["the supervisor is killed", "all are told to end"])
def test_workers_drain(how):
    mock = MockProcess(decode_ms_per_token=20).wait_until_up()
    entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port}]
    router = RouterProcess({"server": {"workers": "2"}}, instances=entries, wrapper=["env"])
    clients = []
    try:
        router.wait_until_up()
        router.wait_for_instances(1)
        body = json.dumps({"prompt": "go on", "stream": True, "max_tokens": 60})
        for _ in range(4):
            clients.append(client := http.client.HTTPConnection("127.0.0.1", router.port, timeout=60))
            client.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        answers = [client.getresponse() for client in clients]
        for answer in answers:
            answer.read(100)
        pids = workers(router)
        if how == "the supervisor is killed":
            router.kill()
        else:
            for pid in (*pids, router.process.pid):
                os.kill(pid, signal.SIGTERM)
        assert all(b"[DONE]" in answer.read() for answer in answers)
        eventually(lambda: not any(is_running(pid) for pid in pids))
    finally:
        for client in clients:
            client.close()
        for process in (router, mock):
            process.end()


def is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
