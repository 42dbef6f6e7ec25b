"""A model of an inference engine: when each token of each request comes. No I/O; the caller owns the clock.

Prefills run one after the other, first come first served, at a fixed speed, and skip what the prefix cache
holds. Their end gives the first token. Running requests then decode together in steps that give each of them one
token; a step takes ``decode_secs + decode_secs_per_running * batch``. Prefill and decode don't slow each
other down, as with a prefill cut into small chunks. A request joins the decode batch at its next step.

Generated tokens aren't put into the prefix cache.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from fd_router.devtools.engine_model.prefix_cache import PrefixCache
from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import EngineSettings, Run, RunState, Token
from fd_router.devtools.engine_model.steps import steps_under_way


class Engine:
    """Event-driven: ``submit`` and ``abort`` as things happen, ``advance`` to the present to collect tokens.

    The clock may start anywhere but must not go backwards. Between calls ``next_event_at`` tells when ``advance``
    will have something to give.

    With ``every_token`` false only the first and the last token of each request are given, at the same times, and the
    steps between are taken in one: what a simulation needs, for a hundredth of the work.
    """

    def __init__(self, settings: EngineSettings, *, every_token: bool = True) -> None:
        self._settings = settings
        self._every_token = every_token
        self._waiting: OrderedDict[Run, None] = OrderedDict()
        self._prefilling: Run | None = None
        self._prefill_done_at = math.inf
        self._decoding: dict[Run, None] = {}
        self._batch: list[Run] = []  # the runs of the steps under way
        self._steps = 0  # how many they are: more than one only if not every token is wanted
        self._step_secs = 0.0
        self._steps_began_at = 0.0
        self._step_done_at = math.inf  # the last of them
        self.cache = PrefixCache(settings.cache_tokens)

    @property
    def running(self) -> int:
        """Requests in prefill or decode."""
        return len(self._decoding) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        """Requests whose prefill hasn't begun."""
        return len(self._waiting)

    @property
    def running_tokens(self) -> int:
        """Tokens, of prompts and generated, of the requests in prefill or decode."""
        decoding = sum(run.prompt.tokens + run.produced for run in self._decoding)
        return decoding + (self._prefilling.prompt.tokens if self._prefilling else 0)

    def submit(
        self, prompt: Prompt, max_new_tokens: int, now: float, owner: object = None, *, prefilled: int | None = None
    ) -> Run:
        """Queue a request that gives ``max_new_tokens`` (at least 1) tokens.

        ``prefilled``: another engine did the prefill, with so many tokens from its cache; the first token is there
        as soon as there is a place.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
        run = Run(prompt, max_new_tokens, owner, now)
        if prefilled is not None:
            run.is_prefilled, run.cached_tokens = True, prefilled
        self._waiting[run] = None
        self._start_prefill(now)
        return run

    def abort(self, run: Run, now: float) -> bool:
        """Take ``run`` out, wherever it stands; False if it had ended before. Its place is free at once."""
        if not run.is_live:
            return False
        self._waiting.pop(run, None)
        if run in self._decoding:
            del self._decoding[run]
            self._end_steps_after(now)
        if run is self._prefilling:
            self._prefilling = None
            self._prefill_done_at = math.inf
        run.state = RunState.ABORTED
        run.finished_at = now
        self._start_prefill(now)
        return True

    def next_event_at(self) -> float:
        """When something comes to an end, mostly a token; infinity when the engine is idle."""
        return min(self._prefill_done_at, self._step_done_at)

    def advance(self, now: float) -> list[Token]:
        """Let time pass until ``now`` and return the tokens that became ready, in order."""
        tokens: list[Token] = []
        while (at := self.next_event_at()) <= now:
            if self._prefilling is not None and at == self._prefill_done_at:
                self._finish_prefill(self._prefilling, at, tokens)
            else:
                self._finish_step(at, tokens)
            self._start_prefill(at)
            if self._step_done_at == math.inf and self._decoding:
                self._start_step(at)
        return tokens

    def _start_prefill(self, at: float) -> None:
        if self._prefilling is not None or not self._waiting or len(self._decoding) >= self._settings.max_running:
            return
        run, _ = self._waiting.popitem(last=False)
        self._prefilling = run
        run.state = RunState.PREFILLING
        # A place that became free before the caller told of this request can't be taken before that.
        run.prefill_at = max(at, run.submitted_at)
        if run.is_prefilled:
            self._prefill_done_at = run.prefill_at
            return
        # The last token is always computed: its result is the first new token.
        held = self.cache.match(run.prompt.blocks) * run.prompt.block_tokens
        run.cached_tokens = min(held, run.prompt.tokens - 1)
        todo = run.prompt.tokens - run.cached_tokens
        self._prefill_done_at = run.prefill_at + todo / self._settings.prefill_tokens_per_sec

    def _finish_prefill(self, run: Run, at: float, tokens: list[Token]) -> None:
        self._prefilling = None
        self._prefill_done_at = math.inf
        if not run.is_prefilled:
            self.cache.insert(run.prompt.blocks, run.prompt.block_tokens)
        run.first_token_at = at
        run.state = RunState.DECODING
        self._decoding[run] = None
        self._end_steps_after(at)
        self._produce(run, at, tokens, 1)

    def _start_step(self, at: float) -> None:
        self._batch = list(self._decoding)
        self._step_secs = self._settings.decode_secs + self._settings.decode_secs_per_running * len(self._batch)
        self._steps = 1 if self._every_token else min(run.max_new_tokens - run.produced for run in self._batch)
        self._steps_began_at = at
        self._step_done_at = at + self._steps * self._step_secs

    def _end_steps_after(self, now: float) -> None:
        """The batch changes: the steps under way end with the present one."""
        if self._steps > 1 and self._step_done_at != math.inf:
            self._steps = steps_under_way(self._steps, self._steps_began_at, self._step_secs, now)
            self._step_done_at = self._steps_began_at + self._steps * self._step_secs

    def _finish_step(self, at: float, tokens: list[Token]) -> None:
        self._step_done_at = math.inf
        for run in self._batch:
            if run.state is RunState.DECODING:  # not aborted since the step began
                self._produce(run, at, tokens, self._steps)

    def _produce(self, run: Run, at: float, tokens: list[Token], number: int) -> None:
        run.produced += number
        is_last = run.produced >= run.max_new_tokens
        if is_last or self._every_token or run.produced == 1:
            tokens.append(Token(at, run, run.produced, is_last))
        if is_last:
            del self._decoding[run]
            run.state = RunState.FINISHED
            run.finished_at = at

    def __repr__(self) -> str:
        return f"<Engine running={self.running} waiting={self.waiting} {self.cache!r}>"
