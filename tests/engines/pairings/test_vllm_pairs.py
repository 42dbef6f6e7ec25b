"""vLLM's pairs: what each connector's two instances are sent."""

import json

import pytest

from fd_router.engines.vllm import VllmDialect
from fd_router.http.messages import Request, RequestHead

CHAT = "/v1/chat/completions"
BODY = (
    b'{"model": "m", "kv_transfer_params": {"do_remote_prefill": true, "remote_host": "evil"}, "messages": [], '
    b'"stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 9, "min_tokens": 3, "n": 1}'
)
TOLD = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [[1, 2]], "remote_port": 24203}
HEAD = RequestHead("POST", CHAT, headers=((b"X-Data-Parallel-Rank", b"7"), (b"accept", b"*/*")))


def connectors(*names, member):
    dialect = VllmDialect()
    return [dialect.pairing(member(kv_connector=name)) for name in names]


def test_the_connector_says_how(member):
    dialect = VllmDialect()
    pull = dialect.pairing(member())
    assert pull is dialect.pairing(member(kv_connector="NixlConnector"))
    assert pull is dialect.pairing(member(kv_connector="NixlPullConnector"))
    assert dialect.pairing(member(kv_connector="LMCacheConnectorV1")) is None
    assert "known are NixlConnector, Nixl" in dialect.pair_fault(member(kv_connector="LMCacheConnectorV1"))
    assert dialect.pair_fault(member()) == ""


def test_different_connectors_and_versions_do_not_pair(member):
    dialect = VllmDialect()
    assert dialect.can_pair(member(), member("decode"))
    assert not dialect.can_pair(member(), member("decode", kv_connector="NixlPushConnector"))
    assert not dialect.can_pair(member(version="1"), member("decode", version="2"))
    assert not dialect.can_pair(member(kv_connector="X"), member("decode", kv_connector="X"))


def test_pull_asks_prefill_for_one_token_that_is_not_streamed(member, paired):
    plan = VllmDialect().plan(paired(BODY, http_id="id-1"), member(), member("decode"))
    assert (plan.order, plan.request_id) == ("prefill_first", "id-1")
    assert json.loads(plan.prefill_body()) == {
        "stream": False, "max_tokens": 1, "max_completion_tokens": 1, "model": "m", "messages": [], "n": 1,
        "kv_transfer_params": {"do_remote_decode": True, "do_remote_prefill": False},
    }  # fmt: skip


def test_pull_hands_decode_the_body_as_it_came_and_what_prefill_answered(member, paired):
    plan = VllmDialect().plan(paired(BODY), member(), member("decode"))
    told = json.dumps(TOLD).encode()
    body = plan.decode_body(b'{"choices": [], "kv_transfer_params": ' + told + b"}")
    assert body.startswith(b'{"kv_transfer_params":' + told + b',"model": "m", "messages"')
    assert json.loads(body) == {**json.loads(BODY), "kv_transfer_params": TOLD}


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b'{"kv_transfer_params":null}', b'{"kv_transfer_params":{}}', b'{"kv_transfer_params":3}']
)
def test_a_prefill_that_tells_of_no_cache_fails(member, paired, answer):
    plan = VllmDialect().plan(paired(BODY), member(), member("decode"))
    with pytest.raises(ValueError):
        plan.decode_body(answer)


def test_ids_that_a_stream_goes_on_by_reach_both(member, paired):
    body = b'{"messages": [], "kv_transfer_params": {"prompt_token_ids": [1, 2], "remote_host": "evil"}}'
    plan = VllmDialect().plan(paired(body), member(), member("decode"))
    prefill = json.loads(plan.prefill_body())["kv_transfer_params"]
    assert prefill == {"do_remote_decode": True, "do_remote_prefill": False, "prompt_token_ids": [1, 2]}
    decode = plan.decode_body(json.dumps({"kv_transfer_params": TOLD}).encode())
    assert json.loads(decode)["kv_transfer_params"] == {**TOLD, "prompt_token_ids": [1, 2]}


def test_push_tells_decode_where_prefill_is_under_an_id_that_no_client_chose(member, paired):
    prefill = member(
        kv_connector="NixlPushConnector", engine_id="p-1", side_channel_port=5600, side_channel_host="10.9.9.9", tp=2
    )
    dialect, request = VllmDialect(), paired(BODY, http_id="id-1")
    plan, again = (dialect.plan(request, prefill, member("decode")) for _ in range(2))
    assert plan.order == "together"
    first, second = (json.loads(plan.prefill_body()), json.loads(plan.decode_body(None)))
    transfer = first["kv_transfer_params"].pop("transfer_id")
    assert first["kv_transfer_params"] == {"do_remote_decode": True, "do_remote_prefill": False}
    assert second["kv_transfer_params"] == {
        "do_remote_decode": False, "do_remote_prefill": True, "remote_engine_id": "p-1", "remote_host": "10.9.9.9",
        "remote_port": 5600, "tp_size": 2, "pp_size": 1, "remote_request_id": plan.request_id, "transfer_id": transfer,
    }  # fmt: skip
    heads = plan.with_heads(Request(HEAD, request_id="id-1"))
    assert {head.request_id for head in heads} == {plan.request_id}
    assert plan.request_id.startswith("id-1-")
    assert plan.request_id != again.request_id
    assert json.loads(again.prefill_body())["kv_transfer_params"]["transfer_id"] != transfer


@pytest.mark.parametrize(
    ("told", "lack"),
    [({}, "kv_transfer.engine_id is missing"), ({"engine_id": "p"}, "kv_transfer.side_channel_port is missing")],
)
def test_push_needs_to_know_prefill(member, told, lack):
    dialect = VllmDialect()
    assert lack in dialect.pair_fault(member(kv_connector="NixlPushConnector", **told))
    assert dialect.pair_fault(member("decode", kv_connector="NixlPushConnector", **told)) == ""


def test_mooncake_pairs_once_the_engines_are_known(member, paired):
    dialect = VllmDialect()
    prefill, decode = (
        member(host="::1", kv_connector="MooncakeConnector"),
        member("decode", kv_connector="MooncakeConnector"),
    )
    pairing = dialect.pairing(prefill)
    assert not dialect.can_pair(prefill, decode)
    assert pairing.question(prefill) == (8998, "/query")
    assert pairing.question(decode) is None
    assert pairing.learn(prefill, b'{"3":{"engine_id":"e-3","worker_addr":{}}}')
    assert not pairing.learn(prefill, b'{"3":{"engine_id":"e-3"}}')
    assert dialect.can_pair(prefill, decode)
    plan = dialect.plan(paired(BODY), prefill, decode)
    told = json.loads(plan.decode_body(None))["kv_transfer_params"]
    transfer = told.pop("transfer_id")
    assert told == {
        "do_remote_decode": False, "do_remote_prefill": True, "remote_bootstrap_addr": "http://[::1]:8998",
        "remote_engine_id": "e-3",
    }  # fmt: skip
    assert json.loads(plan.prefill_body())["kv_transfer_params"]["transfer_id"] == transfer
    prefills, decodes = plan.with_heads(Request(HEAD))
    assert prefills.head.forward == b"accept: */*\r\nx-data-parallel-rank: 3\r\n"
    assert decodes.head is HEAD


def test_mooncake_takes_an_engine_that_is_registered(member):
    dialect = VllmDialect()
    prefill = member(kv_connector="MooncakeConnector", engine_id="e")
    assert dialect.can_pair(prefill, member("decode", kv_connector="MooncakeConnector"))
    assert dialect.pairing(prefill).question(prefill) is None


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"a":{"engine_id":"x"}}', b""])
def test_mooncake_bootstrap_servers_that_tell_nothing(member, answer):
    prefill = member(kv_connector="MooncakeConnector")
    with pytest.raises(ValueError):
        VllmDialect().pairing(prefill).learn(prefill, answer)


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (CHAT, b'{"messages":[]}', ""),
        (CHAT, b'{"messages":[],"n":2}', "choices"),
        ("/v1/completions", b'{"prompt":["a","b"]}', "prompts"),
        ("/v1/completions", b'{"prompt":["a"]}', ""),
        ("/v1/completions", b'{"prompt":"a","use_beam_search":true}', "beam_search"),
        ("/v1/completions", b'{"prompt":"a","echo":true,"logprobs":1}', "prompt_logprobs"),
        ("/v1/completions", b'{"prompt_embeds":"x"}', "embeddings"),
        ("/v1/messages", b'{"messages":[]}', ""),
        ("/v1/responses", b'{"input":"a"}', "endpoint"),
    ],
)
def test_what_decode_does_alone(member, paired, path, body, why):
    pairing = VllmDialect().pairing(member())
    assert pairing.decodes_alone
    assert pairing.why_alone(paired(body), path) == why
    assert pairing.plan_alone(paired(body)).decode_body(None) == body


def test_alone_it_is_told_of_no_cache_either(member, paired):
    plan = VllmDialect().pairing(member()).plan_alone(paired(BODY))
    assert "kv_transfer_params" not in json.loads(plan.decode_body(None))
    body = b'{"messages":[],"kv_transfer_params":{"prompt_token_ids":[5],"remote_host":"evil"}}'
    plan = VllmDialect().pairing(member()).plan_alone(paired(body))
    assert json.loads(plan.decode_body(None))["kv_transfer_params"] == {"prompt_token_ids": [5]}
