"""Priorities: their names and shares, and which of them a request has."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fd_router.errors import ConfigError
from fd_router.openai.precedence import NORMAL

_PAIR = re.compile(r"([a-z][a-z0-9_-]*)=([1-9][0-9]{0,5})")


class Priorities:
    """Names with their weights, the highest first. One of them is ``normal``."""

    __slots__ = ("_default", "_rank", "_tiers", "names", "weights")

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = weights
        self.names = tuple(weights)
        self._rank = {name: rank for rank, name in enumerate(self.names)}
        # OpenAI's service tiers; "auto", "default" and unknown ones are normal.
        self._tiers = {"priority": self.names[0], "flex": self.names[-1]}
        self._default = NORMAL

    @classmethod
    def parse(cls, text: str) -> Priorities:
        """Read ``high=16 normal=4 low=1``. Raises ConfigError when it isn't that."""
        pairs = [_PAIR.fullmatch(word) for word in text.replace(",", " ").split()]
        weights = {pair[1]: int(pair[2]) for pair in pairs if pair is not None}
        if None in pairs or len(weights) != len(pairs) or NORMAL not in weights:
            raise ConfigError(
                f"admission.priorities: {text!r} is not a list of different names with weights from 1 to 999999, "
                "one of them 'normal': high=16 normal=4 low=1"
            )
        return cls(weights)

    def choose(self, wanted: str, service_tier: str, most: str | None) -> str:
        """Return a request's priority, by what it asks for: a name, else a service tier, else nothing.

        ``most`` is the highest that its API key gives it, and what it gets without asking; None where there are no
        keys, so that it gets what it asks for.
        """
        asked = wanted if wanted in self._rank else self._tiers.get(service_tier, "")
        if most is None:
            return asked or self._default
        rank = self._rank.get(most, self._rank[self._default])  # the file may be newer than the configuration
        return asked if asked and self._rank[asked] > rank else self.names[rank]

    def __repr__(self) -> str:
        return f"<Priorities {' '.join(f'{name}={weight}' for name, weight in self.weights.items())}>"
