"""One replayed request: what is looked for in its stream, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fd_router.errors import UpstreamError

_DATA = b"data:"
_DONE = b"[DONE]"
_TAIL = 4096  # bytes of a stream's end that are kept: usage and the end mark stand there
_MOST = 65_536  # bytes looked through for the first token
_PREFILL = "x-router-prefill-url"  # of a pair; the one whose work the prompt is
_DECISION = "x-router-decision"  # ``role=URL; …``, if the router tells

_FAILURES = {"reset": "connection lost", "cut_off": "connection lost", "protocol": "not HTTP/1.1"}
"""What the results call them; all others are failures to connect."""


class ReplayCall:
    """Takes in an answer piece by piece. Only a stream's first tokens and its end are read, the rest is counted off."""

    __slots__ = (
        "_clock", "_head", "_on_end", "_status", "_tail", "cached_tokens", "due", "ended_at", "error",
        "first_token_at", "instance", "is_done", "output_tokens", "word",
    )  # fmt: skip

    def __init__(self, due: float, clock: Callable[[], float], on_end: Callable[[ReplayCall], None]) -> None:
        self.due = due  # when it should be sent; times are the clock's
        self.first_token_at = math.nan
        self.ended_at = math.nan
        self.cached_tokens: int | None = None
        self.output_tokens = 0  # as the engine tells
        self.instance = ""  # who served, if a header tells
        self.word = ""  # the first one of the answer
        self.error = ""
        self.is_done = False
        self._clock = clock
        self._on_end = on_end
        self._status = 0
        self._head: bytes | None = b""  # the stream until its first token
        self._tail = b""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The answer's head is here."""
        self._status = status
        told = headers.get(_DECISION, "").partition(";")[0].partition("=")[2]
        self.instance = headers.get(_PREFILL, told)
        if status != 200:
            self._head = None

    def on_data(self, content: bytes) -> None:
        """A piece of the body is here."""
        if self._head is not None:
            self._look_for_token(content)
        self._tail = self._tail[-_TAIL:] + content

    def on_complete(self) -> None:
        """The answer is whole."""
        if self._status != 200:
            self.fail(_refusal(self._status, self._tail))
            return
        for event in _events(self._tail):
            if "error" in event:
                self.fail(_named("error event", event))
                return
            if event.get("usage"):
                details = event["usage"].get("prompt_tokens_details") or {}
                self.cached_tokens = details.get("cached_tokens")
                self.output_tokens = event["usage"].get("completion_tokens") or 0
        if _DONE not in self._tail:
            self.fail("stream without [DONE]")
        elif math.isnan(self.first_token_at):
            self.fail("stream without a token")
        else:
            self._end()

    def on_failed(self, error: UpstreamError) -> None:
        """The answer won't come, or won't end."""
        self.fail(_FAILURES.get(error.reason) or f"connect: {error.detail}")

    def fail(self, error: str) -> None:
        """It won't be answered."""
        if not self.is_done:
            self.error = error
            self._end()

    def _look_for_token(self, data: bytes) -> None:
        assert self._head is not None
        self._head += data
        for event in _events(self._head):
            word = _text(event)
            if word:
                self.first_token_at = self._clock()
                self.word = word
                self._head = None
                return
        if len(self._head) > _MOST:
            self._head = None

    def _end(self) -> None:
        self.is_done = True
        self.ended_at = self._clock()
        self._tail = b""  # thousands of them are kept
        self._on_end(self)


def _events(stream: bytes) -> list[dict[str, Any]]:
    """Return the objects of a stream's whole ``data:`` lines."""
    found = []
    *lines, _ = stream.split(b"\n")
    for line in lines:
        if line.startswith(_DATA) and _DONE not in line:
            try:
                event = msgspec.json.decode(line[len(_DATA) :])
            except msgspec.DecodeError:
                continue
            if isinstance(event, dict):
                found.append(event)
    return found


def _text(event: dict[str, Any]) -> str:
    """Return what an event generated: text, thought, or a tool's call."""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or choice
        text = delta.get("content") or delta.get("text") or delta.get("reasoning_content")
        if text or delta.get("tool_calls"):
            return str(text or "tool call")
    return ""


def _refusal(status: int, body: bytes) -> str:
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return str(status)
    return _named(str(status), answer) if isinstance(answer, dict) else str(status)


def _named(what: str, answer: dict[str, Any]) -> str:
    """Add the error's code or type: few words, so that equal failures can be counted together."""
    error = answer.get("error")
    if isinstance(error, dict):
        return f"{what} {error.get('code') or error.get('type') or ''}".rstrip()
    return what
