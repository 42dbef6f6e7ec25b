"""The checks of docs/compatibility.md's rows about inference, policies and context tags."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from tests.support.compatibility import CHAT, COMPLETIONS, Row, Stage, ask, post
from tests.support.compatibility_checks import BODIES, Check, named
from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess

CHECKS: dict[str, Check] = {}
check = named(CHECKS)


def bodies(mock: MockProcess) -> list[dict[str, Any]]:
    return [json.loads(each["body"]) for each in mock.completions()]


def tagged(log: str, words: str) -> list[dict[str, str]]:
    """Return the context tags of the lines with these words."""
    return [dict(re.findall(r"\[(\w+):([^\]]*)\] ", line)) for line in log.splitlines() if words in line]


def last_tags(stage: Stage, words: str, body: Any, mode: str = "mixed", **headers: str) -> dict[str, str]:
    """Send a request, and return the tags of its line with these words."""
    router = (stage.mixed if mode == "mixed" else stage.pair)[0]
    answer = post(router, body, **headers)
    assert answer.status == 200
    made = (body or {}).get("request_id") or answer.headers["x-request-id"]

    def own() -> list[dict[str, str]]:
        return [tags for tags in tagged(router.log, words) if tags.get("request_id") == made]

    eventually(lambda: bool(own()))  # lines of other requests may be written later than its answer is here
    return own()[-1]


@check("path")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.mixed
    for path, body in ((CHAT, BODIES[CHAT]), (COMPLETIONS, {"prompt": "x", "max_tokens": 1})):
        assert post(router, body, path).status == 200
        assert mock.completions()[-1]["path"] == path


@check("stream")
def _(stage: Stage, row: Row) -> None:
    for router, _mocks in (stage.mixed, stage.pair):
        answer = post(router, {"prompt": "x", "max_tokens": 3, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.body.endswith(b"data: [DONE]\n\n")


@check("sessions")
def _(stage: Stage, row: Row) -> None:
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"session_id": "a"}, "a"), ({"extra_body": {"session_id": "b"}}, "b"), ({"session_id": 7}, None),
        ({"session_id": "", "extra_body": {"session_id": "c"}}, "c"),
    ]  # fmt: skip
    for more, session in cases:
        tags = last_tags(stage, "select worker", {"prompt": "x", "max_tokens": 1, **more})
        assert tags.get("session_id") == session


@check("pair info")
def _(stage: Stage, row: Row) -> None:
    router, (prefill, decode) = stage.pair
    post(router, {"prompt": "x", "max_tokens": 1, "disaggregate_info": {"decode_ip": "6.6.6.6"}})
    eventually(lambda: len(prefill.completions()) == len(decode.completions()))
    first, second = bodies(prefill)[-1], bodies(decode)[-1]
    assert first == second
    info = first["disaggregate_info"]
    assert (info["decode_ip"], info["decode_connector_port"]) == ("127.0.0.1", decode.port)


@check("pair ids")
def _(stage: Stage, row: Row) -> None:
    _router, (_prefill, decode) = stage.pair
    for more in ({"request_id": f"mine-{uuid.uuid4()}"}, {}):
        tags = last_tags(stage, "select worker (decode)", {"prompt": "x", "max_tokens": 1, **more}, "pair")
        sent = bodies(decode)[-1]["request_id"]
        assert tags["request_id"] == sent == more.get("request_id", sent)
    assert uuid.UUID(sent).version == 4


@check("odd ids")
def _(stage: Stage, row: Row) -> None:
    router, (_prefill, decode) = stage.pair
    for given, made in ((None, str), (7, int)):
        assert post(router, {"prompt": "x", "max_tokens": 1, "request_id": given}).status in {200, 400}
        assert isinstance(bodies(decode)[-1]["request_id"], made)


@check("pair headers")
def _(stage: Stage, row: Row) -> None:
    router, (prefill, decode) = stage.pair
    try:
        for faults in ((), ("reset_before_head",)):
            decode.set_faults(*faults)
            answer = post(router)
            told = (answer.headers["x-router-prefill-url"], answer.headers["x-router-decode-url"])
            assert (answer.status, told) == (502 if faults else 200, (prefill.url, decode.url))
    finally:
        decode.set_faults()
        eventually(lambda: post(router).status == 200)


@check("decode error")
def _(stage: Stage, row: Row) -> None:
    router, pair = stage.pair
    for instance in reversed(pair):
        instance.set_faults("status:status=500")
        try:
            answer = post(router)
        finally:
            instance.set_faults()
            eventually(lambda: post(router).status == 200)
        assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
        error = answer.json["error"]
        assert (error["message"], error["code"]) == ("injected fault: 500", "injected_fault")


@check("instance error")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.mixed
    mock.set_faults("status:status=429,count=1")
    assert post(router).status == 429


@check("no pair")
def _(stage: Stage, row: Row) -> None:
    answer = post(stage.router(splitwise=True))
    assert (answer.status, answer.json["error"]["message"].startswith(row.expected[0])) == (503, True)


@check("no instance")
def _(stage: Stage, row: Row) -> None:
    answer = post(stage.router())
    assert (answer.status, answer.json["error"]["message"].startswith(row.expected[0])) == (502, True)


@check("dead instance")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.fleet("mixed")
    mock.kill()
    answer = post(router)
    assert (answer.status, answer.json["error"]["message"].startswith(row.expected[0])) == (502, True)


@check("bad body")
def _(stage: Stage, row: Row) -> None:
    error = post(stage.mixed[0], b"{odd").json["error"]
    assert error["message"].startswith("Invalid JSON format")
    assert set(error) == {"message", "type", "param", "code"}


@check("null body")
def _(stage: Stage, row: Row) -> None:
    assert {post(router, b"null").status for router, _mocks in (stage.mixed, stage.pair)} == {400}


@check("nan")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.mixed
    before = len(mock.completions())
    for body in (b'{"prompt": "x", "top_p": NaN}', b'\xef\xbb\xbf{"prompt": "x"}'):
        post(router, body)
    assert len(mock.completions()) == before + 2


@check("bytes")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.mixed
    body = b'{"prompt":  "x", "max_tokens": 1, "seed": 9007199254740993}'
    assert post(router, body).status == 200
    assert mock.completions()[-1]["body"].encode() == body


@check("retry")
def _(stage: Stage, row: Row) -> None:
    router, (broken, sound) = stage.fleet("mixed", "mixed")
    broken.set_faults("reset_before_head")
    assert {post(router).status for _ in range(4)} == {200}
    assert len(sound.completions()) == 4


@check("reschedule")
def _(stage: Stage, row: Row) -> None:
    router, (_prefill, decode) = stage.pair
    decode.set_faults("reschedule:after_tokens=1,count=1")
    assert post(router, {"prompt": "x", "max_tokens": 4}).json["choices"][0]["finish_reason"] == "length"
    assert bodies(decode)[-1]["request_id"].endswith("-retry1")


@check("large body")
def _(stage: Stage, row: Row) -> None:
    assert post(stage.router(proxy={"max-body-mb": 1}), b'{"prompt": "%b"}' % (b"x" * (1 << 20))).status == 413


@check("query")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.mixed
    assert post(router, None, f"{COMPLETIONS}?a=b").status == 200
    assert mock.completions()[-1]["query"] == "a=b"


@check("hops")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.mixed
    assert post(router, None, Connection="X-Hop", X_Hop="1", X_Kept="1").status == 200
    sent = {name.lower() for name, _value in mock.completions()[-1]["headers"]}
    assert "x-kept" in sent
    assert "x-hop" not in sent


@check("policy")
def _(stage: Stage, row: Row) -> None:
    router = stage.router(scheduler={"policy": row.sent})
    stage.mock(router=router.key)
    router.wait_for_instances(1)
    assert post(router).status == 200
    assert router.stop() == 0


# tags


@check("trace id")
def _(stage: Stage, row: Row) -> None:
    assert last_tags(stage, "select worker", None, X_BD_LOGID="bd-7").get("trace_id") in {None, "bd-7"}
    answer = ask(stage.mixed[0], "POST", COMPLETIONS, {"prompt": "x", "max_tokens": 1}, {"X_BD_LOGID": "bd-8"})
    assert answer.status == 200
    eventually(lambda: "[trace_id:bd-8]" in stage.mixed[0].log)


@check("req id")
def _(stage: Stage, row: Row) -> None:
    assert last_tags(stage, "select worker", {"prompt": "x", "max_tokens": 1, "req_id": "q1"})["req_id"] == "q1"


@check("centralized id")
def _(stage: Stage, row: Row) -> None:
    assert last_tags(stage, "select worker", {"prompt": "x", "max_tokens": 1, "request_id": "r1"})["request_id"] == "r1"
    assert last_tags(stage, "select worker", None, x_request_id="r2")["request_id"] == "r2"


@check("forwarded")
def _(stage: Stage, row: Row) -> None:
    router, _mocks = stage.mixed
    post(router, None, X_Forwarded_For="192.0.2.7")
    post(router, None, X_Real_IP="192.0.2.8")
    eventually(lambda: " 192.0.2.7 " in router.log and " 192.0.2.8 " in router.log)


@check("secret")
def _(stage: Stage, row: Row) -> None:
    router, (prefill, _decode) = stage.pair
    prefill.set_faults("cut_mid_body:after_tokens=0,count=1")
    secret = "a-word-that-no-log-may-have"
    post(router, {"prompt": secret, "max_tokens": 2})
    assert secret not in router.log_so_far()


@check("no second line")
def _(stage: Stage, row: Row) -> None:
    assert "Request failed (attempt " in stage.tour
    assert "Backend request failed" not in stage.tour
