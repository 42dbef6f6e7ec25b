"""The shape of what a body asks for: how many answers, to how many prompts. A pair can't serve each."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fd_router.errors import UNREADABLE
from fd_router.openai.json_body import read_object
from fd_router.openai.request_fields import whole_number


class AskedShape(msgspec.Struct):
    """The members that matter, of whatever type a client wrote."""

    n: Any = None
    best_of: Any = None
    use_beam_search: Any = None
    prompt: Any = None
    text: Any = None  # SGLang's /generate
    input_ids: Any = None
    sampling_params: Any = None
    prompt_embeds: Any = None
    prompt_logprobs: Any = None
    return_logprob: Any = None
    logprob_start_len: Any = None
    echo: Any = None
    logprobs: Any = None
    max_completion_tokens: Any = None
    kv_transfer_params: Any = None

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        inner = self.sampling_params.get("n") if isinstance(self.sampling_params, dict) else None
        return max(number for value in (self.n, self.best_of, inner, 1) if (number := _number(value)))

    @property
    def prompts(self) -> int:
        """How many prompts there are; a text, or a list of token ids, is one."""
        return max(_prompts(self.prompt), _prompts(self.text), _prompts(self.input_ids))

    @property
    def has_prompt_list(self) -> bool:
        """Whether the prompts are a list, perhaps of one."""
        return any(_is_list(value) for value in (self.prompt, self.text, self.input_ids))

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the prompt's own probabilities are asked for, which who gets its cache doesn't have."""
        if self.prompt_logprobs is not None or (self.echo and self.logprobs is not None):
            return True
        start = self.logprob_start_len
        return bool(self.return_logprob) and (isinstance(start, list) or _number(start) is not None)


_NONE: Final = msgspec.Raw(b"null")


class _Shape(AskedShape):
    """The same as it is decoded where nothing is odd: long prompts are counted, not kept."""

    prompt: msgspec.Raw = _NONE
    text: msgspec.Raw = _NONE
    input_ids: msgspec.Raw = _NONE


_decode = msgspec.json.Decoder(_Shape).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_shape(body: bytes) -> AskedShape:
    """Read a body. Raises BadRequestError when it is no JSON object."""
    try:
        shape = _decode(body)
    except UNREADABLE:
        asked = read_object(body)
        return AskedShape(**{name: asked.get(name) for name in AskedShape.__struct_fields__})
    return shape


def _number(value: Any) -> int | None:
    number = whole_number(value)
    return number if number is not None and number >= 0 else None


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, msgspec.Raw):
        return _decode_items(value) if bytes(memoryview(value)[:1]) == b"[" else None
    return value if isinstance(value, list) else None


def _is_list(value: Any) -> bool:
    items = _items(value)
    return bool(items) and not _is_token(items[0])  # type: ignore[index]  # not of an empty one


def _prompts(value: Any) -> int:
    items = _items(value)
    return len(items) if items and not _is_token(items[0]) else 1


def _is_token(item: Any) -> bool:
    if isinstance(item, msgspec.Raw):
        return bytes(memoryview(item)[:1]) not in (b'"', b"[")
    return not isinstance(item, (str, list))
