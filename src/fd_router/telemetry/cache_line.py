"""The line that tells of a cache-aware choice; FastDeploy's scripts make their hit-rate reports of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from fd_router.telemetry.timestamps import ts_ms

MOST = 64
"""Instances whose loads a line shows. With a thousand it would be the costliest thing a request does."""


class HasUrl(Protocol):
    """A candidate."""

    @property
    def url(self) -> str:
        """``http://IP:PORT``."""


class ChoiceLike(Protocol):
    """How a choice was made; see ``scheduling.contract.Choice``."""

    @property
    def selected(self) -> str:
        """The URL."""

    @property
    def reason(self) -> str:
        """Why the prefix didn't decide, or nothing."""

    @property
    def candidates(self) -> Sequence[HasUrl]:
        """All that could be chosen."""

    @property
    def loads(self) -> Sequence[float]:
        """Their loads."""

    @property
    def hit_ratios(self) -> Mapping[str, int]:
        """URL → percent."""

    @property
    def strategy(self) -> str:
        """What decided when there is no reason."""


def cache_line(choice: ChoiceLike, now: float) -> str:
    """Write ``cache-aware prefill: final strategy: …``; ``now`` is seconds since 1970."""
    loads = _go_map([(candidate.url, load) for candidate, load in _shown(choice)])
    if choice.reason:
        how = f"process_tokens, reason: {choice.reason}, loads={loads}"
    else:
        hits = _go_map(choice.hit_ratios.items())
        how = f"{choice.strategy}, selected={choice.selected}, loads={loads}, hitRatios={hits}"
    return f"cache-aware prefill: final strategy: {how}. ts_ms={ts_ms(now)}"


def _shown(choice: ChoiceLike) -> Iterable[tuple[HasUrl, float]]:
    pairs = zip(choice.candidates, choice.loads, strict=True)
    if len(choice.candidates) <= MOST:
        return pairs
    hits, selected = choice.hit_ratios, choice.selected
    return [pair for pair in pairs if pair[0].url == selected or pair[0].url in hits][:MOST]


def _go_map(items: Iterable[tuple[str, float]]) -> str:
    """Write a map as Go's ``%v`` does; the keys come sorted."""
    return f"map[{' '.join([f'{url}:{round(value)}' for url, value in items])}]"
