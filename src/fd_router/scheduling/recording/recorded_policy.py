"""A recorded policy: chooses as another one does, and lets the recorder know of all that goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fd_router.scheduling.candidate import Candidate
from fd_router.scheduling.policy import Need, Policy, PolicyDecorator
from fd_router.scheduling.recording import events
from fd_router.scheduling.recording.recorder import Recorder
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.tracker import RequestTracker


class RecordedPolicy(PolicyDecorator):
    """Stands nearest to the policy that it records, which must have been built with the recorder's clock and chance."""

    def __init__(self, policy: Policy, recorder: Recorder, role: str, name: str) -> None:
        super().__init__(policy)
        self._recorder = recorder
        self._number = recorder.next_policy(role, name)
        self._reads_engine_prompt = Need.ENGINE_PROMPT in policy.needs
        self._candidates: Sequence[Candidate] = ()
        self._places: dict[str, int] = {}  # of the candidates, by URL
        self._counts: list[tuple[int, int]] = []  # theirs at the last decision
        self._request = 0  # the one chosen for last

    def choose(self, request: RequestView, candidates: Sequence[Candidate]) -> Candidate:
        """Choose, and write down what there was to choose from."""
        recorder = self._recorder
        if not recorder.is_open:
            self._request = 0
            return self._policy.choose(request, candidates)
        with recorder as now:
            draws = recorder.draws = []
            chosen = self._policy.choose(request, candidates)
            members, counts = self._changes(candidates)  # not before: it may raise, and then no line tells of them
        self._request = recorder.next_request()
        length, hash_ids, is_tokens = recorder.prompt(request, of_engine=self._reads_engine_prompt)
        recorder.write(
            events.Decision(
                now,
                self._number,
                self._request,
                length,
                request.tokens,
                hash_ids,
                self._places[chosen.url],
                is_tokens,
                request.stream,
                request.max_tokens,
                recorder.session(request.session_id),
                recorder.precedence(request.precedence),
                members,
                counts,
                draws,
            )
        )
        return chosen

    def on_dispatch(self, request: RequestView, candidate: Candidate) -> RequestTracker | None:
        """Let the policy note its choice; what becomes of the request is written down."""
        recorder, number = self._recorder, self._request
        if not number:
            return self._policy.on_dispatch(request, candidate)
        with recorder as now:
            recorder.write(events.Dispatched(now, number))
            return RecordedTracker(recorder, number, self._policy.on_dispatch(request, candidate))

    def on_instance_unavailable(self, url: str) -> None:
        """Let the policy know."""
        recorder = self._recorder
        with recorder as now:
            recorder.write(events.Unavailable(now, self._number, recorder.instance(url)))
            self._policy.on_instance_unavailable(url)

    def _changes(self, candidates: Sequence[Candidate]) -> tuple[list[int] | None, list[tuple[int, int, int]]]:
        """Return the candidates, if they are others than the last time, and whose counts aren't what they were."""
        before, counts = self._counts, [(candidate.running, candidate.tokens) for candidate in candidates]
        self._counts = counts
        if candidates is self._candidates:
            return None, [
                (place, *now) for place, (now, then) in enumerate(zip(counts, before, strict=True)) if now != then
            ]
        self._candidates = candidates
        self._places = {candidate.url: place for place, candidate in enumerate(candidates)}
        return (
            [self._recorder.instance(candidate.url) for candidate in candidates],
            [(place, *now) for place, now in enumerate(counts) if now != (0, 0)],
        )


class RecordedTracker(RequestTracker):
    """Writes down what becomes of a request, and passes it on to the policy's own tracker, if that has one."""

    __slots__ = ("_number", "_recorder", "_tracker")

    def __init__(self, recorder: Recorder, number: int, tracker: RequestTracker | None) -> None:
        self._recorder = recorder
        self._number = number
        self._tracker = tracker

    def hold(self, send: Callable[[], None]) -> bool:
        """See ``RequestTracker``."""
        recorder, number = self._recorder, self._number

        def sent() -> None:
            recorder.write(events.Sent(recorder.clock(), number))
            send()

        if self._tracker is None or not self._tracker.hold(sent):
            return False
        recorder.write(events.Held(number))
        return True

    def on_first_token(self) -> None:
        """See ``RequestTracker``."""
        recorder = self._recorder
        with recorder as now:
            recorder.write(events.First(now, self._number))
            if self._tracker is not None:
                self._tracker.on_first_token()

    def on_usage(self, prompt_tokens: int, cached_tokens: int) -> None:
        """See ``RequestTracker``."""
        recorder = self._recorder
        with recorder as now:
            recorder.write(events.Usage(now, self._number, prompt_tokens, cached_tokens))
            if self._tracker is not None:
                self._tracker.on_usage(prompt_tokens, cached_tokens)

    def on_total_tokens(self, tokens: int) -> None:
        """See ``RequestTracker``."""
        self._recorder.write(events.Total(self._number, tokens))

    def on_end(self) -> None:
        """See ``RequestTracker``."""
        recorder = self._recorder
        with recorder as now:
            recorder.write(events.Ended(now, self._number))
            if self._tracker is not None:
                self._tracker.on_end()
