"""Start, drain and stop, as an operator's process manager does it."""

import contextlib
import json
import signal
import socket
import time

import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.mock_process import MockProcess, RouterProcess, call
from tests.support.ports import free_port
from tests.support.raw_client import IncompleteError, RawClient, request

SLOW = {**QUICK, "decode_ms_per_token": 10}
STREAM = json.dumps(chat(max_tokens=100, stream=True)).encode()  # a second, but for the time that its mock is held
ENDLESS = json.dumps(chat(max_tokens=1_000_000, stream=True)).encode()


def refuses(fleet):
    try:
        RawClient(fleet.port).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def fleet():
    with Fleet(1, mock=SLOW) as fleet:
        yield fleet


def begin(fleet, body):
    client = RawClient(fleet.port)
    client.send(request("/v1/chat/completions", body))
    client.read_head()
    client.read_chunk()
    return client


@pytest.mark.parametrize("other", ["none", "hanging", "down"])
def test_the_first_client_is_served_as_soon_as_it_can_connect(other):
    """Else a router that is started again answers 502 until its first probes are over."""
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(MockProcess(**SLOW))
        ports = [mock.port]
        if other == "hanging":
            ports.append(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
        if other == "down":
            ports.append(free_port())
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": port} for port in ports]
        for _ in range(3):
            began = time.monotonic()
            router = RouterProcess({"manager": {"health-check-timeout-secs": 100}}, instances=entries)
            stack.callback(router.end)
            client = eventually(lambda: connect(router.port))
            with client:
                client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=1)).encode()))
                assert client.read().status == 200
            assert time.monotonic() - began < 60, "it waited for a probe"


def connect(port):
    try:
        return RawClient(port, timeout=5)
    except ConnectionRefusedError:
        return None


def test_a_router_told_to_stop_finishes_what_runs_and_takes_nothing_new(fleet):
    process = fleet.router.process
    with RawClient(fleet.port) as idle, begin(fleet, STREAM) as streaming, RawClient(fleet.port) as waiting:
        fleet.mocks[0].pause()  # so that neither ends before it is told
        waiting.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=50)).encode()))
        eventually(lambda: fleet.running(fleet.mocks[0]) == 2)
        process.terminate()
        eventually(lambda: refuses(fleet))
        assert idle.is_at_end()
        assert process.poll() is None
        fleet.mocks[0].resume()
        assert waiting.read().json()["usage"]["completion_tokens"] == 50
        assert waiting.is_at_end()
        assert streaming.read_chunks([])[-1].endswith(b"data: [DONE]\n\n")
        assert streaming.is_at_end()
    assert process.wait(25) == 0
    log = fleet.router.log
    assert log.index("Stopping") < log.index("Stopped")
    assert log.count("Request completed successfully.") == 2


def test_a_second_signal_ends_it_at_once_and_visibly(fleet):
    process = fleet.router.process
    with begin(fleet, ENDLESS) as client:
        process.send_signal(signal.SIGINT)
        eventually(lambda: refuses(fleet))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0
        with pytest.raises((IncompleteError, ConnectionResetError)):
            client.read_chunks([])
    eventually(lambda: fleet.mocks[0].state()["live"] == 0)


def test_a_request_half_sent_when_it_is_told_to_stop_is_still_answered(fleet):
    data = request("/v1/chat/completions", json.dumps(chat(max_tokens=1)).encode())
    with begin(fleet, STREAM) as streaming, RawClient(fleet.port) as client:
        client.send(data[:40])
        eventually(lambda: fleet.metric("process_open_fds"))  # one turn of the loop: the bytes are read
        fleet.router.process.terminate()
        eventually(lambda: refuses(fleet))
        client.send(data[40:])
        assert client.read().status == 200
        assert client.is_at_end()
        streaming.read_chunks([])
    assert fleet.router.process.wait(25) == 0


def test_its_health_says_draining_while_it_still_accepts():
    with Fleet(1, mock=SLOW, config={"server": {"drain-delay-secs": 600}}) as fleet, RawClient(fleet.port) as kept:
        fleet.router.process.terminate()
        eventually(lambda: fleet.router.call("GET", "/health") == (503, {"status": "draining"}))
        assert fleet.router.call("GET", "/ready") == (503, {"status": "not ready", "reason": "draining"})
        assert fleet.router.call("GET", "/live") == (200, {"status": "alive"})
        assert fleet.ask()[0] == 200
        kept.send(request("/health", method="GET"))
        answer = kept.read()
        assert (answer.status, answer.header("connection")) == (503, "close")
        assert kept.is_at_end()
        fleet.router.process.terminate()  # which ends the delay
        assert fleet.router.process.wait(25) == 0


def test_a_connection_kept_from_before_may_ask_once_more():
    with Fleet(1, mock=SLOW) as fleet, RawClient(fleet.port) as health, RawClient(fleet.port) as other:
        fleet.router.process.terminate()
        eventually(lambda: refuses(fleet))
        health.send(request("/health", method="GET"))  # both at once: they are waited for during a second
        other.send(request("/v1/completions", b'{"prompt": "x", "max_tokens": 1}'))
        for client in (health, other):
            answer = client.read()
            assert answer.status == (503 if client is health else 200)
            assert answer.header("connection") == "close"
            assert client.is_at_end()
        assert fleet.router.process.wait(25) == 0


def test_so_may_one_whose_answer_began_before():
    """Its client was told to keep the connection: a request that follows the answer at once would be reset."""
    with Fleet(1, mock=SLOW) as fleet, begin(fleet, STREAM) as client:
        fleet.router.process.terminate()
        eventually(lambda: refuses(fleet))
        client.read_chunks([])
        time.sleep(0.1)
        client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=1)).encode()))
        answer = client.read()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert client.is_at_end()
        assert fleet.router.process.wait(25) == 0


def test_what_runs_longer_than_the_limit_is_cut_off_visibly():
    with Fleet(1, mock=SLOW, config={"server": {"drain-timeout-secs": 0.3}}) as fleet, begin(fleet, ENDLESS) as client:
        fleet.router.process.terminate()
        with pytest.raises((IncompleteError, ConnectionResetError)):
            client.read_chunks([])
        assert fleet.router.process.wait(25) == 0
        assert "1 connections are cut off: server.drain-timeout-secs (0.3 s)" in fleet.router.log


def test_an_idle_router_stops_at_once(fleet):
    assert fleet.router.stop() == 0  # or it raises: the limit is shorter than a drain may take
    assert "Traceback" not in fleet.router.output


def test_its_port_can_be_had_again_right_away(fleet):
    port = fleet.port
    with begin(fleet, ENDLESS):
        fleet.router.kill()
    again = fleet.add(RouterProcess(port=port))
    assert call(again.port, "GET", "/health")[0] == 200


def test_a_control_port_that_is_the_routers_own_is_one_clear_line():
    port = free_port()
    router = RouterProcess({"access": {"control-port": port}}, port=port)
    try:
        assert router.process.wait(25) == 1
        assert f"Failed to start server: port {port} on " in router.output.splitlines()[-1]
    finally:
        router.end()


def test_a_port_in_use_is_one_clear_line(fleet):
    second = RouterProcess(port=fleet.port)
    try:
        assert second.process.wait(25) == 1
        lines = second.output.splitlines()
        assert len([line for line in lines if not line.startswith("[INFO]")]) == 1, lines
        assert str(fleet.port) in lines[-1]
        assert "in use" in lines[-1]
        assert "Stopped" not in second.output  # it never ran
    finally:
        second.end()
    assert fleet.ask()[0] == 200
