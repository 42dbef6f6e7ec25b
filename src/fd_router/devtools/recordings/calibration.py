"""The fleet of a recording, measured: how fast its instances prefill and decode, how much their caches hold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from fd_router.devtools.recordings.arrivals import output_tokens
from fd_router.devtools.recordings.reading import Recording, Served
from fd_router.devtools.simulate.simulator import Fleet
from fd_router.scheduling.prefix.index import CHARACTERS_PER_TOKEN
from fd_router.scheduling.recording import events

FEW = 5
"""Fewer observations than these measure nothing."""

_MOST_OBSERVED = 0.5
"""Of prefills that nothing held up, the larger half: what else takes time weighs less there."""


def measured(recording: Recording, served: Sequence[Served], fleet: Fleet) -> Fleet:
    """Return ``fleet`` as the recording shows it; what can't be seen there stays as it is."""
    engine = fleet.engine
    speed = _prefill_speed(served) or engine.prefill_tokens_per_sec
    decode = _decode_secs(served)
    cache = _cache_tokens(recording) or engine.cache_tokens
    engine = msgspec.structs.replace(engine, prefill_tokens_per_sec=speed, cache_tokens=cache)
    if decode is not None:
        engine = msgspec.structs.replace(engine, decode_secs=decode[0], decode_secs_per_running=decode[1])
    return msgspec.structs.replace(fleet, instances=recording.instances, engine=engine)


def _prefill_speed(served: Sequence[Served]) -> float:
    """Return the tokens/s of prefills that began at once, for nothing else was to be prefilled there; 0: unknown."""
    seen: list[tuple[int, float]] = []  # (tokens, seconds)
    busy_until: dict[int, float] = {}
    for one in sorted(served, key=lambda each: each.sent_at):
        if one.prompt_tokens and one.first_at and one.sent_at >= busy_until.get(one.instance, 0.0):
            seen.append((one.prompt_tokens - one.cached_tokens, one.first_at - one.sent_at))
        until = one.first_at or one.ended_at
        busy_until[one.instance] = max(busy_until.get(one.instance, 0.0), until)
    seen.sort()
    largest = [tokens / secs for tokens, secs in seen[int(len(seen) * _MOST_OBSERVED) :] if secs > 0]
    return statistics.median(largest) if len(largest) >= FEW else 0.0


def _decode_secs(served: Sequence[Served]) -> tuple[float, float] | None:
    """Return the seconds of a decode step, and what each running request adds, by least squares; None: unknown."""
    beside = Occupancy(served)
    rows = [
        ((one.ended_at - one.first_at) / (tokens - 1), beside.mean(one), tokens)
        for one in served
        if one.ended_at > one.first_at > 0 and (tokens := output_tokens(one)) > 1
    ]
    if len(rows) < FEW:
        return None
    paces, running, weights = np.array(rows).T  # a long answer shows more: its first token comes within a step
    if np.ptp(running) < 1:
        return float(np.median(paces)), 0.0
    slope, base = np.polyfit(running, paces, 1, w=weights)
    if slope <= 0 or base <= 0:
        return float(np.median(paces)), 0.0
    return float(base), float(slope)


def _cache_tokens(recording: Recording) -> int:
    """Return the tokens that an instance's cache holds, by what the prefix index was told; 0: nobody told."""
    told = [event.blocks for event in recording.entries if isinstance(event, events.Limited)]
    decisions = (event for event in recording.entries if isinstance(event, events.Decision))
    first = next(decisions, None)
    if not told or first is None:
        return 0
    units = max(told) * recording.header.block_size
    return units if first.is_tokens else units // CHARACTERS_PER_TOKEN


class Occupancy:
    """How many requests decoded at each instance, over time."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._curves: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
        for instance in {one.instance for one in served if one.first_at}:
            there = [one for one in served if one.instance == instance and one.first_at]
            times = np.array([one.first_at for one in there] + [one.ended_at for one in there])
            steps = np.repeat([1.0, -1.0], len(there))
            order = np.argsort(times, kind="stable")
            times, running = times[order], np.cumsum(steps[order])
            sums = np.concatenate(([0.0], np.cumsum(running[:-1] * np.diff(times))))
            self._curves[instance] = times, sums

    def mean(self, one: Served) -> float:
        """Return how many decoded on average while ``one`` did, itself included."""
        times, sums = self._curves[one.instance]
        begun, ended = np.interp([one.first_at, one.ended_at], times, sums)
        return float((ended - begun) / (one.ended_at - one.first_at))
