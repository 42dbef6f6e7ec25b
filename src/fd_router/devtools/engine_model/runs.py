"""What goes into the engine models and what comes out: settings, requests, tokens."""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

import msgspec

from fd_router.devtools.engine_model.prompts import Prompt


class EngineSettings(msgspec.Struct, frozen=True):
    """How fast and how large the modelled engine is. Times in seconds, sizes in tokens."""

    prefill_tokens_per_sec: float = 20_000.0
    decode_secs: float = 0.010
    decode_secs_per_running: float = 0.0
    cache_tokens: int = 400_000
    max_running: int = 256
    chunk_tokens: int = 0  # of prompts and decode, in a step; 0: prefills run one by one beside decode
    kv_tokens: int = 0  # memory of running requests and of the cache together; 0: as much as they need

    @property
    def is_stepwise(self) -> bool:
        """Whether prefill and decode share steps, or memory."""
        return self.chunk_tokens > 0 or self.kv_tokens > 0


class RunState(Enum):
    """Where a request stands in the engine."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    FINISHED = "finished"
    ABORTED = "aborted"


class Run:
    """One request in the engine. Times are the caller's clock in seconds; NaN means not yet."""

    __slots__ = (
        "cached_tokens", "finished_at", "first_token_at", "is_prefilled", "max_new_tokens", "owner", "prefill_at",
        "produced", "prompt", "state", "submitted_at",
    )  # fmt: skip

    def __init__(self, prompt: Prompt, max_new_tokens: int, owner: object, submitted_at: float) -> None:
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.owner = owner  # whatever the caller wants to find again in a Token
        self.state = RunState.WAITING
        self.is_prefilled = False  # another engine did the prefill
        self.cached_tokens = 0  # known from the prefill's start on
        self.produced = 0
        self.submitted_at = submitted_at
        self.prefill_at = math.nan
        self.first_token_at = math.nan
        self.finished_at = math.nan

    @property
    def is_live(self) -> bool:
        """Whether more tokens may come."""
        return self.state not in {RunState.FINISHED, RunState.ABORTED}

    def __repr__(self) -> str:
        prompt = f"{self.prompt.tokens} tokens ({self.cached_tokens} cached)"
        return f"<Run {self.state.value} {prompt}, {self.produced}/{self.max_new_tokens}>"


class Token(NamedTuple):
    """Token ``number`` (the first is 1) of ``run`` was ready ``at``; ``is_last`` when the run ended with it."""

    at: float
    run: Run
    number: int
    is_last: bool
