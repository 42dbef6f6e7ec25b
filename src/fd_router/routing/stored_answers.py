"""Stored answers: which instance keeps which, so that what is asked about one goes there."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

LIMIT: Final = 200_000
"""Answers that are remembered, the ones used last: some 50 MB. What is forgotten is asked of all instances."""


class Keeper(msgspec.Struct, frozen=True, gc=False):
    """Who keeps an answer, and for whom."""

    instance: str  # its key
    client: str  # the name of the API key that asked for it, "" where none is needed


class StoredAnswers:
    """The keepers of answers by id; bounded."""

    __slots__ = ("_keepers", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._keepers: OrderedDict[str, Keeper] = OrderedDict()
        self._limit = limit

    def keep(self, answer_id: str, instance: str, client: str) -> None:
        """Remember who keeps the answer called ``answer_id``."""
        self._keepers[answer_id] = Keeper(instance, client)
        self._keepers.move_to_end(answer_id)
        if len(self._keepers) > self._limit:
            self._keepers.popitem(last=False)

    def keeper(self, answer_id: str) -> Keeper | None:
        """Return who keeps it, None if that isn't known here."""
        found = self._keepers.get(answer_id)
        if found is not None:
            self._keepers.move_to_end(answer_id)
        return found

    def __len__(self) -> int:
        return len(self._keepers)

    def __repr__(self) -> str:
        return f"<StoredAnswers {len(self._keepers)} of {self._limit}>"
