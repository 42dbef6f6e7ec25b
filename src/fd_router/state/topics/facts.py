"""The topic ``facts``: what engines tell of their caches, which one process of a set asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from fd_router.engines.cache_facts import MAX_RANKS, CacheFacts
from fd_router.state.topic import NewsTopic

_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Ranks = Annotated[int, msgspec.Meta(ge=1, le=MAX_RANKS)]
_Facts = tuple[_Size, _Size, _Ranks]

_decoder = msgspec.msgpack.Decoder(dict[str, _Facts | None])


def _nobody(key: str, facts: CacheFacts | None, /) -> None:
    """No policy wants to know of caches."""


def _always(key: str, /) -> bool:  # noqa: ARG001
    """Until it is known who else is there each asks for itself."""
    return True


class SharedFacts(NewsTopic[_Facts | None]):
    """Tells what an instance answered, by key; None: nothing that says anything of its cache.

    It is told again each time that it was asked, so that who hears nothing for long, of whomever, asks for itself.
    """

    name = "facts"
    is_told_once = False  # it is asked again

    def __init__(self) -> None:
        super().__init__()
        self.is_mine: Callable[[str], bool] = _always
        """Whether the instance with a key is for this process to ask."""
        self.on_told: Callable[[str, CacheFacts | None], None] = _nobody

    def tell(self, key: str, facts: CacheFacts | None) -> None:
        """An instance has answered here."""
        self._news[key] = None if facts is None else (facts.tokens, facts.blocks, facts.ranks)

    def gather(self, *, whole: bool) -> bytes | None:
        """See ``Topic``. It goes with a frame that is sent anyway."""
        return super().gather(whole=whole) if whole else None

    def take(self, process: str, payload: msgspec.Raw) -> None:  # noqa: ARG002
        """See ``Topic``."""
        for key, facts in _decoder.decode(payload).items():
            self.on_told(key, None if facts is None else CacheFacts(*facts))
