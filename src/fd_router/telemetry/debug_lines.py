"""Debug lines in FastDeploy's words: who is healthy, what a cache-aware choice went by. Never a prompt or a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from fd_router.telemetry.cache_line import MOST, ChoiceLike


class CountedChoice(ChoiceLike, Protocol):
    """A choice that also tells how long the prompt is."""

    @property
    def blocks(self) -> int:
        """Blocks of the prompt."""


def choice_lines(choice: CountedChoice, tokens: int | None, weights: tuple[float, float]) -> Iterable[str]:
    """Tell how ``choice`` came about. ``tokens``: what a tokenizer counted. ``weights``: of hit and load."""
    if tokens is not None:
        yield f"cache-aware prefill: tokenizer tokens={tokens}"
    yield f"cache-aware prefill: hashes={choice.blocks}"
    hits = " ".join(f"{url}:{hit}" for url, hit in choice.hit_ratios.items())
    yield f"radix match: hits=map[{hits}]"
    highest = max(choice.loads, default=0) or 1
    for candidate, load in list(zip(choice.candidates, choice.loads, strict=True))[:MOST]:
        hit, ratio = choice.hit_ratios.get(candidate.url, 0), load / highest
        score = (100 - hit) / 100 * weights[0] + ratio * weights[1]
        yield f"cache-aware score: worker={candidate.url} hit={hit} loadRatio={ratio:.3f} score={score:.3f}"
    yield f"radix record: worker={choice.selected} hashes={choice.blocks}"


def healthy_line(urls_by_role: Mapping[str, Iterable[str]]) -> str:
    """Name the instances that may be chosen: ``Healthy instances: prefill=[…], decode=[…], mixed=[…]``."""
    return "Healthy instances: " + ", ".join(f"{role}=[{' '.join(urls)}]" for role, urls in urls_by_role.items())
