"""``fd-router simulate``: policies against a trace, a table and plots of how they did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fd_router.devtools.recordings.any_trace import read_any_trace
from fd_router.devtools.report.outcomes import Result
from fd_router.devtools.report.plots import MISSING, can_plot, write_plots
from fd_router.devtools.report.tables import LEGEND, json_of, tables_of
from fd_router.devtools.simulate.options import SimulateOptions
from fd_router.devtools.simulate.pair_runs import pair_runs
from fd_router.devtools.simulate.simulator import Fleet, simulate
from fd_router.devtools.simulate.tune import show_tuned
from fd_router.devtools.simulate.tuning import tune
from fd_router.devtools.simulate.variants import Variant, variants_of
from fd_router.devtools.simulate.what_if import prepare
from fd_router.devtools.traces.trace import TraceRequest, at_speed, capped, speed_for_load

_WIDE = 160  # columns of a page that no terminal limits


def run(options: SimulateOptions) -> int:
    """Simulate, print, write; return the exit code. Raises TraceError, ConfigError, OSError."""
    if options.splitwise:
        return _run_pairs(options)
    if options.tune:
        return _run_tune(options)
    if options.what_if:
        return _run_what_if(options)
    requests, speed = _arrivals(options)
    fleet = options.fleet
    results = _simulate(options, requests, fleet, variants_of(options.policy, options.set, options.config_path))
    load = _offered(requests, fleet)
    conditions: dict[str, object] = {
        **msgspec.to_builtins(options),
        "instances": fleet.instances,
        "requests": len(requests),
        "speed": speed,
        "offered_load": load,
    }
    show(results, _title(options, requests, fleet), conditions, as_json=options.json, out=options.out)
    return 0


def _run_what_if(options: SimulateOptions) -> int:
    what_if = prepare(options.trace, options.policy, options.set, options.config_path, options.fleet, options.limit)
    requests, fleet = what_if.arrivals.requests, what_if.fleet
    results = _simulate(options, requests, fleet, what_if.variants)
    truth = what_if.truth(results[0])
    recorded = msgspec.structs.replace(what_if.recorded, limits=options.limits)
    engine = fleet.engine
    conditions: dict[str, object] = {
        **msgspec.to_builtins(options),
        "requests": len(requests),
        "instances": fleet.instances,
        "engine": msgspec.to_builtins(engine),
        "truth": truth,
    }
    measured = (
        f"a token in {engine.decode_secs * 1e3:.3g} ms and {engine.decode_secs_per_running * 1e3:.3g} ms for each "
        f"running request, {engine.cache_tokens:,} tokens of cache"
    )
    title = "\n".join((f"{_title(options, requests, fleet)}; {measured}", *truth))
    show([recorded, *results], title, conditions, as_json=options.json, out=options.out)
    return 0


def _run_pairs(options: SimulateOptions) -> int:
    runs = pair_runs(options)
    requests, speed = _arrivals(options)
    results = _run_all(options, requests, [(each.name, partial(each.result, seed=options.seed)) for each in runs])
    title = (
        f"{Path(options.trace).name}: {len(requests):,} requests in {requests[-1].at:,.0f} s to pairs of instances of "
        f"{options.fleet.engine.prefill_tokens_per_sec:,.0f} tokens/s"
    )
    conditions = {**msgspec.to_builtins(options), "requests": len(requests), "speed": speed}
    show(results, title, conditions, as_json=options.json, out=options.out)
    return 0


def _run_tune(options: SimulateOptions) -> int:
    if options.what_if:
        what_if = prepare(options.trace, options.tune, options.set, options.config_path, options.fleet, options.limit)
        requests, fleet, variant = what_if.arrivals.requests, what_if.fleet, what_if.variants[-1]
    else:
        requests, fleet = _arrivals(options)[0], options.fleet
        (variant,) = variants_of(options.tune, options.set, options.config_path)
    with progress_bar() as progress:
        tuned = tune(
            requests,
            fleet,
            options.tune,
            variant.options,
            runs=options.tune_runs,
            seed=options.seed,
            on_run=bar_of(progress, f"tuning {options.tune}", options.tune_runs),
        )
    show_tuned(tuned, as_json=options.json)
    return 0


def _simulate(
    options: SimulateOptions, requests: Sequence[TraceRequest], fleet: Fleet, variants: Sequence[Variant]
) -> list[Result]:
    once = partial(simulate, fleet=fleet, seed=options.seed, routers=options.several)
    runs = [(each.name, partial(once, policy=each.policy, options=each.options, name=each.name)) for each in variants]
    return _run_all(options, requests, runs)


def _run_all(
    options: SimulateOptions, requests: Sequence[TraceRequest], runs: Sequence[tuple[str, Callable[..., Result]]]
) -> list[Result]:
    """Let one run after the other, each with its name, simulate the requests."""
    results = []
    with progress_bar() as progress:
        for name, simulate_one in runs:
            result = simulate_one(requests, on_progress=bar_of(progress, name, len(requests)))
            results.append(msgspec.structs.replace(result, limits=options.limits))
    return results


def _title(options: SimulateOptions, requests: Sequence[TraceRequest], fleet: Fleet) -> str:
    return (
        f"{Path(options.trace).name}: {len(requests):,} requests in {requests[-1].at:,.0f} s to {fleet.instances} "
        f"instances of {fleet.engine.prefill_tokens_per_sec:,.0f} tokens/s, which without cache is a load of "
        f"{_offered(requests, fleet):.2f}"
    )


def _offered(requests: Sequence[TraceRequest], fleet: Fleet) -> float:
    """Return what the prompts, computed without any cache, are of what the fleet can prefill."""
    offered = sum(request.input_tokens for request in requests) / (requests[-1].at or 1.0)
    return offered / fleet.prefill_tokens_per_sec


def _arrivals(options: SimulateOptions) -> tuple[list[TraceRequest], float]:
    requests = read_any_trace(options.trace, limit=options.limit, block_tokens=options.block_tokens)
    requests = capped(requests, options.max_output)
    speed = options.speed
    if options.load:
        speed = speed_for_load(requests, options.load, options.capacity)
    return at_speed(requests, speed), speed


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar for each task on stderr, where it is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def bar_of(progress: Progress, name: str, total: int) -> Callable[[int], None]:
    """Begin a bar; what is returned is told how much of ``total`` is done."""
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done)


def show(results: list[Result], title: str, conditions: dict[str, object], *, as_json: bool, out: str) -> None:
    """Write the results to the directory ``out``, if there is one, and print them. Raises OSError."""
    data = json_of(results, conditions)
    if out:
        directory = Path(out)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.json").write_bytes(data)
        if can_plot():
            write_plots(results, title, directory)
        else:
            sys.stderr.write(f"{MISSING}\n")
    if as_json:
        sys.stdout.write(data.decode())
    else:
        console = Console()
        if not console.is_terminal:
            console.width = _WIDE
        console.print(title, style="bold", highlight=False)
        for table in tables_of(results, console):
            console.print(table)
        console.print(LEGEND, style="dim", highlight=False)
        for result in results:
            for error, count in result.summary().errors.items():
                console.print(f"{result.name}: {count} × {error}", style="red", markup=False, highlight=False)
