"""Figures of all instances as columns, so that a decision among a thousand is a few vector operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fd_router.scheduling.candidate import Candidate

Column = npt.NDArray[np.float64]

RESERVED_FOR_ADMIN = 64
"""Slots that instances which are gone may keep, beside as many as there ever were candidates at a time."""

WHOLE = np.array(1.0)
"""A share of all. An array, for NumPy takes longer to turn a number into one."""


_COLUMNS = 13


class FleetColumns:
    """Figures of each instance by slot; see ``PrefillQueue``.

    ``until`` and ``behind`` in seconds, ``pace`` in seconds a token, ``running`` requests, ``chosen``: the number of
    the choice that it was last, ``due``: when a first token that hasn't come is late, ``noted``: the last of these
    times that was passed. ``others`` and ``others_running``: seconds of work, and requests, that other routers have
    there, if ``has_others``. What follows from these alone is worked out when they change, which is for one instance at
    a time: ``price`` of a token that it computes (its time, and what that costs its neighbours), ``step_price``: that
    of a prompt that may join its next step and holds up those in it (``NextStep``), ``neighbours``: what
    those cost that run there, and ``slot_wait`` (``SlotLimit``), all in seconds.
    """

    __slots__ = (
        "_candidates", "_free", "_most", "_slots", "_table", "behind", "chosen", "due", "first_due", "full",
        "has_others", "neighbour_secs", "neighbours", "noted", "order", "others", "others_running", "pace", "price",
        "running", "size", "slot_wait", "step_price", "until",
    )  # fmt: skip

    def __init__(self, neighbour_secs: float = 0.0) -> None:
        """``neighbour_secs``: what each request that runs at an instance counts."""
        self.neighbour_secs = neighbour_secs
        self._slots: dict[str, int] = {}  # by URL
        self._free: list[int] = []
        self._most = 0  # candidates at a time: some lists leave out those that were tried, or are full
        self.size = 0  # slots that were ever given
        self._candidates: Sequence[Candidate] = ()
        self.has_others = False
        self.full = 0  # instances with a ``slot_wait``
        self.first_due = np.inf  # no instance's ``due`` is earlier
        self.order: Any = slice(0)  # the candidates' slots: what the columns are indexed with
        self._name(np.zeros((_COLUMNS, RESERVED_FOR_ADMIN)))

    def slot(self, url: str) -> int:
        """Return the slot of an instance, a new one if it has none."""
        slot = self._slots.get(url)
        if slot is None:
            if self._free:
                slot = self._free.pop()
            else:
                slot = self.size
                self.size += 1
                if slot == len(self.until):
                    self._grow()
            self._slots[url] = slot
        return slot

    def look_at(self, candidates: Sequence[Candidate]) -> Any:
        """Return what the columns are to be indexed with for candidates that have slots, in their order."""
        if candidates is not self._candidates:
            slots = [self._slots[candidate.url] for candidate in candidates]
            is_run = slots == list(range(len(slots)))
            self.order = slice(len(slots)) if is_run else np.array(slots)
            self._candidates = candidates
        return self.order

    def queues(self, at: Any, now: float) -> Column:
        """Return the seconds of what is queued, if all goes as reckoned."""
        seconds: Column = self.until[at] - now
        np.maximum(seconds, self.behind[at], out=seconds)
        if self.has_others:
            seconds += self.others[at]
        return seconds

    def is_late(self, now: float) -> bool:
        """Whether a first token is late at any instance, one that isn't a candidate included."""
        if self.first_due >= now:
            return False
        due = self.due[: self.size]
        self.first_due = float(due[due.argmin()])
        return self.first_due < now

    def running_at(self, at: Any) -> Column:
        """Return the requests at each instance, other routers' too."""
        running: Column = self.running[at]
        return running + self.others_running[at] if self.has_others else running

    def gone(self, candidates: Sequence[Candidate]) -> list[str]:
        """Return the URLs without a request that aren't among the candidates, once they are too many to be kept."""
        self._most = max(self._most, len(candidates))
        if len(self._slots) <= 2 * self._most + RESERVED_FOR_ADMIN:
            return []
        present = {candidate.url for candidate in candidates}
        return [url for url, slot in self._slots.items() if url not in present and not self.running[slot]]

    def forget(self, url: str) -> None:
        """Free the slot of an instance that is gone."""
        slot = self._slots.pop(url)
        self.others[slot] = self.others_running[slot] = 0.0
        self.due[slot] = np.inf
        self._free.append(slot)
        self._candidates = ()

    def _grow(self) -> None:
        old = len(self.until)
        table = np.zeros((_COLUMNS, 2 * old))
        table[:, :old] = self._table
        self._name(table)

    def _name(self, table: npt.NDArray[np.float64]) -> None:
        """Let each row of ``table`` be a column by its name."""
        self._table = table
        (
            self.until, self.behind, self.pace, self.running, self.price, self.neighbours, self.slot_wait, self.chosen,
            self.due, self.noted, self.others, self.others_running, self.step_price,
        ) = table  # fmt: skip

    def __len__(self) -> int:
        return len(self._slots)

    def __repr__(self) -> str:
        return f"<FleetColumns of {len(self._slots)} instances>"
