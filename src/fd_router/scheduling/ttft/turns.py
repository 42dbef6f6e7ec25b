"""Turns: which of the prompts that wait in the router for an instance goes first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from fd_router.errors import HttpError
from fd_router.openai.precedence import Precedence

CLASS: Final = 1e6
"""Seconds by which another priority's prompts are taken to go before, or behind, when a wait is predicted."""


class Waiting(Protocol):
    """A prompt that waits. Its precedence is known."""

    tokens: float
    rank: float
    precedence: Precedence | None


WaitingT = TypeVar("WaitingT", bound=Waiting)


class Turns:
    """Shares between priorities, by stride scheduling (Waldspurger and Weihl, 1995), over all instances of a policy.

    Within a priority: deadlines that can still be met, the earliest first (it meets all of them if any order does:
    Jackson, 1955), then the lowest rank of those without one, into which it counts what of their party waits already
    (``HoldQueue``). Those that come too late anyway are served last, when nobody else suffers by it.
    """

    __slots__ = ("_now", "_passed")

    def __init__(self) -> None:
        self._passed: dict[str, float] = {}  # how far each priority has come
        self._now = 0.0  # how far the one had come that was served last

    def first(self, waiting: Sequence[WaitingT], now: float, speed: float) -> WaitingT:
        """Return who is next of those that wait, which are in the order of their ranks. ``speed`` in tokens/s."""
        if len(waiting) == 1 or waiting[0].precedence is None:
            return waiting[0]
        weights = {each.precedence.priority: each.precedence.weight for each in waiting if each.precedence is not None}
        lane = min(weights, key=lambda name: (self._place(name), -weights[name], name))
        ours = [each for each in waiting if each.precedence is not None and each.precedence.priority == lane]
        hurried = [each for each in ours if _can_be_met(each, now, speed)]
        if hurried:
            return min(hurried, key=_deadline)
        return next((each for each in ours if not _deadline(each)), ours[0])

    def took(self, one: Waiting) -> None:
        """It has had its turn."""
        if (precedence := one.precedence) is not None:
            self._now = self._place(precedence.priority)
            self._passed[precedence.priority] = self._now + 1.0 / precedence.weight

    def _place(self, priority: str) -> float:
        """Return how far a priority has come; one that nobody asked for has no claim to the turns that it missed."""
        return max(self._passed.get(priority, 0.0), self._now)

    def __repr__(self) -> str:
        return f"<Turns {self._passed}>"


def offset_of(precedence: Precedence | None) -> float:
    """Return what is added to the rank of a prompt, in seconds, so that waits are predicted by its precedence."""
    if precedence is None:
        return 0.0
    return -CLASS * (math.log2(precedence.weight) + (0.5 if precedence.deadline else 0.0))


def check_deadline(precedence: Precedence, now: float, predicted: float) -> None:
    """Raise HttpError (503) for a request that wants to be refused, whose first token is predicted to be late."""
    if precedence.refuses_late and now + predicted > precedence.deadline:
        left = max(0.0, precedence.deadline - now)
        raise HttpError(
            f"The first token would come in {predicted:.2f} s; the request's deadline is in {left:.2f} s",
            status=503,
            code="deadline_unmeetable",
        )


def _can_be_met(one: Waiting, now: float, speed: float) -> bool:
    return now + one.tokens / speed <= _deadline(one)


def _deadline(one: Waiting) -> float:
    return one.precedence.deadline if one.precedence is not None else 0.0
