"""Gauges of several processes: absolute figures by name, and their sums, which follow each change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec

Finite = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
"""A figure that others tell: what is beyond, or no number, none of them has reckoned."""

Amount = Annotated[float, msgspec.Meta(ge=0, le=1e18)]

Figures = tuple[Amount, ...]


class SummedGauges:
    """Keeps what each process told, and calls ``apply(name, sums)`` when a name's sums change."""

    def __init__(self, width: int, apply: Callable[[str, Sequence[float]], None]) -> None:
        """``width``: figures of a name."""
        self._none: Figures = (0,) * width
        self._apply = apply
        self._of: dict[str, dict[str, Figures]] = {}
        self._sums: dict[str, list[float]] = {}

    def take(self, process: str, figures: Mapping[str, Figures], *, whole: bool) -> None:
        """Take in what a process told; ``whole``: what isn't among it is nothing."""
        known = self._of.setdefault(process, {})
        if whole:
            for name in known.keys() - figures.keys():
                self._set(known, name, self._none)
        for name, each in figures.items():
            self._set(known, name, each)

    def forget(self, process: str) -> None:
        """A process is gone."""
        known = self._of.pop(process, None)
        for name in tuple(known or ()):
            self._set(known, name, self._none)  # type: ignore[arg-type]  # it is empty where it is None

    def sums(self, name: str) -> Sequence[float]:
        """Return the sums of a name's figures."""
        return self._sums.get(name, self._none)

    def _set(self, known: dict[str, Figures], name: str, figures: Figures) -> None:
        before = known.get(name, self._none)
        if figures == before or len(figures) != len(self._none):
            return
        sums = self._sums.get(name)
        if sums is None:
            sums = self._sums[name] = list(self._none)
        for place, now in enumerate(figures):
            sums[place] += now - before[place]
        if figures == self._none:
            del known[name]
            if not any(name in others for others in self._of.values()):
                sums[:] = self._none  # sums of fractions needn't come back to nothing by themselves
                del self._sums[name]
        else:
            known[name] = figures
        self._apply(name, sums)

    def __repr__(self) -> str:
        return f"<SummedGauges of {len(self._of)} processes, {len(self._sums)} names>"


def changes(told: Mapping[str, Figures], now: Mapping[str, Figures], width: int) -> dict[str, Figures]:
    """Return what is to be told to those who know ``told`` already."""
    changed = {name: figures for name, figures in now.items() if told.get(name) != figures}
    changed.update(dict.fromkeys(told.keys() - now.keys(), (0,) * width))
    return changed
