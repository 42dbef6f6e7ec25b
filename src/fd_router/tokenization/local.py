"""The tokenizer in this process: a file of Hugging Face's ``tokenizers``, the extra ``tokenizer``."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

from fd_router.errors import ConfigError
from fd_router.tokenization.service import Prepared, Tokenizer, TokenizerOptions, sendable

INLINE_CHARACTERS = 512
"""Up to so many are encoded at once, in about 0.1 ms; handing them to a thread would take as long."""

BOTH_TOKENIZERS = "scheduler.tokenizer-path and scheduler.tokenizer-url are both given; keep one of them"

Encode = Callable[[str], "array[int]"]


def open_encoder(path: str) -> Encode:
    """Read ``tokenizer.json``; a folder is taken for the one that has it. Raises ConfigError."""
    try:
        import tokenizers  # noqa: PLC0415  (an extra, which only those who name a file need)
    except ImportError:
        raise ConfigError(
            "scheduler.tokenizer-path needs the package 'tokenizers', which isn't installed: "
            "pip install 'tokenizers>=0.20'"
        ) from None
    file = Path(path)
    if file.is_dir():
        file /= "tokenizer.json"
    if not file.is_file():
        raise ConfigError(f"scheduler.tokenizer-path: there is no file {str(file)!r}")
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # what it raises has no type of its own
        reason = " ".join(str(error).split())
        raise ConfigError(f"scheduler.tokenizer-path: {file} is no Hugging Face tokenizer: {reason}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(prompt: str) -> array[int]:
        return array("I", tokenizer.encode(prompt, add_special_tokens=False).ids)

    return encode


def tokenizer_problems(path: str, url: str) -> tuple[str, ...]:
    """Say what is wrong with the options of these names."""
    if path and url:
        return (BOTH_TOKENIZERS,)
    if path:
        try:
            open_encoder(path)
        except ConfigError as error:
            return error.problems
    return ()


class LocalTokenizer(Tokenizer):
    """Encodes short prompts at once and longer ones in threads, where the library lets the loop run on.

    No more threads than processors, whatever ``max_concurrent`` says.
    """

    def __init__(self, encode: Encode, **options: Unpack[TokenizerOptions]) -> None:
        super().__init__(**options)
        self._encode = encode
        self._threads = ThreadPoolExecutor(min(self._max_concurrent, os.cpu_count() or 1), "tokenizer")

    async def tokenize(self, prompt: str) -> array[int]:
        """Encode the prompt in a thread."""
        loop = asyncio.get_running_loop()
        return self._checked(await loop.run_in_executor(self._threads, self._try_to_encode, sendable(prompt)))

    def close(self) -> None:
        """End the threads, after what they are doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _find_out(self, completion: Prepared, subject: str, digest: bytes) -> Awaitable[None] | None:
        if len(subject) > INLINE_CHARACTERS:
            return self._ask(completion, subject, digest)
        try:
            ids = self._checked(self._try_to_encode(sendable(subject)))
        except ValueError as error:
            self._warn(completion, str(error))
        else:
            self._learn(completion, digest, ids)
        return None

    def _try_to_encode(self, prompt: str) -> array[int]:
        try:
            return self._encode(prompt)
        except Exception as error:  # noqa: BLE001  the library's have no type of their own, and may repeat the prompt
            raise ValueError(f"{type(error).__name__} in the tokenizer") from None

    @staticmethod
    def _checked(ids: array[int]) -> array[int]:
        if not ids:
            raise ValueError("no tokens of the prompt")
        return ids
