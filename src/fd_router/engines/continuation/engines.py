"""Those ways at single engines: vLLM, SGLang, FastDeploy, and any other that speaks OpenAI's protocol."""

from __future__ import annotations

from typing import Final

import msgspec

from fd_router.engines.continuation.ways import PLAIN, Ways, final_message, prompt_of_ids, prompt_of_text, with_ids
from fd_router.openai.continuation.event_json import encode
from fd_router.openai.continuation.source_request import SourceRequest


def _vllm_chat_of_ids(source: SourceRequest, prompt: list[int], ids: list[int]) -> bytes:
    """Hand the ids over as a prefill instance's prompt is: no connector is needed, and the chat keeps its shape."""
    return with_ids(source, ids, "kv_transfer_params", {"prompt_token_ids": prompt + ids})


def _vllm_chat_of_text(source: SourceRequest, text: str) -> bytes:
    """Both members are needed: one without the other is an error, neither opens a new turn."""
    messages = msgspec.Raw(encode(final_message(source, text)))
    return source.with_members({"messages": messages, "continue_final_message": True, "add_generation_prompt": False})


def _sglang_chat_of_text(source: SourceRequest, text: str) -> bytes:
    """It takes the last message off, and puts its text behind the generation prompt."""
    messages = msgspec.Raw(encode(final_message(source, text)))
    return source.with_members({"messages": messages, "continue_final_message": True})


def _fastdeploy_chat_of_ids(source: SourceRequest, prompt: list[int], ids: list[int]) -> bytes:
    """Ids of the prompt take the messages' place; the answer tells them, so one that ignores them is noticed."""
    return with_ids(source, ids, "prompt_token_ids", prompt + ids, ("completion_token_ids",))


VLLM: Final = Ways(
    chat_by_tokens=_vllm_chat_of_ids,
    chat_by_text=_vllm_chat_of_text,
    completion_by_tokens=prompt_of_ids,
    completion_by_text=prompt_of_text,
    tells_chat_ids=True,
    tells_completion_ids=True,
    counts_text=True,
)
"""Ids are told and taken everywhere, but with media in a chat."""

SGLANG: Final = Ways(
    chat_by_text=_sglang_chat_of_text,
    completion_by_tokens=prompt_of_ids,
    completion_by_text=prompt_of_text,
    tells_completion_ids=True,
    counts_text=True,
)
"""A streamed chat can't tell ids: it is refused when it is asked to."""

FASTDEPLOY: Final = Ways(
    chat_by_tokens=_fastdeploy_chat_of_ids,
    completion_by_tokens=prompt_of_ids,
    completion_by_text=prompt_of_text,
    tells_chat_ids=True,
    tells_completion_ids=True,
)
"""It can't go on with a chat's text: a last message of the assistant is a turn that has ended."""

WAYS: Final = {"vllm": VLLM, "sglang": SGLANG, "fastdeploy": FASTDEPLOY, "openai": PLAIN}
"""By the dialect's name."""
