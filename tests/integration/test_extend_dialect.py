"""The example of a third party's dialect in a running router, with instances that check what they are sent."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import eventually
from tests.support.mock_process import RouterProcess
from tests.support.rig import chunk
from tests.support.scripted_instance import ScriptedInstance

EXAMPLE = Path(__file__).parents[2] / "examples" / "extend" / "dialect"
PARAMETERS = b'{"remote_engine_id":"e-1","remote_block_ids":[[1,2,12345678901234567890]]}'
ASKED = {"prompt": "hello", "max_tokens": 7, "min_tokens": 2, "stream": True, "stream_options": {}, "seed": 2**70}


def sized(value: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(value), value)


class Fleet:
    """A router with the example, two prefill instances and a decode instance; ``order`` is who was sent what when."""

    def __init__(self, *, is_chunked: bool = False, source: str = "") -> None:
        self.order: list[tuple[str, dict[str, Any]]] = []
        self.raw: list[bytes] = []
        self.instances = {name: ScriptedInstance() for name in ("prefill-1", "prefill-2", "decode-1")}
        self.answers = dict.fromkeys(self.instances, sized(b'{"choices":[],"kv_transfer_params":%b}' % PARAMETERS))
        if is_chunked:
            whole = b'{"choices":[],"kv_transfer_params":%b}' % PARAMETERS
            head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            self.answers["prefill-1"] = self.answers["prefill-2"] = (
                head + chunk(whole[:20]) + chunk(whole[20:]) + b"0\r\n\r\n"
            )
        self.answers["decode-1"] = sized(b'{"choices":[{"text":"fine"}]}')
        for name, instance in self.instances.items():
            instance.script = lambda head, body, name=name: self._answer(name, body)  # type: ignore[misc]
        self.router = RouterProcess(
            {
                "server": {"splitwise": True},
                "instances": {"dialects": "handover:HandOverDialect"},
                "scheduler": {"prefill-policy": "round_robin", "decode-policy": "round_robin"},
                "manager": {"health-check-interval-secs": 0.2},
                "log": {"output": "file"},
            },
            instances=[
                {"role": name[:-2], "host_ip": "127.0.0.1", "port": each.port, "dialect": "hand-over"}
                for name, each in self.instances.items()
            ],
            files={"handover.py": source or (EXAMPLE / "handover.py").read_text()},
        )

    def _answer(self, name: str, body: bytes) -> Iterator[bytes]:
        self.order.append((name, json.loads(body)))
        self.raw.append(body)
        yield self.answers[name]

    def ask(self, **more: Any) -> tuple[int, Any]:
        return self.router.call("POST", "/v1/completions", {**ASKED, **more})

    def running(self) -> int:
        listed = self.router.call("GET", "/instances")[1]["instances"]
        return sum(each["running"] + each["tokens"] for each in listed)


@contextlib.contextmanager
def fleet(**options: Any) -> Iterator[Fleet]:
    made = Fleet(**options)
    with contextlib.ExitStack() as stack:
        for instance in made.instances.values():
            stack.enter_context(instance)
        stack.enter_context(made.router)
        made.router.wait_for_instances(3)
        yield made


@pytest.mark.parametrize("is_chunked", [False, True])
def test_prefill_goes_first_and_decode_gets_what_it_answered(is_chunked: bool) -> None:
    with fleet(is_chunked=is_chunked) as made:
        status, answer = made.ask()
        assert (status, answer["choices"][0]["text"]) == (200, "fine")
        (first, prefill), (second, decode) = made.order
        assert first.startswith("prefill")
        assert second == "decode-1"
        assert prefill == {
            "stream": False, "max_tokens": 1, "prompt": "hello", "seed": 2**70,
            "kv_transfer_params": {"do_remote_decode": True, "do_remote_prefill": False},
        }  # fmt: skip
        assert decode == {"kv_transfer_params": json.loads(PARAMETERS), **ASKED}
        assert PARAMETERS in made.raw[1]


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (sized(b'{"choices":[]}'), "its answer lacks what decode needs"),
        (sized(b'{"error":{"message":"full"}}', "503 No"), "status 503: it is busy"),
        (sized(b'{"error":{"message":"broken"}}', "500 No"), "status 500"),
        (sized(b'{"error":{"message":"broken"}}'), "an error in the answer"),
    ],
)
def test_a_prefill_that_fails_is_replaced_and_decode_hears_nothing_of_it(failing: bytes, said: str) -> None:
    with fleet() as made:
        made.answers["prefill-1"] = failing
        assert [made.ask()[0] for _ in range(2)] == [200, 200]
        names = [name for name, _ in made.order]
        assert names.count("prefill-1") >= 1
        assert names.count("prefill-2") == names.count("decode-1") == 2
        assert said in made.router.log
        assert made.running() == 0


def test_a_client_error_of_prefill_is_the_clients() -> None:
    with fleet() as made:
        made.answers["prefill-1"] = made.answers["prefill-2"] = sized(b'{"error":{"message":"too long"}}', "400 No")
        status, answer = made.ask()
        assert (status, answer["error"]["message"]) == (400, "too long")
        assert [name[:-2] for name, _ in made.order] == ["prefill"]


def test_a_client_that_leaves_while_prefill_works_costs_decode_nothing() -> None:
    with fleet() as made:
        begun, may_answer = threading.Event(), threading.Event()

        def prefill(head: bytes, body: bytes) -> Iterator[bytes]:
            begun.set()
            may_answer.wait(60)
            yield made.answers["prefill-1"]

        made.instances["prefill-1"].script = made.instances["prefill-2"].script = prefill
        body = json.dumps(ASKED).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", made.router.port)) as client:
            client.sendall(head + body)
            assert begun.wait(60)
            assert made.running() > 0
        eventually(lambda: made.running() == 0)
        may_answer.set()
        assert made.order == []


def test_a_dialect_that_fails_is_told_to_the_client_and_holds_nothing() -> None:
    source = (EXAMPLE / "handover.py").read_text()
    source = source.replace("return HandOver(request.request_id, request.body)", "return {}[request.body]")
    with fleet(source=source) as made:
        status, answer = made.ask(prompt="my secret")
        assert (status, answer["error"]["code"]) == (500, "dialect_failed")
        assert "the dialect hand-over failed: KeyError at handover.py:" in answer["error"]["message"]
        assert made.running() == 0
        assert made.order == []
        assert "my secret" not in made.router.log + made.router.output


def test_another_dialects_instance_does_not_pair() -> None:
    with fleet() as made:
        one = {"role": "decode", "host_ip": "127.0.0.1", "port": made.instances["decode-1"].port}
        assert made.router.call("POST", "/register", one)[0] == 200  # FastDeploy's, since it tells none
        status, answer = made.ask()
        assert status == 503
        assert "of which no two fit together" in answer["error"]["message"]
        status, answer = made.router.call("POST", "/register", {**one, "dialect": "hand-ovr"})
        assert status == 400
        assert "did you mean 'hand-over'?" in answer["msg"]
