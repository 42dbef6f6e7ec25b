"""What operators see: metrics by their names, log lines that FastDeploy's scripts can read, and never a prompt."""

import contextlib
import json
import re
import threading

import httpx
import pytest

from tests.support.fleet import QUICK, Fleet, chat, eventually
from tests.support.raw_client import IncompleteError, RawClient, request
from tests.support.scripted_instance import ScriptedInstance

CHAT = "/v1/chat/completions"

# Of the same meaning as those in FastDeploy's log scripts.
URL = r"((?:https?://)?[A-Za-z0-9.-]+(?::\d+)?)"
LINE = re.compile(
    r"\[(DEBUG|INFO|WARN|ERROR)\] (\d{4}/\d{2}/\d{2} \d{2}:\d{2}:\d{2}) logger\.go:\d+: ((?:\[\w+:[^\]]*\] )*)(.+)"
)
TAG = re.compile(r"\[(trace_id|req_id|session_id|request_id):([^\]]*)\]")
HTTP = re.compile(
    r"\[(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS)\]\s+(/\S*)\s+HTTP/\d\.\d\s+(\d{3})\s+(\S+)\s+(\d+(?:\.\d+){3})"
)
DURATION = re.compile(r"(?:\d+h)?(?:\d+m)?(?:[\d.]+(?:s|ms|µs|us|ns))?")
SELECT = re.compile(rf"select worker\s*(?:\((\w+)\))?:\s*{URL},\s*count:\s*(\d+)")
RELEASE = re.compile(rf"release worker:\s*{URL},\s*count:\s*(\d+)")
RELEASE_TOKENS = re.compile(rf"release prefill tokens:\s*{URL},\s*tokens:\s*(\d+)")
STATS = re.compile(
    r"\[stats\] total_running=(\d+), workers: \[(.*)\], cache_hit_rate=([\d.]+)% \(hits=(\d+)/total=(\d+)\)"
)


def lines(fleet):
    """Return the log as (level, tags, message)."""
    parsed = [LINE.fullmatch(line) for line in fleet.router.log.splitlines()]
    assert all(parsed), "a line that the scripts can't read"
    return [(match[1], dict(TAG.findall(match[3])), match[4]) for match in parsed]


def messages_of(fleet, request_id):
    return [message for _, tags, message in lines(fleet) if tags.get("request_id") == request_id]


def post(fleet, body, *headers, path=CHAT):
    with RawClient(fleet.port) as client:
        client.send(request(path, body if isinstance(body, bytes) else json.dumps(body).encode(), *headers))
        return client.read()


def leave_stream(fleet, body=None):
    with RawClient(fleet.port) as client:
        client.send(request(CHAT, json.dumps(body or chat(max_tokens=1_000_000, stream=True)).encode()))
        client.read_head()
        client.read_chunk()


# metrics


def test_traffic_is_counted_under_the_names_that_dashboards_use():
    with Fleet(1, mock={**QUICK, "decode_ms_per_token": 5}) as fleet:
        (mock,) = fleet.mocks
        answers = [post(fleet, chat(max_tokens=2)) for _ in range(3)]
        streams = [post(fleet, chat(max_tokens=5, stream=True)) for _ in range(2)]
        post(fleet, {"prompt": "x", "max_tokens": 1}, path="/v1/completions")
        mock.set_faults("status:status=429,count=1")
        assert post(fleet, chat()).status == 429
        assert post(fleet, b"no JSON").status == 400
        assert post(fleet, b"", path="/nowhere").status == 404
        leave_stream(fleet)
        mock.set_faults("cut_mid_body:count=1,how=fin")
        with pytest.raises(IncompleteError):
            post(fleet, chat(max_tokens=9, stream=True))
        eventually(lambda: fleet.metric("http_requests_total", status_code="499") == 1)
        metric = fleet.metric

        def http(endpoint, status, method="POST"):
            return metric("http_requests_total", method=method, endpoint=endpoint, status_code=str(status))

        def inference(status, worker):
            return metric(
                "inference_requests_total",
                mixed_worker=worker, prefill_worker="", decode_worker="", status_code=str(status),
            )  # fmt: skip

        assert http(CHAT, 200) == 3 + 2 + 1
        assert http("/v1/completions", 200) == 1
        assert (http(CHAT, 429), http(CHAT, 400), http(CHAT, 499), http("unmatched", 404)) == (1, 1, 1, 1)
        assert (inference(200, mock.url), inference(429, mock.url), inference(499, mock.url)) == (7, 1, 1)
        assert inference(400, "") == 1
        assert metric("http_request_duration_seconds_count", method="POST", endpoint=CHAT) == 9
        assert metric("fd_router_request_duration_seconds_count", stream="true") == 4
        assert metric("fd_router_request_duration_seconds_count", stream="false") == 6
        assert metric("fd_router_time_to_first_token_seconds_count", stream="true") == 4
        assert metric("fd_router_time_to_first_token_seconds_count", stream="false") == 5
        first = metric("fd_router_time_to_first_token_seconds_sum", stream="true")
        assert 0 < first < metric("fd_router_request_duration_seconds_sum", stream="true")
        assert metric("fd_router_client_disconnects_total", endpoint=CHAT) == 1
        assert metric("fd_router_upstream_errors_total", instance=mock.url, reason="cut_off") == 1
        assert metric("fd_router_upstream_errors_total") == 1
        assert metric("fd_router_response_bytes_total", endpoint=CHAT) > sum(
            len(answer.body) for answer in [*answers, *streams]
        )
        assert metric("fd_router_instances", role="mixed", health="healthy") == 1
        assert metric("fd_router_instance_healthy", instance=mock.url) == 1
        assert metric("router_cache_request_total") == metric("router_cache_hit_total") == 0
        page = fleet.metrics()
        assert "router_cache_hit_total 0" in page
        assert "fd_router_build_info{" in page


def test_a_running_stream_is_in_flight_and_its_tokens_are_only_its_prefills():
    with Fleet(1, mock={**QUICK, "decode_ms_per_token": 5}) as fleet:
        prompt = "some words that nobody reads while the instance stands still"
        with RawClient(fleet.port) as client:
            fleet.mocks[0].pause()
            client.send(request(CHAT, json.dumps(chat(prompt, max_tokens=1_000_000, stream=True)).encode()))
            eventually(lambda: fleet.metric("fd_router_instance_tokens") == 2 * len(prompt))
            assert fleet.running(fleet.mocks[0]) == 1
            fleet.mocks[0].resume()
            client.read_head()  # comes with the first token
            client.read_chunk()
            eventually(lambda: fleet.metric("fd_router_instance_tokens") == 0)
            assert fleet.running(fleet.mocks[0]) == 1


def test_metrics_are_what_prometheus_asks_for():
    with Fleet(0) as fleet:
        answer = httpx.get(f"{fleet.url}/metrics", timeout=60)
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        for line in answer.text.splitlines():
            assert line.startswith("# ") or re.fullmatch(r'[a-zA-Z_:]\w*(\{(\w+="[^"]*",?)*\})? [-+.\deINFa]+', line), (
                line
            )


def test_what_clients_invent_becomes_no_label():
    with Fleet(0) as fleet:
        for number in range(20):
            post(fleet, b"", path=f"/invented/{number}")
        with RawClient(fleet.port) as client:
            client.send(request("/health", method="PROPFIND"))
            client.read()
        page = fleet.metrics()
        assert "invented" not in page
        assert "PROPFIND" not in page
        assert fleet.metric("http_requests_total", endpoint="unmatched", method="POST", status_code="404") == 20


# the log


def test_the_lines_of_a_request_are_those_that_fastdeploys_scripts_read():
    with Fleet(1, config={"scheduler": {"stats-interval-secs": 0.2}}) as fleet:
        (mock,) = fleet.mocks
        trace = "0af7651916cd43dd8448eb211c80319c"
        body = chat("hello", max_tokens=3, stream=True, req_id="r-1", request_id="body-id", session_id="s-1")
        headers = ("X-Request-Id: header-id", f"traceparent: 00-{trace}-b7ad6b7169203331-01")
        assert post(fleet, body, *headers).status == 200
        eventually(lambda: "[stats]" in fleet.router.log and len(messages_of(fleet, "body-id")) >= 6)
        tags = [tags for _, tags, _ in lines(fleet) if tags.get("request_id") == "body-id"]
        assert {json.dumps(one) for one in tags} == {
            json.dumps({"trace_id": trace, "req_id": "r-1", "session_id": "s-1", "request_id": "body-id"})
        }
        parsing, select, tokens, release, done, access = messages_of(fleet, "body-id")
        assert parsing == "Parsing completed; starting worker selection."
        assert SELECT.match(select).groups() == ("mixed", mock.url, "1")
        assert RELEASE_TOKENS.match(tokens).groups() == (mock.url, "0")
        assert RELEASE.match(release).groups() == (mock.url, "0")
        assert done == "Request completed successfully."
        method, path, status, duration, client = HTTP.match(access).groups()
        assert (method, path, status, client) == ("POST", CHAT, "200", "127.0.0.1")
        assert DURATION.fullmatch(duration)
        assert re.search(rf" instance={mock.url} ttft=[\d.]+ms bytes=\d+ attempts=1$", access)
        stats = next(match for _, _, message in lines(fleet) if (match := STATS.fullmatch(message)))
        assert f"{mock.url}: running=" in stats[2]


def test_at_debug_a_choice_is_told_of_without_the_prompt():
    config = {"scheduler": {"policy": "cache_aware", "stats-interval-secs": 0.2}, "log": {"level": "debug"}}
    with Fleet(2, config=config) as fleet:
        assert post(fleet, chat("the secret prompt " * 50, max_tokens=3)).status == 200
        wanted = ("Healthy instances: ", "cache-aware prefill: hashes=", "cache-aware score: worker=", "radix record: ")
        eventually(lambda: all("[DEBUG] " in fleet.router.log and line in fleet.router.log for line in wanted))
        log = fleet.router.log
        assert "secret" not in log
        places = [log.index(line) for line in ("Parsing completed", *wanted[1:], "final strategy", "select worker")]
        assert places == sorted(places)


def test_start_membership_and_failures_have_their_lines():
    with Fleet(2, config={"proxy": {"pool-max-idle": 0}}) as fleet:
        first, second = fleet.mocks
        first.kill()
        eventually(lambda: fleet.ask()[0] == 200 and not fleet.is_healthy(first))
        second.set_faults("reset_before_head")
        assert fleet.ask()[0] == 502
        eventually(lambda: "Request completed with an error." in fleet.router.log)
        found = lines(fleet)

        def has(level, pattern):
            return any(one == level and re.search(pattern, message) for one, _, message in found)

        assert has("INFO", rf"^Starting server on 127\.0\.0\.1:{fleet.port}")
        assert has("INFO", r"^Successfully registered instance from index 0")
        assert has("INFO", r"^Successfully registered instance from index 1")
        assert has("ERROR", rf"^Removed unhealthy mixed instance: {first.url}")
        assert has("ERROR", rf"^Request failed \(attempt 1/3\): {second.url}")
        assert has("ERROR", r"^Failed to connect to backend service")
        assert has("INFO", r"^Request completed with an error\.")


def test_selections_and_releases_balance_whatever_happens():
    """The scripts find leaks of the router's counters by comparing them."""
    with Fleet(
        2, mock={**QUICK, "fault": ["cut_mid_body:probability=0.3", "reset_before_head:probability=0.3"]}
    ) as fleet:
        with httpx.Client(timeout=60) as client:
            for number in range(60):
                with contextlib.suppress(httpx.TransportError):
                    client.post(f"{fleet.url}{CHAT}", json=chat(max_tokens=6, stream=number % 2 == 0))
                if number % 10 == 0:
                    leave_stream_or_not(fleet)
        fleet.settle()
        eventually(lambda: count(fleet, SELECT) == count(fleet, RELEASE) == count(fleet, RELEASE_TOKENS))
        assert count(fleet, SELECT) > 60


def leave_stream_or_not(fleet):
    with RawClient(fleet.port) as client:
        client.send(request(CHAT, json.dumps(chat(max_tokens=1_000_000, stream=True)).encode()))
        with contextlib.suppress(IncompleteError, ConnectionResetError):
            client.read_head()


def count(fleet, pattern):
    return sum(pattern.match(message) is not None for _, _, message in lines(fleet))


# prompts


MARK = "zanzibar-7f3"


def marked(**more):
    return chat(f"my secret is {MARK}", **{"max_tokens": 3, **more})


TELLING = {
    "file": {"output": "file", "level": "debug"},
    "json": {"output": "stdout", "format": "json", "level": "debug"},
}


@pytest.fixture(params=TELLING)
def config(request):
    """The most that the router can be made to write."""
    return {"log": TELLING[request.param], "proxy": {"max-body-mb": 1}}


def make_impatient(fleet):
    """Shorten the limits of time: only for what runs into them, since a busy machine takes longer for anything."""
    limits = dict.fromkeys(("first-byte-timeout-secs", "stall-timeout-secs", "client-body-timeout-secs"), 0.5)
    fleet.router.rewrite("config.yaml", lambda value: value["proxy"].update(limits))
    assert fleet.router.call("POST", "/admin/reload")[0] == 200


def check_that_nothing_was_told(fleet):
    fleet.settle()
    page = fleet.metrics()
    fleet.router.stop()
    written = fleet.router.log + fleet.router.output
    assert "Request completed with an error." in written
    assert MARK not in written
    assert MARK not in page


def send_in_every_bad_way(fleet):
    assert post(fleet, json.dumps(marked()).encode()[:-9]).status == 400  # JSON cut off
    assert post(fleet, f'{{"messages": {MARK}}}'.encode()).status == 400
    assert post(fleet, json.dumps([MARK]).encode()).status == 400
    assert post(fleet, {"messages": MARK}).status == 400  # by the instance
    assert post(fleet, {"messages": [MARK], "prompt": {"a": MARK}}).status == 400
    assert post(fleet, marked(), path=f"/v1/nowhere?prompt={MARK}").status == 404
    assert post(fleet, marked(), path=f"{CHAT}?prompt={MARK}").status == 200
    assert post(fleet, marked(), path="/health").status == 405
    misplaced = {"role": "mixed", "host_ip": "127.0.0.1", "port": "x", "messages": MARK}
    assert post(fleet, misplaced, path="/register").status == 400
    assert post(fleet, marked(padding="p" * 1_200_000)).status == 413
    with RawClient(fleet.port) as client:  # a length that is too short: the rest of the prompt looks like a head
        client.send(request("/v1/completions", b'{"prompt": "x"}') + f"{MARK} and so on\r\n\r\n".encode())
        assert client.read().status == 200
        assert client.read().status == 400
    with RawClient(fleet.port) as client:  # chunks that aren't
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(f"{head}5\r\n{MARK}\r\n".encode())
        assert client.read().status == 400
    leave_stream(fleet, marked(stream=True, max_tokens=1_000_000))


def test_no_prompt_is_logged_or_counted_whatever_happens_to_it(config):
    with Fleet(1, config=config) as fleet:
        (mock,) = fleet.mocks
        assert post(fleet, marked()).status == 200
        assert post(fleet, marked(stream=True)).status == 200
        assert post(fleet, {"prompt": [MARK], "max_tokens": 1}, path="/v1/completions").status == 200
        send_in_every_bad_way(fleet)
        faults = {"status:status=400": 400, "status:status=500": 500, "garbage": 502, "reset_before_head": 502}
        for fault, status in faults.items():
            mock.set_faults(fault)
            assert post(fleet, marked()).status == status
        eventually(lambda: fleet.is_healthy(mock))
        for fault in ("cut_mid_body:how=rst", "cut_mid_body:how=fin"):
            mock.set_faults(fault)
            with pytest.raises((IncompleteError, ConnectionResetError)):
                post(fleet, marked(stream=True, max_tokens=50))
        eventually(lambda: fleet.is_healthy(mock))
        make_impatient(fleet)
        with RawClient(fleet.port) as client:  # a body that stops
            client.send(request(CHAT, json.dumps(marked()).encode())[:-3])
            assert client.read().status == 408
        for fault in ("hang_before_head", "slow:token_secs=30"):  # no token, so no answer has begun
            mock.set_faults(fault)
            assert post(fleet, marked(stream=True, max_tokens=50)).status == 504
            eventually(lambda: fleet.is_healthy(mock))
        mock.kill()
        assert post(fleet, marked()).status == 502
        check_that_nothing_was_told(fleet)


def test_no_prompt_is_logged_when_an_instance_echoes_it_where_it_should_not(config):
    with ScriptedInstance() as instance, Fleet(0, ports=[instance.port], config=config) as fleet:
        for echo in (
            f"HTTP/1.1 {MARK}\r\n\r\n",
            f"{MARK}\r\n\r\n",
            f"HTTP/1.1 200 OK\r\nBad {MARK}\r\n\r\n",
            f"HTTP/1.1 200 OK\r\nContent-Length: {MARK}\r\n\r\n",
            f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {MARK}\r\n\r\n",
        ):
            instance.answer(echo.encode(), stays_open=False)
            assert post(fleet, marked()).status == 502
        instance.answer(f"HTTP/1.1 400 {MARK}\r\nContent-Length: {len(MARK)}\r\n\r\n{MARK}".encode())
        assert post(fleet, marked()).status == 400

        def break_framing(head, body):
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
            arrived.wait(60)
            yield f"{MARK}\r\n".encode()

        arrived = threading.Event()
        instance.script = break_framing
        with RawClient(fleet.port) as client:
            client.send(request(CHAT, json.dumps(marked()).encode()))
            client.read_head()
            arrived.set()
            with pytest.raises((IncompleteError, ConnectionResetError)):
                client.read_chunks([])
        check_that_nothing_was_told(fleet)
