"""curl, which speaks HTTP as the RFCs say and does what it is told."""

import json
import shutil
import subprocess

import pytest

from tests.support.fleet import chat

FLEET = {"config": {"proxy": {"max-body-mb": 8}}}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")


def curl(*arguments, data=None):
    """Run curl; return exit code, stdout and its verbose trace."""
    command = ["curl", "-sS", "-v", "--noproxy", "*", "--max-time", "20", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def body(**more):
    return json.dumps(chat(max_tokens=3, **more)).encode()


@pytest.fixture
def address(fleet):
    return f"{fleet.url}/v1/chat/completions"


def answered(fleet):
    return [one for mock in fleet.mocks for one in mock.completions()]


def test_a_plain_request(address):
    code, output, trace = curl(address, "-H", "Content-Type: application/json", "--data-binary", "@-", data=body())
    assert code == 0
    assert "< HTTP/1.1 200 OK" in trace
    assert json.loads(output)["usage"]["completion_tokens"] == 3


def test_a_stream(address):
    code, output, trace = curl("-N", address, "--data-binary", "@-", data=body(stream=True))
    assert code == 0
    assert "< content-type: text/event-stream" in trace.lower()
    assert output.endswith(b"data: [DONE]\n\n")
    assert output.count(b"data: ") == 6  # the role, three tokens, the reason, the end


def test_http_1_0(address):
    code, output, trace = curl("-0", address, "--data-binary", "@-", data=body())
    assert code == 0
    assert json.loads(output)["usage"]["completion_tokens"] == 3
    assert "< HTTP/1.1 200 OK" in trace


def test_http_1_0_streaming_gets_no_chunks(address):
    code, output, trace = curl("-0", "-N", address, "--data-binary", "@-", data=body(stream=True))
    assert code == 0
    assert "transfer-encoding" not in trace.lower()
    assert output.startswith(b"data: ")
    assert output.endswith(b"data: [DONE]\n\n")


def test_http_1_0_keep_alive_is_kept(address):
    code, _, trace = curl("-0", address, address, "-H", "Connection: keep-alive", "--data-binary", "@-", data=body())
    assert code == 0
    assert "Re-using existing connection" in trace


def test_keep_alive_serves_many_requests_on_one_connection(address):
    arguments = ["-o", "/dev/null", "--http1.1", "-d", body().decode()]
    code, _, trace = curl(*[part for _ in range(10) for part in (address, *arguments[:2])], *arguments[2:])
    assert code == 0
    assert trace.count("< HTTP/1.1 200 OK") == 10
    assert trace.count("Connected to") == 1


def test_a_chunked_upload(fleet, address):
    code, output, trace = curl(
        address, "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "--data-binary", "@-", data=body()
    )
    assert code == 0
    assert "> Transfer-Encoding: chunked" in trace
    assert json.loads(output)["usage"]["completion_tokens"] == 3
    (received,) = answered(fleet)
    assert received["length"] == len(body())


@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]])
def test_a_big_body_with_expect_100_continue(fleet, address, framing):
    big = body(user="u" * 4_000_000)
    code, output, trace = curl(address, *framing, "-H", "Expect: 100-continue", "--data-binary", "@-", data=big)
    assert code == 0
    assert "< HTTP/1.1 100 Continue" in trace
    assert json.loads(output)["usage"]["completion_tokens"] == 3
    (received,) = answered(fleet)
    assert received["length"] == len(big)
    assert "expect" not in {name.lower() for name, _ in received["headers"]}


def test_a_body_that_is_too_big_is_refused_before_it_is_sent(fleet, address):
    """With Expect, the client learns of it without sending a byte of the body."""
    huge = b"x" * 9_000_000
    code, output, trace = curl(address, "-H", "Expect: 100-continue", "--data-binary", "@-", data=huge)
    assert code == 0
    assert "100 Continue" not in trace
    assert "< HTTP/1.1 413 " in trace
    assert json.loads(output)["error"]["code"] == "body_too_large"
    assert answered(fleet) == []


def test_a_body_that_is_too_big_is_told_to_a_client_that_sends_it_all_the_same(address):
    huge = b"x" * 9_000_000
    code, output, trace = curl(address, "-H", "Expect:", "--data-binary", "@-", data=huge)
    assert "< HTTP/1.1 413 " in trace, (code, trace)
    assert json.loads(output)["error"]["code"] == "body_too_large"


def test_head_requests(fleet):
    code, output, trace = curl("-I", f"{fleet.url}/health")
    assert code == 0
    assert "< HTTP/1.1 200 OK" in trace
    assert b"content-length: 20" in output


def test_a_broken_stream_is_an_error(fleet, address):
    for mock in fleet.mocks:
        mock.set_faults("cut_mid_body:after_tokens=1")
    code, output, _ = curl("-N", address, "--data-binary", "@-", data=body(stream=True))
    assert code == 18, output  # "transfer closed with outstanding read data remaining"
    assert b"[DONE]" not in output
    code, output, _ = curl("-N", "-0", address, "--data-binary", "@-", data=body(stream=True))
    assert code == 56, output  # "connection reset by peer"
