"""Reads a trace: who asked when, for how much, sharing which prefix. The format is Mooncake's.

One JSON object a line: ``timestamp`` in ms, ``input_length`` and ``output_length`` in tokens, ``hash_ids``: for each
block of the prompt (512 tokens, the last one may be a partial one) a number that names it and all blocks before it;
``session``, if there is one: whose request it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from fd_router.devtools.engine_model.prompts import Prompt, prompt_from_hash_ids
from fd_router.errors import UNREADABLE, FdRouterError

BLOCK_TOKENS = 512
"""Tokens that a hash id stands for in Mooncake's traces."""

_FORM = '{"timestamp": 0, "input_length": 600, "output_length": 50, "hash_ids": [1, 2]}'


class TraceError(FdRouterError):
    """A trace that can't be used; the message says where, why, and what would do."""


class _Line(msgspec.Struct):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: Annotated[int, msgspec.Meta(ge=1)]
    output_length: Annotated[int, msgspec.Meta(ge=0)]
    hash_ids: list[int]
    session: str = ""


class TraceRequest(msgspec.Struct, frozen=True, gc=False):
    """One request. ``at`` in seconds since the trace's first one; lengths in tokens."""

    number: int  # its line, from 1
    at: float
    input_tokens: int
    output_tokens: int  # at least 1: an engine gives no fewer
    hash_ids: list[int]
    block_tokens: int
    session: str = ""  # whose request it is: a conversation, a key; "" when the trace doesn't tell

    @property
    def prompt(self) -> Prompt:
        """The prompt as the engine model takes it: the same that a mock makes of ``mock_hash_ids``."""
        return prompt_from_hash_ids(self.hash_ids, self.block_tokens, self.input_tokens)


def read_trace(path: str, *, limit: int = 0, block_tokens: int = BLOCK_TOKENS) -> list[TraceRequest]:
    """Read the first ``limit`` requests (0: all), ordered by time. Raises TraceError, OSError when there is no file."""
    decode = msgspec.json.Decoder(_Line).decode
    lines: list[tuple[int, _Line]] = []
    with Path(path).open("rb") as file:
        for number, text in enumerate(file, 1):
            if limit and len(lines) >= limit:
                break
            if text.strip():
                lines.append((number, _read_line(decode, text, f"{path}:{number}", block_tokens)))
    if not lines:
        raise TraceError(f"{path}: no requests; a trace has a line like {_FORM} for each")
    lines.sort(key=lambda each: each[1].timestamp)
    first = lines[0][1].timestamp
    return [
        TraceRequest(
            number,
            (line.timestamp - first) / 1000,
            line.input_length,
            max(1, line.output_length),
            line.hash_ids,
            block_tokens,
            line.session,
        )
        for number, line in lines
    ]


def _read_line(decode: Callable[[bytes], _Line], text: bytes, place: str, block_tokens: int) -> _Line:
    try:
        line = decode(text)
    except UNREADABLE as error:
        raise TraceError(f"{place}: {error}; a line must be like {_FORM}") from None
    most = -(-line.input_length // block_tokens)
    if len(line.hash_ids) > most:
        raise TraceError(
            f"{place}: {len(line.hash_ids)} hash_ids for an input_length of {line.input_length}, which has {most} "
            f"blocks of {block_tokens} tokens; say with --block-tokens how many tokens a block of this trace has"
        )
    return line


def at_speed(requests: Sequence[TraceRequest], speed: float) -> list[TraceRequest]:
    """Let the requests arrive ``speed`` times as fast."""
    return [msgspec.structs.replace(request, at=request.at / speed) for request in requests]


def speed_for_load(requests: Sequence[TraceRequest], load: float, capacity: float) -> float:
    """Return the speed at which all prompts, computed without any cache, are ``load`` of ``capacity`` tokens/s.

    Raises TraceError when all requests come at one time: no speed does that.
    """
    seconds = requests[-1].at
    if not seconds:
        raise TraceError("all requests of the trace come at one time, so no load can be set; leave out --load")
    return load * capacity * seconds / sum(request.input_tokens for request in requests)


def capped(requests: Sequence[TraceRequest], most: int) -> list[TraceRequest]:
    """Let no request want more than ``most`` tokens; 0 changes nothing."""
    if not most:
        return list(requests)
    return [msgspec.structs.replace(each, output_tokens=min(each.output_tokens, most)) for each in requests]
