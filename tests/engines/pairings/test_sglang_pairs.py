"""SGLang's pairs: both instances get one body, with a room for each answer."""

import json

import pytest

from fd_router.engines.sglang import SglangDialect
from fd_router.errors import BadRequestError


def told(paired, member, body, **more):
    plan = SglangDialect().plan(paired(body), member(**more), member("decode", host="10.0.0.2"))
    assert plan.order == "together"
    assert plan.prefill_body() == plan.decode_body(None)
    return json.loads(plan.prefill_body())


def test_one_answer_has_one_room(member, paired):
    body = b'{"bootstrap_host":"evil","bootstrap_room":1,"messages":[],"bootstrap_pair_key":"x"}'
    sent = told(paired, member, body, bootstrap=8998)
    room = sent.pop("bootstrap_room")
    assert 0 <= room < 2**63
    assert sent == {"bootstrap_host": "10.0.0.1", "bootstrap_port": 8998, "messages": []}


def test_a_port_that_is_not_told_is_decodes_to_know(member, paired):
    assert told(paired, member, b'{"messages":[]}')["bootstrap_port"] is None


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b'{"messages":[],"n":3}', 3),
        (b'{"prompt":["a"]}', 1),
        (b'{"prompt":["a","b"],"n":2}', 4),
        (b'{"input_ids":[[1],[2]]}', 2),
    ],
)
def test_several_answers_have_lists(member, paired, body, number):
    sent = told(paired, member, body, bootstrap=9000)
    assert sent["bootstrap_host"] == ["10.0.0.1"] * number
    assert sent["bootstrap_port"] == [9000] * number
    assert len(set(sent["bootstrap_room"])) == number


def test_each_attempt_has_rooms_of_its_own(member, paired):
    request, dialect = paired(b'{"messages":[]}'), SglangDialect()
    rooms = [json.loads(dialect.plan(request, member(), member("decode")).prefill_body()) for _ in range(50)]
    assert len({sent["bootstrap_room"] for sent in rooms}) == 50


@pytest.mark.parametrize(
    ("body", "why"),
    [(b'{"prompt":"a","echo":true,"logprobs":1}', "logprobs"), (b'{"messages":[],"n":5000}', "more than 4096")],
)
def test_what_no_pair_can_do_is_refused(member, paired, body, why):
    with pytest.raises(BadRequestError, match=why):
        SglangDialect().plan(paired(body), member(), member("decode"))


def test_decode_does_nothing_alone(member):
    assert not SglangDialect().pairing(member()).decodes_alone
