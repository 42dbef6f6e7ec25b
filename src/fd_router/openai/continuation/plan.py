"""What is planned for a broken stream: a body for another instance, the end at once, or nothing that can be done."""

from __future__ import annotations

from typing import Literal

import msgspec

By = Literal["tokens", "text", "start"]
"""How another instance learns what was generated: by ids, by text, or not at all, since there was nothing yet."""


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """Another instance can go on: what it is to be sent, and what of its answer is known beforehand."""

    body: bytes
    by: By
    tokens: int = 0  # that it is given beside the prompt, as far as they can be counted
    thoughts: int = 0  # tokens of these that are thoughts
    expected: list[int] | None = None  # the prompt's ids as its answer must tell them; None: that can't be known
    repeats: str = ""  # white space at the text's end that it isn't given and so will generate again
    beginning: str = ""  # of what it is given: an answer that begins so has started over


class Finished(msgspec.Struct, frozen=True):
    """Nothing is left to be generated; only the stream's last events are missing."""

    reason: str  # to finish, as the client reads it


class Impossible(msgspec.Struct, frozen=True):
    """No other instance can go on, and why: a word for log and metric."""

    reason: str


Plan = Continuation | Finished | Impossible
