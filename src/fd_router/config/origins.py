"""Origins: where each option that was given comes from, told with what is found to be wrong with it later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_KEY: Final = re.compile(r"[a-z]+\.[a-z0-9-]+")


def located(problems: Iterable[str], origins: Mapping[str, str]) -> tuple[str, ...]:
    """Let each problem that begins with an option's key begin with where that option was given.

    ``scheduler.policy: 'x:Y': …`` → ``config.yaml:3: scheduler.policy: 'x:Y': …``.
    """
    return tuple(_located(problem, origins) for problem in problems)


def _located(problem: str, origins: Mapping[str, str]) -> str:
    key = _KEY.match(problem)
    origin = origins.get(key[0], "") if key else ""
    return f"{origin}: {problem}" if origin else problem
