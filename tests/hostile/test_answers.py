"""Every answer of the corpus through a running router: what the client sees, and that the next one isn't harmed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import h11
import pytest

from tests.hostile.corpus import AnswerCase, answer_cases
from tests.hostile.recorder import LATER_SECS, Recorder, Script
from tests.support.fleet import BUG, eventually, sample
from tests.support.mock_process import RouterProcess, call
from tests.support.raw_client import RawClient, request

CONFIG = {
    "log": {"output": "file"},
    "proxy": {"max-attempts": 1, "first-byte-timeout-secs": 3},
    "manager": {"health-check-timeout-secs": 30},  # a probe that is late ends the connections that are kept
}
BODY = b'{"prompt":"x"}'


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def router(recorder: Recorder) -> Iterator[RouterProcess]:
    entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": recorder.port}]
    with RouterProcess(CONFIG, instances=entries) as router:
        router.wait_for_instances(1)
        yield router
        assert BUG not in router.log
        assert "Traceback" not in router.output


def until_healthy(router: RouterProcess) -> None:
    def is_healthy() -> bool:
        return sample(call(router.port, "GET", "/metrics")[1].decode(), "fd_router_instance_healthy") == 1

    eventually(is_healthy)


def ask(router: RouterProcess, target: str, name: str) -> tuple[int, bytes, bool, bytes]:
    """Send a request, and return the answer's status, body and wholeness as h11 reads them, and what is behind it."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="POST", target=target, headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    status, body = 0, b""
    with RawClient(router.port, timeout=5) as client:
        client.send(request(target, BODY, f"X-Request-Id: {name}"))
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                try:
                    reader.receive_data(client.socket.recv(65536))
                except ConnectionError:
                    return status, body, False, b""
            elif isinstance(event, h11.Response):
                status = event.status_code
                assert dict(event.headers).get(b"x-request-id") == name.encode()
                assert b"x-injected" not in dict(event.headers)
                assert status != 204 or not {b"content-length", b"transfer-encoding"} & dict(event.headers).keys()
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body, True, reader.trailing_data[0]


@pytest.mark.parametrize("case", answer_cases(), ids=lambda case: case.name)
def test_an_answer_has_one_meaning(router: RouterProcess, recorder: Recorder, case: AnswerCase) -> None:
    until_healthy(router)
    recorder.script = Script(case.send, case.later, case.closes)
    recorder.take()
    try:
        status, body, is_whole, behind = ask(router, "/v1/completions?hostile", "first")
    except h11.RemoteProtocolError:
        status, body, is_whole, behind = 0, b"", False, b""
    assert behind == b""
    if case.status == 0:
        assert not is_whole
    else:
        assert (status, is_whole) == (case.status, True)
        if status == 502:
            assert json.loads(body)["error"]["type"] == "upstream_error"
        else:
            assert body == case.body
    if case.later:
        time.sleep(2 * LATER_SECS)  # until it is there
    until_healthy(router)
    taken = []
    for _ in range(5 if case.kept else 1):
        assert ask(router, "/v1/completions", "second") == (200, b'{"id":"second"}', True, b"")
        taken += recorder.take()
        if taken[0].connection == taken[-1].connection:
            break  # else a probe had it at that moment
    assert (taken[0].connection == taken[-1].connection) is case.kept
