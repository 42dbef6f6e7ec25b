"""``cache_aware`` and ``remote_cache_aware``: where the prompt's prefix is cached, as far as the loads allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.environment import Choice, Environment
from fd_router.scheduling.explanation import Explanation, Standing, among
from fd_router.scheduling.load_table import VECTORIZE_ABOVE
from fd_router.scheduling.loads import Loads, lowest_places
from fd_router.scheduling.policies.least import ProcessTokensPolicy
from fd_router.scheduling.policy import Need, Policy
from fd_router.scheduling.prefix.holder_positions import HolderPositions
from fd_router.scheduling.prefix.index import Group, Match
from fd_router.scheduling.request_view import RequestView

FEW_CANDIDATES = 16
"""Up to so many it is quicker to score all than to look for those that can be best."""

IMBALANCED = "load imbalanced"
EMPTY = "tokenize failed: empty prompt for tokenizer"


_Weight = Annotated[float, msgspec.Meta(ge=0)]


class CacheAwareOptions(msgspec.Struct, frozen=True):
    """The options of ``cache_aware`` and ``remote_cache_aware``."""

    hit_ratio_weight: _Weight
    load_balance_weight: _Weight
    balance_abs_threshold: _Weight
    balance_rel_threshold: _Weight
    block_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]  # tokens

    def score(self, percent: int, load: float, high: float) -> float:
        """Return the score of a candidate with ``percent`` of the prompt and ``load`` where ``high`` is the highest."""
        return (100 - percent) / 100 * self.hit_ratio_weight + load / (high or 1) * self.load_balance_weight


class CacheAwarePolicy(Policy):
    """``cache_aware``: lowest ``(100 − hit%)/100 × hit-ratio-weight + load/maxload × load-balance-weight``.

    Section 4 of FastDeploy's router protocol. hit% = known blocks × 100 / blocks of the prompt, rounded down; load =
    concurrent requests (``remote_cache_aware``: running and waiting ones, as the instance tells, and what was sent
    since); load/maxload is 0 while all are idle. Ties: fewer tokens being processed, then any. If ``max − min > abs``
    and ``(max − min)/max > rel`` over the loads, ``process_tokens`` decides instead, and so it does for an
    empty prompt. However it was chosen, the index remembers who was sent the prompt.
    """

    needs = frozenset({Need.PREFIX_INDEX, Need.TOKEN_IDS})
    Options = CacheAwareOptions

    def __init__(self, environment: Environment, options: CacheAwareOptions) -> None:
        self._random = environment.random
        self._on_choice = environment.on_choice
        self._index = index = environment.index
        self._lookup = environment.lookup(index, options.block_size)
        self._loads = self._make_loads(environment)
        self._options = options
        self._fallback = ProcessTokensPolicy(environment)
        self._places = HolderPositions(index)

    def _make_loads(self, environment: Environment) -> Loads:
        return environment.load_table.running

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Return the candidate with the lowest score, or ``process_tokens``' when the loads are imbalanced."""
        loads = self._loads(candidates)
        low, high = _extremes(loads)
        match = self._lookup.find(request)
        hits: Mapping[str, int] = {}
        reason = self._why_not(request, low, high)
        if reason:
            chosen = self._fallback.choose(request, candidates)
        elif len(candidates) <= FEW_CANDIDATES:
            chosen, hits = self._choose_among_few(match, candidates, loads, high)
        else:
            chosen, hits = self._choose_among_many(match, candidates, loads, low, high)
        on_choice = self._on_choice
        hit = (hits.get(chosen.url, 0) if not reason else self._hit(match, chosen)) if on_choice is not None else 0
        self._lookup.insert(match, chosen.url)
        if on_choice is not None:
            on_choice(request, Choice(chosen.url, reason, candidates, loads, hits, hit=hit, blocks=match.blocks))
        return chosen

    def _choose_among_few(
        self, match: Match, candidates: Sequence[Candidate], loads: Sequence[float], high: float
    ) -> tuple[Candidate, Mapping[str, int]]:
        """Score all of them. Returns the chosen one, and URL → hit% of those with a hit."""
        hits = self._hits(match, candidates)
        chosen = candidates[self._draw(_lowest(self._options, candidates, loads, hits, high))]
        return chosen, {candidates[place].url: hit for place, hit in enumerate(hits) if hit}

    def _choose_among_many(
        self, match: Match, candidates: Sequence[Candidate], loads: Sequence[float], low: float, high: float
    ) -> tuple[Candidate, Mapping[str, int]]:
        """Do the same by scoring only those that can be best."""
        scoring = _Scoring(self._options, self._places.refresh(candidates), match, candidates, loads, low, high)
        chosen = candidates[self._draw(scoring.best(lowest_places(loads, low, self._random)))]
        return chosen, scoring.hit_ratios() if self._on_choice is not None else {}

    def _draw(self, places: Sequence[int]) -> int:
        return places[int(self._random.random() * len(places))] if len(places) > 1 else places[0]

    def _hit(self, match: Match, candidate: Candidate) -> int:
        """Return how many percent of the prompt ``candidate`` knows."""
        holder = self._index.id_of(candidate.url) if match.known else 0
        depth = next((group.depth for group in match.groups() if holder in group.holders), 0) if holder else 0
        return depth * 100 // match.blocks if depth else 0

    def explain(self, request: RequestView, candidates: Sequence[Candidate]) -> Explanation:
        """Explain what the prefix and the loads say. Nothing is remembered."""
        loads = self._loads(candidates)
        low, high = _extremes(loads)
        match = self._lookup.find(request)
        hits = self._hits(match, candidates)
        if why_not := self._why_not(request, low, high):
            other = self._fallback.explain(request, candidates)
            standings = [
                Standing(candidate, hit, float(load), candidate.tokens, match.is_told(candidate.url))
                for candidate, hit, load in zip(candidates, hits, loads, strict=True)
            ]
            return Explanation(f"process_tokens, since {why_not}: {other.reason}", standings, other.best)
        standings = [
            Standing(
                candidate, hit, float(load), self._options.score(hit, float(load), high), match.is_told(candidate.url)
            )
            for candidate, hit, load in zip(candidates, hits, loads, strict=True)
        ]
        best = _lowest(self._options, candidates, loads, hits, high)
        one = standings[best[0]]
        reason = f"lowest score {one.score:.4g}: {one.hit} % of the prompt known there, load {one.load:g} of {high:g}"
        return Explanation(reason + among(best, candidates), standings, best)

    def _hits(self, match: Match, candidates: Sequence[Candidate]) -> list[int]:
        """Return how many percent of the prompt each candidate knows."""
        hits = [0] * len(candidates)
        if match.known:
            places = self._places.refresh(candidates).index_of_holder
            for group in match.groups():  # the deepest first
                percent = group.depth * 100 // match.blocks
                for holder in group.holders:
                    if (place := places.get(holder)) is not None and not hits[place]:
                        hits[place] = percent
        return hits

    def _why_not(self, request: RequestView, low: float, high: float) -> str:
        """Say why the prefix must not decide, or nothing."""
        if self._is_imbalanced(low, high):
            return IMBALANCED
        return EMPTY if request.token_ids is None and not request.prompt else ""

    def _is_imbalanced(self, low: float, high: float) -> bool:
        spread, options = high - low, self._options
        return spread > options.balance_abs_threshold and spread / high > options.balance_rel_threshold


class RemoteCacheAwarePolicy(CacheAwarePolicy):
    """``remote_cache_aware``: loads as the instances tell them, and what was sent since."""

    needs = CacheAwarePolicy.needs | {Need.REPORTED_LOADS}

    def _make_loads(self, environment: Environment) -> Loads:
        # A waiting request is one of an instance's concurrent requests, as those in memory are, so it counts as one.
        return environment.reported_loads.loads(1.0, environment.load_table.running)


def _lowest(
    options: CacheAwareOptions,
    candidates: Sequence[Candidate],
    loads: Sequence[float],
    hits: Sequence[int],
    high: float,
) -> list[int]:
    """Return the places of those with the lowest score that have the fewest tokens."""
    keys = [
        (options.score(hit, float(load), high), candidate.tokens)
        for candidate, hit, load in zip(candidates, hits, loads, strict=True)
    ]
    least = min(keys)
    return [place for place, key in enumerate(keys) if key == least]


class _Scoring:
    """One decision among many. Only those that can be best are scored: with a hit, or among the least loaded."""

    __slots__ = ("_best", "_candidates", "_fleet", "_high", "_hits", "_least", "_loads", "_low", "_match", "_options")

    def __init__(
        self,
        options: CacheAwareOptions,
        fleet: HolderPositions,
        match: Match,
        candidates: Sequence[Candidate],
        loads: Sequence[float],
        low: float,
        high: float,
    ) -> None:
        self._options = options
        self._fleet = fleet
        self._match = match
        self._candidates = candidates
        self._loads = loads
        self._low = low
        self._high = high or 1
        self._hits: dict[int, int] = {}  # place → percent
        self._best: list[int] = []
        self._least: tuple[float, int] = (math.inf, 0)  # score and tokens of the best

    def best(self, idle: Sequence[int]) -> list[int]:
        """Return the places of the best ones, equal in score and tokens; ``idle`` are the least loaded ones."""
        for group in self._match.groups():
            percent = group.depth * 100 // self._match.blocks
            if self._score(percent, self._low) > self._least[0]:
                break  # and so for all that follow: they hold less
            for place in self._worth_a_look(group, idle):
                if place not in self._hits:
                    self._hits[place] = percent
                    self._consider(place, percent)
        missing = [place for place in idle if place not in self._hits] if self._hits else idle
        if missing and self._score(0, self._low) <= self._least[0]:
            # Equal in score, so only the one with the fewest tokens and its equals can count.
            tokens = [self._candidates[place].tokens for place in missing]
            fewest = min(tokens)
            for place, count in zip(missing, tokens, strict=True):
                if count == fewest:
                    self._consider(place, 0)
        return self._best

    def hit_ratios(self) -> dict[str, int]:
        """Return URL → hit% of the candidates with a hit; of very many, those that hold most."""
        hits, match = self._hits, self._match
        for group in match.groups():
            percent = group.depth * 100 // match.blocks
            for place in self._places_of(list(group.holders)[:VECTORIZE_ABOVE]):
                hits.setdefault(place, percent)
            if len(hits) >= VECTORIZE_ABOVE:
                break
        return {self._candidates[place].url: hits[place] for place in sorted(hits) if hits[place]}

    def _worth_a_look(self, group: Group, idle: Sequence[int]) -> Iterable[int]:
        """Return the places in a group that may be its best: in a large one, the least loaded of all if it has any."""
        holders = group.holders
        if len(holders) > VECTORIZE_ABOVE:
            at = self._fleet.holders
            least = [place for place in idle if at[place] in holders]
            if least:
                return least
        return self._places_of(holders)

    def _places_of(self, holders: Iterable[int]) -> list[int]:
        places = self._fleet.index_of_holder
        return [places[holder] for holder in holders if holder in places]

    def _score(self, percent: int, load: float) -> float:
        return self._options.score(percent, load, self._high)

    def _consider(self, place: int, percent: int) -> None:
        key = (self._score(percent, float(self._loads[place])), self._candidates[place].tokens)
        if key < self._least:
            self._least = key
            self._best = [place]
        elif key == self._least:
            self._best.append(place)


def _extremes(loads: Sequence[float]) -> tuple[float, float]:
    if not isinstance(loads, list):
        return float(loads.min()), float(loads.max())  # type: ignore[attr-defined]  # an array
    return min(loads), max(loads)
