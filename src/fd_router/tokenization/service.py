"""A prompt's tokens, found out before its instance is chosen, and done without when that fails.

Here: what all tokenizers have in common, and the one that asks a service. ``local_tokenizer`` works in this process.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Protocol, Required, TypedDict, Unpack
from urllib.parse import urlsplit

import msgspec

from fd_router.config.host_names import authority
from fd_router.errors import ConfigError, UpstreamError
from fd_router.openai.tokenize_question import tokenize_question

Post = Callable[[bytes, float], Awaitable[tuple[int, bytes]]]
"""(JSON body, time limit in seconds) → status and body of the answer. Raises UpstreamError."""

PAUSE_SECONDS = 1.0
"""How long a tokenizer that didn't answer is left alone: meanwhile no request waits for it."""

REMEMBERED_TOKENS = 4_000_000
"""Tokens of all remembered answers, 16 MB: prompts of megabytes, one after the other, mustn't fill the memory."""


class TokenizerAddress(msgspec.Struct, frozen=True):
    """Where the service is."""

    key: str  # host:port
    host: str
    port: int
    path: str
    is_encrypted: bool = False  # https://, verified by the system's authorities


def tokenizer_address(url: str) -> TokenizerAddress:
    """Read ``tokenizer-url``; without a scheme it is http, without a path ``/tokenize``. Raises ConfigError."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        is_encrypted = parts.scheme == "https"
        port = parts.port or (443 if is_encrypted else 80)
    except ValueError:  # of a port, or of an address in brackets
        raise _no_address(url) from None
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or not url.isascii():
        raise _no_address(url)
    path = parts.path if parts.path not in ("", "/") else "/tokenize"
    if parts.query:
        path += f"?{parts.query}"
    return TokenizerAddress(authority(host, port), host, port, path, is_encrypted)


def _no_address(url: str) -> ConfigError:
    return ConfigError(f"scheduler.tokenizer-url: {url!r} is not an http:// or https:// URL, nor HOST:PORT")


class Prepared(Protocol):
    """A completion, as far as the tokenizer is concerned."""

    tags: str
    token_ids: array[int] | None

    @property
    def prompt(self) -> str:
        """The prompt's text."""

    @property
    def engine_prompt(self) -> str:
        """The same as engines have it, with tools and stand-ins for images."""

    @property
    def body(self) -> bytes:
        """The body that it was read from, b"" where it is no completion's."""


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
    input_ids: list[int] | None = None  # FastDeploy
    tokens: list[int] | None = None  # vLLM, SGLang


_decode = msgspec.json.Decoder(_Answer).decode


class TokenizerOptions(TypedDict, total=False):
    """What every tokenizer is built with."""

    clock: Required[Callable[[], float]]
    log: Required[Log]
    time_limit: float  # seconds that a request waits at most, its turn included; 2
    max_concurrent: int  # prompts at a time; 32
    reads_engine_prompt: bool  # tokens are to be of ``Prepared.engine_prompt``; of ``prompt``
    remembered: int  # answers, as far as they are of ``REMEMBERED_TOKENS`` together; 256


class Tokenizer:
    """Bounds how long a request waits, how many prompts are at work, and what is remembered.

    Other requests never wait for it.
    """

    def __init__(self, **options: Unpack[TokenizerOptions]) -> None:
        self._clock = options["clock"]
        self._log = options["log"]
        self._time_limit = options.get("time_limit", 2.0)
        self._max_concurrent = options.get("max_concurrent", 32)
        self._slots = asyncio.Semaphore(self._max_concurrent)
        self._reads_engine_prompt = options.get("reads_engine_prompt", False)
        self._remembered = options.get("remembered", 256)
        self._answers: OrderedDict[bytes, array[int]] = OrderedDict()
        self._held = 0  # tokens of all of them
        self._paused_until = 0.0

    def prepare(self, completion: Prepared) -> Awaitable[None] | None:
        """Set the completion's tokens: now if they are known (None), else by awaiting the result. Never fails."""
        subject = self._subject(completion)
        if not subject or self._clock() < self._paused_until:
            return None
        digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._answers.get(digest)
        if known is None:
            return self._find_out(completion, subject, digest)
        self._answers.move_to_end(digest)
        completion.token_ids = known
        return None

    def close(self) -> None:
        """Let go of what it works with."""

    async def tokenize(self, prompt: str) -> array[int]:
        """Return the prompt's tokens. Raises UpstreamError, ValueError, OverflowError."""
        raise NotImplementedError

    def _subject(self, completion: Prepared) -> str:
        """Return what ``tokenize`` is asked for, "" for nothing."""
        return completion.engine_prompt if self._reads_engine_prompt else completion.prompt

    def _find_out(self, completion: Prepared, subject: str, digest: bytes) -> Awaitable[None] | None:
        return self._ask(completion, subject, digest)

    async def _ask(self, completion: Prepared, subject: str, digest: bytes) -> None:
        try:
            async with asyncio.timeout(self._time_limit), self._slots:
                ids = await self.tokenize(subject)
        except TimeoutError:
            self._pause()
            self._warn(completion, f"no answer within {self._time_limit:g} s")
        except UpstreamError as error:
            self._pause()
            self._warn(completion, error.detail)
        except _UnableError as error:
            self._pause()
            self._warn(completion, str(error))
        except (ValueError, OverflowError, RecursionError) as error:  # no answer; DecodeError is a ValueError
            self._warn(completion, str(error))
        else:
            self._learn(completion, digest, ids)

    def _learn(self, completion: Prepared, digest: bytes, ids: array[int]) -> None:
        completion.token_ids = ids
        before = self._answers.pop(digest, ())  # of another request with this prompt, asked for at the same time
        self._answers[digest] = ids
        self._held += len(ids) - len(before)
        while len(self._answers) > self._remembered or self._held > REMEMBERED_TOKENS:
            self._held -= len(self._answers.popitem(last=False)[1])

    def _pause(self) -> None:
        self._paused_until = self._clock() + PAUSE_SECONDS

    def _warn(self, completion: Prepared, why: str) -> None:
        self._log.warn(f"cache-aware prefill: tokenizer failed, fallback to char tokens: {why}", completion.tags)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._answers)} answers remembered>"


class _UnableError(Exception):
    """The service has no answer at the moment, whatever it is asked."""


class ServiceTokenizer(Tokenizer):
    """Asks the service behind ``post``."""

    def __init__(self, post: Post, **options: Unpack[TokenizerOptions]) -> None:
        super().__init__(**options)
        self._post = post

    async def tokenize(self, prompt: str) -> array[int]:
        """Ask for the prompt's tokens."""
        text = sendable(prompt)
        return await self._tokens(msgspec.json.encode(_Question(text, text, text)))

    async def _tokens(self, question: bytes) -> array[int]:
        """Return the answer to ``question``. Raises UpstreamError, ValueError, OverflowError."""
        status, body = await self._post(question, self._time_limit)
        if status == 429 or status >= 500:  # not because of this prompt
            raise _UnableError(f"status {status}")
        if status >= 300:
            raise ValueError(f"status {status}")
        answer = _decode(body)
        ids = answer.tokens if answer.input_ids is None else answer.input_ids
        if ids is None:
            raise ValueError("missing required field `input_ids`, or `tokens`")
        if not ids:
            raise ValueError("no tokens in the answer")
        return array("I", ids)


class EngineTokenizer(ServiceTokenizer):
    """Asks an engine's own ``/tokenize`` (vLLM, SGLang), with the messages of a chat: it applies its chat template."""

    def _subject(self, completion: Prepared) -> str:
        return tokenize_question(completion.body)

    async def tokenize(self, prompt: str) -> array[int]:
        """Ask ``prompt``, which is a whole question."""
        return await self._tokens(prompt.encode("utf-8"))


def sendable(prompt: str) -> str:
    """Return the prompt as UTF-8 can carry it: a lone surrogate becomes a question mark."""
    return prompt.encode("utf-8", "replace").decode()
