"""HTTP/1.1 as the RFCs have it, over a bare socket: pipelining, refusals, limits, methods, hostile clients."""

import contextlib
import json
import threading

import httpx
import pytest

from tests.support.fleet import chat
from tests.support.raw_client import RawClient, request

FLEET = {
    "instances": 1,
    "config": {
        "proxy": {"max-body-mb": 1, "max-head-kb": 4},
        "manager": {"health-check-interval-secs": 3600},  # connections to the instance are counted
    },
}

BODY = json.dumps(chat(max_tokens=1)).encode()
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture
def client(fleet):
    with RawClient(fleet.port) as client:
        yield client


def ids(fleet):
    return [dict(one["headers"])["x-request-id"] for one in fleet.mocks[0].completions()]


def completion(name, **more):
    body = json.dumps(chat(**{"max_tokens": 1, "model": name} | more)).encode()
    return request("/v1/chat/completions", body, f"X-Request-Id: {name}")


# pipelining, and the order of answers


def test_pipelined_requests_are_answered_in_order(client, fleet):
    names = [f"r{number}" for number in range(100)]
    # The first takes longest: a later one must not overtake it.
    client.send(b"".join(completion(name, max_tokens=60 if name == "r0" else 1) for name in names))
    answers = [client.read() for _ in names]
    assert [answer.header("x-request-id") for answer in answers] == names
    assert [answer.json()["model"] for answer in answers] == names
    assert ids(fleet) == names


def test_pipelined_requests_of_all_kinds_are_answered_in_order(client):
    kinds = [
        (request("/health", method="GET"), 200),
        (completion("a"), 200),
        (request("/nowhere", method="GET"), 404),
        (request("/v1/completions", b"no JSON"), 400),
        (completion("b"), 200),
        (request("/health", method="DELETE"), 405),
        (request("/metrics", method="GET"), 200),
    ]
    client.send(b"".join(data for data, _ in kinds))
    assert [client.read().status for _ in kinds] == [status for _, status in kinds]


def test_a_pipelined_request_after_close_is_not_served(client, fleet):
    client.send(request("/v1/completions", b'{"prompt":"x","max_tokens":1}', "Connection: close") + completion("late"))
    assert client.read().header("connection") == "close"
    assert client.is_at_end()
    assert "late" not in ids(fleet)


def test_requests_in_pieces_of_any_size(client):
    data = completion("slow typist")
    for at in range(0, len(data), 7):
        client.send(data[at : at + 7])
    assert client.read().header("x-request-id") == "slow typist"


def test_a_stream_between_two_requests_of_one_connection(client):
    client.send(completion("a", stream=True, max_tokens=20) + completion("b"))
    first = client.read()
    assert first.header("transfer-encoding") == "chunked"
    assert first.body.endswith(b"data: [DONE]\n\n")
    assert client.read().json()["model"] == "b"


# bodies


def test_chunks_with_extensions_and_trailers(client):
    client.send(
        CHUNKED + b"\r\n" + b"5;ext=1\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n"
        b"0\r\nX-Trailer: 1\r\n\r\n"
    )  # fmt: skip
    assert client.read().status == 200
    client.send(completion("next"))
    assert client.read().status == 200


def test_expect_100_continue_waits_for_its_turn(client):
    head = request("/v1/chat/completions", BODY, "Expect: 100-continue")[: -len(BODY)]
    client.send(completion("before", max_tokens=40) + head)
    assert client.read().json()["model"] == "before", "the leave to go on came before the answer it would break"
    assert client.read().status == 100
    client.send(BODY)
    assert client.read().status == 200


def test_expect_of_something_else_is_417(client):
    client.send(request("/v1/chat/completions", BODY, "Expect: 200-ok"))
    assert client.read().status == 417


# limits


def test_a_body_that_says_it_is_too_large_is_413_at_once(client, fleet):
    client.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
    answer = client.read()
    assert answer.status == 413
    assert answer.header("connection") == "close"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert client.is_at_end()
    assert fleet.mocks[0].completions() == []


def test_a_chunked_body_that_grows_too_large_is_413(client):
    def send():
        with contextlib.suppress(OSError):  # it need not be read to its end
            client.send(CHUNKED + b"\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 40)

    sender = threading.Thread(target=send)
    sender.start()
    answer = client.read()
    sender.join()
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_body_of_just_the_limit_is_served(client):
    body = json.dumps(chat(max_tokens=1)).encode()
    client.send(request("/v1/chat/completions", body + b" " * (1024 * 1024 - len(body))))
    assert client.read().status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 5000 + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 500 + b"\r\n",
        b"POST /v1/completions?" + b"q" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"y" * 5000,
    ],
    ids=["one long header", "many headers", "long target", "no end"],
)
def test_a_head_that_is_too_large_is_431(client, head):
    client.send(head)
    answer = client.read()
    assert (answer.status, answer.json()["error"]["code"]) == (431, "head_too_large")
    assert client.is_at_end()


# methods and paths


@pytest.mark.parametrize("path", ["/", "/v1/model", "/v1/nothing/", "/v1", "/mock/state", "//health", "/../health"])
def test_an_unknown_path_is_404_and_never_reaches_an_instance(client, fleet, path):
    before = fleet.mocks[0].state()["accepted"]
    client.send(request(path, method="GET"))
    answer = client.read()
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
    assert fleet.mocks[0].completions() == []
    assert fleet.mocks[0].state()["accepted"] <= before + 2  # this test's own looks


def test_a_slash_too_many_leads_to_the_path_without_and_never_reaches_an_instance(client, fleet):
    client.send(request("/v1/chat/completions/", method="GET"))
    answer = client.read()
    assert (answer.status, answer.header("location")) == (301, "/v1/chat/completions")
    assert fleet.mocks[0].completions() == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/completions", "POST"),
        ("OPTIONS", "/v1/completions", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/registered", "GET, HEAD"),
        ("GET", "/register", "POST"),
    ],
)
def test_a_wrong_method_is_405_with_allow(client, method, path, allowed):
    client.send(request(path, method=method) + request("/health", method="GET"))
    answer = client.read()
    assert answer.status == 405
    assert answer.header("allow") == allowed
    assert client.read().status == 200, "the connection serves on"


@pytest.mark.parametrize("path", ["/health", "/registered", "/registered_number", "/metrics"])
def test_head_is_get_without_the_body(client, path):
    client.send(request(path, method="HEAD"))
    head = client.read(head_only=True)
    client.send(request(path, method="GET"))
    get = client.read()
    assert (head.status, head.header("content-type")) == (200, get.header("content-type"))
    if path != "/metrics":  # which counts meanwhile
        assert head.header("content-length") == get.header("content-length")


def test_absolute_form_targets_are_understood(client, fleet):
    client.send(request("http://router.test/v1/chat/completions", BODY))
    assert client.read().status == 200
    assert fleet.mocks[0].completions()[0]["path"] == "/v1/chat/completions"


# HTTP/1.0


def test_http_1_0_closes_unless_asked_to_stay(client):
    client.send(request("/health", method="GET", version="1.0"))
    answer = client.read()
    assert answer.status == 200
    assert client.is_at_end()


def test_http_1_0_keep_alive(client):
    for _ in range(3):
        client.send(request("/v1/chat/completions", BODY, "Connection: keep-alive", version="1.0"))
        answer = client.read()
        assert (answer.status, answer.header("connection")) == (200, "keep-alive")


def test_http_1_0_gets_a_stream_without_chunks_and_a_close(client):
    client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=5, stream=True)).encode(), version="1.0"))
    answer = client.read()
    assert "transfer-encoding" not in answer.names
    assert answer.body.startswith(b"data: {")
    assert answer.body.endswith(b"data: [DONE]\n\n")


# sloppy and hostile clients


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where plain HTTP is spoken
        b"hello\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        CHUNKED + b"\r\nnot-a-size\r\n",
        b"GET /health HTTP/1.1\r\nX-Folded: 1\r\n folded\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400_and_the_end(client, data):
    client.send(data)
    answer = client.read()
    assert answer.status in (400, 505)
    assert answer.header("connection") == "close"
    assert client.is_at_end()


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
)
def test_a_request_that_two_servers_would_cut_differently_is_refused(client, fleet, headers):
    """Request smuggling: the rest of the body must not become a request."""
    smuggled = b"0\r\n\r\n" + completion("smuggled")
    client.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + smuggled)
    answer = client.read()
    assert answer.status in (400, 501)
    assert client.is_at_end()
    assert "smuggled" not in ids(fleet)


def test_empty_lines_before_a_request_are_forgiven(client):
    client.send(b"\r\n\r\n" + completion("patient"))
    assert client.read().status == 200


def test_a_client_that_leaves_in_the_middle_of_a_head_or_body_does_no_harm(fleet):
    for data in (b"", b"POST /v1/comp", request("/v1/completions", BODY)[:-10]):
        for leave in (RawClient.close, RawClient.reset):
            client = RawClient(fleet.port)
            client.send(data)
            leave(client)
    assert fleet.ask()[0] == 200


def test_hundreds_of_requests_of_one_client_leave_nothing_behind(fleet):
    with httpx.Client(timeout=60) as client:
        opened = fleet.mocks[0].state()["accepted"]
        for _ in range(150):
            client.post(f"{fleet.url}/v1/completions", content=b'{"prompt":"x","max_tokens":1}').raise_for_status()
        assert fleet.mocks[0].state()["accepted"] <= opened + 20, "connections to the instance aren't used again"
        connections = fleet.metric("process_open_fds")
        for _ in range(150):
            client.post(f"{fleet.url}/v1/completions", content=b'{"prompt":"x","max_tokens":1}').raise_for_status()
        assert fleet.metric("process_open_fds") <= connections + 3
