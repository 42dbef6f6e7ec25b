"""Loads: how busy the candidates are: from this router's own counts, or from what the instances tell of themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.load_table import VECTORIZE_ABOVE

if TYPE_CHECKING:
    import numpy.typing as npt

TIES = 32
"""Of many candidates that are equal, so many are looked at closer."""


class Loads(Protocol):
    """Gives a load for each candidate, in their order."""

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return the loads: a list, or an array when there are many."""


def own_running(candidates: Sequence[Candidate]) -> list[int]:
    """Return the concurrent requests of each candidate, as this router counts them."""
    return [candidate.running for candidate in candidates]


def lowest(values: Sequence[float]) -> float:
    """Return the lowest value of a list or an array."""
    low: float = min(values) if isinstance(values, list) else values.min()  # type: ignore[attr-defined]
    return low


def lowest_places(values: Sequence[float], low: float, rng: random.Random) -> list[int]:
    """Return where ``low`` stands in ``values``; of many places ``TIES`` that follow a random one.

    Always the first ones would send every request of a quiet fleet to the same instances.
    """
    size = len(values)
    if size <= VECTORIZE_ABOVE:
        return [place for place, value in enumerate(values) if value == low]
    if not isinstance(values, list):
        array: npt.NDArray[Any] = values  # type: ignore[assignment]
        found = (array == low).nonzero()[0]
        start = int(rng.random() * len(found)) if len(found) > TIES else 0
        some: list[int] = found[start : start + TIES].tolist()
        return some + found[: TIES - len(some)].tolist() if start else some
    start = int(rng.random() * size)
    places = _places(values, low, start, size, TIES)
    return places + _places(values, low, 0, start, TIES - len(places))


def _places(values: list[float], low: float, start: int, end: int, most: int) -> list[int]:
    places: list[int] = []
    while len(places) < most:
        try:
            start = values.index(low, start, end) + 1
        except ValueError:
            break
        places.append(start - 1)
    return places


class LoadReport(msgspec.Struct, frozen=True):
    """What an instance said of itself, and how many of this router's requests it had when it was asked."""

    running: float
    waiting: float
    own: int
    at: float


class ReportedLoads:
    """The last figures of all instances. Those older than ``max_age`` seconds count as absent."""

    def __init__(self, clock: Callable[[], float], max_age: float) -> None:
        self.max_age = max_age
        self._clock = clock
        self._figures: dict[str, LoadReport] = {}
        self._views: list[RemoteLoads] = []
        self._stale_from = float("inf")  # no figure is too old before this

    def report(self, url: str, running: float, waiting: float, own: int) -> None:
        """Take in what the instance ``url`` said; ``own`` were this router's requests there when it was asked."""
        now = self._clock()
        figure = self._figures[url] = LoadReport(running, waiting, own, now)
        self._stale_from = min(self._stale_from, now + self.max_age)
        for view in self._views:
            view.on_figure(url, figure)

    def forget(self, url: str) -> None:
        """The instance is no member any more, or its figures are void."""
        if self._figures.pop(url, None) is not None:
            for view in self._views:
                view.on_figure(url, None)

    def get(self, url: str) -> LoadReport | None:
        """Return the figures of an instance if they aren't too old."""
        self.drop_stale()
        return self._figures.get(url)

    def drop_stale(self) -> None:
        """Forget figures that are too old. Cheap while there are none."""
        now = self._clock()
        if now < self._stale_from:
            return
        for url in [url for url, figure in self._figures.items() if figure.at + self.max_age <= now]:
            self.forget(url)
        self._stale_from = min((figure.at for figure in self._figures.values()), default=float("inf")) + self.max_age

    def loads(self, waiting_weight: float, own: Loads = own_running) -> RemoteLoads:
        """Make loads of ``running + waiting × waiting_weight`` from the figures; ``own`` gives this router's counts."""
        view = RemoteLoads(self, waiting_weight, own)
        self._views.append(view)
        return view


class RemoteLoads:
    """An instance's own ``running + waiting × weight``, and what this router has sent there and got back since.

    Without figures: this router's own count. What the figures add to that count is kept for the candidates of the
    last call, so that a decision is one addition for each.
    """

    def __init__(self, figures: ReportedLoads, waiting_weight: float, own: Loads = own_running) -> None:
        self._figures = figures
        self._own = own
        self._weight = waiting_weight
        self._candidates: Sequence[Candidate] = ()
        self._places: dict[str, int] = {}
        self._extra: list[float] | npt.NDArray[Any] = []

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return the load of each candidate, at least 0."""
        self._figures.drop_stale()
        if candidates is not self._candidates:
            self._prepare(candidates)
        own = self._own(candidates)
        if isinstance(self._extra, list):
            return [max(0.0, extra + count) for extra, count in zip(self._extra, own, strict=True)]
        return _added(self._extra, own)  # type: ignore[return-value]  # an array

    def on_figure(self, url: str, figure: LoadReport | None) -> None:
        """Take new figures in; None: there are none any more."""
        place = self._places.get(url)
        if place is not None:
            self._extra[place] = self._over(figure)

    def _prepare(self, candidates: Sequence[Candidate]) -> None:
        figures = self._figures
        extra = [self._over(figures.get(candidate.url)) for candidate in candidates]
        self._places = {candidate.url: place for place, candidate in enumerate(candidates)}
        self._candidates = candidates
        self._extra = extra
        if len(extra) > VECTORIZE_ABOVE:
            import numpy as np  # noqa: PLC0415

            self._extra = np.array(extra)

    def _over(self, figure: LoadReport | None) -> float:
        return 0.0 if figure is None else float(figure.running + figure.waiting * self._weight - figure.own)


def _added(extra: npt.NDArray[Any], own: Sequence[float]) -> npt.NDArray[Any]:
    """Return ``extra + own``, at least 0."""
    import numpy as np  # noqa: PLC0415  for large fleets only: it costs start-up time and memory

    loads: npt.NDArray[Any] = extra + own
    np.maximum(loads, 0.0, out=loads)
    return loads
