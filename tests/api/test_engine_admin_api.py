"""Engines' paths for admins: who may call them, who is told, and what is made of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fd_router.admission.tokens import Token
from fd_router.api.access import Guard, Rules
from fd_router.api.engine_admin import MAX_AT_ONCE, EngineAdminApi
from fd_router.errors import AccessError, NoInstanceError, UpstreamError
from fd_router.http.messages import Request, RequestHead, Routes
from fd_router.instances.instance import Instance
from fd_router.instances.registration import Registration
from tests.support.fake_log import FakeLog
from tests.support.waiting import until

Describe = Callable[..., Registration]
TOKEN = "x" * 20


class Setting:
    def __init__(self, describe: Describe, log: FakeLog, token: str = TOKEN, instances: int = 2) -> None:
        self.instances = [Instance(describe(port)) for port in range(1, instances + 1)]
        self.answers: dict[int, tuple[int, bytes] | UpstreamError] = {}
        self.told: list[tuple[int, str, str, bytes]] = []
        guard = Guard(Rules(Token(token) if token else None), log)
        self.routes: Routes = guard.protect(EngineAdminApi(lambda: self.instances, self.tell, log=log).routes())

    async def tell(self, instance: Instance, request: Request) -> tuple[int, bytes]:
        head = request.head
        self.told.append((instance.port, head.method, f"{head.path}?{head.query}", request.body))
        answer = self.answers.get(instance.port, (200, b'{"ok":true}'))
        if isinstance(answer, UpstreamError):
            raise answer
        return answer


@pytest.fixture
def setting(describe: Describe, log: FakeLog) -> Setting:
    return Setting(describe, log)


async def order(setting: Setting, ask: Any, path: str = "/pause", **more: Any) -> tuple[int, Any]:
    shown = b"Bearer " + TOKEN.encode()
    answer: tuple[int, Any] = await ask(setting.routes, "POST", path, authorization=shown, **more)
    return answer


async def test_every_instance_is_told_and_answers_stand_side_by_side(setting: Setting, ask: Any) -> None:
    setting.answers[2] = (200, b"Cache flushed.\n")
    status, answer = await order(setting, ask, query="mode=wait", body=b'{"a":1}')
    assert setting.told == [(port, "POST", "/pause?mode=wait", b'{"a":1}') for port in (1, 2)]
    assert (status, answer) == (200, {
        "status": "success",
        "instances": [
            {"url": "http://10.0.0.1:1", "status": 200, "answer": {"ok": True}},
            {"url": "http://10.0.0.1:2", "status": 200, "answer": "Cache flushed.\n"},
        ],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        ((500, b"no"), {"status": 500, "answer": "no"}),
        (UpstreamError("refused", "nobody listens", instance="x"), {"status": 502, "error": "nobody listens"}),
    ],
)
async def test_one_that_fails_is_told(setting: Setting, ask: Any, failed: Any, said: dict[str, Any]) -> None:
    setting.answers[1] = failed
    status, answer = await order(setting, ask)
    assert (status, answer["status"]) == (502, "partial")
    assert answer["instances"][0] == {"url": "http://10.0.0.1:1", **said}
    setting.answers[2] = failed
    assert (await order(setting, ask))[1]["status"] == "error"


@pytest.mark.parametrize("shown", [b"", b"Bearer other"])
async def test_without_the_admin_token_nothing_is_told(setting: Setting, ask: Any, shown: bytes) -> None:
    with pytest.raises(AccessError, match=r"see access.admin-token") as caught:
        await ask(setting.routes, "POST", "/pause", authorization=shown)
    assert (caught.value.status, setting.told) == (401, [])


async def test_where_no_token_is_set_nobody_may(describe: Describe, log: FakeLog, ask: Any) -> None:
    setting = Setting(describe, log, token="")
    with pytest.raises(AccessError, match=r"needs access.admin-token to be set") as caught:
        await order(setting, ask)
    assert (caught.value.status, setting.told) == (403, [])


async def test_without_instances(describe: Describe, log: FakeLog, ask: Any) -> None:
    with pytest.raises(NoInstanceError, match="none is registered"):
        await order(Setting(describe, log, instances=0), ask)


def test_methods_are_the_engines(setting: Setting) -> None:
    assert set(setting.routes["/flush_cache"]) == {"GET", "POST"}
    assert set(setting.routes["/sleep"]) == {"POST"}
    assert set(setting.routes["/is_sleeping"]) == {"GET"}


async def test_all_are_told_though_who_ordered_it_leaves(describe: Describe, log: FakeLog) -> None:
    """Half of a fleet would be paused."""
    setting, gate = Setting(describe, log, instances=2 * MAX_AT_ONCE), asyncio.Event()
    tell = setting.tell

    async def slow(instance: Instance, request: Request) -> tuple[int, bytes]:
        await gate.wait()
        return await tell(instance, request)

    api = EngineAdminApi(lambda: setting.instances, slow, log=log)
    caller = asyncio.create_task(api.routes()["/pause"]["POST"](Request(RequestHead("POST", "/pause"))))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    gate.set()
    await until(lambda: len(setting.told) == 2 * MAX_AT_ONCE)
