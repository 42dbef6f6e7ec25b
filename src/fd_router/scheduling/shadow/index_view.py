"""The prefix index as a shadow policy sees it: where prompts really were sent, not where it would have sent them."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.scheduling.prefix.index import Match, PrefixIndex


class SharedIndexView(PrefixIndex):
    """The index that the policy in force keeps: the shadow reads it, and changes nothing."""

    def __init__(self, clock: Callable[[], float], index: PrefixIndex) -> None:
        super().__init__(clock)
        self._index = index
        self.has_instance_limit = True  # how much caches hold is learnt by the policy in force

    def match(self, keys: bytes) -> Match:
        """See ``PrefixIndex``."""
        self.version = self._index.version
        return self._index.match(keys)

    def id_of(self, name: str) -> int:
        """See ``PrefixIndex``."""
        return self._index.id_of(name)

    def blocks_of(self, name: str) -> int:
        """See ``PrefixIndex``."""
        return self._index.blocks_of(name)

    def fullness(self, name: str) -> float:
        """See ``PrefixIndex``."""
        return self._index.fullness(name)

    def insert(self, match: Match, name: str) -> None:
        """Change nothing."""

    def sent_to(self, name: str) -> None:
        """Change nothing: the policy in force does."""


class OwnIndex(PrefixIndex):
    """An index of the shadow's own, where the policy in force keeps none: it has what was sent while it looked on."""

    _pending: Match | None = None

    def insert(self, match: Match, name: str) -> None:  # noqa: ARG002
        """Wait until it is known where the prompt goes."""
        self._pending = match

    def sent_to(self, name: str) -> None:
        """The prompt that was looked at last goes to the instance ``name``."""
        match, self._pending = self._pending, None
        if match is not None:
            super().insert(match, name)
