"""Look-ups over real sockets: what is found, for how long it holds, and what fails."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import dns.message
import pytest

from fd_router.config.discovery import DnsName
from fd_router.errors import ConfigError
from fd_router.instances.sources.dns_lookup import MISSING, DnsLookup, LookupFailedError
from tests.support.dns_server import DnsServer

NAME, SERVICE = "engines.example", "_http._tcp.engines.example"


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


@pytest.fixture(autouse=True)
def anew(server: DnsServer) -> None:
    server.zone, server.failure, server.truncates, server.questions = {}, "", False, []


def lookup(server: DnsServer, name: str = NAME, **options: Any) -> DnsLookup:
    settings = {"port": 8000, "timeout_secs": 20.0, "nameservers": (f"127.0.0.1:{server.port}",), **options}
    return DnsLookup(name, DnsName(**settings))


async def test_each_address_is_an_instance(server: DnsServer) -> None:
    server.put(NAME, "10.0.0.10", "10.0.0.9", ttl=30)
    found = await lookup(server).look_up()
    assert (found.places, found.ttl) == ([("10.0.0.9", 8000), ("10.0.0.10", 8000)], 30)
    assert server.questions == [(NAME, "A")]


@pytest.mark.parametrize(
    ("family", "hosts", "ttl"),
    [
        ("auto", ["10.0.0.1"], 30),
        ("ipv4", ["10.0.0.1"], 30),
        ("ipv6", ["fd00::1"], 5),
        ("both", ["10.0.0.1", "fd00::1"], 5),
    ],
)
async def test_the_family_that_is_wanted(server: DnsServer, family: str, hosts: list[str], ttl: float) -> None:
    server.put(NAME, "10.0.0.1", ttl=30)
    server.put(NAME, "fd00::1", kind="AAAA", ttl=5)
    found = await lookup(server, family=family).look_up()
    assert ([host for host, _ in found.places], found.ttl) == (hosts, ttl)


async def test_long_answers_are_read_in_threads(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[threading.Thread] = set()
    read, here = dns.message.from_wire, threading.current_thread()

    def from_wire(*arguments: Any, **more: Any) -> Any:
        threads.add(threading.current_thread())
        return read(*arguments, **more)

    monkeypatch.setattr(dns.message, "from_wire", from_wire)
    server.truncates = True
    server.put(NAME, *(f"10.0.{x}.{y}" for x in range(2) for y in range(1, 200)))
    assert len((await lookup(server).look_up()).places) == 398
    assert threads
    assert here not in threads


async def test_without_ipv4_there_is_ipv6(server: DnsServer) -> None:
    server.put(NAME, "fd00::1", kind="AAAA")
    assert (await lookup(server).look_up()).places == [("fd00::1", 8000)]


async def test_a_service_tells_ports(server: DnsServer) -> None:
    server.put(SERVICE, "0 5 8000 a.example.", "9 5 8001 a.example.", "0 0 8000 b.example.", kind="SRV", ttl=60)
    server.put("a.example", "10.0.0.1", ttl=20)
    server.put("b.example", "10.0.0.2", "10.0.0.3", ttl=40)
    found = await lookup(server, SERVICE, port=None).look_up()
    assert found.places == [("10.0.0.1", 8000), ("10.0.0.1", 8001), ("10.0.0.2", 8000), ("10.0.0.3", 8000)]
    assert found.ttl == 20


async def test_a_target_that_is_gone_says_nothing_of_the_others(server: DnsServer) -> None:
    server.put(SERVICE, "0 5 8000 a.example.", "0 5 8000 gone.example.", kind="SRV")
    server.put("a.example", "10.0.0.1")
    assert (await lookup(server, SERVICE).look_up()).places == [("10.0.0.1", 8000)]


async def test_an_answer_too_long_for_a_datagram_is_asked_for_by_tcp(server: DnsServer) -> None:
    server.truncates = True
    server.put(NAME, *(f"10.0.{x}.{y}" for x in range(2) for y in range(1, 200)))
    assert len((await lookup(server).look_up()).places) == 398


@pytest.mark.parametrize(
    ("failure", "zone", "name", "why"),
    [
        ("SERVFAIL", "", NAME, f"the name servers fail for {NAME}"),
        ("REFUSED", "", NAME, f"the name servers fail for {NAME}"),
        ("silent", "", NAME, f"no name server answers for {NAME}"),
        ("", "", NAME, f"there is no {NAME}"),
        ("", NAME, NAME, f"{NAME} has no addresses"),
        ("", SERVICE, SERVICE, f"{SERVICE} has no addresses"),
    ],
)
async def test_what_names_nothing_is_a_failure(server: DnsServer, failure: str, zone: str, name: str, why: str) -> None:
    server.failure = failure
    if zone:
        server.put(zone, '"text"', kind="TXT")
    with pytest.raises(LookupFailedError) as error:
        await lookup(server, name, timeout_secs=0.3 if failure == "silent" else 20.0).look_up()
    assert str(error.value) == why


async def test_a_service_that_says_it_is_not_there(server: DnsServer) -> None:
    server.put(SERVICE, "0 0 0 .", kind="SRV")
    with pytest.raises(LookupFailedError, match="has no addresses"):
        await lookup(server, SERVICE).look_up()


@pytest.mark.parametrize("text", ["ns.example", "10.0.0.1:x", "10.0.0.1:0", "[fd00::1]:70000", "", ":53"])
def test_a_name_server_is_an_address(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        DnsLookup(NAME, DnsName(nameservers=(text,)))
    assert str(error.value) == f"discovery.dns.{NAME}.nameservers: {text!r} is no address, with a port or without"


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:5353", "fd00::1", "[fd00::1]:53"])
def test_with_a_port_or_without(text: str) -> None:
    assert repr(DnsLookup(NAME, DnsName(nameservers=(text,)))) == f"<DnsLookup {NAME}>"


def test_without_the_library_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns.resolver", None)
    with pytest.raises(ConfigError) as error:
        DnsLookup(NAME, DnsName())
    assert str(error.value) == MISSING
