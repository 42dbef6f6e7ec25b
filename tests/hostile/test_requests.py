"""Every request of the corpus against a running router, with an instance that writes down what it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.hostile.client import Outcome, play
from tests.hostile.corpus import MAX_BODY_MB, MAX_HEAD_KB, RequestCase, request_cases
from tests.hostile.recorder import Received, Recorder
from tests.support.fleet import BUG, eventually
from tests.support.mock_process import RouterProcess

CONFIG = {
    "proxy": {"max-head-kb": MAX_HEAD_KB, "max-body-mb": MAX_BODY_MB},
    "log": {"output": "file"},
    "scheduler": {"policy": "cache_aware"},  # which reads prompts
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def router(recorder: Recorder) -> Iterator[RouterProcess]:
    entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": recorder.port}]
    with RouterProcess(CONFIG, instances=entries) as router:
        router.wait_for_instances(1)
        eventually(lambda: router.call("POST", "/v1/completions", {"prompt": "x"})[0] == 200)
        recorder.take()
        yield router
        assert recorder.take() == [], "something came late"
        assert BUG not in router.log
        assert "Traceback" not in router.output


@pytest.mark.parametrize("case", request_cases(), ids=lambda case: case.name)
def test_a_request_has_one_meaning(router: RouterProcess, recorder: Recorder, case: RequestCase) -> None:
    outcome = play(router.port, case.send, case.then, expected=len(case.answers))
    assert outcome == Outcome((*case.answers, *case.then_answers), case.closes)
    received = recorder.take()
    assert [each.error or each.rest for each in received] == list(case.upstream)
    for each in received:
        check_own_headers(each, recorder)
    if case.request_id:
        assert received[0].values(b"x-request-id") == [case.request_id]


def check_own_headers(received: Received, recorder: Recorder) -> None:
    assert received.values(b"host") == [b"127.0.0.1:%d" % recorder.port]
    assert received.values(b"content-length") == [b"%d" % len(received.body)]
    assert re.fullmatch(rb"1\.1 fd-router-[0-9a-f]{12}", received.values(b"via")[-1])
    assert received.values(b"transfer-encoding") == []
    (request_id,) = received.values(b"x-request-id")
    assert request_id
