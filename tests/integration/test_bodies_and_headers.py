"""What goes through goes through unchanged: bodies byte for byte, end-to-end headers, status; hop-by-hop ones don't."""

import contextlib
import hashlib
import json
import re

import httpx
import pytest

from tests.support.fleet import Fleet, chat
from tests.support.raw_client import IncompleteError, RawClient, request
from tests.support.scripted_instance import ScriptedInstance, headers_of

FLEET = {"instances": 1}

ODD_BODIES = {
    "integers over 2^53": b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"seed":9007199254740993}',
    "key order": b'{"z":1,"messages":[{"content":"x","role":"user"}],"a":2,"max_tokens":1}',
    "spacing": b' {\n\t"messages" : [ {"role":"user" ,"content":"x"} ] ,\r\n "max_tokens":1 }\n\n',
    "number spelling": b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"temperature":1.0E-0,"top_p":1.00}',
    "escapes": b'{"messages":[{"role":"user","content":"\\u8bb2\\/\\ud83d\\ude00"}],"max_tokens":1}',
    "double keys": b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"user":"a","user":"b"}',
    "raw UTF-8": '{"messages":[{"role":"user","content":"讲个故事 😀"}],"max_tokens":1}'.encode(),
    "tools": b'{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":'
    b'{"url":"data:,"}}]}],"max_tokens":1,"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]}',
    "large": json.dumps(chat("long " * 200_000, max_tokens=1)).encode(),
}


@pytest.fixture(scope="module")
def scripted():
    with ScriptedInstance() as instance:
        yield instance


@pytest.fixture(scope="module")
def odd_fleet(scripted):
    """A router whose one instance answers what the test says."""
    with Fleet(0, ports=[scripted.port]) as fleet:
        yield fleet


def received(fleet):
    (only,) = fleet.mocks[0].completions()
    return only


def received_headers(fleet):
    return [(name.lower(), value) for name, value in received(fleet)["headers"]]


def post(fleet, *headers, body=None, path="/v1/chat/completions"):
    body = body if body is not None else json.dumps(chat(max_tokens=1)).encode()
    with RawClient(fleet.port) as client:
        client.send(request(path, body, *headers))
        return client.read()


# bodies of requests


@pytest.mark.parametrize("name", ODD_BODIES)
def test_a_body_is_not_written_anew(fleet, name):
    body = ODD_BODIES[name]
    assert post(fleet, "Content-Type: application/json", body=body).status == 200
    assert received(fleet)["length"] == len(body)
    assert received(fleet)["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("name", ODD_BODIES)
def test_a_chunked_body_is_put_together_unchanged(fleet, name):
    body = ODD_BODIES[name]
    step = max(1, len(body) // 7)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    answer = httpx.post(f"{fleet.url}/v1/chat/completions", content=iter(pieces), timeout=60)
    assert answer.status_code == 200
    assert received(fleet)["sha256"] == hashlib.sha256(body).hexdigest()


def test_what_an_instance_refuses_is_its_own_affair(fleet):
    """A body that is JSON, but not of the right shape, goes through; the instance's 400 comes back."""
    body = b'{"messages": "not a list", "stream": "yes"}'
    answer = post(fleet, body=body)
    assert answer.status == 400
    assert "messages" in answer.json()["error"]["message"]
    assert received(fleet)["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("body", [b"", b"not JSON", b'{"messages": [', b"[1, 2]", b'"text"', b"\xff\xfe"])
def test_a_body_that_is_no_json_object_goes_nowhere(fleet, body):
    answer = post(fleet, body=body)
    assert answer.status == 400
    assert answer.json()["error"]["message"].startswith("Invalid JSON format")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert fleet.mocks[0].completions() == []


# heads of requests


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/completions?api-version=1&x=%2Fy"])
def test_a_path_is_kept(fleet, path):
    body = json.dumps(chat(max_tokens=1) | {"prompt": "hello"}).encode()
    assert post(fleet, path=path, body=body).status == 200
    only = received(fleet)
    assert "?".join(filter(None, [only["path"], only["query"]])) == path


def test_end_to_end_headers_are_kept_in_order_and_doubles_stay_two(fleet):
    sent = [
        "X-Zebra: 1",
        "Authorization: Bearer top-secret",
        "x-list: a",
        "x-list: b",
        "User-Agent: tester/1",
        "Cookie: c=1; d=2",
    ]
    post(fleet, *sent)
    kept = [f"{name}: {value}" for name, value in received(fleet)["headers"] if f"{name}: {value}" in sent]
    assert kept == sent


def test_host_is_the_instances(fleet):
    post(fleet)
    assert [value for name, value in received_headers(fleet) if name == "host"] == [fleet.mocks[0].key]


def test_hop_by_hop_headers_of_a_request_stay_here(fleet):
    post(
        fleet,
        "Connection: keep-alive, X-Private",
        "X-Private: for the router only",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eA==",
        "TE: trailers",
        "Trailer: X-Sum",
    )
    names = {name for name, _ in received_headers(fleet)}
    gone = {
        "connection",
        "x-private",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
    }
    assert not names & gone
    assert dict(received_headers(fleet))["via"].startswith("1.1 fd-router-")


def test_an_offer_of_another_protocol_is_declined_not_obeyed(fleet):
    answer = post(fleet, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    assert answer.status == 200
    assert not {"upgrade", "http2-settings"} & {name for name, _ in received_headers(fleet)}


def test_a_request_id_is_passed_on_and_returned(fleet):
    answer = post(fleet, "X-Request-Id: my-request-7")
    assert answer.header("x-request-id") == "my-request-7"
    assert [value for name, value in received_headers(fleet) if name == "x-request-id"] == ["my-request-7"]


def test_a_request_id_is_made_when_there_is_none_and_never_twice(fleet):
    ids = []
    with RawClient(fleet.port) as client:
        for _ in range(20):
            client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=1)).encode()))
            ids.append(client.read().header("x-request-id"))
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert len(set(ids)) == 20
    assert [dict(one["headers"])["x-request-id"] for one in fleet.mocks[0].completions()] == ids


def test_the_routers_own_errors_carry_the_request_id(fleet):
    assert post(fleet, "X-Request-Id: mine", body=b"no").header("x-request-id") == "mine"


def test_traceparent_is_passed_on(fleet):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    post(fleet, f"traceparent: {trace}", "tracestate: vendor=1")
    headers = dict(received_headers(fleet))
    assert (headers["traceparent"], headers["tracestate"]) == (trace, "vendor=1")


def test_an_http_1_0_client_is_spoken_for_in_1_1(fleet):
    with RawClient(fleet.port) as client:
        client.send(request("/v1/chat/completions", json.dumps(chat(max_tokens=1)).encode(), version="1.0"))
        assert client.read().status == 200
        assert client.is_at_end()
    assert received(fleet)["http_version"] == "1.1"


# answers


def test_status_reason_headers_and_body_are_the_instances(odd_fleet, scripted):
    head = (
        b"HTTP/1.1 418 I'm a teapot, too\r\nX-CaSe: Kept\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Type: application/problem+json\r\nContent-Encoding: br\r\nRetry-After: 3\r\n"
        b"Content-Length: 11\r\n\r\n"
    )
    scripted.answer(head, b"\x00\xff not text")
    answer = post(odd_fleet)
    assert (answer.status, answer.reason) == (418, "I'm a teapot, too")
    assert [pair for pair in answer.headers if pair[0].lower() not in ("x-request-id", "content-length")] == [
        ("X-CaSe", "Kept"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Content-Type", "application/problem+json"),
        ("Content-Encoding", "br"),
        ("Retry-After", "3"),
    ]
    assert answer.header("content-length") == "11"
    assert answer.body == b"\x00\xff not text"


def test_hop_by_hop_headers_of_an_answer_stay_here(odd_fleet, scripted):
    scripted.answer(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Engine-Internal\r\nX-Engine-Internal: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Kept: yes\r\n"
        b"Content-Length: 2\r\n\r\nok"
    )
    answer = post(odd_fleet)
    assert answer.body == b"ok"
    assert not answer.names & {"connection", "x-engine-internal", "keep-alive", "proxy-authenticate", "upgrade"}
    assert answer.header("x-kept") == "yes"


def test_an_instances_wish_to_close_is_not_the_clients(odd_fleet, scripted):
    scripted.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", stays_open=False)
    with RawClient(odd_fleet.port) as client:
        for _ in range(3):
            client.send(request("/v1/completions", b'{"prompt": "x"}'))
            answer = client.read()
            assert (answer.status, answer.body) == (200, b"ok")
            assert answer.header("connection") is None


def test_the_clients_wish_to_close_is_not_the_instances(odd_fleet, scripted):
    scripted.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    scripted.heads.clear()
    with RawClient(odd_fleet.port) as client:
        client.send(request("/v1/completions", b"{}", "Connection: close"))
        answer = client.read()
        assert (answer.body, answer.header("connection")) == (b"ok", "close")
        assert client.is_at_end()
    assert "connection" not in {name.lower() for name, _ in headers_of(scripted.heads[-1])}


def test_one_request_id_is_returned_though_the_instance_has_another(odd_fleet, scripted):
    scripted.answer(b"HTTP/1.1 200 OK\r\nX-Request-ID: the-engines-own\r\nContent-Length: 2\r\n\r\nok")
    assert post(odd_fleet, "X-Request-Id: the-clients").header("x-request-id") == "the-clients"


def test_chunks_are_relayed_with_their_bytes_unchanged(odd_fleet, scripted):
    pieces = [b"data: 1\n\n", b"\r\n\r\n", b"0\r\n\r\n", b"\x00" * 70_000]
    framed = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    scripted.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framed, b"0\r\n\r\n")
    assert post(odd_fleet).body == b"".join(pieces)


def test_interim_answers_are_not_taken_for_the_answer(odd_fleet, scripted):
    scripted.answer(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    answer = post(odd_fleet)
    assert (answer.status, answer.body) == (200, b"ok")
    assert "link" not in answer.names


def test_an_answer_that_ends_with_its_connection_is_whole(odd_fleet, scripted):
    """As an HTTP/1.0 instance answers: the client's connection has to end too, or it would wait for ever."""
    scripted.answer(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"to the", b" end", stays_open=False)
    with RawClient(odd_fleet.port) as client:
        client.send(request("/v1/completions", b"{}"))
        answer = client.read()
    assert answer.body == b"to the end"
    assert answer.header("connection") == "close"


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_does_not_hold_up_the_next(odd_fleet, scripted, status):
    scripted.answer(b"HTTP/1.1 %d Nothing\r\nX-Kept: yes\r\n\r\n" % status)
    with RawClient(odd_fleet.port) as client:
        for _ in range(2):
            client.send(request("/v1/completions", b"{}"))
            answer = client.read()
            assert (answer.status, answer.body, answer.header("x-kept")) == (status, b"", "yes")


def test_an_empty_answer_is_not_taken_for_a_broken_one(odd_fleet, scripted):
    scripted.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert post(odd_fleet).body == b""


def test_an_answer_longer_than_it_says_does_not_become_the_next_ones(odd_fleet, scripted):
    """Response splitting: what follows the announced body must never reach another client."""
    scripted.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    with RawClient(odd_fleet.port) as client:
        client.send(request("/v1/completions", b"{}"))
        with contextlib.suppress(IncompleteError, ConnectionResetError):  # an error is right, and so is a cut
            assert b"poison" not in client.read().body
    scripted.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
    for _ in range(3):
        assert post(odd_fleet).body == b"good"
