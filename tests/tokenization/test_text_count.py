"""A text's tokens, as an engine counts them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fd_router.errors import UpstreamError
from fd_router.tokenization.text_count import TextCount


class Tokenizer:
    def __init__(self, status: int, answer: bytes) -> None:
        self.status = status
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def ask(self, question: bytes) -> tuple[int, bytes]:
        self.asked.append(json.loads(question))
        if not self.status:
            raise UpstreamError("refused", "nobody is there", instance="http://a:1")
        return self.status, self.answer


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_is_told_once_the_answer_is_there() -> None:
    tokenizer = Tokenizer(200, b'{"count": 7, "max_model_len": 100, "tokens": [1]}')
    count = TextCount(tokenizer.ask, "tiny", "Grü\ud83d")
    assert count.tokens is None
    await settle()
    assert count.tokens == 7
    assert tokenizer.asked == [{"prompt": "Grü?", "add_special_tokens": False, "model": "tiny"}]


NESTED = b'{"a": ' + b"[" * 100_000


@pytest.mark.parametrize(
    ("status", "answer"), [(404, b"{}"), (0, b""), (200, b'{"tokens": [1]}'), (200, b"<html>"), (200, NESTED)]
)
async def test_it_stays_unknown(status: int, answer: bytes) -> None:
    count = TextCount(Tokenizer(status, answer).ask, "", "text")
    await settle()
    assert count.tokens is None
    assert count._task.exception() is None


async def test_nobody_wants_to_know_any_more() -> None:
    count = TextCount(Tokenizer(200, b'{"count": 7}').ask, "", "text")
    count.cancel()
    await settle()
    assert count.tokens is None
