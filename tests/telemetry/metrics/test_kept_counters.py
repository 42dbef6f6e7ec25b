"""The counters of workers that aren't there any more, or don't answer, stay in the sums."""

from __future__ import annotations

from fd_router.telemetry.metrics.kept_counters import MOST, KeptCounters
from fd_router.telemetry.metrics.merging import merged
from tests.telemetry.metrics.test_merging import family, page, samples


def page_of(start: int, age: int, count: int) -> bytes:
    return page(
        family("a_total", "counter", f"a_total {count}.0"),
        family("b", "histogram", f'b_bucket{{le="1"}} {count}.0', f"b_count {count}.0"),
        family("c", "gauge", "c 7.0"),
        family("d_total", "counter", "d_total 0.0"),
        family("process_start_time_seconds", "gauge", f"process_start_time_seconds {start}.0"),
        family("process_cpu_seconds_total", "counter", f"process_cpu_seconds_total {age}.0"),
        family("python_gc_total", "counter", f"python_gc_total {count}.0"),
    )


def test_what_counted_counts_and_nothing_else() -> None:
    kept = KeptCounters()
    first, second = kept.learn("0", page_of(100, 1, 5)), kept.learn("1", page_of(101, 1, 6))
    assert (first, second) == ("0@100.0", "1@101.0")
    assert kept.without([first, second]) == {}
    again = page_of(200, 0, 1)  # the first one has ended
    pages = {"0": again, **kept.without([kept.learn("0", again), second]), "1": page_of(101, 1, 6)}
    sums = samples(merged(pages))
    assert {line for line in sums if line[:1] in "abcd"} == {
        "a_total 12.0", 'b_bucket{le="1"} 12.0', "b_count 12.0", "c 14.0", "d_total 0.0",
    }  # fmt: skip
    assert len([line for line in sums if line.startswith(("process", "python"))]) == 6


def test_another_worker_may_know_more_or_less() -> None:
    one, other = KeptCounters(), KeptCounters()
    process = one.learn("0", page_of(100, 9, 5))
    other.learn("0", page_of(100, 3, 8))  # an instance was removed since, and its counts with it
    one.take(other.all())
    assert b"a_total 5.0" in one.without([])[process]
    other.take(one.all())
    assert other.all() == one.all()
    other.learn("0", page_of(100, 9, 6))
    assert b"a_total 6.0" in other.without([])[process]


def test_not_for_ever() -> None:
    kept = KeptCounters()
    for number in range(MOST + 2):
        kept.learn("0", page_of(100 + number, 1, 1))
    assert len(kept.all()) == MOST
    assert "0@101.0" not in kept.all()
