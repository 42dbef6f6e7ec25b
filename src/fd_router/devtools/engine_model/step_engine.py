"""An engine that works in steps: decode tokens and chunks of prefills together, in a memory that may be short.

What continuous batching does (Orca, OSDI '22) with chunked prefills (Sarathi-Serve, OSDI '24), as vLLM's and SGLang's
schedulers do by default: each step gives one token to every decoding request and fills the rest of ``chunk_tokens``
with pieces of prompts, first come first served. A step takes::

    max(decode_secs if anything decodes, prompt tokens / prefill_tokens_per_sec) + decode_secs_per_running × decoding

that is, reading the weights hides behind the computing of prompts or the other way round (a roofline), and each
request in the batch adds its context. So a prefill slows every stream of the instance down, and many streams leave
less of a step for prompts.

With ``kv_tokens`` running requests and the prefix cache share one memory (see ``kv_memory``). A request begins when
its prompt fits. When the generated tokens don't fit any more, the request that began last is preempted: it gives its
memory back, and computes its prompt and what it had generated again later, before all others (recomputation, as vLLM
does).
"""

from __future__ import annotations

import math
from collections import deque

from fd_router.devtools.engine_model.kv_memory import KvMemory
from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import EngineSettings, Run, RunState, Token
from fd_router.devtools.engine_model.steps import steps_under_way

_UNBOUNDED = 1 << 62


class StepEngine:
    """The same methods as ``Engine`` has. Without ``every_token`` steps in which nothing changes are taken in one."""

    def __init__(self, settings: EngineSettings, *, every_token: bool = True) -> None:
        self._settings = settings
        self._every_token = every_token
        self._chunk = settings.chunk_tokens or _UNBOUNDED
        self._waiting: deque[Run] = deque()
        self._prefilling: dict[Run, int] = {}  # tokens still to be computed
        self._decoding: dict[Run, None] = {}
        self._batch: list[Run] = []  # those that decode in the steps under way …
        self._chunks: list[tuple[Run, int]] = []  # … and the prompts, with the tokens that are computed
        self._steps = 0
        self._step_secs = 0.0
        self._steps_began_at = 0.0
        self._step_done_at = math.inf
        self.preempted = 0  # how often
        self.cache = KvMemory(settings.kv_tokens or settings.cache_tokens, is_shared=settings.kv_tokens > 0)

    @property
    def running(self) -> int:
        """Requests in prefill or decode."""
        return len(self._decoding) + len(self._prefilling)

    @property
    def waiting(self) -> int:
        """Requests whose prefill hasn't begun, or that were preempted."""
        return len(self._waiting)

    @property
    def running_tokens(self) -> int:
        """Tokens, of prompts and generated, of the requests in prefill or decode."""
        runs = [*self._decoding, *self._prefilling]
        return sum(run.prompt.tokens + run.produced for run in runs)

    def submit(
        self, prompt: Prompt, max_new_tokens: int, now: float, owner: object = None, *, prefilled: int | None = None
    ) -> Run:
        """See ``Engine.submit``."""
        run = Run(prompt, max_new_tokens, owner, now)
        if prefilled is not None:
            run.is_prefilled, run.cached_tokens = True, prefilled
        self._waiting.append(run)
        if self._step_done_at == math.inf:
            self._start_step(now)
        else:
            self._end_steps_after(now)
        return run

    def abort(self, run: Run, now: float) -> bool:
        """Take ``run`` out, wherever it stands; False if it had ended before."""
        if not run.is_live:
            return False
        if run in self._decoding or run in self._prefilling:
            self._decoding.pop(run, None)
            self._prefilling.pop(run, None)
            self.cache.release(run)
            self._end_steps_after(now)
        else:
            self._waiting.remove(run)
        run.state = RunState.ABORTED
        run.finished_at = now
        return True

    def next_event_at(self) -> float:
        """When the steps under way end; infinity when the engine is idle."""
        return self._step_done_at

    def advance(self, now: float) -> list[Token]:
        """Let time pass until ``now`` and return the tokens that became ready, in order."""
        tokens: list[Token] = []
        while (at := self._step_done_at) <= now:
            self._finish_step(at, tokens)
            self._start_step(at)
        return tokens

    # one step, or several alike

    def _start_step(self, at: float) -> None:
        self._step_done_at = math.inf
        self._make_room()
        self._admit(at)
        self._batch = list(self._decoding)
        self._chunks = self._cut(self._chunk - len(self._batch))
        work = sum(tokens for _, tokens in self._chunks)
        if not self._batch and not self._chunks:
            return
        settings = self._settings
        base = settings.decode_secs if self._batch else 0.0
        self._step_secs = max(base, work / settings.prefill_tokens_per_sec)
        self._step_secs += settings.decode_secs_per_running * len(self._batch)
        self._steps = 1 if self._chunks or self._every_token else self._steps_alike()
        self._steps_began_at = at
        self._step_done_at = at + self._steps * self._step_secs

    def _steps_alike(self) -> int:
        """For how many steps nothing can change: no request ends, and the memory is enough."""
        least = min(run.max_new_tokens - run.produced for run in self._batch)
        return max(1, min(least, self.cache.free // len(self._batch)))

    def _make_room(self) -> None:
        """Preempt those that began last until the others' next tokens fit."""
        while len(self._decoding) > 1 and self.cache.free < len(self._decoding):
            run, _ = self._decoding.popitem()
            self.cache.release(run)
            run.state = RunState.WAITING
            self._waiting.appendleft(run)
            self.preempted += 1

    def _admit(self, at: float) -> None:
        """Begin with those that wait, as long as there are slots, memory, and tokens left of the step."""
        budget = self._chunk - len(self._decoding) - sum(self._prefilling.values())
        while self._waiting and budget > 0 and self.running < self._settings.max_running:
            run = self._waiting[0]
            held = self.cache.take(run, len(self._decoding), is_alone=not self.running)
            if held is None:
                return
            self._waiting.popleft()
            budget -= self._begin(run, held, max(at, run.submitted_at))

    def _begin(self, run: Run, held: int, at: float) -> int:
        """Put a request among those in prefill; return how many tokens it has to compute."""
        run.state = RunState.PREFILLING
        todo = 0 if run.is_prefilled else max(1, run.prompt.tokens + run.produced - held)
        if not run.produced:
            run.prefill_at = at
            if not run.is_prefilled:
                run.cached_tokens = run.prompt.tokens - todo
        self._prefilling[run] = todo
        return todo

    def _cut(self, budget: int) -> list[tuple[Run, int]]:
        """Share what a step has left for prompts among them, in their order."""
        chunks: list[tuple[Run, int]] = []
        for run, left in self._prefilling.items():
            if budget <= 0 and left:
                break
            taken = min(left, budget)
            chunks.append((run, taken))
            budget -= taken
        return chunks

    def _end_steps_after(self, now: float) -> None:
        """Something changes: the steps under way end with the present one."""
        if self._steps > 1 and self._step_done_at != math.inf:
            self._steps = steps_under_way(self._steps, self._steps_began_at, self._step_secs, now)
            self._step_done_at = self._steps_began_at + self._steps * self._step_secs

    def _finish_step(self, at: float, tokens: list[Token]) -> None:
        for run in self._batch:
            if run.state is RunState.DECODING:
                self._produce(run, at, tokens, self._steps)
        for run, taken in self._chunks:
            if run.state is not RunState.PREFILLING:
                continue  # aborted since the step began
            left = self._prefilling[run] - taken
            self._prefilling[run] = left
            if not left:
                self._finish_prefill(run, at, tokens)

    def _finish_prefill(self, run: Run, at: float, tokens: list[Token]) -> None:
        del self._prefilling[run]
        self.cache.keep(run)
        run.state = RunState.DECODING
        self._decoding[run] = None
        if not run.produced:
            run.first_token_at = at
        self._produce(run, at, tokens, 1)

    def _produce(self, run: Run, at: float, tokens: list[Token], number: int) -> None:
        run.produced += number
        self.cache.grow(run, number)
        is_last = run.produced >= run.max_new_tokens
        if is_last or self._every_token or run.produced == 1:
            tokens.append(Token(at, run, run.produced, is_last))
        if is_last:
            del self._decoding[run]
            self.cache.release(run)
            run.state = RunState.FINISHED
            run.finished_at = at

    def __repr__(self) -> str:
        return f"<StepEngine running={self.running} waiting={self.waiting} {self.cache!r}>"
