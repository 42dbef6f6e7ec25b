"""What a task of the router's own raises is told, since nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

from fd_router.app.bugs import tell_if_broken


async def test_a_task_that_ends_by_a_bug_is_told() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def broken() -> None:
        raise ZeroDivisionError

    async def ends() -> None:
        pass

    async def is_cancelled() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(work()) for work in (broken, ends, is_cancelled)]
    for task in tasks:
        task.add_done_callback(tell_if_broken)
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
