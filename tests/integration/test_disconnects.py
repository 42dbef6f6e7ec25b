"""Clients that leave, clients that are slow, instances that break off."""

import hashlib
import json
import socket
import time

import httpx
import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.raw_client import IncompleteError, RawClient, request
from tests.support.scripted_instance import ScriptedInstance

FLEET = {"instances": 1, "mock": {**QUICK, "decode_ms_per_token": 5}}

FOREVER = json.dumps(chat(max_tokens=1_000_000, stream=True)).encode()
WHOLE = json.dumps(chat(max_tokens=1_000_000)).encode()

MB = 1024 * 1024

LEAVE = {
    "close": RawClient.close,
    "reset": RawClient.reset,
    "half-close": lambda client: client.socket.shutdown(socket.SHUT_WR),
}


@pytest.fixture
def client(fleet):
    with RawClient(fleet.port) as client:
        yield client


def leave_and_wait(fleet, leave, before):
    """How soon it is noticed is for tests whose clock stands still: ``tests/routing/test_single_failures.py``."""
    (mock,) = fleet.mocks
    leave()
    eventually(lambda: mock.state()["disconnected"] == before + 1)
    state = mock.state()
    assert (state["running"], state["waiting"], state["live"]) == (0, 0, 0), "the GPU works for nobody"
    fleet.settle()


# the client leaves


@pytest.mark.parametrize("how", LEAVE)
def test_a_client_that_leaves_while_it_waits_ends_the_work(fleet, client, how):
    before = fleet.mocks[0].state()["disconnected"]
    client.send(request("/v1/chat/completions", WHOLE))
    eventually(lambda: fleet.mocks[0].state()["running"] == 1)
    leave_and_wait(fleet, lambda: LEAVE[how](client), before)


@pytest.mark.parametrize("how", LEAVE)
def test_a_client_that_leaves_while_its_answer_streams_ends_the_work(fleet, client, how):
    before = fleet.mocks[0].state()["disconnected"]
    gone = fleet.metric("fd_router_client_disconnects_total", endpoint="/v1/chat/completions")
    client.send(request("/v1/chat/completions", FOREVER))
    client.read_head()
    for _ in range(3):
        assert client.read_chunk().startswith(b"data: ")
    leave_and_wait(fleet, lambda: LEAVE[how](client), before)
    assert fleet.metric("fd_router_client_disconnects_total", endpoint="/v1/chat/completions") == gone + 1


def test_a_client_that_leaves_an_instance_that_hangs_frees_it(fleet, client):
    fleet.mocks[0].set_faults("hang_before_head")
    before = fleet.mocks[0].state()["disconnected"]
    client.send(request("/v1/chat/completions", WHOLE))
    eventually(fleet.mocks[0].completions)
    leave_and_wait(fleet, client.close, before)


def test_a_client_that_leaves_with_requests_in_line_has_none_of_them_served(fleet, client):
    before = fleet.mocks[0].state()["disconnected"]
    client.send(request("/v1/chat/completions", FOREVER) + request("/v1/completions", b'{"prompt":"x"}') * 5)
    client.read_head()
    client.read_chunk()
    leave_and_wait(fleet, client.close, before)
    assert len(fleet.mocks[0].completions()) == 1


def test_many_clients_that_leave_at_once_leave_nothing_behind(fleet):
    before = fleet.mocks[0].state()["disconnected"]
    descriptors = fleet.metric("process_open_fds")
    clients = [RawClient(fleet.port) for _ in range(60)]
    for number, one in enumerate(clients):
        one.send(request("/v1/chat/completions", FOREVER if number % 2 else WHOLE))
    eventually(lambda: fleet.mocks[0].state()["live"] == 60)
    for one in clients:
        one.close()
    eventually(lambda: fleet.mocks[0].state()["disconnected"] == before + 60)
    fleet.settle()
    eventually(lambda: fleet.metric("process_open_fds") <= descriptors + 3)


# the client is slow


def memory(fleet):
    return fleet.metric("process_resident_memory_bytes")


def test_a_client_that_does_not_read_stops_the_instance_and_gets_everything_later():
    """Else the router would gather the whole answer in its memory: with many such clients, until it is killed."""
    size, total = MB // 4, 192 * MB
    with ScriptedInstance() as instance, Fleet(0, ports=[instance.port]) as fleet:
        sent = hashlib.sha256()

        def stream(head, body):
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            for number in range(total // size):
                piece = number.to_bytes(8, "big") * (size // 8)
                sent.update(piece)
                yield b"%x\r\n" % size + piece + b"\r\n"
            yield b"0\r\n\r\n"

        instance.script = stream
        with RawClient(fleet.port, receive_buffer=64 * 1024, timeout=30) as client:
            before = memory(fleet)
            client.send(request("/v1/chat/completions", FOREVER))
            client.read_head()
            stopped = _stopped(instance)
            assert stopped < total / 2, "the instance was never told to stop"
            assert memory(fleet) - before < 8 * MB
            received = hashlib.sha256()
            while chunk := client.read_chunk():
                received.update(chunk)
        assert received.hexdigest() == sent.hexdigest()


def _stopped(instance):
    """Wait until the instance can send no more; return how much it had sent."""
    for _ in range(100):
        at = instance.sent
        time.sleep(0.3)  # one that goes on while it looks as if it had stopped makes no test fail
        if instance.sent == at > 0:
            return at
    raise TimeoutError("it goes on sending")


def test_a_client_that_does_not_read_holds_up_no_other(fleet):
    with RawClient(fleet.port, receive_buffer=8192) as slow:
        slow.send(request("/v1/chat/completions", FOREVER) + request("/health", method="GET") * 500)
        for _ in range(10):
            assert fleet.ask()[0] == 200


# the instance breaks off


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_stream_that_breaks_off_never_looks_whole(fleet, how):
    fleet.mocks[0].set_faults(f"cut_mid_body:how={how},after_tokens=5")
    body = chat(max_tokens=30, stream=True)
    with httpx.stream("POST", f"{fleet.url}/v1/chat/completions", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|peer closed"):
            answer.read()


def test_what_came_before_the_break_is_not_lost(fleet, client):
    fleet.mocks[0].set_faults("cut_mid_body:how=fin,after_tokens=5")
    client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=30, stream=True)).encode()))
    assert client.read_head().status == 200
    chunks = []
    with pytest.raises(IncompleteError):
        client.read_chunks(chunks)
    assert b"".join(chunks).count(b'"content":') == 6  # the role's empty one, and five tokens


def test_an_http_1_0_client_sees_a_break_as_a_reset(fleet, client):
    """It knows neither chunks nor a length: the connection's end is the answer's, so it must not end in order."""
    fleet.mocks[0].set_faults("cut_mid_body:how=fin,after_tokens=5")
    client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=30, stream=True)).encode(), version="1.0"))
    with pytest.raises(ConnectionResetError):
        client.read()


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_half_of_a_whole_answer_never_reaches_the_client(fleet, client, version, how):
    fleet.mocks[0].set_faults(f"cut_mid_body:how={how}")
    client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=30)).encode(), version=version))
    answer = client.read()
    assert answer.status == 502
    assert json.loads(answer.body)["error"]["code"] == "cut_off"


def test_an_answer_without_length_that_breaks_is_reset():
    """From an HTTP/1.0 instance: only a reset there tells that it broke, so only a reset here can."""
    with ScriptedInstance() as instance, Fleet(0, ports=[instance.port]) as fleet:
        instance.resets = True
        instance.answer(b"HTTP/1.0 200 OK\r\n\r\nhalf an ans")
        with RawClient(fleet.port) as client:
            client.send(request("/v1/chat/completions", FOREVER))
            with pytest.raises(ConnectionResetError):
                client.read()


def test_a_broken_answer_ends_its_clients_connection(fleet, client):
    """What follows it in line can't be answered any more; nor must it be sent on."""
    fleet.mocks[0].set_faults("cut_mid_body:count=1")
    client.send(request("/v1/chat/completions", json.dumps(chat(stream=True)).encode()))
    client.send(request("/v1/completions", b'{"prompt": "second"}'))
    with pytest.raises((IncompleteError, ConnectionResetError)):
        client.read()
    fleet.settle()
    assert len(fleet.mocks[0].completions()) == 1


def test_an_instance_broken_off_in_mid_answer_is_still_healthy(fleet):
    """One engine request may have failed; the instance goes on, and its other streams too."""
    fleet.mocks[0].set_faults("cut_mid_body:count=1,how=rst")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{fleet.url}/v1/chat/completions", json=chat(stream=True), timeout=60)
    assert fleet.is_healthy(fleet.mocks[0])
    assert fleet.ask()[0] == 200
