"""One decision of ``ttft_aware``: what the prompt would cost at each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fd_router.openai.precedence import Precedence
from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.load_table import VECTORIZE_ABOVE
from fd_router.scheduling.prefix.holder_positions import HolderPositions
from fd_router.scheduling.prefix.index import Group, Match
from fd_router.scheduling.prefix.nodes import KEY_BYTES
from fd_router.scheduling.ttft.columns import Column, FleetColumns
from fd_router.scheduling.ttft.held_prompts import HeldPrompts
from fd_router.scheduling.ttft.rent import Rent
from fd_router.scheduling.ttft.turns import offset_of

PlaceArray = npt.NDArray[np.intp]

CROWDING = 0.008
"""Seconds that one request more than at the idlest candidate counts as rent for a cache (``Rent``); n of them: n²."""

GROWTH = 16.0
"""How much room a prompt takes in the end, as a multiple of what of it is new: a conversation goes on."""

MANY = 8
"""From so many on a vector operation is faster than a loop."""


class Prompt:
    """A prompt, measured. ``units``: its characters or, from a tokenizer, tokens, each of them ``per_unit`` tokens."""

    __slots__ = ("cached", "is_estimate", "match", "per_unit", "precedence", "predicted", "tokens", "units")

    def __init__(self, match: Match, units: int, per_unit: float, *, is_estimate: bool) -> None:
        self.match = match
        self.units = units
        self.per_unit = per_unit
        self.is_estimate = is_estimate  # whether ``per_unit`` is
        self.tokens = max(1.0, units * per_unit)
        self.cached = 0.0  # tokens, at the chosen candidate
        self.precedence: Precedence | None = None
        self.predicted = 0.0  # seconds to the first token there

    @property
    def own(self) -> float:
        """Tokens to be computed; the last one always is."""
        return max(1.0, self.tokens - self.cached)

    @property
    def share(self) -> float:
        """The cached part of the prompt."""
        return self.cached / self.tokens


class Scoring:
    """``scores``: seconds, by place; the lowest wins. Given are those of candidates without the prompt in their caches.

    Candidates no more than ``near`` seconds apart are equals.
    """

    __slots__ = (
        "_at",
        "_before",
        "_cached",
        "_candidates",
        "_columns",
        "_fleet",
        "_is_beginning",
        "_price",
        "_rent",
        "_waits",
        "choice",
        "idle",
        "most",
        "near",
        "prompt",
        "scores",
        "shared",
        "weight",
    )  # fmt: skip

    def __init__(
        self,
        prompt: Prompt,
        scores: Column,
        waits: Column,
        columns: FleetColumns,
        at: Any,
        price: Column,
        weight: float,
        candidates: Sequence[Candidate],
        fleet: HolderPositions,
        block_size: int,
        near: float,
        rent: Rent,
    ) -> None:
        self.scores = scores
        self.idle = 1.0  # share of the candidates that have nothing to do which matters to this prompt
        self._waits = waits
        self.shared = b""  # the key of what most of the prompt is cached of
        self._rent = 0.0
        self.near = near
        self.most = 0.0  # tokens cached where most are
        self.prompt = prompt
        self.choice: Candidate | None = None  # where it is to go
        self._columns = columns
        self._at = at  # what they are indexed with
        self.weight = weight  # seconds that a token cached there is worth beside the time to compute it
        self._price = price
        self._candidates = candidates
        self._fleet = fleet
        self._cached: dict[int, float] = {}  # tokens, by place
        self._before: Column | None = None
        self._is_beginning = False  # whether nothing is cached but what others began with, too
        match = prompt.match
        if not match.known:
            return
        for group in match.groups():
            depth = group.depth
            if not self.shared:
                self.shared = match.keys[(depth - 1) * KEY_BYTES : depth * KEY_BYTES]
                self._is_beginning = match.branches and depth <= match.depth
                self._rent = rent.paid(self.shared, len(group.holders), len(scores))
            tokens = min(depth * block_size * prompt.per_unit, prompt.tokens - 1)
            self.most = max(self.most, tokens)
            self._credit(self._worth_a_look(group), tokens)

    def weigh(self, waiting: HeldPrompts, now: float) -> None:
        """Count the prompts that wait in the router: those that go before this one, and those that it holds up."""
        pace = self._columns.pace[self._at]
        own = pace * self.prompt.tokens
        for place, tokens in self._cached.items():
            own[place] -= tokens * pace[place]
        self._before, behind = waiting.weigh(own, pace, now, offset_of(self.prompt.precedence))
        self.scores += self._before + own * behind

    def before(self, place: int) -> float:
        """Return the seconds of work of the prompts that wait in the router and go before this one."""
        return float(self._before[place]) if self._before is not None else 0.0

    def wait(self, place: int) -> float:
        """Return the seconds until the prompt's turn comes at a candidate."""
        return float(self._waits[place]) + self.before(place)

    def best(self) -> PlaceArray:
        """Return the places of the lowest score and of those that are as good."""
        scores = self.scores
        places: PlaceArray = (scores <= scores[scores.argmin()] + self.near).nonzero()[0]  # min() takes longer
        return places

    def cached(self, place: int) -> float:
        """Return how many tokens are cached at a candidate."""
        return self._cached.get(place, 0.0)

    def cached_at(self, candidate: Candidate) -> float:
        """Return the same for a candidate whose place isn't known."""
        places = (place for place, one in enumerate(self._candidates) if one is candidate)
        return self.cached(next(places, -1))

    def hit_ratios(self) -> dict[str, int]:
        """Return URL → percent of the candidates with a hit."""
        whole = self.prompt.tokens
        return {self._candidates[place].url: int(self._cached[place] * 100 / whole) for place in sorted(self._cached)}

    def _credit(self, places: Sequence[int], tokens: float) -> None:
        cached, scores, price, weight = self._cached, self.scores, self._price, self.weight
        new = [place for place in places if place not in cached] if cached else places
        rent, self._rent = self._rent, 0.0  # for the first group only: that of those who hold most
        if len(new) > MANY:
            cached.update(dict.fromkeys(new, tokens))
            scores[new] -= np.maximum(tokens * (price[new] + weight) - rent, 0.0)
            return
        for place in new:
            cached[place] = tokens
            credit = tokens * (price.item(place) + weight) - rent
            if credit > 0.0:
                scores[place] -= credit

    def settle(self, place: int, rent: Rent) -> None:
        """The prompt goes to a candidate: pay for its cache, or buy."""
        if not self.shared:
            return
        if self._cached.get(place, 0.0) < self.most:
            rent.use(self.shared, len(self.scores), is_new=True)
        else:
            room = self._room(place) if self._is_beginning else 0.0
            rent.use(self.shared, len(self.scores), self._crowding(place), room, is_new=False)

    def _crowding(self, place: int) -> float:
        """Return what the cache there is paid for with: how much more crowded it is than the least crowded one.

        In a busy fleet much of that is no price: who went elsewhere would hold up others there.
        """
        running, waits = self._columns.running_at(self._at), self._waits
        more = running.item(place) - running.item(running.argmin())
        longer = waits.item(place) - waits.item(waits.argmin())
        return (more * (more * CROWDING) + longer) * self.idle

    def _room(self, place: int) -> float:
        """Return what the room is worth that the prompt takes in a cache which is fuller than others, in seconds."""
        new = self.prompt.tokens - self._cached.get(place, 0.0)
        return float(new * self._price[place]) * GROWTH * self._fleet.fuller(place) * self.idle

    def _worth_a_look(self, group: Group) -> Sequence[int]:
        """Return the places in a group; of a large one, those that are best but for the cache, if any of them are."""
        holders = group.holders
        if len(holders) > VECTORIZE_ABOVE:
            at = self._fleet.holders
            if found := [place for place in self.best()[:VECTORIZE_ABOVE].tolist() if at[place] in holders]:
                return found
            if len(self.scores) > VECTORIZE_ABOVE:
                some = np.argpartition(self.scores, VECTORIZE_ABOVE)[:VECTORIZE_ABOVE].tolist()
                if found := [place for place in some if at[place] in holders]:
                    return found
        places = self._fleet.index_of_holder
        return [places[holder] for holder in islice(holders, VECTORIZE_ABOVE) if holder in places]
