"""The checks of docs/compatibility.md's rows: start, configuration, endpoints, registration, metrics, log lines."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from tests.support.compatibility import ALL_KEYS, CHAT, Row, Stage, ask, post
from tests.support.fleet import eventually
from tests.support.mock_process import ServerProcess
from tests.support.ports import free_port

Check = Callable[[Stage, Row], None]
Add = Callable[[Check], Check]


def named(checks: dict[str, Check]) -> Callable[[str], Add]:
    """Make the decorator that puts a check among ``checks``, under the name that the page has."""

    def check(name: str) -> Add:
        def add(function: Check) -> Check:
            checks[name] = function
            return function

        return add

    return check


CHECKS: dict[str, Check] = {}
check = named(CHECKS)


# flags, start, configuration


def expect(process: ServerProcess, row: Row) -> None:
    """Look for what the row expects: that it ``starts``, or ``exit N``, and one of the other texts in what it says."""
    first, *words = row.expected
    if first == "starts":
        process.wait_until_up()
        process.stop()
        return
    assert process.process.wait(30) == int(first.removeprefix("exit "))
    assert not words or any(word in process.output for word in words), process.output


@check("start")
def _(stage: Stage, row: Row) -> None:
    port = free_port()
    arguments = row.sent.replace("PORT", str(port)).split() if row.sent else []
    process = stage.run(*arguments, files={"broken.yaml": "server: {port: [}\n"}, port=port)
    expect(process, row)


@check("config")
def _(stage: Stage, row: Row) -> None:
    port = free_port()
    expect(stage.run("--port", str(port), "--config_path", "c.yaml", files={"c.yaml": row.sent}, port=port), row)


@check("key")
def _(stage: Stage, row: Row) -> None:
    section, _, key = row.sent.partition(".")
    tried_by_rows = {"port", "tokenizer-url", "register-path"}
    assert key in ALL_KEYS[section] or key in tried_by_rows
    router, _mocks = stage.mixed
    assert "unknown" not in router.log


@check("port in use")
def _(stage: Stage, row: Row) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = stage.run("--port", str(port), "--host", "127.0.0.1", port=port)
        assert process.process.wait(30) == 1
        assert "Failed to start server" in process.output


@check("host")
def _(stage: Stage, row: Row) -> None:
    assert "Only this machine can connect: server.host is 127.0.0.1." in stage.mixed[0].log


@check("rotation")
def _(stage: Stage, row: Row) -> None:
    assert "rotated files are deleted after 7 days or beyond 500 MB" in stage.mixed[0].log


@check("drain")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.fleet("mixed")
    mock.set_faults("slow:head_secs=1")
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(post(router).status))
    client.start()
    eventually(lambda: mock.state()["in_flight"] == 1)
    assert router.stop() == 0
    client.join()
    assert answers == [200]


@check("reload")
def _(stage: Stage, row: Row) -> None:
    router = stage.router()
    router.process.send_signal(signal.SIGHUP)
    eventually(lambda: "Reloaded" in router.log)
    assert router.process.poll() is None


@check("threshold")
def _(stage: Stage, row: Row) -> None:
    router, (mock,) = stage.fleet("mixed", manager={"health-failure-threshold": 3, "health-check-interval-secs": 1000})
    mock.set_faults("unhealthy:secs=1000")
    ask(router, "GET", "/health_generate")  # one check: the next one is far away
    assert router.call("GET", "/registered_number")[1]["mixed"] == 0


@check("kept")
def _(stage: Stage, row: Row) -> None:
    port = free_port()
    router = stage.router(instances=[{"role": "mixed", "host_ip": "127.0.0.1", "port": port}])
    assert post(router).status == 502
    stage.mock(port=port)
    eventually(lambda: post(router).status == 200)


# endpoints, registration, metrics, log

BODIES: dict[str, Any] = {
    "/register": None,
    "/v1/abort_requests": {"req_ids": ["nobody"]},
    CHAT: {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2},
}


@check("endpoint")
def _(stage: Stage, row: Row) -> None:
    method, path = row.sent.split()
    router, (mock,) = stage.mixed
    entry = {"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port}
    body = entry if path == "/register" else BODIES.get(path, {"prompt": "hello", "max_tokens": 2})
    answer = ask(router, method, path, body if method == "POST" else None)
    status, *words = row.expected
    assert answer.status == int(status)
    if "Allow" in words:
        assert answer.headers["allow"] == "GET, HEAD"
    if "tp_size" in words:
        assert answer.json["mixed"][0]["tp_size"] == 1
    if int(status) in {301, 307}:
        assert answer.headers["location"] == path.rstrip("/")


@check("register")
def _(stage: Stage, row: Row) -> None:
    splitwise = "in splitwise mode" in row.item
    router, spare = stage.registrars[splitwise]
    entry = {"role": "prefill" if splitwise else "mixed", "host_ip": "127.0.0.1", "port": spare.port}
    answer = ask(router, "POST", "/register", entry | json.loads(row.sent.replace("PORT", str(spare.port))))
    status, *words = row.expected
    assert (answer.status, answer.json["code"]) == (int(status), int(status)), answer
    assert all(word in answer.json["msg"] for word in words), answer


@check("no json")
def _(stage: Stage, row: Row) -> None:
    router, _spare = stage.registrars[False]
    for body in (b"odd", b"", b"[]"):
        answer = ask(router, "POST", "/register", body)
        assert (answer.status, answer.json["msg"].startswith(row.expected[0].strip())) == (400, True)


@check("not healthy")
def _(stage: Stage, row: Row) -> None:
    router, _spare = stage.registrars[False]
    entry = {"role": "mixed", "host_ip": "127.0.0.1", "port": free_port()}
    answer = ask(router, "POST", "/register", entry)
    assert answer.status == 503
    assert answer.json["msg"].endswith(row.expected[0])


@check("again")
def _(stage: Stage, row: Row) -> None:
    router, spare = stage.registrars[True]
    for role in ("prefill", "decode"):
        ask(router, "POST", "/register", {"role": role, "host_ip": "127.0.0.1", "port": spare.port})
        counts = router.call("GET", "/registered_number")[1]
        assert (counts[role], sum(counts.values())) == (1, 1)


@check("metric")
def _(stage: Stage, row: Row) -> None:
    router, _mocks = stage.mixed
    post(router, {"prompt": "hello", "max_tokens": 1, "session_id": "s"})
    text = ask(router, "GET", "/metrics").body.decode()
    assert f"# TYPE {row.sent} {row.expected[0]}\n" in text
    assert re.search(rf"^{row.sent}(_count)?(\{{| )", text, re.MULTILINE)


@check("line")
def _(stage: Stage, row: Row) -> None:
    pattern = re.escape(row.sent)
    for name, form in (("URL", r"http://127\.0\.0\.1:\d+"), ("HOST:PORT", r"[\d.]+:\d+"), (r"\bN\b", r"\\d+")):
        pattern = pattern.replace(name, form) if name != r"\bN\b" else re.sub(name, form, pattern)
    assert re.search(rf"logger\.go:\d+: (\[\w+:[^\]]*\] )*{pattern}", stage.tour), row.sent


@check("format")
def _(stage: Stage, row: Row) -> None:
    form = re.sub(r"\d", r"\\d", re.escape(row.sent)).replace("INFO", "[A-Z]+")
    lines = stage.mixed[0].log.splitlines()
    assert lines
    assert all(re.match(form, line) for line in lines)
