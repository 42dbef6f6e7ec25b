"""The precedence of a request: what says who goes first among those that wait in the router for an instance."""

from __future__ import annotations

from typing import Final

import msgspec

NORMAL: Final = "normal"
"""The priority of who asks for none."""


class Precedence(msgspec.Struct, frozen=True):
    """As its client, or its API key, wants it."""

    priority: str = NORMAL
    weight: float = 1.0  # of the turns that priorities share
    deadline: float = 0.0  # for its first token: monotonic seconds; 0: none
    party: str = ""  # those of one key or session take turns with others'; "": it is alone
    refuses_late: bool = False  # it is to be refused rather than served after its deadline
