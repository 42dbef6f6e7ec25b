"""Names of instances: where they lead, and what holds while nobody knows."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from fd_router.http.resolver import FRESH_SECS, MAX_NAMES, ForbiddenAddressError, Resolver


class Names:
    """The system's look-up, which a test changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: tuple[str, ...]) -> None:
        self.names = names
        self.asked = 0
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._get)

    async def _get(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self.names[host]]

    def pass_time(self) -> None:
        self.now += FRESH_SECS + 1

    def resolver(self, **more: Any) -> Resolver:
        return Resolver(lambda: self.now, **more)


async def test_an_address_stands_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    assert await names.resolver().addresses("::1") == ("::1",)
    assert names.asked == 0


async def test_a_name_is_looked_up_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, engine=("10.0.0.1", "10.0.0.2", "10.0.0.1"))
    resolver = names.resolver()
    assert [await resolver.addresses("engine") for _ in range(3)] == [("10.0.0.1", "10.0.0.2")] * 3
    assert names.asked == 1
    names.names["engine"] = ("10.0.0.9",)
    names.pass_time()
    assert await resolver.addresses("engine") == ("10.0.0.9",)


async def test_a_look_up_that_fails_keeps_the_last_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, engine=("10.0.0.1",))
    resolver = names.resolver()
    await resolver.addresses("engine")
    names.names.clear()
    names.pass_time()
    assert await resolver.addresses("engine") == ("10.0.0.1",)
    with pytest.raises(OSError, match="other: Name or service not known"):
        await resolver.addresses("other")


async def test_every_address_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, engine=("10.0.0.1", "192.0.2.1"), well=("10.0.0.1",))
    resolver = names.resolver(is_allowed=lambda address: address.startswith("10."))
    assert await resolver.addresses("well") == ("10.0.0.1",)
    with pytest.raises(ForbiddenAddressError, match="engine is at 192.0.2.1, which is in none of"):
        await resolver.addresses("engine")
    names.names["well"] = ("192.0.2.1",)  # it leads elsewhere now
    names.pass_time()
    with pytest.raises(ForbiddenAddressError):
        await resolver.addresses("well")


async def test_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fd_router.http.resolver.MAX_NAMES", 2)
    names = Names(monkeypatch, a=("10.0.0.1",), b=("10.0.0.2",), c=("10.0.0.3",))
    resolver = names.resolver()
    for name in "abc":
        await resolver.addresses(name)
    assert repr(resolver) == "<Resolver 2 names known>"
    assert MAX_NAMES > 1000
