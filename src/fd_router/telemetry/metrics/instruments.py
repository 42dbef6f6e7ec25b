"""Counters and histograms that cost one attribute to change, and the families that show them to Prometheus.

``prometheus_client``'s own children take a lock and a method call each; everything here runs on one loop, so a plain
number will do. The client library still writes the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]
Child = TypeVar("Child", "Counter", "Histogram")


class Counter:
    """A number that only grows: ``counter.value += 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def __repr__(self) -> str:
        return f"<Counter {self.value}>"


class Histogram:
    """To observe x: ``histogram.counts[bisect_left(bounds, x)] += 1; histogram.sum += x``.

    The last count is of what is above all bounds.
    """

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, counts: Iterable[int], total: float) -> None:
        """Take in so many more values in each bucket, ``total`` together."""
        self.counts = [own + more for own, more in zip(self.counts, counts, strict=True)]
        self.sum += total

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} values, sum {self.sum:g}>"


class _Family(Generic[Child]):
    """Instruments of one name, one for each set of label values; resolve a child once, and keep it."""

    __slots__ = ("_children", "_help", "_labels", "_name")

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:  # noqa: A002 - Prometheus' word
        self._name = name
        self._help = help
        self._labels = labels
        self._children: dict[Labels, Child] = {}

    def child(self, *values: str) -> Child:
        """Return the instrument with these label values, in the order of the family's labels."""
        found = self._children.get(values)
        if found is None:
            found = self._children[values] = self._make()
        return found

    def _make(self) -> Child:
        raise NotImplementedError

    def children(self) -> Iterable[tuple[Labels, Child]]:
        """Return all instruments with their label values."""
        return self._children.items()

    @property
    def has_children(self) -> bool:
        """Whether there is anything to show."""
        return bool(self._children)

    def forget(self, is_meant: Callable[[Labels], bool]) -> None:
        """Drop the instruments whose label values ``is_meant`` says yes to."""
        for values in [values for values in self._children if is_meant(values)]:
            del self._children[values]


class CounterFamily(_Family[Counter]):
    """Counters of one name."""

    __slots__ = ()

    def _make(self) -> Counter:
        return Counter()

    def collect(self) -> Iterable[Metric]:
        """Give the family as Prometheus' client writes it."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, counter in self._children.items():
            family.add_metric(values, counter.value)
        yield family


class HistogramFamily(_Family[Histogram]):
    """Histograms of one name and the same bounds."""

    __slots__ = ("_bounds",)

    def __init__(self, name: str, help: str, labels: Labels, bounds: tuple[float, ...]) -> None:  # noqa: A002
        super().__init__(name, help, labels)
        self._bounds = bounds

    def _make(self) -> Histogram:
        return Histogram(self._bounds)

    def collect(self) -> Iterable[Metric]:
        """Give the family as Prometheus' client writes it."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for values, histogram in self._children.items():
            buckets = list(zip(names, accumulate(histogram.counts), strict=True))
            family.add_metric(values, buckets, histogram.sum)
        yield family
