"""Origins: where each option that was given comes from, told with what is found to be wrong with it later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_AFTER: Final = (":", ".", " ")
"""What may follow a key in a problem; another letter would make it another key."""


def located(problems: Iterable[str], origins: Mapping[str, str]) -> tuple[str, ...]:
    """Let each problem that begins with an option's key begin with where that option was given.

    ``scheduler.policy: 'x:Y': …`` → ``config.yaml:3: scheduler.policy: 'x:Y': …``. Of a mapping, with where that
    was given within it which the problem names.
    """
    return tuple(_located(problem, origins) for problem in problems)


def _located(problem: str, origins: Mapping[str, str]) -> str:
    keys = [key for key in origins if problem.startswith(key) and problem[len(key) : len(key) + 1] in _AFTER]
    return f"{origins[max(keys, key=len)]}: {problem}" if keys else problem
