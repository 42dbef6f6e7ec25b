"""What waits at other routers for an instance: it goes before what waits here, or after it, as if in one queue."""

from __future__ import annotations

from collections.abc import Sequence

from fd_router.scheduling.ttft.held_prompts import AGEING, HeldPrompts
from fd_router.scheduling.ttft.prefill_queue import PromptWork

PATIENCE = 0.06
"""Seconds for which an instance that could take a prompt is left to the router whose prompt goes first: three times as
long as news takes. That router may have died, or its prompt's client have left."""

Waiting = tuple[float, float]
"""The rank of a prompt, as that of one which has just come would be (``told_rank``), and its tokens."""


class HeldElsewhere:
    """The prompts are rows of ``HeldPrompts`` like those that wait here, so that a decision weighs all of them."""

    __slots__ = ("_by_process", "_free_since", "_slot", "_waiting")

    def __init__(self, waiting: HeldPrompts, slot: int) -> None:
        self._waiting = waiting
        self._slot = slot
        self._by_process: dict[str, list[PromptWork]] = {}  # the one that goes first is the first
        self._free_since = 0.0  # since when the instance is left to another router; 0: it isn't

    def know(self, process: str, held: Sequence[Waiting], now: float) -> None:
        """All that waits at a process, the first one first."""
        for row in self._by_process.pop(process, ()):
            self._waiting.remove_other(row)
        rows = []
        for rank, tokens in held:
            row = PromptWork(tokens, now, is_heard=False)
            row.rank = rank + AGEING * now
            if not self._waiting.add_other(row, self._slot):
                break
            rows.append(row)
        if rows:
            self._by_process[process] = rows

    def patience(self, rank: float, now: float) -> float:
        """Return for how many seconds one of ``rank`` leaves the instance to another router; 0: it goes itself."""
        secs = 0.0
        if any(rows[0].rank < rank for rows in self._by_process.values()):
            self._free_since = self._free_since or now
            secs = self._free_since + PATIENCE - now
        if secs <= 0.0:
            self._free_since = 0.0
            return 0.0
        return secs

    def forget(self) -> None:
        """The instance is gone."""
        for process in tuple(self._by_process):
            self.know(process, (), 0.0)

    def on_full(self) -> None:
        """The instance can't take another prompt."""
        self._free_since = 0.0

    def __bool__(self) -> bool:
        return bool(self._by_process)

    def __repr__(self) -> str:
        return f"<HeldElsewhere: {sum(map(len, self._by_process.values()))} prompts>"


def told_rank(rank: float, now: float) -> float:
    """Return a rank as others can be told it, whose clocks are others."""
    return rank - AGEING * now
