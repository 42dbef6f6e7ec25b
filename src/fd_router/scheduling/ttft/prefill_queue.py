"""The prefill queue of an instance: what it still has to prefill, as far as this router knows, in the order sent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from fd_router.openai.precedence import Precedence
from fd_router.scheduling.ttft.columns import FleetColumns
from fd_router.scheduling.ttft.next_step import STEP, NextStep, StepSharing
from fd_router.scheduling.ttft.prefill_speed import TOGETHER, PrefillSpeed
from fd_router.scheduling.ttft.slot_limit import GRACE, SlotLimit

NEVER = 1e18
"""A time that doesn't come."""

SLACK = 0.5
"""Share of its own time by which a first token may be late without saying anything, beside ``GRACE``."""


INTERFERENCE = 0.1
"""What computing costs each request that runs there, as a share of its time: a prefill slows its neighbours' decode."""


class PromptWork:
    """A prompt that was given to an instance, of which ``tokens`` are to be computed."""

    __slots__ = (
        "came_at", "first_at", "is_heard", "is_reordered", "others", "precedence", "rank", "row", "send", "sent_at",
        "step_tokens", "tells", "tokens",
    )  # fmt: skip

    def __init__(self, tokens: float, came_at: float, *, is_heard: bool) -> None:
        self.tokens = tokens
        self.came_at = came_at
        self.sent_at = came_at
        self.first_at = 0.0  # when its first token came, if it has
        self.step_tokens = tokens  # of all that may have been computed with it, when it has
        self.tells = is_heard  # its first token will come, and be late or not
        self.is_heard = is_heard  # its first token will be heard of; else when its prefill ends is only reckoned
        self.others = 0.0  # tokens that other routers had there when it was sent: they go before it
        self.rank = 0.0  # of those that wait the lowest goes first
        self.precedence: Precedence | None = None  # None: as anybody's
        self.row = -1  # among those that wait; -1: it has been sent
        self.send: Callable[[], None] | None = None  # to be called when it has waited
        self.is_reordered = False  # it went before one that came earlier, or the other way round


class PrefillQueue:
    """The queue of one instance, which prefills first come first served, or nearly so.

    ``until`` is when the queue will be done if all goes as reckoned; ``behind`` are the seconds of work behind the
    prompt in progress. At a time ``now`` there are ``max(until − now, behind)`` seconds to do: the time that has passed
    since that prompt was begun is credited, but no more than its own work, since its first token hasn't come.

    What a decision needs is kept in ``columns`` too, at ``slot``. ``sharing`` is the fleet's.
    """

    __slots__ = (
        "_began", "_columns", "_heard", "_heard_tokens", "_in_progress", "_is_full", "_last_first_token", "_next_step",
        "_others_then", "_queue", "_tokens", "behind", "due", "is_step_told", "others", "running",
        "running_elsewhere", "slot", "slots", "speed", "tells_usage", "until",
    )  # fmt: skip

    def __init__(
        self,
        fleet: PrefillSpeed,
        columns: FleetColumns,
        slot: int,
        fleet_slots: SlotLimit | None = None,
        sharing: StepSharing | None = None,
    ) -> None:
        self.speed = PrefillSpeed(fleet)
        self.slots = SlotLimit(fleet_slots)
        self.until = 0.0
        self.behind = 0.0
        self.due = NEVER  # when the first token of the prompt in progress is late
        self.running = 0  # requests given to it and not over
        self.tells_usage = False  # how much of a prompt was cached
        self.others = 0.0  # tokens that other routers have there to be computed
        self.running_elsewhere = 0
        self._others_then = 0.0  # the others' tokens when the last first token came
        self._queue: OrderedDict[PromptWork, None] = OrderedDict()
        self._tokens = 0.0  # of the queue
        self._next_step = NextStep(StepSharing() if sharing is None else sharing)
        self._heard = 0  # how many of the queue are to be heard of, and their tokens
        self._heard_tokens = 0.0
        self._in_progress: PromptWork | None = None
        self._last_first_token = 0.0
        self.is_step_told = True  # whether the time of the first token that came last, and its step's, tells the speed
        self._is_full = False  # whether a request has to wait for a slot
        self._began = 0.0  # when the prompt in progress became that
        self._columns = columns
        self.slot = slot
        self.publish()

    @property
    def tokens(self) -> float:
        """Tokens that are to be computed, those of the prompt in progress included."""
        return self._tokens

    @property
    def tells(self) -> bool:
        """Whether a first token will come that ends a prompt there, and the speed is known by such.

        Other routers tell when theirs have come.
        """
        return (self._heard > 0 or self.others > 0.0) and self.speed.is_known

    def tokens_left(self, now: float) -> float:
        """Tokens that are to be computed, as other routers are told them: not what is reckoned to be done."""
        if self._heard:
            return self._tokens
        return min(self._tokens, max(0.0, self.until - now) * self.speed.tokens_per_sec)

    def seconds(self, now: float) -> float:
        """How long the queue will take, or a slot, if that is longer."""
        limit = self.slots.limit
        wait = (self.running + 1 - limit) * self.slots.residence / limit
        return max(self.prefill_seconds(now) + max(0.0, now - self.due), wait)

    def prefill_seconds(self, now: float) -> float:
        """How long the queue will take if there are slots, with what other routers have sent there."""
        own = max(self.until - now, self.behind)
        return own + self.others / self.speed.tokens_per_sec if self.others else own

    def count_elsewhere(self, others: float, running: int) -> None:
        """Other routers have so many tokens there, and so many requests."""
        self.others, self.running_elsewhere = others, running
        self._columns.has_others = True
        self.publish()

    def add(self, tokens: float, now: float, *, is_heard: bool) -> PromptWork:
        """A prompt with ``tokens`` to compute is sent."""
        pending = self.announce(tokens, now, is_heard=is_heard)
        self.take(pending, now)
        return pending

    def announce(self, tokens: float, now: float, *, is_heard: bool) -> PromptWork:
        """A prompt is going to be sent.

        As long as the speed isn't known, one that won't be heard of is taken to be computed until the request's end.
        """
        self.running += 1
        pending = PromptWork(tokens, now, is_heard=is_heard)
        pending.is_heard = is_heard or not self.speed.is_known
        return pending

    def take(self, pending: PromptWork, now: float) -> None:
        """One that was announced is sent."""
        tokens, pending.sent_at, pending.others = pending.tokens, now, self.others
        self.until = now + max(self.until - now, self.behind) + tokens / self.speed.tokens_per_sec
        if self._queue or tokens > STEP:
            self._next_step.join(tokens)
        self._queue[pending] = None
        self._tokens += tokens
        if pending.is_heard:
            self._heard += 1
            self._heard_tokens += tokens
        self._reckon(now)

    def is_telling(self, now: float) -> bool:
        """Whether a first token that comes now will show something of the slots."""
        return now >= self.due or self.slots.is_full

    def first_token(self, pending: PromptWork, now: float) -> float:
        """A prompt is prefilled. Returns the seconds that took, waiting not included; below 0: that can't be told.

        What is left is to be reckoned then, by what this told of the speed (``on_speed``).
        """
        pending.first_at = now
        self.slots.on_first_token()
        if pending not in self._queue:
            return -1.0
        first, is_clear = self._first(), True
        while first is not pending and not first.is_heard:  # before it in the queue, so done before it
            self._take_out(first)
            first, is_clear = self._first(), False
        step = pending.step_tokens = max(pending.tokens, min(self._tokens, STEP))
        self._take_out(pending)
        self._next_step.begin(self._tokens)
        is_new_step = now - self._last_first_token > TOGETHER
        began = max(pending.sent_at, self._last_first_token)
        self._next_step.on_first_token(pending.tokens, pending.sent_at, began, is_new=is_new_step)
        others = pending.others if began == pending.sent_at else min(pending.others, self._others_then)
        self._last_first_token, self._others_then = now, self.others
        if first is pending:  # else the engine took it before others: as much is left as was reckoned
            self.until = now + self._tokens / self.speed.tokens_per_sec
        secs = self.slots.prefill_secs(now - began, (step + others) / self.speed.tokens_per_sec, now)
        if others and secs > 0.0:  # other routers' prompts were computed in that time, too
            secs *= pending.tokens / (pending.tokens + others)
        if is_new_step:  # the others of a step come at once after its first, which has all of its time
            self.is_step_told = is_clear and secs >= 0.0
        return secs if is_clear and self.is_step_told else -1.0

    def end(self, pending: PromptWork, now: float) -> None:
        """The request is over, prefilled or not."""
        self.running -= 1
        if pending.first_at:
            self.slots.on_end(pending.first_at, now)
        if pending in self._queue:
            was_first = self._first() is pending
            self._take_out(pending)
            self._next_step.leave(len(self._queue))
            if not self._queue:
                self.until = now
            elif pending.is_heard and was_first:
                self.until = now + self._tokens / self.speed.tokens_per_sec
            elif pending.is_heard:
                self.until -= pending.tokens / self.speed.tokens_per_sec
        self._reckon(now)

    def on_speed(self, now: float) -> None:
        """The speed may have changed: what is left takes longer than was reckoned, or not so long."""
        if self._queue:
            began = self._began if self._in_progress in self._queue else now
            faster = self.speed.tokens_per_sec * float(self._columns.pace[self.slot])  # than when it was reckoned
            self.until = began + (self.until - began) / faster
        self._reckon(now)

    def on_late(self) -> None:
        """The first token of the prompt in progress is late."""
        self._columns.noted[self.slot] = self.due
        self.slots.on_stall()
        self.publish()

    def publish(self) -> None:
        """Write what a decision needs where it looks for it."""
        self._publish(self.speed.tokens_per_sec)

    def _publish(self, speed: float) -> None:
        columns, slot, running, due = self._columns, self.slot, self.running, self.due
        there, held_up, pace = running + self.running_elsewhere, self._next_step.held_up, 1.0 / speed
        columns.until[slot] = self.until
        columns.behind[slot] = self.behind
        columns.pace[slot] = pace
        columns.running[slot] = running
        columns.due[slot] = due
        if due < columns.first_due:  # noqa: PLR1730  a call costs more
            columns.first_due = due
        columns.price[slot] = price = (there * INTERFERENCE + 1.0) * pace
        columns.step_price[slot] = price + held_up * (1.0 - INTERFERENCE) * pace if held_up else price
        columns.neighbours[slot] = there * columns.neighbour_secs
        if columns.has_others:
            columns.others[slot] = self.others / speed
            columns.others_running[slot] = self.running_elsewhere
        self.publish_slots()

    def publish_slots(self) -> None:
        """Write how long a request will wait for a slot."""
        columns, slot, limit, running = self._columns, self.slot, self.slots.limit, self.running
        is_full = running >= limit
        if is_full or self._is_full:
            columns.slot_wait[slot] = (running + 1.0 - limit) * (self.slots.residence / limit) if is_full else 0.0
            columns.full += is_full - self._is_full
            self._is_full = is_full

    def _first(self) -> PromptWork:
        return next(iter(self._queue))

    def _take_out(self, pending: PromptWork) -> None:
        del self._queue[pending]
        self._tokens = self._tokens - pending.tokens if self._queue else 0.0
        if pending.is_heard:
            self._heard -= 1
            self._heard_tokens -= pending.tokens

    def _reckon(self, now: float) -> None:
        self.behind, speed = 0.0, self.speed.tokens_per_sec
        if not self._heard:
            self.due, self._in_progress, self._heard_tokens = NEVER, None, 0.0
        else:
            first = self._first()
            if not first.is_heard:
                first = next(pending for pending in self._queue if pending.is_heard)
            if first is not self._in_progress:
                self._in_progress, self._began = first, now
            step = self._tokens if self._tokens < STEP else max(first.tokens, STEP)
            self.due = self._began + GRACE + (1 + SLACK) * (step + self.others) / speed if first.tells else NEVER
            if self._heard > 1:
                self.behind = (self._heard_tokens - first.tokens) / speed
        self._publish(speed)

    def __repr__(self) -> str:
        return f"<PrefillQueue of {len(self._queue)} prompts, {self._tokens:.0f} tokens, {self.running} running>"
