"""The dashboard over real sockets: who sees what, who may do what, and what a drain does to who looks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_router import LIMIT_SECS, LiveRouter, message
from tests.support.ports import free_port

TOKEN = "admin-token-0123456789"
PROMPT = "a-prompt-that-nobody-may-read"


def live(folder: Path, **sections: Any) -> LiveRouter:
    return LiveRouter(folder, "log.level", "warn", sections)


def guarded(folder: Path, **more: Any) -> LiveRouter:
    return live(folder, access={"admin_token": TOKEN, **more})


def parts(answer: bytes) -> tuple[int, str, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


async def send(
    router: LiveRouter, method: str, path: str, body: bytes = b"", *, headers: str = "", token: str = ""
) -> tuple[int, str, bytes]:
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    return parts(await router.exchange(message(body, method=method, path=path, headers=headers + shown)))


async def log_in(router: LiveRouter, token: str = TOKEN, headers: str = "") -> tuple[int, str, bytes]:
    body = json.dumps({"token": token}).encode()
    return await send(router, "POST", "/dashboard/login", body, headers=f"Content-Type: application/json\r\n{headers}")


async def session(router: LiveRouter) -> str:
    """Log in, and return the header that shows the session."""
    _, cookie, _ = await log_in_raw(router)
    return f"Cookie: {cookie}\r\n"


async def log_in_raw(router: LiveRouter) -> tuple[int, str, bytes]:
    body = json.dumps({"token": TOKEN}).encode()
    answer = await router.exchange(message(body, path="/dashboard/login", headers="Content-Type: application/json\r\n"))
    cookie = answer.partition(b"set-cookie: ")[2].partition(b";")[0].decode()
    return int(answer.split()[1]), cookie, answer


class Events:
    """A browser's stream of events."""

    def __init__(self, router: LiveRouter, headers: str = "") -> None:
        self._router = router
        self._headers = headers
        self.text = ""

    async def open(self) -> Events:
        self._reader, self._writer = await self._router.open()
        self._writer.write(f"GET /dashboard/events HTTP/1.1\r\nHost: x\r\n{self._headers}\r\n".encode())
        return self

    async def next(self, name: str = "state") -> dict[str, Any]:
        """Return the next event called ``name``."""
        while True:
            line = (await asyncio.wait_for(self._reader.readline(), LIMIT_SECS)).decode()
            if not line:
                raise EOFError
            self.text += line
            if line == f"event: {name}\n":
                data = (await asyncio.wait_for(self._reader.readline(), LIMIT_SECS)).decode()
                self.text += data
                found: dict[str, Any] = json.loads(data.partition(": ")[2])
                return found

    async def rest(self) -> bytes:
        """Return what comes until it ends."""
        try:
            return await asyncio.wait_for(self._reader.read(), LIMIT_SECS)
        finally:
            self.close()

    def close(self) -> None:
        self._writer.close()


async def test_the_page_is_there_unless_it_is_off(tmp_path: Path) -> None:
    async with live(tmp_path) as router:
        status, head, body = await send(router, "GET", "/dashboard")
        assert status == 200
        assert "content-security-policy: default-src 'none'" in head
        assert b"<title>fd-router</title>" in body
    async with live(tmp_path, server={"dashboard": False}) as router:
        for path in ("/dashboard", "/dashboard/events"):
            assert (await send(router, "GET", path))[0] == 404


async def test_with_a_control_port_it_is_there_only(tmp_path: Path) -> None:
    port = free_port()
    async with guarded(tmp_path, control_port=port) as router:
        assert (await send(router, "GET", "/dashboard"))[0] == 404
        assert (await send(router, "GET", "/dashboard/events"))[0] == 404
        assert (await log_in(router))[0] == 404
        router.port = port
        assert (await send(router, "GET", "/dashboard"))[0] == 200
        assert (await log_in(router))[0] == 200


async def test_who_has_logged_in_sees_all_and_may_drain(tmp_path: Path) -> None:
    async with guarded(tmp_path) as router:
        key = await add(router)
        status, cookie, answer = await log_in_raw(router)
        assert status == 200
        assert b"; Path=/dashboard; Max-Age=43200; HttpOnly; SameSite=Strict\r\n" in answer
        assert TOKEN.encode() not in answer
        shown = f"Cookie: {cookie}\r\n"
        assert (await send(router, "POST", f"/dashboard/instances/{key}/drain"))[0] == 401
        status, _, body = await send(router, "POST", f"/dashboard/instances/{key}/drain", headers=shown)
        assert (status, json.loads(body)["draining"]) == (200, True)
        assert (await send(router, "POST", f"/dashboard/instances/{key}/undrain", headers=shown))[0] == 200
        explained = await send(router, "POST", "/dashboard/explain", b'{"prompt": "x"}', headers=shown)
        assert json.loads(explained[2])["roles"][0]["choice"] == f"http://{key}"
        assert (await send(router, "DELETE", f"/dashboard/instances/{key}", headers=shown))[0] == 200
        assert (await send(router, "POST", "/dashboard/logout", headers=shown))[0] == 200
        assert (await send(router, "POST", f"/dashboard/instances/{key}/drain", headers=shown))[0] == 401


async def add(router: LiveRouter) -> str:
    router.token = TOKEN
    instance = await router.add()
    return f"127.0.0.1:{instance.port}"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "\u00fc"])
async def test_another_token_opens_nothing(tmp_path: Path, token: str) -> None:
    async with guarded(tmp_path) as router:
        status, head, body = await log_in(router, token)
        assert (status, "set-cookie" in head) == (401, False)
        assert b"not the admin token" in body


async def test_a_login_must_be_what_a_plain_form_can_not_send(tmp_path: Path) -> None:
    async with guarded(tmp_path) as router:
        body = json.dumps({"token": TOKEN}).encode()
        assert (await send(router, "POST", "/dashboard/login", body, headers="Content-Type: text/plain\r\n"))[0] == 415
        assert (await log_in(router, headers="Origin: https://evil.example\r\n"))[0] == 403
        assert (await log_in(router, headers="Sec-Fetch-Site: cross-site\r\n"))[0] == 403
        assert (await log_in(router, headers="Origin: http://x\r\n"))[0] == 200
        bad = await send(router, "POST", "/dashboard/login", b"[]", headers="Content-Type: application/json\r\n")
        assert bad[0] == 400


async def test_a_session_opens_nothing_outside_and_no_other_sites_page_may_use_it(tmp_path: Path) -> None:
    async with guarded(tmp_path) as router:
        key, shown = await add(router), await session(router)
        for path in ("/instances", "/registered", "/health_generate"):
            assert (await send(router, "GET", path, headers=shown))[0] == 401
        assert (await send(router, "POST", f"/instances/{key}/drain", headers=shown))[0] == 401
        foreign = f"{shown}Origin: https://evil.example\r\n"
        assert (await send(router, "POST", f"/dashboard/instances/{key}/drain", headers=foreign))[0] == 403
        assert (await send(router, "DELETE", f"/dashboard/instances/{key}", headers=foreign))[0] == 403
        with_token = "Sec-Fetch-Site: same-site\r\n"
        assert (await send(router, "POST", "/admin/reload", headers=with_token, token=TOKEN))[0] == 403
        assert (await send(router, "POST", "/admin/reload", token=TOKEN))[0] == 200


async def test_without_a_token_it_is_read_only(tmp_path: Path) -> None:
    async with live(tmp_path) as router:
        instance = await router.add()
        events = await Events(router).open()
        hello = await events.next("hello")
        assert (hello["has_token"], hello["sees_all"], hello["may_change"]) == (False, True, False)
        assert (await send(router, "POST", f"/dashboard/instances/127.0.0.1:{instance.port}/drain"))[0] == 403
        assert (await log_in(router))[0] == 400
        events.close()


async def test_events_tell_of_requests_and_nothing_of_their_prompts(tmp_path: Path) -> None:
    async with guarded(tmp_path) as router:
        await add(router)
        shown = await session(router)
        events, stranger = await Events(router, shown).open(), await Events(router).open()
        assert (await events.next("hello"))["may_change"]
        assert not (await stranger.next("hello"))["sees_all"]
        await events.next()
        await stranger.next()
        await router.ask(json.dumps({"prompt": PROMPT}).encode())
        router.instances[0].answer = None
        await router.ask(json.dumps({"prompt": PROMPT}).encode())
        told = await events.next()
        while not told["decisions"]:
            told = await events.next()
        assert told["decisions"][0]["url"].endswith(str(router.instances[0].port))
        assert told["decisions"][0]["reason"]
        while not any(one["kind"] == "request" for one in told["troubles"]):
            told = await events.next()
        assert "decisions" not in await stranger.next()
        assert PROMPT not in events.text + stranger.text
        assert TOKEN not in events.text
        await send(router, "POST", "/dashboard/logout", headers=shown)
        await events.rest()  # ends within a second or so
        stranger.close()


async def test_protected_metrics_are_not_shown_here_either(tmp_path: Path) -> None:
    async with guarded(tmp_path, protect_metrics=True) as router:
        assert (await send(router, "GET", "/dashboard/events"))[0] == 401
        assert (await send(router, "GET", "/dashboard"))[0] == 200
        events = await Events(router, f"Authorization: Bearer {TOKEN}\r\n").open()
        assert (await events.next("hello"))["sees_all"]
        events.close()


async def test_who_looks_does_not_hold_up_a_router_that_stops(tmp_path: Path) -> None:
    async with live(tmp_path, server={"drain_timeout_secs": 60.0}) as router:
        events = await Events(router).open()
        await events.next()
        draining = asyncio.create_task(router.router.drain(asyncio.Event()))
        assert (await events.rest()).endswith(b"0\r\n\r\n")
        await asyncio.wait_for(draining, LIMIT_SECS)
