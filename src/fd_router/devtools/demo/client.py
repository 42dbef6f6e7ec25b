"""The demo's requests: real ones, over HTTP, through the router."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from fd_router.errors import UpstreamError
from fd_router.http.client import HttpClient, Origin

PATH = "/v1/chat/completions"
_DATA = b"data: "


class Served(msgspec.Struct, frozen=True):
    """One answered request: the text, who answered (its text begins with the instance's name), and how fast."""

    text: str
    instance: str
    seconds: float
    prefill_url: str = ""  # the pair, as the router tells it
    decode_url: str = ""


class FailedError(Exception):
    """A request that wasn't answered as it should."""


class DemoClient:
    """Sends them to the router at ``port`` of this machine."""

    def __init__(self, client: HttpClient, port: int) -> None:
        self._client = client
        self._router = Origin("127.0.0.1", port)

    async def ask(self, prompt: str, max_tokens: int) -> Served:
        """Send a request and wait for the whole answer. Raises FailedError."""
        start = time.monotonic()
        try:
            answer = await self._client.fetch(self._router, "POST", PATH, _body(prompt, max_tokens), time_limit=30)
        except UpstreamError as error:
            raise FailedError(error.detail) from None
        if answer.status != 200:
            raise FailedError(f"{answer.status} {answer.body[:200].decode('utf-8', 'replace')}")
        text: str = msgspec.json.decode(answer.body)["choices"][0]["message"]["content"]
        pair = [answer.headers.get(f"x-router-{role}-url", "") for role in ("prefill", "decode")]
        return Served(text, text.partition(" ")[0], time.monotonic() - start, *pair)

    async def stream(self, prompt: str, max_tokens: int) -> AsyncIterator[str]:
        """Send a request and give its text as it comes. Raises FailedError when it ends without ``[DONE]``."""
        done = False
        try:
            async with self._client.stream(
                self._router, "POST", PATH, _body(prompt, max_tokens, stream=True, return_token_ids=True)
            ) as answer:
                if answer.status != 200:
                    raise FailedError(f"{answer.status}")
                rest = b""
                async for piece in answer:
                    *events, rest = (rest + piece).split(b"\n\n")
                    for event in events:
                        done = done or event == _DATA + b"[DONE]"
                        if not done:
                            yield _text(event)
        except UpstreamError as error:
            raise FailedError(error.detail) from None
        if not done:
            raise FailedError("the stream ended early")

    async def metric(self, part: str) -> float:
        """Return the sum of the router's counters whose name contains ``part``. Raises UpstreamError."""
        lines = (await self._client.fetch(self._router, "GET", "/metrics")).body.decode().splitlines()
        samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return sum(
            float(value) for name, _, value in samples if part in name and name.partition("{")[0].endswith("_total")
        )


def _text(event: bytes) -> str:
    delta = msgspec.json.decode(event.removeprefix(_DATA))["choices"][0]["delta"]
    return str(delta.get("content", ""))


def _body(prompt: str, max_tokens: int, **extra: Any) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return msgspec.json.encode({"model": "demo", "messages": messages, "max_tokens": max_tokens, **extra})
