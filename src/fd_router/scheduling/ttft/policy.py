"""``ttft_aware``: the candidate at which the first token is predicted to come soonest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from fd_router.openai.precedence import NORMAL
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Choice, Environment
from fd_router.scheduling.explanation import Explanation, Standing, among
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.prefix.holder_positions import HolderPositions
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.ttft.cache_sizes import CacheSizes
from fd_router.scheduling.ttft.columns import WHOLE, Column, FleetColumns
from fd_router.scheduling.ttft.held_prompts import HeldPrompts, HoldQueue
from fd_router.scheduling.ttft.learner import TtftLearner
from fd_router.scheduling.ttft.next_step import STEP, StepSharing
from fd_router.scheduling.ttft.placed import Placed
from fd_router.scheduling.ttft.prefill_queue import PrefillQueue, PromptWork
from fd_router.scheduling.ttft.prefill_speed import TOGETHER, PrefillSpeed
from fd_router.scheduling.ttft.rent import Rent
from fd_router.scheduling.ttft.scoring import PlaceArray, Prompt, Scoring
from fd_router.scheduling.ttft.slot_limit import SlotLimit
from fd_router.scheduling.ttft.token_ratio import TokenRatio
from fd_router.scheduling.ttft.turns import Turns, check_deadline

STRATEGY = "ttft_aware"
"""The name in the log line of a choice."""

NEAR = 0.02
"""Candidates are equals when they differ by less than this share of the time to compute the whole prompt."""

BUSY = 16.0
"""An instance is busy when its queue takes as long as this part of the prompt's whole computing: a sixteenth."""

FEW = 16
"""Equals up to so many are told apart by how full their caches are; more are served by turns, which fills all alike."""

MARGIN = 512
"""Tokens by which a prediction may be wrong without saying anything: engines cache in blocks of up to so many."""

CHANGED = 0.05
"""The share by which the fleet's speed must have changed to be told to instances without speeds of their own."""


class TtftAwareOptions(msgspec.Struct, frozen=True):
    """The options of ``ttft_aware``: those of section ``scheduler`` that begin with ``ttft-``, and the block size."""

    recompute_weight: Annotated[float, msgspec.Meta(ge=0)]
    decode_weight_ms: Annotated[float, msgspec.Meta(ge=0)]
    prefill_tokens_per_sec: Annotated[float, msgspec.Meta(ge=1)]
    feed_tokens: Annotated[int, msgspec.Meta(ge=0)]
    block_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]  # tokens


class TtftAwarePolicy(Policy):
    """``ttft_aware``: lowest predicted time to first token, with a weight on computing what another one has cached.

    ::

        score   = wait + before + own × (1 + interference × (running − joined) + joined) + own × behind
                  + recompute-weight × busy² × recomputed + decode-weight × running
        wait    = seconds of what was sent there and isn't prefilled yet (``PrefillQueue``) and as long again as its
                  first token is late, or until there is a slot (``SlotLimit``), if that is longer
        joined  = number of those that wait for the step it would be computed in (``NextStep``)
        before  = seconds of the prompts that wait in the router for it and go before this one (``HoldQueue``)
        behind  = number of those that this one goes before
        own     = (T − cached) / speed         T: tokens of the prompt; cached: as the prefix index says
        recomputed = (the most cached anywhere − cached) / the fleet's speed
        busy       = share of the candidates with a queue that matters to this prompt

    ``wait + before + own`` is the prediction; ``own × joined`` and ``own × behind`` are what others lose by it, so the
    sum of all waiting is what grows least. Computing again what is cached elsewhere costs more than its time: it holds
    up all that come later, and evicts from the cache something that may be asked for. So the weight. In a fleet that
    is mostly idle nobody comes later, and a second copy of a hot prefix is a gain; so the square, found by simulation.
    What is recomputed counts less by the rent that was paid for a prefix which many share (``Rent``).

    Speeds (``PrefillSpeed``), tokens a character (``TokenRatio``), and how much each instance's cache holds
    (``CacheSizes``) are learnt from first tokens and from the usage that engines tell. Of candidates that are
    equal but for ``NEAR``, the one with the fewest running requests, then, of a few, the one with the emptiest cache,
    then the one that was chosen longest ago.
    """

    needs = frozenset({Need.PREFIX_INDEX, Need.TOKEN_IDS, Need.PRECEDENCE, Need.ENGINE_PROMPT})
    Options = TtftAwareOptions

    def __init__(self, environment: Environment, options: TtftAwareOptions) -> None:
        self._clock = environment.clock
        self._random = environment.random
        self._running = environment.load_table.running
        self._on_choice = environment.on_choice
        self._predictions = environment.predictions
        self._is_prefill = environment.role == "prefill"
        index = environment.index
        self._lookup = environment.lookup(index, options.block_size)
        self._reads_engine_prompt = environment.reads_engine_prompt
        self._options = options
        self._sizes = None if index.has_instance_limit else CacheSizes(index)
        self._places = HolderPositions(index)
        self._columns = FleetColumns(options.decode_weight_ms / 1000)
        self._waiting = HeldPrompts(self._columns)
        self._turns = Turns()
        self._rent = Rent()
        self._choices = 0
        self._slots = SlotLimit()  # the fleet's
        self._sharing = StepSharing()
        self._later = environment.later
        self._backlogs: dict[str, PrefillQueue] = {}  # by URL
        self._hold_queues: dict[str, HoldQueue] = {}  # by URL
        self._candidates: Sequence[Candidate] = ()  # all of whom have backlogs
        self._fleet = PrefillSpeed(float(options.prefill_tokens_per_sec))
        self._published, self._published_limit = self._fleet.tokens_per_sec, self._slots.limit  # columns are made by
        self._ratio = TokenRatio()
        self._chosen: Scoring | None = None  # until the prompt is placed
        self._learning = environment.learning
        self._learner = None  # what other routers tell, and are told
        if self._learning is not None:
            self._learner = TtftLearner(
                self._backlogs, self._hold_queues, self._fleet, self._sizes, self, self._waiting
            )
            self._learning.join(self._learner)
            if self._sizes is not None:
                self._sizes.on_learnt = self._learning.learnt_size

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return the candidate with the lowest score."""
        now = self._clock()
        prompt = self._measure(request)
        prompt.precedence = precedence = request.precedence
        scoring = self._score(prompt, candidates, now)
        place = self._pick(scoring.best(), candidates)
        scoring.choice = chosen = candidates[place]
        backlog = self._backlogs[chosen.url]
        prompt.cached = scoring.cached(place)
        prompt.predicted = scoring.wait(place) + prompt.own / backlog.speed.tokens_per_sec
        if precedence is not None and precedence.deadline:
            check_deadline(precedence, now, prompt.predicted)
        self._chosen = scoring
        scoring.settle(place, self._rent)
        self._choices += 1
        self._columns.chosen[backlog.slot] = self._choices
        self._lookup.insert(prompt.match, chosen.url)
        if self._sizes is not None:
            self._sizes.keep(chosen.url)
        if self._on_choice is not None:
            loads = self._running(candidates)
            hits = scoring.hit_ratios()
            hit = hits.get(chosen.url, 0)
            self._on_choice(
                request, Choice(chosen.url, "", candidates, loads, hits, STRATEGY, hit, prompt.match.blocks)
            )
        return chosen

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> Placed:
        """Count the prompt among those that ``candidate`` has to prefill."""
        scoring, self._chosen = self._chosen, None
        assert scoring is not None, "nothing was chosen"
        prompt = scoring.prompt
        if candidate is not scoring.choice:  # another policy's, beside which this one decides
            prompt.cached = scoring.cached_at(candidate)
        del prompt.match  # nobody asks any more, and it is large
        backlog = self._backlogs[candidate.url]
        is_heard = request.stream or self._is_prefill  # whose whole answer is its first token
        hold_queue = self._hold_queues[candidate.url]
        pending = hold_queue.add(prompt.own, self._clock(), is_heard=is_heard, precedence=prompt.precedence)
        return Placed(self, candidate.url, prompt, backlog, pending)

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Explain the predictions. Nothing is remembered."""
        now = self._clock()
        prompt = self._measure(request)
        scoring = self._score(prompt, candidates, now)
        scores = scoring.scores + scoring.most * scoring.weight
        standings = [
            Standing(
                candidate,
                int(scoring.cached(place) * 100 / prompt.tokens),
                self._backlogs[candidate.url].seconds(now) + scoring.before(place),
                float(scores[place]),
                prompt.match.is_told(candidate.url),
            )
            for place, candidate in enumerate(candidates)
        ]
        best: list[int] = scoring.best().tolist()
        one, speed = standings[best[0]], self._backlogs[candidates[best[0]].url].speed.tokens_per_sec
        prompt.cached = scoring.cached(best[0])
        reason = (
            f"lowest score {one.score:.3g} s: {one.load:.3g} s of prompts queued there, {prompt.own / speed:.3g} s for "
            f"this one, of which {one.hit} % is cached, at {speed:.0f} tokens/s"
        )
        return Explanation(reason + among(best, candidates), standings, best)

    # steps of a decision

    def _measure(self, request: RequestView) -> Prompt:
        if (ids := request.token_ids) is not None:
            return Prompt(self._lookup.find(request), len(ids), 1.0, is_estimate=False)
        text = request.engine_prompt if self._reads_engine_prompt else request.prompt
        match = self._lookup.find_text(text, request.cache_seed)
        return Prompt(match, len(text), self._ratio.tokens_per_character, is_estimate=True)

    def _score(self, prompt: Prompt, candidates: Sequence[Candidate], now: float) -> Scoring:
        if candidates is not self._candidates:
            self._meet(candidates)
        columns, speed = self._columns, self._fleet.tokens_per_sec
        at = columns.look_at(candidates)
        price = (columns.step_price if prompt.tokens <= STEP else columns.price)[at]
        waits, weight, busy = columns.queues(at, now), 0.0, 0.0
        if prompt.match.known:  # else nothing would be computed again
            shares = np.minimum(waits * (BUSY * speed / prompt.tokens), WHOLE)
            busy = float(np.add.reduce(shares)) / len(waits)  # ``sum`` goes through Python
            weight = self._options.recompute_weight * busy * busy / speed
        if columns.first_due < now and columns.is_late(now):
            self._wait_longer(waits, candidates, at, now)
        if self._slots.limit != self._published_limit:
            self._publish_slots()
        if columns.full:
            np.maximum(waits, columns.slot_wait[at], out=waits)
        scores = price * prompt.tokens
        scores += waits
        scores += columns.neighbours[at]
        fleet, size, near = self._places.refresh(candidates), self._lookup.block_size, NEAR * prompt.tokens / speed
        scoring = Scoring(prompt, scores, waits, columns, at, price, weight, candidates, fleet, size, near, self._rent)
        scoring.idle = 1.0 - busy
        if self._waiting:
            scoring.weigh(self._waiting, now)
        return scoring

    def _wait_longer(self, waits: Column, candidates: Sequence[Candidate], at: Any, now: float) -> None:
        """Where a first token is late, expect it to take as long again."""
        columns = self._columns
        due = columns.due[at]
        late = now - due
        for place in ((late > 0.0) & (columns.noted[at] != due)).nonzero()[0].tolist():
            self._backlogs[candidates[place].url].on_late()
        waits += np.maximum(late, 0.0, out=late)

    def _publish_slots(self) -> None:
        """What one has shown of its slots, or seems to, holds for all."""
        self._published_limit = self._slots.limit
        for backlog in self._backlogs.values():
            backlog.publish_slots()

    def _pick(self, best: PlaceArray, candidates: Sequence[Candidate]) -> int:
        """Return the one of equals with the fewest running requests, then the emptiest cache, chosen longest ago."""
        columns = self._columns
        if len(best) > 1:
            at = columns.look_at(candidates)
            running = columns.running_at(at)[best]
            best = best[running == running[running.argmin()]]
            if len(best) > 1:
                if len(best) <= FEW:
                    best = best[self._places.emptiest(best.tolist())]
                chosen = columns.chosen[at][best]
                best = best[chosen == chosen[chosen.argmin()]]
        return int(best[int(self._random.random() * len(best))])

    def _meet(self, candidates: Sequence[Candidate]) -> None:
        """Begin a backlog for those that are new, and forget those that are long gone."""
        columns, backlogs = self._columns, self._backlogs
        for candidate in candidates:
            if candidate.url not in backlogs:
                self.backlog_of(candidate.url)
        for url in columns.gone(candidates):
            columns.forget(url)
            del backlogs[url], self._hold_queues[url]
            if self._learner is not None:
                self._learner.drop(url)
            if self._sizes is not None:
                self._sizes.forget(url)
        self._candidates = candidates

    def backlog_of(self, url: str) -> PrefillQueue:
        """Return an instance's queue, a new one if it has none."""
        backlog = self._backlogs.get(url)
        if backlog is None:
            columns = self._columns
            backlog = self._backlogs[url] = PrefillQueue(
                self._fleet, columns, columns.slot(url), self._slots, self._sharing
            )
            self._hold_queues[url] = self._make_hold_queue(backlog, columns.slot(url))
            if self._learning is not None:
                backlog.count_elsewhere(*self._learning.elsewhere(url))
        return backlog

    @property
    def now(self) -> Callable[[], float]:
        """The clock."""
        return self._clock

    def _make_hold_queue(self, backlog: PrefillQueue, slot: int) -> HoldQueue:
        feed = self._options.feed_tokens
        return HoldQueue(backlog, slot, self._waiting, self._clock, self._later, feed, self._turns, self._on_held_sent)

    def _on_held_sent(self, pending: PromptWork, now: float) -> None:
        if self._predictions is not None:
            priority = pending.precedence.priority if pending.precedence is not None else NORMAL
            self._predictions.held(priority, now - pending.came_at)

    def on_instance_unavailable(self, url: str) -> None:
        """An instance has left, or is down: nothing is to wait for it."""
        if (hold_queue := self._hold_queues.get(url)) is not None:
            hold_queue.clear(self._clock())

    # what placements tell

    def on_first_token(self, placed: Placed) -> None:
        """Hear of it; where the ends of the same step of the engine say what it waited for, behind those."""
        now = self._clock()
        if self._later is not None and placed.backlog.is_telling(now):
            placed.wait(self._later(TOGETHER, placed.hear), now)
        else:
            self.heard(placed, now)

    def heard(self, placed: Placed, now: float) -> None:
        """Learn the speed from the time that the prefill took, and the cache's size if no usage tells more."""
        self._observe(placed, now)
        self._hold_queues[placed.url].feed(now)

    def _observe(self, placed: Placed, now: float) -> None:
        prompt = placed.prompt
        observed = now - placed.pending.came_at
        if self._predictions is not None:
            self._predictions.first_token(prompt.predicted, observed)
            if (precedence := prompt.precedence) is not None and precedence.deadline:
                self._predictions.deadline(is_met=now <= precedence.deadline)
        backlog, pending = placed.backlog, placed.pending
        secs = backlog.first_token(pending, now)
        if secs >= 0.0:
            self._learn(placed, secs)
        backlog.on_speed(now)
        if abs(self._fleet.tokens_per_sec - self._published) > CHANGED * self._published:
            self.publish_all()

    def _learn(self, placed: Placed, secs: float) -> None:
        """Its prefill took so long: that tells the speed, or that less was cached than was thought."""
        backlog, pending = placed.backlog, placed.pending
        if not backlog.tells_usage and backlog.speed.is_known and self._judge_by_time(placed, secs):
            backlog.is_step_told = False  # it says more of the cache than of the speed
            return
        backlog.speed.observe(pending.tokens, secs)
        self._fleet.observe(pending.tokens, secs)
        if self._learning is not None:
            self._learning.observed(placed.url, pending.tokens, secs)
        placed.is_observed = True

    def on_usage(self, placed: Placed, prompt_tokens: int, cached_tokens: int) -> None:
        """Learn from what the engine tells of the prompt."""
        prompt, backlog = placed.prompt, placed.backlog
        backlog.tells_usage = True
        if prompt.is_estimate:
            self._ratio.observe(prompt.units, prompt_tokens)
        predicted = int(prompt.share * prompt_tokens)
        if self._predictions is not None:
            self._predictions.cached_tokens(predicted, cached_tokens)
        if self._sizes is not None and not placed.pending.is_reordered:
            margin = MARGIN + predicted // 10
            if predicted - cached_tokens > margin:
                self._sizes.missed(placed.url)
            elif cached_tokens - predicted > margin:
                self._sizes.found(placed.url)
        if placed.is_observed:
            surprise = prompt_tokens - cached_tokens - placed.pending.tokens
            backlog.speed.correct(surprise)
            self._fleet.correct(surprise)

    def on_end(self, placed: Placed) -> None:
        """Nothing is left of it there."""
        self._hold_queues[placed.url].end(placed.pending, self._clock())

    def _judge_by_time(self, placed: Placed, secs: float) -> bool:
        """Conclude from the time of a prefill whether the prefix was cached. Returns False when it shows nothing."""
        sizes, prompt = self._sizes, placed.prompt
        if sizes is None or secs <= TOGETHER:  # computed with the one before, which had the time of both
            return False
        computed = secs * placed.backlog.speed.tokens_per_sec
        together = placed.pending.step_tokens
        most = together + prompt.cached  # if nothing of it was
        if prompt.cached > 2 * MARGIN and 2 * together + 2 * MARGIN < computed < 2 * most:
            sizes.missed(placed.url)
            return True
        if computed < prompt.own / 2 - 2 * MARGIN:
            sizes.found(placed.url)
        return False

    def publish_all(self) -> None:
        """The fleet's speed, which all others lean on, has changed."""
        self._published = self._fleet.tokens_per_sec
        now = self._clock()
        for backlog in self._backlogs.values():
            backlog.on_speed(now)

    def __repr__(self) -> str:
        return f"<TtftAwarePolicy {len(self._backlogs)} instances, {self._fleet!r}>"
