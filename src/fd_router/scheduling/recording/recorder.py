"""The recorder: writes what policies are given and what they do, in its order and at one time for each step."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from fd_router.openai.precedence import Precedence
from fd_router.scheduling.environment import Later, Timer
from fd_router.scheduling.prefix.block_hashes import BlockHasher
from fd_router.scheduling.recording import events
from fd_router.scheduling.recording.key_mask import SECRET_BYTES, KeyMask
from fd_router.scheduling.request_view import RequestView

_SESSION_BYTES = 6


class Recorder:
    """One for all policies of a router. ``clock``, ``random`` and ``later`` are what they are to be built with.

    Within a step (a decision, a first token, …) ``clock`` stands still, so that who recomputes it sees the same time.
    ``write`` is given whole lines; while ``is_open`` is false nothing is recorded.
    """

    def __init__(
        self, clock: Callable[[], float], write: Callable[[bytes], None], secret: bytes, block_size: int
    ) -> None:
        """``secret``: ``SECRET_BYTES`` random bytes, under which prompts and sessions are named."""
        self.is_open = True
        self.steps = 0  # how many are under way, one within the other
        self.draws: list[float] = []  # of the decision under way
        self.random: random.Random = _RecordedRandom(self)
        self._clock = clock
        self._write = write
        self._secret = secret[:SECRET_BYTES]
        self._mask = KeyMask(self._secret)
        self._hasher = BlockHasher(block_size)
        self._encode = msgspec.json.Encoder().encode
        self._now = 0.0
        self._instances: dict[str, int] = {}  # by URL
        self._requests = self._policies = self._timers = 0

    def write(self, event: events.Event) -> None:
        """Write an event."""
        if self.is_open:
            self._write(self._encode(event) + b"\n")

    def begin(self, began: float, options: dict[str, Any]) -> None:
        """Write the first line; ``began``: seconds since 1970."""
        self.write(events.Header(events.VERSION, began, self._hasher.block_size, options))

    # time

    def clock(self) -> float:
        """Return the time: that of the step under way, if there is one."""
        return self._now if self.steps else self._clock()

    def __enter__(self) -> float:
        """Begin a step, and return its time."""
        if not self.steps:
            self._now = self._clock()
        self.steps += 1
        return self._now

    def __exit__(self, *_: object) -> None:
        self.steps -= 1

    def later(self, later: Later) -> Later:
        """Return ``later`` for policies: what is called has a number, and is a step."""

        def recorded(seconds: float, call: Callable[[], None]) -> Timer:
            self._timers += 1
            number = self._timers

            def on_time() -> None:
                with self as now:
                    self.write(events.Timer(now, number))
                    call()

            return later(seconds, on_time)

        return recorded

    # names

    def next_request(self) -> int:
        """Return the number of another request."""
        self._requests += 1
        return self._requests

    def next_policy(self, role: str, name: str) -> int:
        """Return the number of another policy. A plug-in's name is the program's, not a client's: it is written."""
        self._policies += 1
        self.write(events.Made(self._policies, role, name))
        return self._policies

    def instance(self, url: str) -> int:
        """Return the number of an instance."""
        return self._instances.setdefault(url, len(self._instances))

    def session(self, name: str) -> str:
        """Return what a session is called in the recording, "" for none."""
        return (
            blake2b(name.encode("utf-8", "replace"), key=self._secret, digest_size=_SESSION_BYTES).hexdigest()
            if name
            else ""
        )

    def precedence(self, precedence: Precedence | None) -> Precedence | None:
        """Return a precedence as it is recorded: its party is as nameless as a session."""
        return precedence and msgspec.structs.replace(precedence, party=self.session(precedence.party))

    def prompt(self, request: RequestView, *, of_engine: bool) -> tuple[int, list[int], bool]:
        """Return a prompt's length, the numbers of its blocks, and whether they are of tokens.

        ``of_engine``: of the prompt as engines have it.
        """
        if (ids := request.token_ids) is not None:
            return len(ids), self._mask(self._hasher.of_tokens(ids, request.cache_seed)), True
        text = request.engine_prompt if of_engine else request.prompt
        return len(text), self._mask(self._hasher.of_text(text, request.cache_seed)), False

    def __repr__(self) -> str:
        return f"<Recorder of {self._requests} requests, {'open' if self.is_open else 'closed'}>"


class _RecordedRandom(random.Random):
    """Chance, whose draws the recorder hears of; all that ``random.Random`` offers is made of these."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def random(self) -> float:
        drawn = super().random()
        if self._recorder.steps:
            self._recorder.draws.append(drawn)
        return drawn
