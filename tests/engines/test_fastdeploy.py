"""FastDeploy's dialect: what a pair is told, and what its answers mean."""

import json
from types import SimpleNamespace

import pytest

from fd_router.engines.fastdeploy import (
    ERROR_EVENT,
    PairBody,
    PairInfos,
    begins_with_error,
    can_pair,
    disaggregate_info,
    error_message,
    generated_token_ids,
    is_rescheduled,
)


def member(host="10.0.0.1", tp=1, version="", protocols=("ipc", "rdma"), connector=0, devices=(), rdma=()):
    return SimpleNamespace(
        host_ip=host, tp_size=tp, version=version, transfer_protocol=protocols, connector_port=connector,
        device_ids=devices, rdma_ports=rdma,
    )  # fmt: skip


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
    body = PairBody(b'{"a":1}', "", "new-id", has_own=False)
    prefill = member(connector=7001)
    decode = member(host="10.0.0.2", tp=1, devices=("3", "4"), rdma=("9",))
    sent = json.loads(body.for_pair(PairInfos().of(prefill, decode)))
    assert sent == {
        "disaggregate_info": {
            "prefill_ip": "10.0.0.1", "decode_ip": "10.0.0.2", "prefill_connector_port": 7001,
            "decode_connector_port": 0, "decode_device_ids": ["3", "4"], "decode_rdma_ports": ["9"],
            "transfer_protocol": "rdma", "decode_tp_size": 1,
        },
        "request_id": "new-id",
        "a": 1,
    }  # fmt: skip
    assert json.loads(body.for_pair(PairInfos().of(member(), member())))["disaggregate_info"]["decode_rdma_ports"] == []


def test_the_clients_id_stays_and_its_info_does_not():
    raw = b'{"request_id":"mine", "disaggregate_info": {"decode_ip":"6.6.6.6"},"disaggregate_info":1}'
    sent = PairBody(raw, "mine", "", has_own=True).for_pair(PairInfos().of(member(), member()))
    assert sent.count(b'"disaggregate_info"') == 1
    assert sent.count(b'"request_id"') == 1
    assert b"6.6.6.6" not in sent


def test_an_id_that_is_none_is_replaced():
    sent = PairBody(b'{"request_id":null}', "", "new", has_own=True).for_pair(PairInfos().of(member(), member()))
    assert sent.count(b"request_id") == 1
    assert json.loads(sent)["request_id"] == "new"


def test_a_retry_has_its_own_id_and_the_tokens_so_far():
    body = PairBody(b'{"seed":12345678901234567890, "request_id":"r"}', "r", "", has_own=False)
    info = PairInfos().of(member(), member())
    first, second = json.loads(body.for_retry(info, 1, [5, 6])), json.loads(body.for_retry(info, 2, []))
    assert (first["request_id"], first["completion_token_ids"]) == ("r-retry1", [5, 6])
    assert second["request_id"] == "r-retry2"
    assert "completion_token_ids" not in second
    assert b"12345678901234567890" in body.for_retry(info, 1, [])


@pytest.mark.parametrize(
    ("piece", "is_error"),
    [
        (b'{"error":{"message":"x"}}', True),
        (b'data: {"error": {"message":"x"}}\n\n', True),
        (b'2f\r\ndata: {"error":{"message":"x"}}\n\n\r\n', True),
        (b'{"object":"error","message":"x"}', True),
        (b'{"error":null,"id":1}', False),
        (b'data: {"id":"1","choices":[{"delta":{"content":"{\\"error\\":1}"}}]}\n\n', False),
        (b"", False),
    ],
)
def test_an_error_is_known_by_its_beginning(piece, is_error):
    assert begins_with_error(piece) is is_error


def test_messages_of_errors():
    assert error_message(b'{"error":{"message":"no memory"}}') == "no memory"
    assert error_message(b'12\r\ndata: {"error":{"message":"no memory"}}\n\n\r\n') == "no memory"
    assert error_message(b'{"error":"text"}') == "text"
    assert error_message(b'{"detail":"not so"}') == "not so"
    assert error_message(b"<html>") == ""
    assert error_message(b'{"error":{"message":["a"]}}') == ""
    assert len(error_message(b'{"error":{"message":"%b"}}' % (b"x" * 5000))) == 300


def test_rescheduled_answers():
    chat = b'{"choices":[{"finish_reason":"pd_reschedule","message":{"completion_token_ids":[1,2]}}]}'
    text = b'{"choices":[{"finish_reason":"pd_reschedule","completion_token_ids":[3]}]}'
    assert is_rescheduled(chat)
    assert generated_token_ids(chat) == [1, 2]
    assert generated_token_ids(text) == [3]
    assert is_rescheduled(b'{"error":{"message":"PD Error: no memory"}}')
    assert generated_token_ids(b'{"error":{"message":"PD Error: no memory"}}') == []
    said = b'{"choices":[{"finish_reason":"stop","message":{"content":"pd_reschedule PD Error"}}]}'
    assert not is_rescheduled(said)
    assert not is_rescheduled(b'{"choices":[{"finish_reason":"stop"}]}')
    assert not is_rescheduled(b"pd_reschedule")


def test_infos_are_kept_until_somebody_registers_anew():
    infos, prefill, decode = PairInfos(), member(), member()
    assert infos.of(prefill, decode) is infos.of(prefill, decode)
    assert b"10.0.0.9" in infos.of(prefill, member(host="10.0.0.9"))


def test_no_generated_text_looks_like_an_error_event():
    assert ERROR_EVENT not in json.dumps({"delta": {"content": ERROR_EVENT.decode()}}).encode()
