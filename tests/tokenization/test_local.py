"""The tokenizer in this process: its file, its threads, its limits. The tests make their own small one."""

from __future__ import annotations

import asyncio
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from fd_router.errors import ConfigError
from fd_router.openai.completion import Completion
from fd_router.tokenization.local import INLINE_CHARACTERS, LocalTokenizer, open_encoder, tokenizer_problems

LONG = "a b " * INLINE_CHARACTERS


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A tokenizer of words: a is 1, b is 2, others 0; it cuts off what is longer than 4, unless told not to."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "a": 1, "b": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def warn(self, message: str, tags: str = "") -> None:
        self.lines.append((tags, message))


def completion(prompt: str) -> Completion:
    made = Completion(b"{}")
    made.tags = "[request_id:r] "
    made._prompt = prompt
    return made


def local(encode: Callable[[str], array[int]], log: FakeLog, **options: Any) -> LocalTokenizer:
    return LocalTokenizer(encode, clock=lambda: 0.0, log=log, **options)


async def prepare(tokenizer: LocalTokenizer, prompt: str) -> list[int] | None:
    made = completion(prompt)
    if (waiting := tokenizer.prepare(made)) is not None:
        await asyncio.wait_for(waiting, 10)
    return None if made.token_ids is None else list(made.token_ids)


def test_the_whole_prompt_is_encoded_and_nothing_is_added(file: str) -> None:
    assert list(open_encoder(file)("a b a c a b")) == [1, 2, 1, 0, 1, 2]
    assert list(open_encoder(str(Path(file).parent))("b")) == [2]


async def test_short_prompts_are_encoded_at_once_and_long_ones_in_a_thread(file: str) -> None:
    log, threads = FakeLog(), []
    encode = open_encoder(file)

    def watched(prompt: str) -> array[int]:
        threads.append(threading.current_thread().name)
        return encode(prompt)

    tokenizer = local(watched, log)
    assert tokenizer.prepare(completion("a b")) is None
    assert await prepare(tokenizer, "b a") == [2, 1]
    assert await prepare(tokenizer, LONG) == [1, 2] * INLINE_CHARACTERS
    assert threads[:2] == [threading.current_thread().name] * 2
    assert threads[2].startswith("tokenizer")
    assert await prepare(tokenizer, LONG) == [1, 2] * INLINE_CHARACTERS  # remembered
    assert len(threads) == 3
    assert await prepare(tokenizer, "a \ud800") == [1, 0]
    assert await prepare(tokenizer, "") is None
    tokenizer.close()


async def test_the_loop_runs_on_and_a_slow_one_is_done_without() -> None:
    log, gate = FakeLog(), threading.Event()

    def slow(prompt: str) -> array[int]:
        gate.wait(10)
        return array("I", [1])

    tokenizer = local(slow, log, time_limit=0.02, max_concurrent=1)
    try:
        both = await asyncio.gather(prepare(tokenizer, LONG), prepare(tokenizer, LONG + "c"))
        assert both == [None, None]
        assert [line for line in log.lines if "fallback to char tokens: no answer within 0.02 s" in str(line)]
        assert tokenizer.prepare(completion(LONG)) is None  # it is left alone for a while
    finally:
        gate.set()
        tokenizer.close()


@pytest.mark.parametrize("prompt", ["secret", "secret" * INLINE_CHARACTERS])
async def test_an_error_of_the_library_does_not_repeat_the_prompt(prompt: str) -> None:
    log = FakeLog()

    def failing(prompt: str) -> array[int]:
        raise LookupError(f"can't encode {prompt}")

    tokenizer = local(failing, log)
    assert await prepare(tokenizer, prompt) is None
    tokenizer.close()
    assert "tokenizer failed, fallback to char tokens: LookupError in the tokenizer" in str(log.lines)
    assert "secret" not in str(log.lines)


async def test_a_prompt_without_tokens_is_left_to_its_characters(file: str) -> None:
    log = FakeLog()
    assert await prepare(local(lambda _: array("I"), log), " ") is None
    assert "no tokens of the prompt" in str(log.lines)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scheduler.tokenizer-path: there is no file '.*/nothing.json'"):
        open_encoder(str(tmp_path / "nothing.json"))
    with pytest.raises(ConfigError, match=r"there is no file '.*/tokenizer.json'"):
        open_encoder(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    with pytest.raises(ConfigError, match=r"tokenizer.json is no Hugging Face tokenizer: "):
        open_encoder(str(tmp_path))


def test_without_the_extra(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"isn't installed: pip install 'tokenizers>=0\.20'"):
        open_encoder(file)


def test_what_check_config_says(file: str) -> None:
    assert tokenizer_problems(file, "") == ()
    assert tokenizer_problems("", "http://x") == ()
    assert tokenizer_problems(file, "http://x") == (
        "scheduler.tokenizer-path and scheduler.tokenizer-url are both given; keep one of them",
    )
    (problem,) = tokenizer_problems("/no/where", "")
    assert problem == "scheduler.tokenizer-path: there is no file '/no/where'"
