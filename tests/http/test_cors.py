"""Pages in a browser: which may use the inference paths, and what they may read of the answers."""

from __future__ import annotations

import pytest

from fd_router.http.cors import Cors
from tests.support.rig import PATH, Rig, answer, post

ORIGIN = "Origin: https://chat.example\r\n"
PREFLIGHT = f"OPTIONS {PATH} HTTP/1.1\r\nHost: x\r\nAccess-Control-Request-Method: POST\r\n"


def headers(data: bytes) -> dict[bytes, bytes]:
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert len({line.partition(b":")[0] for line in lines}) == len(lines), "a header twice"
    return dict(line.split(b": ", 1) for line in lines)  # type: ignore[misc]


async def say(rig: Rig, text: str) -> bytes:
    client = rig.client()
    client.receive(text.encode())
    await rig.settle()
    return client.take()


@pytest.mark.parametrize(
    ("origins", "allowed"), [("*", b"*"), ("https://a.example, https://chat.example", b"https://chat.example")]
)
async def test_a_preflight_is_answered(origins: str, allowed: bytes) -> None:
    rig = Rig(cors=Cors(origins))
    got = await say(rig, f"{PREFLIGHT}{ORIGIN}Access-Control-Request-Headers: authorization,x-stainless-os\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 204 No Content\r\n")
    told = headers(got)
    assert told[b"access-control-allow-origin"] == allowed
    assert told[b"access-control-allow-methods"] == b"POST"
    assert told[b"access-control-allow-headers"] == b"authorization,x-stainless-os"
    assert not {b"content-length", b"transfer-encoding"} & told.keys()
    assert got.endswith(b"\r\n\r\n")


async def test_another_origin_may_not() -> None:
    rig = Rig(cors=Cors("https://a.example"))
    told = headers(await say(rig, f"{PREFLIGHT}{ORIGIN}\r\n"))
    assert b"access-control-allow-origin" not in told
    assert told[b"vary"] == b"origin"


@pytest.mark.parametrize("text", [PREFLIGHT + "\r\n", f"OPTIONS {PATH} HTTP/1.1\r\nHost: x\r\n{ORIGIN}\r\n"])
async def test_what_is_no_preflight_is_a_method_that_isnt_known(text: str) -> None:
    assert (await say(Rig(cors=Cors("*")), text)).startswith(b"HTTP/1.1 405 ")


async def test_without_the_option_nothing_is_said_and_the_instances_word_counts() -> None:
    rig = Rig()
    assert (await say(rig, f"{PREFLIGHT}{ORIGIN}\r\n")).startswith(b"HTTP/1.1 405 ")
    client = rig.client()
    (await rig.ask(client, headers=ORIGIN)).receive(answer(headers="Access-Control-Allow-Origin: *\r\n"))
    await rig.settle()
    assert headers(client.take())[b"Access-Control-Allow-Origin"] == b"*"


async def test_an_instances_answer_has_the_routers_word_only() -> None:
    rig = Rig(cors=Cors("https://chat.example"))
    client = rig.client()
    for _ in range(2):
        instance = await rig.ask(client, headers=ORIGIN)
        instance.receive(answer(headers="Access-Control-Allow-Origin: *\r\nAccess-Control-Max-Age: 5\r\nA: b\r\n"))
        await rig.settle()
        told = headers(client.take())
        assert told[b"access-control-allow-origin"] == b"https://chat.example"
        assert told[b"A"] == b"b"
        assert b"Access-Control-Max-Age" not in told


@pytest.mark.parametrize("request_text", ["{", post(b"[]", headers=ORIGIN).decode()], ids=["head", "body"])
async def test_the_routers_errors_can_be_read(request_text: str) -> None:
    rig = Rig(0, cors=Cors("*"))
    too_long = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{ORIGIN}Content-Length: 99999999999\r\n\r\n"
    got = await say(rig, too_long if request_text == "{" else request_text)
    assert got.startswith(b"HTTP/1.1 4")
    assert headers(got)[b"access-control-allow-origin"] == b"*"


async def test_a_request_of_no_page_gets_none() -> None:
    rig = Rig(0, cors=Cors("*"))
    assert b"access-control" not in await say(rig, post(b"{}").decode())
