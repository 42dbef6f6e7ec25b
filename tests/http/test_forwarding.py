"""Which way a request came: what is believed, what is told on, and what is a loop."""

from __future__ import annotations

import pytest

from fd_router.admission.networks import Networks
from fd_router.errors import BadRequestError
from fd_router.http.forwarding import Forwarding, Peer, make_pseudonym
from tests.support.rig import Rig, post

PROXIES = Networks.parse("10.0.0.0/8, ::1", "test")
FORWARDING = Forwarding(PROXIES, "fd-router-here")
TRUSTED, STRANGER = Peer("10.0.0.7", is_trusted=True), Peer("203.0.113.9")

Told = list[tuple[bytes, bytes]]


def chain(*values: bytes) -> Told:
    return [(b"x-forwarded-for", value) for value in values]


@pytest.mark.parametrize(
    ("told", "client"),
    [
        (chain(), "10.0.0.7"),
        ([(b"x-real-ip", b"198.51.100.8")], "198.51.100.8"),
        (chain(b"198.51.100.1"), "198.51.100.1"),
        (chain(b"198.51.100.1, 10.0.0.1"), "198.51.100.1"),
        (chain(b"6.6.6.6, 198.51.100.1 ,10.0.0.1"), "198.51.100.1"),  # what is left of it may be made up
        (chain(b"6.6.6.6", b"198.51.100.1", b"10.0.0.1"), "198.51.100.1"),
        (chain(b"10.0.0.2, 10.0.0.1"), "10.0.0.2"),
        (chain(b"198.51.100.1:4711"), "198.51.100.1"),
        (chain(b"[2001:db8::1]:4711, ::1"), "2001:db8::1"),
        (chain(b"2001:DB8::1"), "2001:db8::1"),
        (chain(b"::ffff:192.0.2.7"), "192.0.2.7"),
        (chain(b"[::ffff:c000:207]:4711"), "192.0.2.7"),
        (chain(b"unknown, 10.0.0.1"), "10.0.0.1"),
        (chain(b"6.6.6.6, evil\x1b[2J"), "10.0.0.7"),
        (chain(b"", b","), "10.0.0.7"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_trusted_one(told: Told, client: str) -> None:
    assert FORWARDING.client_of(TRUSTED, told) == client
    assert FORWARDING.client_of(STRANGER, told) == "203.0.113.9"


def test_a_trusted_hop_is_told_on_and_a_strangers_word_is_not() -> None:
    told = [
        (b"via", b"1.1 lb"), (b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"a.example"), (b"forwarded", b"for=198.51.100.1"), (b"x-real-ip", b"198.51.100.1"),
    ]  # fmt: skip
    assert FORWARDING.lines(TRUSTED, told) == (
        b"via: 1.1 lb\r\nx-forwarded-for: 198.51.100.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: a.example\r\n"
        b"forwarded: for=198.51.100.1\r\nx-real-ip: 198.51.100.1\r\n"
        b"x-forwarded-for: 10.0.0.7\r\nvia: 1.1 fd-router-here\r\n"
    )
    assert FORWARDING.lines(STRANGER, told) == (
        b"via: 1.1 lb\r\nx-forwarded-proto: http\r\nx-forwarded-for: 203.0.113.9\r\nvia: 1.1 fd-router-here\r\n"
    )


def test_the_protocol_is_the_connections_own() -> None:
    encrypted = FORWARDING.peer("203.0.113.9", True)
    assert b"x-forwarded-proto: https\r\n" in FORWARDING.lines(encrypted, [])


def test_a_process_on_this_machine_has_no_address_and_is_trusted() -> None:
    peer = FORWARDING.peer("", False)
    assert peer.is_trusted
    assert FORWARDING.lines(peer, []) == b"x-forwarded-proto: http\r\nvia: 1.1 fd-router-here\r\n"


@pytest.mark.parametrize("value", [b"1.1 fd-router-here", b"1.0 lb, 1.1 fd-router-here (x), 2 other"])
def test_a_request_that_was_here_before_is_a_loop(value: bytes) -> None:
    with pytest.raises(BadRequestError) as caught:
        FORWARDING.check([(b"via", value)])
    assert (caught.value.status, caught.value.code, caught.value.may_be_repeated) == (508, "loop", False)


def test_another_router_is_none() -> None:
    FORWARDING.check([(b"via", b"1.1 fd-router-there, 1.1 fd-router"), (b"x-forwarded-for", b"fd-router-here")])
    assert make_pseudonym() != make_pseudonym()


async def test_the_record_names_the_client_and_access_goes_by_the_peer() -> None:
    seen: list[str] = []

    async def handler(request: object) -> object:
        seen.append(request.client)  # type: ignore[attr-defined]
        raise BadRequestError("no")

    rig = Rig(routes={"/own": {"GET": handler}}, trusted=["10.9.9.1"])  # type: ignore[dict-item]
    client = rig.client()
    client.receive(b"GET /own HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n")
    await rig.settle()
    assert seen == ["10.9.9.1"]
    assert "198.51.100.1" in rig.log_lines[-1]
    reached = await rig.ask(client, headers="X-Forwarded-For: 198.51.100.2\r\n")
    assert b"x-forwarded-for: 198.51.100.2\r\n" in reached.written
    assert rig.records[-1].client == "198.51.100.2"


async def test_a_loop_is_answered_and_nobody_is_asked() -> None:
    rig = Rig()
    client = rig.client()
    client.receive(post(headers="Via: 1.1 fd-router\r\n"))
    await rig.settle()
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 508 Loop Detected\r\n")
    assert b"x-should-retry: false\r\n" in answer
    assert rig.backend.opened == []
