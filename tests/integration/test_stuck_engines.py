"""Engines that have stopped: what they were to answer goes to others, and they get nothing new."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for_all

import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.scripted_instance import ScriptedInstance

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

HASTY = {"manager": {"health-check-interval-secs": 0.2, "health-check-timeout-secs": 0.5}}

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'


def begin(head: bytes, body: bytes) -> Iterator[bytes]:
    """Answer with three tokens, and never again."""
    yield HEAD
    for _ in range(3):
        yield b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
        time.sleep(0.6)


def test_what_a_stopped_process_was_to_answer_goes_elsewhere():
    with Fleet(2, config=HASTY) as fleet, ThreadPoolExecutor(6) as threads:
        stopped = fleet.mocks[0]
        stopped.set_faults("hang_before_head")
        asked = [threads.submit(fleet.ask, text=f"question {number}") for number in range(6)]
        eventually(lambda: fleet.running(stopped) > 0 and fleet.running(fleet.mocks[1]) == 0)
        stopped.pause()
        try:
            wait_for_all(asked)
        finally:
            stopped.resume()
        assert [each.result()[0] for each in asked] == [200] * 6
        assert "requests without an answer were taken from it" in fleet.router.log


def test_an_engine_that_is_silent_behind_a_healthy_server_gets_nothing_new():
    slow = {**QUICK, "decode_ms_per_token": 200}
    with ScriptedInstance() as stuck, Fleet(1, mock=slow, config=HASTY, ports=[stuck.port]) as fleet:
        stuck.script = begin
        ends = [_stream(fleet.port) for _ in range(4)]
        eventually(lambda: "is stuck" in fleet.router.log)
        before = len(stuck.heads)
        assert [fleet.ask()[0] for _ in range(6)] == [200] * 6
        assert len(stuck.heads) == before
        for end in ends:
            end()


def _stream(port: int):
    """Begin a long stream, and read what comes of it. Returns what ends it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True, max_tokens=400)))
    sock = connection.sock
    answer = connection.getresponse()
    reader = threading.Thread(target=_read, args=(answer,), daemon=True)
    reader.start()

    def end() -> None:
        sock.shutdown(socket.SHUT_RDWR)
        reader.join(5)
        answer.close()
        connection.close()
        sock.close()

    return end


def _read(answer: http.client.HTTPResponse) -> None:
    while True:
        try:
            if not answer.read1(4096):
                return
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            return
