"""Data-parallel ranks: an instance of several schedulers and caches, as so many candidates of one policy.

What is counted, limited and judged is the instance; a rank only tells a policy which cache is meant, and how busy its
scheduler is with what this router sent there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, cast

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.reservation import InstanceT, Reservation
from fd_router.scheduling.tracker import RequestTracker

RANK_HEADER = b"x-data-parallel-rank: %d\r\n"
"""By which vLLM and SGLang are told which rank is to serve a request."""


def rank_url(url: str, number: int) -> str:
    """Return the name by which policies and their index know a rank of the instance at ``url``."""
    return f"{url}#rank{number}"


class Rank(Generic[InstanceT]):
    """One rank of an instance: a ``Candidate`` with counts of its own beside the instance's."""

    __slots__ = ("_of", "instance", "key", "line", "load_table", "number", "row", "running", "tokens", "url")

    def __init__(self, instance: InstanceT, number: int, of: int) -> None:
        """``of``: how many ranks the instance has."""
        self.instance = instance
        self.number = number
        self.key = instance.key
        self.url = rank_url(instance.url, number)
        self.line = RANK_HEADER % number
        self._of = of
        self.running = 0
        self.tokens = 0
        self.load_table: LoadTable | None = None  # see ``load_table.TableBacked``
        self.row = 0

    @property
    def limit(self) -> int:
        """Its share of what the instance may have at once, 0 where nothing limits it."""
        return -(-self.instance.limit // self._of)

    @property
    def role(self) -> str:
        """The instance's."""
        return self.instance.role

    @property
    def labels(self) -> Mapping[str, str]:
        """The instance's."""
        return self.instance.labels

    def count(self, requests: int, tokens: int) -> None:
        """Count so many requests and prompt tokens more, or fewer."""
        self.running += requests
        self.tokens += tokens
        if self.load_table is not None:
            self.load_table.update(self.row, self.running, self.tokens)

    def __repr__(self) -> str:
        return f"<Rank {self.url} running={self.running} tokens={self.tokens}>"


class RankReservation(Reservation[InstanceT]):
    """A request's place at a rank, and so at its instance. ``line``: the header by which the rank is asked for."""

    __slots__ = ("_rank", "line")

    def __init__(self, rank: Rank[InstanceT], tokens: int, tracker: RequestTracker | None = None) -> None:
        super().__init__(rank.instance, tokens, tracker)
        self._rank = rank
        self.line = rank.line
        rank.count(1, tokens)

    def prefill_done(self) -> bool:
        """Give the tokens back. Returns whether they were still held."""
        if done := super().prefill_done():
            self._rank.count(0, -self.tokens)
        return done

    def release(self) -> bool:
        """Give the request back, and its tokens if they are still held. Returns whether it was held."""
        tokens = self.tokens if self.holds_tokens else 0
        if released := super().release():
            self._rank.count(-1, -tokens)
        return released


class Ranks(Generic[InstanceT]):
    """The ranks of all instances that have several."""

    def __init__(self) -> None:
        self._ranks: dict[str, tuple[Rank[InstanceT], ...]] = {}  # by the instance's key
        self.version = 0  # of what is known

    def set(self, instance: InstanceT, size: int) -> bool:
        """Note that ``instance`` has ``size`` ranks. Returns whether that is new."""
        if len(self.of(instance)) == (size if size > 1 else 0):
            return False
        self.forget(instance)
        if size > 1:
            self._ranks[instance.key] = tuple(Rank(instance, number, size) for number in range(size))
            self.version += 1
        return True

    def forget(self, instance: InstanceT) -> None:
        """The instance is gone, or is another one."""
        if self._ranks.pop(instance.key, None) is not None:
            self.version += 1

    def of(self, instance: InstanceT) -> tuple[Rank[InstanceT], ...]:
        """Return its ranks, none if it is one itself, or isn't the one that they were noted for."""
        ranks = self._ranks.get(instance.key, ())
        return ranks if ranks and ranks[0].instance is instance else ()

    def names(self, instance: InstanceT) -> Sequence[str]:
        """Return the names by which policies know ``instance``: its own, and those of its ranks."""
        return (instance.url, *(rank.url for rank in self.of(instance)))

    def view(self) -> Callable[[Sequence[InstanceT]], Sequence[InstanceT]]:
        """Return what puts ranks in the place of instances, for one scheduler: it remembers what it was given last."""
        return _View(self)

    def __repr__(self) -> str:
        return f"<Ranks of {len(self._ranks)} instances>"


class _View(Generic[InstanceT]):
    """Returns the same object as long as it is given the same one, and nothing else is known of ranks."""

    __slots__ = ("_asked", "_found", "_ranks", "_version")

    def __init__(self, ranks: Ranks[InstanceT]) -> None:
        self._ranks = ranks
        self._version = -1
        self._asked: Sequence[InstanceT] = ()
        self._found: Sequence[InstanceT] = ()

    def __call__(self, candidates: Sequence[InstanceT]) -> Sequence[InstanceT]:
        if candidates is not self._asked or self._version != self._ranks.version:
            self._asked, self._version = candidates, self._ranks.version
            self._found = self._expand(candidates)
        return self._found

    def _expand(self, candidates: Sequence[InstanceT]) -> Sequence[InstanceT]:
        found: list[Candidate] = []
        for candidate in candidates:
            found += self._ranks.of(candidate) or (candidate,)
        return candidates if len(found) == len(candidates) else cast("Sequence[InstanceT]", tuple(found))


def reserve(chosen: InstanceT | Rank[InstanceT], tokens: int, tracker: RequestTracker | None) -> Reservation[InstanceT]:
    """Take a request's place at what was chosen of a view's candidates."""
    if isinstance(chosen, Rank):
        return RankReservation(chosen, tokens, tracker)
    return Reservation(chosen, tokens, tracker)
