"""The events of a recording: one JSON object a line, numbers only: no text, no address, no name of a client.

Times are seconds of the router's monotonic clock. Instances and requests are called by numbers that are given as they
come. ``fd_router.devtools.recordings`` reads what is written here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fd_router.openai.precedence import Precedence

VERSION = 1
"""Changes when an older program couldn't read what a newer one writes."""


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event", tag=str.lower):
    """Something that a policy was given, or did."""


class Header(Event, frozen=True, tag="recording"):
    """The first line: how the recording router was set up."""

    version: int
    began: float  # seconds since 1970
    block_size: int  # characters, or tokens, that an id of a prompt's block stands for
    options: dict[str, Any]  # those of section ``scheduler`` that are numbers


class Made(Event, frozen=True):
    """A policy was built; with several models there are several of a role."""

    policy: int  # its number
    role: str  # mixed, prefill or decode
    name: str


class Decision(Event, frozen=True):
    """A policy chose an instance for a request."""

    at: float
    policy: int
    request: int  # its number; another attempt at the same request has another one
    length: int  # of the prompt: characters or, if ``is_tokens``, tokens
    estimate: int  # ``RequestView.tokens``
    hash_ids: list[int]  # for each whole block of the prompt, a number that names it and all before it
    chosen: int  # place among the candidates
    is_tokens: bool = False
    stream: bool = False
    max_tokens: int = 0
    session: str = ""  # a keyed hash
    precedence: Precedence | None = None  # its party is a keyed hash, too
    candidates: list[int] | None = None  # instances, in their order; None: those of the policy's last decision
    counts: list[tuple[int, int, int]] = []  # (place, running requests, tokens) that changed since then
    draws: list[float] = []  # by chance, in [0, 1)


class Dispatched(Event, frozen=True):
    """A request was counted where the policy chose."""

    at: float
    request: int


class Held(Event, frozen=True):
    """It waits in the router, …"""

    request: int


class Sent(Event, frozen=True):
    """… and was sent then."""

    at: float
    request: int


class First(Event, frozen=True):
    """Its first token came."""

    at: float
    request: int


class Usage(Event, frozen=True):
    """The engine told how long its prompt was, and how much of it was cached."""

    at: float
    request: int
    prompt_tokens: int
    cached_tokens: int


class Total(Event, frozen=True):
    """The engine told how many tokens prompt and answer have together."""

    request: int
    tokens: int


class Ended(Event, frozen=True):
    """It is over, however it ended."""

    at: float
    request: int


class Timer(Event, frozen=True):
    """The policies' timer with this number, counted as they were set, went off."""

    at: float
    number: int


class Unavailable(Event, frozen=True):
    """A policy was told that an instance gets nothing new."""

    at: float
    policy: int
    instance: int


class Limited(Event, frozen=True):
    """The prefix index was told how many blocks an instance's cache holds."""

    at: float
    instance: int
    blocks: int


class Forgotten(Event, frozen=True):
    """The prefix index forgot an instance."""

    at: float
    instance: int


class Swept(Event, frozen=True):
    """The prefix index dropped what was unused for long, so many tags at most."""

    at: float
    most: int


class Reported(Event, frozen=True):
    """An instance told of its load."""

    at: float
    instance: int
    running: float
    waiting: float
    own: int


class Unreported(Event, frozen=True):
    """What an instance told of its load is void."""

    at: float
    instance: int


AnyEvent = (
    Header | Made | Decision | Dispatched | Held | Sent | First | Usage | Total | Ended | Timer | Unavailable | Limited
    | Forgotten | Swept | Reported | Unreported
)  # fmt: skip
