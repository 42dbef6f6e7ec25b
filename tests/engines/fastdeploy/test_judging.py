"""What FastDeploy's answers mean: errors, and requests that are given back."""

import pytest

from fd_router.engines.dialect import Verdict
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.engines.fastdeploy.given_back import is_given_back, read_given_back

PD_ERROR = b'{"error":{"message":"PD Error: no memory"}}'
CHAT = b'{"choices":[{"finish_reason":"pd_reschedule","message":{"completion_token_ids":[1,2]}}]}'
TEXT = b'{"choices":[{"finish_reason":"pd_reschedule","completion_token_ids":[3]}]}'
FINE = b'{"choices":[{"finish_reason":"stop"}]}'
ERROR = b'{"error":{"message":"x"}}'
RECOVERED = b'{"choices":[{"finish_reason":"recover_stop","message":{"content":"half of"}}]}'
SAID = b'{"choices":[{"finish_reason":"stop","message":{"content":"It says \\"recover_stop\\""}}]}'


@pytest.mark.parametrize(
    ("role", "status", "body", "whole", "verdict"),
    [
        ("decode", 200, FINE, True, Verdict.OK),
        ("decode", 200, FINE, False, Verdict.OK),
        ("decode", 200, ERROR, True, Verdict.ERROR),
        ("decode", 200, ERROR, False, Verdict.ERROR),
        ("decode", 200, PD_ERROR, True, Verdict.GIVEN_BACK),
        ("decode", 200, PD_ERROR, False, Verdict.GIVEN_BACK),
        ("decode", 500, PD_ERROR, True, Verdict.GIVEN_BACK),
        ("decode", 200, CHAT, True, Verdict.GIVEN_BACK),
        ("decode", 500, ERROR, True, Verdict.ERROR),
        ("decode", 200, RECOVERED, True, Verdict.ERROR),
        ("mixed", 200, RECOVERED, True, Verdict.ERROR),
        ("mixed", 200, SAID, True, Verdict.OK),
        ("decode", 503, ERROR, True, Verdict.BUSY),
        ("decode", 400, ERROR, True, Verdict.CLIENT_ERROR),
        ("decode", 400, PD_ERROR, True, Verdict.CLIENT_ERROR),
        ("decode", 429, b"", True, Verdict.BUSY),
        ("decode", 304, b"", True, Verdict.BUSY),
        ("decode", 408, b"", True, Verdict.ERROR),
        ("prefill", 200, FINE, False, Verdict.OK),
        ("prefill", 200, PD_ERROR, True, Verdict.ERROR),
        ("prefill", 500, PD_ERROR, True, Verdict.ERROR),
        ("prefill", 422, b"", True, Verdict.CLIENT_ERROR),
    ],
)
def test_verdicts(role, status, body, whole, verdict):
    assert FastDeployDialect().judge(role, status, body, whole) is verdict


def test_given_back_answers():
    assert is_given_back(CHAT)
    assert is_given_back(TEXT)
    assert is_given_back(PD_ERROR)
    said = b'{"choices":[{"finish_reason":"stop","message":{"content":"pd_reschedule PD Error"}}]}'
    assert not is_given_back(said)
    assert not is_given_back(FINE)
    assert not is_given_back(b"pd_reschedule")


def test_what_they_say():
    told = [read_given_back(body) for body in (CHAT, TEXT, PD_ERROR)]
    assert [(one.reason, one.token_ids) for one in told] == [
        ("pd_reschedule", [1, 2]), ("pd_reschedule", [3]), ("PD Error", []),
    ]  # fmt: skip
