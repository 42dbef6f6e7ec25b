from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fd_router.bugs import bugs_told, tell_of_bug


@pytest.fixture
async def told() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def test_a_bug_with_one_keeps_none_waiting(told: list[dict[str, Any]]) -> None:
    done = []
    for number in range(3):
        with bugs_told("the work failed"):
            if number == 1:
                raise ValueError("a bug")
            done.append(number)
    assert done == [0, 2]
    assert [context["message"] for context in told] == ["the work failed"]
    assert str(told[0]["exception"]) == "a bug"


async def test_who_is_cancelled_ends(told: list[dict[str, Any]]) -> None:
    with pytest.raises(asyncio.CancelledError), bugs_told("the work failed"):
        raise asyncio.CancelledError
    assert told == []


async def test_what_failed_is_told_with_the_error(told: list[dict[str, Any]]) -> None:
    error = ValueError("a bug")
    tell_of_bug("the work failed", error)
    assert told == [{"message": "the work failed", "exception": error}]
