import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.devtools.mock.faults import KINDS, Fault, FaultInjector, parse_fault
from fd_router.errors import BadRequestError

CHAT = "/v1/chat/completions"


def box(*specs, seed=0):
    return FaultInjector([parse_fault(spec) for spec in specs], random.Random(seed))


def test_a_spec_and_its_object_mean_the_same():
    spec = parse_fault("cut_mid_body: probability=0.5, count=2,match=stream,after_tokens=7,how=fin")
    assert spec == Fault("cut_mid_body", probability=0.5, count=2, match="stream", after_tokens=7, how="fin")
    assert spec == parse_fault(
        {"kind": "cut_mid_body", "probability": 0.5, "count": 2, "match": "stream", "after_tokens": 7, "how": "fin"}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_needs_nothing_but_its_name(kind):
    assert parse_fault(kind).kind == kind


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("explode", "unknown fault 'explode'"),
        ("slow:status=500", "slow has no 'status'"),
        ("status:status=200", "400"),
        ("status:status=x", "status"),
        ("reset_before_head:probability=2", "<= 1"),
        ("reset_before_head:often", "not key=value"),
        ("slow:match=sometimes", "sometimes"),
        ({"kind": "slow", "head_secs": "1"}, "slow"),
        ({}, "unknown fault"),
    ],
)
def test_a_wrong_fault_says_what_is_wrong(spec, reason):
    with pytest.raises(BadRequestError, match=reason):
        parse_fault(spec)


def test_a_count_runs_out():
    faults = box("reset_before_head:count=2")
    assert [faults.strike(CHAT, False) is not None for _ in range(4)] == [True, True, False, False]
    assert faults.struck == 2
    assert faults.describe() == [{"kind": "reset_before_head", "count": 2, "left": 0}]


def test_match_tells_streams_from_others():
    faults = box("reset_before_head:match=stream", "garbage:match=whole")
    assert faults.strike(CHAT, True).kind == "reset_before_head"
    assert faults.strike(CHAT, False).kind == "garbage"


def test_only_completions_are_struck_unless_a_path_is_named():
    assert box("garbage").strike("/health", False) is None
    assert box("garbage").strike("/v1/completions", False) is not None
    named = box("garbage:path=/health")
    assert named.strike("/health", False) is not None
    assert named.strike(CHAT, False) is None


def test_standing_faults_strike_no_request():
    faults = box("unhealthy", "refuse:secs=3")
    assert faults.strike(CHAT, False) is None
    assert faults.find("refuse").secs == 3
    faults.turn_off("refuse")
    assert faults.find("refuse") is None
    assert repr(faults) == "<FaultInjector ['unhealthy'] struck=0>"


def test_the_same_seed_strikes_the_same_requests():
    def struck(seed):
        faults = box("garbage:probability=0.3", seed=seed)
        return [faults.strike(CHAT, False) is not None for _ in range(200)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 20 < sum(struck(1)) < 100


def test_replacing_turns_the_old_ones_off():
    faults = box("garbage")
    faults.replace([parse_fault("status:status=429")])
    assert faults.strike(CHAT, False).status == 429


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=30))
def test_any_text_is_a_fault_or_refused_clearly(kind, rest):
    fault, message = None, kind
    try:
        fault = parse_fault(f"{kind}:{rest}")
    except BadRequestError as error:
        message = error.message
    assert kind in message
    assert fault is None or fault.kind == kind
