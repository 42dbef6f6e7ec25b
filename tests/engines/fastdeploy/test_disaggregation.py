"""FastDeploy's pairs: who can be one, what the two are told of each other, and the body they get."""

import json
from types import SimpleNamespace

import pytest

from fd_router.engines.dialect import PairedRequest
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.engines.fastdeploy.disaggregation import PairInfos, can_pair, disaggregate_info
from fd_router.http.heads import LONG_BODY


def member(host="10.0.0.1", tp=1, version="", protocols=("ipc", "rdma"), connector=0, devices=(), rdma=()):
    return SimpleNamespace(
        host_ip=host, tp_size=tp, version=version, transfer_protocol=protocols, connector_port=connector,
        device_ids=devices, rdma_ports=rdma,
    )  # fmt: skip


def request(body, request_id, *, own=True, router_fields=False):
    return PairedRequest(body, request_id, own, router_fields, stream=False)


def sent(paired, prefill=None, decode=None):
    """Return what both instances get for it."""
    plan = FastDeployDialect().plan(paired, prefill or member(), decode or member())
    assert plan.order == "together"
    assert bytes(plan.prefill_body()) == bytes(plan.decode_body(None))
    return bytes(plan.decode_body(None))


@pytest.mark.parametrize(
    ("prefill", "decode", "fits"),
    [
        (member(tp=4), member(tp=4), True),
        (member(tp=4), member(tp=1), True),
        (member(tp=1), member(tp=4), False),
        (member(tp=2), member(tp=4), False),
        (member(version="a"), member(version="b"), False),
        (member(version="a"), member(version="a"), True),
        (member(version="a"), member(), True),
        (member(), member(version="b"), True),
    ],
)
def test_who_can_pair(prefill, decode, fits):
    assert can_pair(prefill, decode) is fits


@pytest.mark.parametrize(
    ("prefill", "decode", "protocol"),
    [
        (member(), member(), "ipc"),
        (member(), member(host="10.0.0.2"), "rdma"),
        (member(protocols=("rdma",)), member(), "rdma"),
        (member(), member(protocols=()), "rdma"),
        (member(tp=4), member(tp=1), "ipc"),
        (member(tp=2), member(tp=4), "rdma"),
    ],
)
def test_ipc_only_where_it_can_work(prefill, decode, protocol):
    assert disaggregate_info(prefill, decode).transfer_protocol == protocol


def test_the_info_has_every_key_and_no_null():
    prefill = member(connector=7001)
    decode = member(host="10.0.0.2", tp=1, devices=("3", "4"), rdma=("9",))
    assert json.loads(sent(request(b'{"a":1}', "new-id", own=False), prefill, decode)) == {
        "disaggregate_info": {
            "prefill_ip": "10.0.0.1", "decode_ip": "10.0.0.2", "prefill_connector_port": 7001,
            "decode_connector_port": 0, "decode_device_ids": ["3", "4"], "decode_rdma_ports": ["9"],
            "transfer_protocol": "rdma", "decode_tp_size": 1,
        },
        "request_id": "new-id",
        "a": 1,
    }  # fmt: skip
    assert json.loads(sent(request(b"{}", "x")))["disaggregate_info"]["decode_rdma_ports"] == []


def test_the_clients_id_stays_and_its_info_does_not():
    raw = b'{"request_id":"mine", "disaggregate_info": {"decode_ip":"6.6.6.6"},"disaggregate_info":1}'
    body = sent(request(raw, "mine", router_fields=True))
    assert body.count(b'"disaggregate_info"') == 1
    assert body.count(b'"request_id"') == 1
    assert b"6.6.6.6" not in body


def test_an_id_that_is_none_is_replaced():
    body = sent(request(b'{"request_id":null}', "new", own=False, router_fields=True))
    assert body.count(b"request_id") == 1
    assert json.loads(body)["request_id"] == "new"


def test_another_attempt_gets_the_other_pairs_info():
    paired = request(b'{"disaggregate_info":1,"a":2}', "r", router_fields=True)
    dialect = FastDeployDialect()
    for host in ("10.0.0.2", "10.0.0.3"):
        body = json.loads(dialect.plan(paired, member(), member(host=host)).decode_body(None))
        assert body["disaggregate_info"]["decode_ip"] == host
        assert body["a"] == 2


@pytest.mark.parametrize("filling", [b'"a":"%b"', b' "b":1, "a": "%b" ', b""])
def test_a_long_body_is_held_once(filling):
    body = b" {%b} " % (filling % (b"x" * LONG_BODY) if filling else b" " * LONG_BODY)
    plan = FastDeployDialect().plan(request(body, "r", own=False), member(), member())
    spliced = plan.decode_body(None)
    assert json.loads(bytes(spliced)).items() >= {"request_id": "r", **json.loads(body)}.items()
    assert len(spliced) == len(bytes(spliced))
    assert spliced.pieces[1].obj is body
    assert plan.prefill_body() is spliced


def test_a_rescheduling_has_its_own_id_and_the_tokens_so_far():
    paired = request(b'{"seed":12345678901234567890, "request_id":"r"}', "r")
    paired.reschedules, paired.token_ids = 1, [5, 6]
    plan = FastDeployDialect().plan(paired, member(), member())
    assert b"12345678901234567890" in plan.decode_body(None)
    first = json.loads(plan.decode_body(None))
    assert (first["request_id"], plan.request_id, first["completion_token_ids"]) == ("r-retry1", "r-retry1", [5, 6])
    paired.reschedules, paired.token_ids = 2, []
    second = json.loads(sent(paired))
    assert second["request_id"] == "r-retry2"
    assert "completion_token_ids" not in second


def test_infos_are_kept_until_somebody_registers_anew():
    infos, prefill, decode = PairInfos(), member(), member()
    assert infos.of(prefill, decode) is infos.of(prefill, decode)
    assert b"10.0.0.9" in infos.of(prefill, member(host="10.0.0.9"))
