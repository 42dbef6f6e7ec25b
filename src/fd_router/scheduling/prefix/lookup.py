"""The lookup: from a request to who holds which beginning of its prompt, and the note that it was sent somewhere."""

from __future__ import annotations

from collections.abc import Callable

from fd_router.scheduling.prefix.block_hashes import BlockHasher
from fd_router.scheduling.prefix.index import Match, PrefixIndex
from fd_router.scheduling.request_view import RequestView


class PrefixLookup:
    """Goes by what instances were sent. ``block_size``: of the index's blocks, in tokens.

    ``insert(match, name)`` is the index's own.
    """

    __slots__ = ("_hasher", "_index", "insert")

    def __init__(self, index: PrefixIndex, block_size: int) -> None:
        self._index = index
        self._hasher = BlockHasher(block_size)
        self.insert: Callable[[Match, str], None] = index.insert

    @property
    def block_size(self) -> int:
        """Tokens of a block of a match."""
        return self._hasher.block_size

    def find(self, request: RequestView) -> Match:
        """Return what is known of the request's prompt: of its tokens where they are known, else of its text."""
        if (ids := request.token_ids) is not None:
            return self._index.match(self._hasher.of_tokens(ids, request.cache_seed))
        return self._index.match(self._hasher.of_text(request.prompt, request.cache_seed))

    def find_text(self, text: str, seed: int) -> Match:
        """Do the same of a prompt's text alone. ``seed``: ``RequestView.cache_seed``."""
        return self._index.match(self._hasher.of_text(text, seed))
