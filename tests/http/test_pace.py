from __future__ import annotations

import asyncio
import json

import pytest

from fd_router.http.messages import json_entries, json_response
from fd_router.http.pace import gather_few
from tests.support.turns import slice_finely, turns_during


async def test_what_is_gathered_comes_in_order_and_few_at_a_time() -> None:
    under_way = most = 0

    async def double(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20 - number):  # the last ones are the quickest
            await asyncio.sleep(0)
        under_way -= 1
        return 2 * number

    assert await gather_few(double, range(20), 3) == list(range(0, 40, 2))
    assert (under_way, most) == (0, 3)
    assert await gather_few(double, (), 3) == []


async def test_what_needs_no_waiting_lets_others_have_turns_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(number: int) -> int:
        return number

    slice_finely(monkeypatch)
    assert await turns_during(gather_few(at_once, range(100), 1)) >= 100


async def test_one_that_fails_is_told() -> None:
    async def fail(number: int) -> None:
        if number == 2:
            raise ValueError(number)

    with pytest.raises(ValueError, match="2"):
        await gather_few(fail, range(5), 2)


async def test_nothing_goes_on_behind_one_that_is_cancelled() -> None:
    begun: list[int] = []

    async def wait(number: int) -> None:
        begun.append(number)
        await asyncio.Event().wait()

    task = asyncio.create_task(gather_few(wait, range(5), 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert begun == [0, 1]


async def test_entries_of_a_long_list_are_written_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    slice_finely(monkeypatch)
    assert await turns_during(json_entries({"a": number} for number in range(100))) >= 100
    answer = {"list": await json_entries([{"a": 1}, {"b": "é"}]), "more": 2}
    assert json_response(200, answer).body == '{"list":[{"a":1},{"b":"é"}],"more":2}'.encode()


async def test_text_that_utf8_can_not_hold_is_escaped_among_entries_and_beside_them() -> None:
    answer = {"list": await json_entries([{"a": "\ud800"}, {"b": 1}]), "more": "\udfff"}
    body = json_response(200, answer).body
    assert body.isascii()
    assert json.loads(body) == {"list": [{"a": "\ud800"}, {"b": 1}], "more": "\udfff"}
