"""The example of a third party's endpoint in a running router, centralized and splitwise."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.support.mock_process import RouterProcess, call
from tests.support.scripted_instance import ScriptedInstance

EXAMPLE = Path(__file__).parents[2] / "examples" / "extend" / "endpoint"
ANSWER = b'{"object":"list","data":[{"embedding":[0.5]}]}'
BODY = {"model": "m", "input": ["first text", "second"], "dimensions": 2**70}


@pytest.mark.parametrize("splitwise", [False, True])
def test_it_is_served_by_one_instance_in_both_modes(splitwise: bool) -> None:
    received: list[bytes] = []

    def script(head: bytes, body: bytes) -> tuple[bytes]:
        received.append(head.split(b"\r\n")[0] + b" " + body)
        return (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER),)

    with contextlib.ExitStack() as stack:
        instances = [stack.enter_context(ScriptedInstance()) for _ in range(2)]
        for instance in instances:
            instance.script = script
        roles = ("prefill", "decode") if splitwise else ("mixed", "mixed")
        router = RouterProcess(
            {
                "server": {"splitwise": splitwise, "endpoints": "embeddings:EMBEDDINGS"},
                "manager": {"health-check-interval-secs": 0.2},
                "log": {"output": "file"},
            },
            instances=[
                {"role": role, "host_ip": "127.0.0.1", "port": instance.port}
                for role, instance in zip(roles, instances, strict=True)
            ],
            files={"embeddings.py": (EXAMPLE / "embeddings.py").read_text()},
        )
        stack.enter_context(router)
        router.wait_for_instances(2)
        for _ in range(4):
            status, answer = router.call("POST", "/v1/embeddings", BODY)
            assert (status, answer) == (200, json.loads(ANSWER))
        assert received == [b"POST /v1/embeddings HTTP/1.1 " + json.dumps(BODY).encode()] * 4
        assert router.call("POST", "/v1/embeddings", {"input": 5})[0] == 400
        assert router.call("GET", "/v1/embeddings")[0] == 405
        assert router.call("POST", "/v1/others", BODY)[0] == 404
        page = call(router.port, "GET", "/metrics")[1].decode()
        assert 'http_requests_total{endpoint="/v1/embeddings",method="POST",status_code="200"} 4.0' in page
        listed = router.call("GET", "/instances")[1]["instances"]
        assert [each["running"] for each in listed] == [0, 0]
        assert [each["tokens"] for each in listed] == [0, 0]


def test_one_that_is_the_routers_own_stops_the_start() -> None:
    source = 'from fd_router.openai.endpoints import Endpoint\nOWN = Endpoint(path="/metrics")\n'
    router = RouterProcess({"server": {"endpoints": "mine:OWN"}}, files={"mine.py": source})
    try:
        assert router.process.wait(25) == 1
        assert "server.endpoints: 'mine:OWN': /metrics is answered by the router itself" in router.output
        assert "Traceback" not in router.output
    finally:
        router.end()
