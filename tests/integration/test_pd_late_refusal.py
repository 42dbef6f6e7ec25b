"""A prefill that refuses when decode is done and the client has its answer: nobody hears of it but the log."""

import json
import threading

from tests.support.fleet import BUG, chat, eventually
from tests.support.mock_process import RouterProcess
from tests.support.raw_client import RawClient, request
from tests.support.scripted_instance import ScriptedInstance

WAIT_SECS = 10.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
REFUSAL = b'HTTP/1.1 400 Bad Request\r\ncontent-length: 25\r\n\r\n{"error":{"message":"x"}}'


def name_of(body):
    return json.loads(body)["model"].encode()


def test_a_late_refusal_of_prefill_reaches_no_client():
    late, heard = threading.Event(), threading.Event()

    def prefill_script(head, body):
        if name_of(body) == b"first":
            late.wait(WAIT_SECS)
            return [REFUSAL]
        return [OK % (2, b"{}")]

    def decode_script(head, body):
        if name_of(body) == b"second":  # whose answer must not be the refusal that comes meanwhile
            late.set()
            heard.wait(WAIT_SECS)
        return [OK % (len(name_of(body)), name_of(body))]

    with ScriptedInstance() as prefill, ScriptedInstance() as decode:
        prefill.script, decode.script = prefill_script, decode_script
        entries = [
            {"role": role, "host_ip": "127.0.0.1", "port": each.port, "transfer_protocol": ["rdma"],
             "connector_port": 1, "device_ids": ["0"], "rdma_ports": ["2"], "tp_size": 1}
            for role, each in (("prefill", prefill), ("decode", decode))
        ]  # fmt: skip
        config = {"server": {"splitwise": True}, "log": {"output": "file"}}
        with RouterProcess(config, instances=entries) as router, RawClient(router.port) as client:
            router.wait_for_instances(2)
            eventually(lambda: router.call("GET", "/health")[0] == 200)
            bodies = [json.dumps(chat(model=name)).encode() for name in ("first", "second")]
            client.send(request("/v1/chat/completions", bodies[0]))
            assert client.read().body == b"first"
            client.send(request("/v1/chat/completions", bodies[1]))
            eventually(lambda: "status 400; the decode instance goes on" in router.log)
            heard.set()
            assert client.read().body == b"second"
            eventually(lambda: router.log.count("Request completed successfully.") == 2)
            assert BUG not in router.log
            assert router.log.count("Request completed successfully.") == 2, "what was logged is logged again"
