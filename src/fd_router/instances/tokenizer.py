"""The tokenizer service: asked for a prompt's tokens before its instance is chosen, and done without when it fails."""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from fd_router.errors import ConfigError, UpstreamError

Post = Callable[[bytes, float], Awaitable[tuple[int, bytes]]]
"""(JSON body, time limit in seconds) → status and body of the answer. Raises UpstreamError."""

PAUSE_SECONDS = 1.0
"""How long a service that didn't answer is left alone: meanwhile no request waits for it."""


class TokenizerAddress(msgspec.Struct, frozen=True):
    """Where the service is."""

    key: str  # host:port
    host: str
    port: int
    path: str


def tokenizer_address(url: str) -> TokenizerAddress:
    """Read ``tokenizer-url``; without a path it is ``/tokenize``. Raises ConfigError."""
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or not url.isascii():
        raise ConfigError(f"scheduler.tokenizer-url: {url!r} is not an http:// URL")
    host = parts.hostname
    path = parts.path if parts.path not in ("", "/") else "/tokenize"
    if parts.query:
        path += f"?{parts.query}"
    return TokenizerAddress(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, port, path)


class Prepared(Protocol):
    """A completion, as far as the tokenizer is concerned."""

    prompt: str
    tags: str
    token_ids: array[int] | None


class Log(Protocol):
    """Takes the warnings."""

    def warn(self, message: str, tags: str = "", /) -> None:
        """Log ``message`` at WARN."""


class _Question(msgspec.Struct):
    """Three names for one thing: the services differ in which one they read."""

    text: str
    prompt: str
    message: str


class _Answer(msgspec.Struct):
    input_ids: list[int]


_decode = msgspec.json.Decoder(_Answer).decode


class Tokenizer:
    """Asks the service, at most ``max_concurrent`` requests at a time, and remembers the last ``remembered`` answers.

    A request waits ``time_limit`` seconds at most, its turn included. Other requests never wait for it.
    """

    def __init__(
        self,
        post: Post,
        *,
        clock: Callable[[], float],
        log: Log,
        time_limit: float = 2.0,
        max_concurrent: int = 32,
        remembered: int = 256,
    ) -> None:
        self._post = post
        self._clock = clock
        self._log = log
        self._time_limit = time_limit
        self._slots = asyncio.Semaphore(max_concurrent)
        self._remembered = remembered
        self._answers: OrderedDict[bytes, array[int]] = OrderedDict()
        self._paused_until = 0.0

    def prepare(self, completion: Prepared) -> Awaitable[None] | None:
        """Set the completion's tokens: now if they are known (None), else by awaiting the result. Never fails."""
        if not completion.prompt or self._clock() < self._paused_until:
            return None
        digest = blake2b(completion.prompt.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._answers.get(digest)
        if known is None:
            return self._ask(completion, digest)
        self._answers.move_to_end(digest)
        completion.token_ids = known
        return None

    async def _ask(self, completion: Prepared, digest: bytes) -> None:
        try:
            async with asyncio.timeout(self._time_limit), self._slots:
                ids = await self._tokenize(completion.prompt)
        except TimeoutError:
            self._pause()
            self._warn(completion, f"no answer within {self._time_limit:g} s")
        except UpstreamError as error:
            self._pause()
            self._warn(completion, error.detail)
        except (ValueError, OverflowError) as error:  # an answer that is none; DecodeError is a ValueError
            self._warn(completion, str(error))
        else:
            completion.token_ids = ids
            self._answers[digest] = ids
            if len(self._answers) > self._remembered:
                self._answers.popitem(last=False)

    async def _tokenize(self, prompt: str) -> array[int]:
        # The service is asked with what JSON can carry; a lone surrogate becomes a question mark.
        text = prompt.encode("utf-8", "replace").decode()
        status, body = await self._post(msgspec.json.encode(_Question(text, text, text)), self._time_limit)
        if status >= 300:
            raise ValueError(f"status {status}")
        ids = _decode(body).input_ids
        if not ids:
            raise ValueError("no tokens in the answer")
        return array("I", ids)

    def _pause(self) -> None:
        self._paused_until = self._clock() + PAUSE_SECONDS

    def _warn(self, completion: Prepared, why: str) -> None:
        self._log.warn(f"cache-aware prefill: tokenizer failed, fallback to char tokens: {why}", completion.tags)

    def __repr__(self) -> str:
        return f"<Tokenizer {len(self._answers)} answers remembered>"
