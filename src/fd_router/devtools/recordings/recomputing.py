"""Recomputes a recording's decisions: each policy is told again all that it was told, and must choose the same.

So it shows whether the recording has all that a decision depends on, and it lets other policies, or other weights,
decide at the very same moments.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from fd_router.config.loading import SchedulerConfig
from fd_router.devtools.recordings.reading import Recording
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.recording import events
from fd_router.scheduling.tracker import RequestTracker

_ID_BYTES = 6


class Agreement(msgspec.Struct, frozen=True):
    """How many decisions were recomputed, and how many of them came out the same."""

    decisions: int
    same: int

    @property
    def share(self) -> float:
        """The share of those that are the same."""
        return self.same / self.decisions if self.decisions else 1.0


class RecordedCandidate:
    """An instance as a decision saw it. It is ``TableBacked``, as the router's own are."""

    __slots__ = ("load_table", "role", "row", "running", "tokens", "url")

    limit = 0
    labels: Mapping[str, str] = MappingProxyType({})

    def __init__(self, number: int, role: str) -> None:
        self.url = url_of(number)
        self.role = role
        self.running = self.tokens = 0
        self.load_table: LoadTable | None = None
        self.row = 0

    def count(self, running: int, tokens: int) -> None:
        """Have these counts from now on."""
        self.running, self.tokens = running, tokens
        if self.load_table is not None:
            self.load_table.update(self.row, running, tokens)


class RecordedRequest:
    """``RequestView`` of a recorded request: text, or tokens, made of its numbers: equal beginnings are equal."""

    __slots__ = (
        "_decision", "_prompt", "_size", "cache_seed", "decisions", "max_tokens", "model", "precedence", "session_id",
        "stream", "token_ids", "tokens", "user",
    )  # fmt: skip

    def __init__(self, decision: events.Decision, block_size: int) -> None:
        self._decision = decision
        self._size = block_size
        self._prompt: str | None = None
        self.tokens = decision.estimate
        self.token_ids = self._ids() if decision.is_tokens else None
        self.stream = decision.stream
        self.max_tokens = decision.max_tokens
        self.session_id = decision.session
        self.precedence = decision.precedence
        self.model = self.user = ""
        self.cache_seed = 0  # the numbers have it in them
        self.decisions: dict[str, str] | None = None

    def header(self, name: str) -> str | None:  # noqa: ARG002
        """Return None: headers aren't recorded."""
        return None

    @property
    def prompt(self) -> str:
        """The text."""
        if self._prompt is None:
            size, decision = self._size, self._decision
            blocks = [each.to_bytes(_ID_BYTES).decode("latin-1").ljust(size)[:size] for each in decision.hash_ids]
            self._prompt = "".join(blocks).ljust(decision.length)
        return self._prompt

    @property
    def engine_prompt(self) -> str:
        """The same: as the recorded policy read it."""
        return self.prompt

    def _ids(self) -> array[int]:
        size, ids = self._size, array("I")
        for each in self._decision.hash_ids:
            block = (each & 0xFFFFFFFF, each >> 32, *([0] * (size - 2)))
            ids.extend(block[:size])
        ids.extend([0] * (self._decision.length - len(ids)))
        return ids


class _Draws(random.Random):
    """Chance as it was: the draws of the decision under way, in their order."""

    def __init__(self) -> None:
        super().__init__(0)
        self.left: list[float] = []

    def random(self) -> float:
        """Return the next one; where there is none, the decision is another one anyway."""
        return self.left.pop() if self.left else super().random()


class _Timer:
    """A timer that goes off when the recording says so."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """See ``Timer``."""
        self.call = None


class Recomputation:
    """All policies of a recording, told again what they were told."""

    def __init__(self, recording: Recording, options: SchedulerConfig) -> None:
        """Raises ConfigError for a policy that can't be had here."""
        self.now = 0.0
        self.same = self.decisions = 0
        self._recording = recording
        self._options = options
        self._draws = _Draws()
        self._index = make_index(self._clock, options)
        self._loads = ReportedLoads(self._clock, options.load_max_age_secs)
        self._policies: dict[int, Policy] = {}
        self._roles: dict[int, str] = {}
        self._members: dict[int, Sequence[RecordedCandidate]] = {}  # by policy: those of its last decision
        self._known: dict[tuple[int, tuple[int, ...]], Sequence[RecordedCandidate]] = {}
        self._candidates: dict[tuple[str, int], RecordedCandidate] = {}
        self._requests: dict[int, tuple[Policy, RecordedRequest, RecordedCandidate]] = {}
        self._trackers: dict[int, RequestTracker] = {}
        self._timers: dict[int, _Timer] = {}
        self._set_timers = 0

    def run(self) -> Agreement:
        """Recompute all decisions."""
        for event in self._recording.entries:
            self._play(event)
        return Agreement(self.decisions, self.same)

    def _play(self, event: events.Event) -> None:
        self.now = getattr(event, "at", self.now)
        match event:
            case events.Made():
                self._make(event)
            case events.Decision():
                self._decide(event)
            case events.Timer():
                self._on_time(event)
            case events.Unavailable():
                self._policies[event.policy].on_instance_unavailable(url_of(event.instance))
            case events.Dispatched():
                policy, request, candidate = self._requests.pop(event.request)
                if (tracker := policy.on_dispatch(request, candidate)) is not None:
                    self._trackers[event.request] = tracker
            case _:
                self._change(event)
                self._tell(event)

    def _change(self, event: events.Event) -> None:
        """Change what policies look at."""
        match event:
            case events.Limited():
                self._index.set_limit(url_of(event.instance), event.blocks)
            case events.Forgotten():
                self._index.remove(url_of(event.instance))
            case events.Swept():
                self._index.sweep(event.most)
            case events.Reported():
                self._loads.report(url_of(event.instance), event.running, event.waiting, event.own)
            case events.Unreported():
                self._loads.forget(url_of(event.instance))
            case _:
                pass

    def _tell(self, event: events.Event) -> None:
        """Tell a request's tracker what became of it."""
        tracker = self._trackers.get(getattr(event, "request", 0))
        if tracker is None:
            return
        match event:
            case events.Held():
                tracker.hold(_nothing)
            case events.First():
                tracker.on_first_token()
            case events.Usage():
                tracker.on_usage(event.prompt_tokens, event.cached_tokens)
            case events.Ended():
                tracker.on_end()
            case _:
                pass

    def _on_time(self, event: events.Timer) -> None:
        timer = self._timers.pop(event.number, None)
        if timer is not None and timer.call is not None:
            timer.call()

    def _make(self, event: events.Made) -> None:
        options = self._options
        own = {
            "mixed": options.policy_options,
            "prefill": options.prefill_policy_options,
            "decode": options.decode_policy_options,
        }
        environment = Environment(
            self._clock,
            self._draws,
            role=event.role,
            later=self._later if event.role == "mixed" else None,
            index=self._index,
            reported_loads=self._loads,
            load_table=LoadTable(),
        )
        self._policies[event.policy] = make_policy(event.name, environment, options, own_options=own[event.role])
        self._roles[event.policy] = event.role

    def _decide(self, event: events.Decision) -> None:
        candidates = self._candidates_of(event)
        policy, request = self._policies[event.policy], RecordedRequest(event, self._recording.header.block_size)
        self._draws.left = event.draws[::-1]
        chosen = policy.choose(request, candidates)
        self.decisions += 1
        self.same += chosen is candidates[event.chosen]
        self._requests[event.request] = policy, request, candidates[event.chosen]

    def _candidates_of(self, event: events.Decision) -> Sequence[RecordedCandidate]:
        if event.candidates is not None:
            role = self._roles[event.policy]
            key = event.policy, tuple(event.candidates)
            if key not in self._known:
                self._known[key] = tuple(self._candidate(role, number) for number in event.candidates)
            self._members[event.policy] = self._known[key]
            counts = {place: (running, tokens) for place, running, tokens in event.counts}
            for place, candidate in enumerate(self._known[key]):
                candidate.count(*counts.get(place, (0, 0)))
            return self._known[key]
        candidates = self._members[event.policy]
        for place, running, tokens in event.counts:
            candidates[place].count(running, tokens)
        return candidates

    def _candidate(self, role: str, number: int) -> RecordedCandidate:
        key = role, number
        if key not in self._candidates:
            self._candidates[key] = RecordedCandidate(number, role)
        return self._candidates[key]

    def _clock(self) -> float:
        return self.now

    def _later(self, _: float, call: Callable[[], None]) -> _Timer:
        self._set_timers += 1
        timer = self._timers[self._set_timers] = _Timer(call)
        return timer


def url_of(number: int) -> str:
    """Return what an instance is called, whose address isn't recorded."""
    return f"http://instance-{number}"


def recompute(recording: Recording, options: SchedulerConfig) -> Agreement:
    """Recompute all decisions under the options that were recorded; ``options`` has what isn't a number.

    Raises ConfigError.
    """
    known = {name: value for name, value in recording.header.options.items() if name in options.__struct_fields__}
    try:
        return Recomputation(recording, msgspec.structs.replace(options, **known)).run()
    except (KeyError, IndexError):
        raise ConfigError("the recording contradicts itself; it can't be recomputed") from None


def _nothing() -> None:
    """Send nothing: the recording says what was sent."""
