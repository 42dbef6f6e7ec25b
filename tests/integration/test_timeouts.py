"""Every limit of time, configured to fractions of a second; that what keeps within them is served, units show."""

import json
import select
import socket
import threading

import httpx
import pytest

from tests.support.fleet import Fleet, chat, eventually
from tests.support.raw_client import IncompleteError, RawClient, request
from tests.support.scripted_instance import ScriptedInstance

FLEET = {
    "config": {
        "proxy": {
            "client-head-timeout-secs": 0.5,
            "client-body-timeout-secs": 0.5,
            "client-idle-timeout-secs": 1.0,
            "first-byte-timeout-secs": 0.6,
            "stall-timeout-secs": 0.6,
        }
    }
}
BODY = json.dumps(chat(max_tokens=1)).encode()
STREAM = json.dumps(chat(max_tokens=100, stream=True)).encode()


@pytest.fixture
def client(fleet):
    with RawClient(fleet.port) as client:
        yield client


def set_faults(fleet, *faults):
    for mock in fleet.mocks:
        mock.set_faults(*faults)


def test_a_head_that_never_ends_is_408(client):
    client.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n")
    answer = client.read()
    assert answer.status == 408
    assert "head" in answer.json()["error"]["message"]
    assert client.is_at_end()


def test_a_head_that_trickles_in_is_408(client):
    """A byte now and then doesn't extend the time: else a few thousand sockets could be held for ever."""
    for byte in b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" * 3:
        client.send(bytes([byte]))
        if select.select([client.socket], [], [], 0.05)[0]:
            break
    assert client.read().status == 408


def test_a_body_that_stops_is_408(client, fleet):
    client.send(request("/v1/chat/completions", BODY)[:-5])
    answer = client.read()
    assert answer.status == 408
    assert "body" in answer.json()["error"]["message"]
    assert client.is_at_end()
    assert [one for mock in fleet.mocks for one in mock.completions()] == []


def test_an_idle_connection_is_closed_without_a_word(client):
    assert client.reader.read() == b""


def test_an_idle_connection_is_closed_after_an_answer_too(client):
    client.send(request("/v1/chat/completions", BODY))
    assert client.read().status == 200
    assert client.reader.read() == b""


def test_an_instance_that_never_answers_is_504_and_its_work_ends(fleet):
    before = sum(mock.state()["disconnected"] for mock in fleet.mocks)
    set_faults(fleet, "hang_before_head")
    answer = httpx.post(f"{fleet.url}/v1/chat/completions", content=BODY, timeout=60)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "first_byte_timeout"
    assert sum(len(mock.completions()) for mock in fleet.mocks) == 1, "a generation of half an hour was begun anew"
    eventually(lambda: sum(mock.state()["disconnected"] for mock in fleet.mocks) == before + 1)


def test_a_stream_of_which_only_the_head_comes_is_504(fleet):
    before = fleet.metric("fd_router_upstream_errors_total", reason="first_byte_timeout")
    set_faults(fleet, "slow:token_secs=30")
    answer = httpx.post(f"{fleet.url}/v1/chat/completions", content=STREAM, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "first_byte_timeout")
    assert fleet.metric("fd_router_upstream_errors_total", reason="first_byte_timeout") == before + 1
    eventually(lambda: all(mock.state()["live"] == 0 for mock in fleet.mocks))


def test_a_stream_that_stalls_breaks_off_visibly():
    with ScriptedInstance() as instance, Fleet(0, ports=[instance.port], config=FLEET["config"]) as fleet:

        def stalling(head, body):
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            over.wait(60)

        over = threading.Event()
        instance.script = stalling
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{fleet.url}/v1/chat/completions", content=STREAM, timeout=60)
        over.set()
        assert fleet.metric("fd_router_upstream_errors_total", reason="stalled") == 1


def test_a_client_that_takes_nothing_is_given_up_with_its_stream():
    """Else a client that hangs would hold the instance's slot for ever."""
    with ScriptedInstance() as instance, Fleet(0, ports=[instance.port], config=FLEET["config"]) as fleet:

        def endless(head, body):
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            while True:
                yield b"10000\r\n" + b"x" * 65536 + b"\r\n"

        instance.script = endless
        with RawClient(fleet.port, receive_buffer=8192) as client:
            client.send(request("/v1/chat/completions", STREAM))
            assert client.read_head().status == 200
            fleet.settle()
            assert fleet.metric("fd_router_upstream_errors_total", reason="stalled") == 1
            with pytest.raises((IncompleteError, ConnectionResetError)):
                client.read_chunks([])


def test_a_connection_that_is_never_accepted_is_tried_elsewhere():
    config = {"proxy": {"connect-timeout-secs": 0.3}, "manager": {"health-check-interval-secs": 60}}
    with ScriptedInstance() as deaf, Fleet(1, ports=[deaf.port], config=config) as fleet:
        deaf.stop_accepting()
        fillers = []
        try:
            for _ in range(10):  # until the kernel takes no more
                filler = socket.socket()
                fillers.append(filler)
                filler.settimeout(0.2)
                try:
                    filler.connect(("127.0.0.1", deaf.port))
                except TimeoutError:
                    break
            else:
                pytest.skip("the backlog can't be filled here")
            for _ in range(20):
                assert fleet.ask()[0] == 200
                if fleet.metric("fd_router_upstream_errors_total", reason="connect_timeout"):
                    break
            assert fleet.metric("fd_router_upstream_errors_total", reason="connect_timeout") == 1
            assert fleet.metric("fd_router_retries_total", reason="connect_timeout") == 1
        finally:
            for filler in fillers:
                filler.close()
