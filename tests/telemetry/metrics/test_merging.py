"""One page of several workers' metrics: what is summed, what all tell alike, what stands side by side."""

from __future__ import annotations

from fd_router.telemetry.metrics.merging import merged


def page(*families: str) -> bytes:
    return "".join(families).encode()


def family(name: str, kind: str, *samples: str) -> str:
    return "".join(f"{line}\n" for line in (f"# HELP {name} Words, with spaces.", f"# TYPE {name} {kind}", *samples))


def samples(of: bytes) -> list[str]:
    return [line for line in of.decode().splitlines() if not line.startswith("#")]


def test_counters_and_gauges_are_summed_sample_by_sample() -> None:
    one = page(family("a_total", "counter", 'a_total{x="1"} 2.0', 'a_total{x="2"} 5.0'), family("b", "gauge", "b 1.0"))
    other = page(
        family("a_total", "counter", 'a_total{x="1"} 3.0', 'a_total{x="3"} 7.0'), family("b", "gauge", "b 2.0")
    )
    assert samples(merged({"0": one, "1": other})) == [
        'a_total{x="1"} 5.0', 'a_total{x="2"} 5.0', 'a_total{x="3"} 7.0', "b 3.0",
    ]  # fmt: skip


def test_what_every_worker_tells_alike_is_told_once() -> None:
    name = "fd_router_instance_healthy"
    pages = {str(n): page(family(name, "gauge", f'{name}{{instance="a"}} 1.0')) for n in range(2)}
    assert samples(merged(pages)) == [f'{name}{{instance="a"}} 1.0']


def test_a_counter_of_such_a_name_is_summed() -> None:
    name = "fd_router_prefix_index_hits_total"
    pages = {str(n): page(family(name, "counter", f"{name} 2.0")) for n in range(3)}
    assert samples(merged(pages)) == [f"{name} 6.0"]


def test_what_tells_of_a_process_stands_side_by_side() -> None:
    pages = {
        str(n): page(
            family("process_open_fds", "gauge", f"process_open_fds {n + 8}.0"),
            family("python_gc_total", "counter", f'python_gc_total{{generation="0"}} {n}.0'),
        )
        for n in range(2)
    }
    assert samples(merged(pages)) == [
        'process_open_fds{worker="0"} 8.0',
        'process_open_fds{worker="1"} 9.0',
        'python_gc_total{worker="0",generation="0"} 0.0',
        'python_gc_total{worker="1",generation="0"} 1.0',
    ]


def test_each_family_is_described_once_and_in_one_piece() -> None:
    pages = {str(n): page(family("a", "gauge", "a 1.0"), family("b", "gauge", "b 1.0")) for n in range(3)}
    described = [line for line in merged(pages).decode().splitlines() if line.startswith("#")]
    assert described == [
        "# HELP a Words, with spaces.", "# TYPE a gauge", "# HELP b Words, with spaces.", "# TYPE b gauge",
    ]  # fmt: skip


def test_one_that_only_one_worker_has_is_there() -> None:
    assert samples(merged({"0": b"", "1": page(family("a", "gauge", "a 4.0"))})) == ["a 4.0"]
