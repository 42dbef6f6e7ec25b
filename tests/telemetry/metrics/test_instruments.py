from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from fd_router.telemetry.metrics.instruments import CounterFamily, HistogramFamily

BOUNDS = (0.001, 0.5, 1.0, 60.0)


def written(family: object) -> list[str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(family)  # type: ignore[arg-type]
    return [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100))))
def test_a_histogram_is_written_as_the_client_librarys_own(values: list[float]) -> None:
    family = HistogramFamily("x_seconds", "help", ("k",), BOUNDS)
    child = family.child("v")
    theirs = Histogram("x_seconds", "help", ("k",), buckets=BOUNDS, registry=None)
    for value in values:
        child.counts[bisect_left(BOUNDS, value)] += 1
        child.sum += value
        theirs.labels("v").observe(value)
    theirs.labels("v")
    assert written(family) == [line for line in written(theirs) if "_created" not in line]


def test_a_child_is_resolved_once() -> None:
    family = CounterFamily("x_total", "help", ("a", "b"))
    family.child("1", "2").value += 1
    family.child("1", "2").value += 2
    assert written(family) == ['x_total{a="1",b="2"} 3.0']
    assert repr(family.child("1", "2")) == "<Counter 3>"
    histograms = HistogramFamily("y", "help", ("a",), BOUNDS)
    assert histograms.child("1") is histograms.child("1")
    assert repr(histograms.child("1")) == "<Histogram 0 values, sum 0>"


def test_children_can_be_forgotten() -> None:
    family = CounterFamily("x_total", "help", ("a",))
    family.child("1")
    family.child("2")
    family.forget(lambda values: values == ("1",))
    assert written(family) == ['x_total{a="2"} 0.0']


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb"])
def test_label_values_are_escaped(value: str) -> None:
    family = CounterFamily("x_total", "help", ("a",))
    family.child(value)
    (line,) = written(family)
    assert line.count("\\") > value.count("\\")
