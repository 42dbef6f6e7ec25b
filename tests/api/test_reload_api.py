"""What ``/admin/reload`` answers, and what becomes of a reload whose caller leaves."""

from __future__ import annotations

import asyncio

from fd_router.api.reload import Outcome, reload_routes
from fd_router.http.handlers import HandlerTask
from fd_router.http.messages import Request, RequestHead, Response
from tests.api.conftest import Ask
from tests.support.fake_log import FakeLog


async def test_it_tells_what_has_changed_or_why_nothing_has(ask: Ask) -> None:
    outcomes = [Outcome(("proxy.max-attempts",)), Outcome(problems=("config.yaml:1: no number",))]

    async def reload() -> Outcome:
        return outcomes.pop(0)

    routes = reload_routes(reload)
    status, answer = await ask(routes, "POST", "/admin/reload")
    assert (status, answer["status"], answer["changed"]) == (200, "reloaded", ["proxy.max-attempts"])
    status, answer = await ask(routes, "POST", "/admin/reload")
    assert (status, answer["status"], answer["problems"]) == (400, "unchanged", ["config.yaml:1: no number"])


async def test_a_reload_whose_caller_leaves_goes_on_to_its_end() -> None:
    """Half of the new files would be in force else, until the next one."""
    steps: list[str] = []
    answers: list[Response] = []

    async def reload() -> Outcome:
        steps.append("options")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        steps.append("instances")
        return Outcome()

    handler = reload_routes(reload)["/admin/reload"]["POST"]
    task = HandlerTask(handler, Request(RequestHead("POST", "/admin/reload")), answers.append, FakeLog())
    for _ in range(2):
        await asyncio.sleep(0)
    assert steps == ["options"]
    task.on_client_gone()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (steps, answers) == (["options", "instances"], [])
