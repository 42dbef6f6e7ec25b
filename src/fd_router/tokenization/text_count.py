"""The tokens of a text that was generated, counted by an engine while the stream goes on behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from fd_router.errors import UNREADABLE, UpstreamError
from fd_router.tokenization.service import sendable

PATH: Final = "/tokenize"
"""Of vLLM and SGLang."""

Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""(JSON body) → status and body of the answer. Raises UpstreamError."""


class _Answer(msgspec.Struct):
    count: int


_decode = msgspec.json.Decoder(_Answer).decode


class TextCount:
    """Asks once. ``model``: whose tokenizer, "" for the only one."""

    __slots__ = ("_task", "tokens")

    def __init__(self, ask: Ask, model: str, text: str) -> None:
        self.tokens: int | None = None
        """None: not known yet, or at all."""
        question: dict[str, Any] = {"prompt": sendable(text), "add_special_tokens": False}
        if model:
            question["model"] = model
        self._task = asyncio.get_running_loop().create_task(self._find_out(ask, msgspec.json.encode(question)))

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._task.cancel()

    async def _find_out(self, ask: Ask, question: bytes) -> None:
        try:
            status, answer = await ask(question)
            if status == 200:
                self.tokens = _decode(answer).count
        except (UpstreamError, *UNREADABLE):  # it is estimated then
            return

    def __repr__(self) -> str:
        return f"<TextCount {self.tokens}>"
