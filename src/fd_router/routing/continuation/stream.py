"""A stream that goes on: another instance is chosen, told what there is, and its events follow in the client's stream.

The client's request stays in the phase in which its answer has begun; what goes on behind that is this module's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fd_router.engines.continuation.planning import plan_continuation
from fd_router.engines.continuation.ways import Ways, asking_ids
from fd_router.errors import HttpError, NoInstanceError, SaturatedError, UpstreamError
from fd_router.http.dechunk import Dechunker
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.openai.continuation.generated import Generated
from fd_router.openai.continuation.plan import Continuation, Finished, Impossible, Plan
from fd_router.openai.continuation.seam import Seam, last_events
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.routing.continuation.contracts import Leg, Move, Owner
from fd_router.routing.continuation.gap import Gap, explanation
from fd_router.routing.continuation.keeper import LEFT_FOR_GOOD, MAX_FRUITLESS, MAX_REFUSALS, StreamKeeper
from fd_router.routing.continuation.leg_choice import choose_leg
from fd_router.routing.continuation.usage_count import UsageCount
from fd_router.routing.request_queue import QueueTicket


class StreamContinuation:
    """What one broken stream needs to go on, once and again."""

    __slots__ = (
        "_attempts", "_completion", "_content", "_count", "_dechunker", "_exact", "_excluded", "_from", "_fruitless",
        "_gap", "_generated", "_keeper", "_known", "_leg", "_owner", "_plan", "_refusals", "_seam", "_source",
        "_ticket", "_ways", "_why", "is_aborted",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        keeper: StreamKeeper,
        completion: Completion,
        source: SourceRequest,
        generated: Generated,
        *,
        exact: bool,
        ways: Ways,
    ) -> None:
        """``generated``: by the stream so far, as the client has it. ``ways``: those of its instance's engine."""
        self._owner = owner
        self._keeper = keeper
        self._completion = completion
        self._source = source
        self._exact, self._ways = exact, ways
        self._generated = generated
        self._seam: Seam | None = None
        self._plan: Continuation | None = None
        self._leg: Leg | None = None
        self._ticket: QueueTicket | None = None
        self._dechunker: Dechunker | None = None
        self._count = UsageCount(owner, completion)
        self._content: list[bytes] = []
        self._excluded: tuple[str, ...] = ()
        self._gap = Gap(keeper, owner.on_stream_events)
        self._known = 0  # tokens when it broke off last
        self._fruitless = self._refusals = self._attempts = 0
        self._why = self._from = ""  # it broke off, and the URL of the instance that did
        self.is_aborted = False

    # what the client's request calls

    def begin(self, why: str, failed: Sequence[str]) -> bool:
        """Go on, since the instance with one of these keys broke off. Returns False, and changes nothing, if it can't.

        What holds that instance is given back once another one is chosen.
        """
        self._why, self._excluded = why, tuple(failed)
        self._from = self._owner.record.mixed or self._owner.record.decode
        self._gap.begin()
        if self._next(self._owner.leave_instance):
            return True
        self._gap.end()
        return False

    def move(self, why: str, instance: Instance) -> Move:
        """Go on elsewhere, since ``instance`` is to be left although it didn't break off.

        Unless MOVED, it goes on there as if nothing had been.
        """
        if self._leg is not None and self._seam is None:
            return Move.ENDS  # another one is yet to begin
        plan, before = self._make_plan(), (self._why, self._excluded)
        if isinstance(plan, Impossible):
            self._fail("stayed", plan.reason)
            return Move.STAYS
        if isinstance(plan, Finished):
            return Move.ENDS
        self._why, self._excluded = why, (instance.key,)
        left, self._leg = self._leg, None
        try:
            leg = self._choose(plan)
        except BaseException as error:
            self._leg, (self._why, self._excluded) = left, before
            if isinstance(error, HttpError):
                return Move.LATER
            raise
        self._from, self._plan, self._refusals = instance.url, plan, 0
        self._gap.begin()
        self._leave(left, leg)
        self._start(leg, plan)
        return Move.MOVED

    def instances(self) -> tuple[Instance, ...]:
        """Return where it goes on now."""
        return self._leg.instances if self._leg is not None else ()

    @property
    def engine_id(self) -> str:
        """The id that those know it by, "" if it is the client's."""
        return self._leg.engine_id if self._leg is not None else ""

    @property
    def delivered_at(self) -> float:
        """When bytes came last from where it goes on, in monotonic seconds; 0.0: none are read now."""
        return self._leg.delivered_at if self._leg is not None else 0.0

    @property
    def waits_until(self) -> float:
        """Until when it may wait for room, or for who goes on, in monotonic seconds; 0.0: it doesn't wait."""
        return self._ticket.deadline if self._ticket is not None else self._gap.due

    def on_instance_dead(self, key: str) -> bool:
        """Go elsewhere, if the instance with ``key`` is to go on with it and hasn't begun."""
        found = [instance for instance in self.instances() if instance.key == key]
        if not found or self._seam is not None:
            return False
        self._on_broken("dead", found[0])
        return True

    def pause(self) -> None:
        """The client is slower than the instance."""
        if self._leg is not None:
            self._leg.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._leg is not None:
            self._leg.resume()

    def cancel(self) -> None:
        """Give everything back."""
        ticket, self._ticket = self._ticket, None
        self._gap.end()
        try:
            if ticket is not None:
                ticket.leave()
        finally:
            self._drop_leg()

    def _leave(self, left: Leg | None, leg: Leg) -> None:
        """Give back where it went on so far (None: its first instance), now that it is to go on at ``leg``."""
        self._leg = left
        try:
            if left is None:
                self._owner.leave_instance()
            else:
                self._drop_leg()
        finally:
            self._leg = leg

    # what the queue calls

    def try_dispatch(self) -> bool:
        """Try to be sent now. Returns False when there is still no room."""
        plan, ticket = self._plan, self._ticket
        try:
            if plan is not None:
                self._start(self._choose(plan), plan)
        except SaturatedError:
            if ticket is not None:
                ticket.wait_for_room()
            return False
        except NoInstanceError:
            if ticket is None or not ticket.hopes or self._owner.hope_secs():
                return False
            self._ticket = None
            self._give_up("no_instance")
            return True
        except Exception as error:  # noqa: BLE001  a bug with one must not keep the others waiting
            self._ticket = None
            self._owner.on_bug(error)
        self._ticket = None
        return True

    def on_turned_away(self, error: HttpError) -> None:
        """There was no room in time."""
        self._ticket = None
        self._give_up(error.code or "queue_timeout")

    # what the leg calls

    def on_leg_begun(self, leg: Leg, head: ResponseHead) -> None:
        """The answer that goes on has begun."""
        if leg is not self._leg or self._plan is None:
            return
        self._seam = Seam(self._source, self._generated, self._plan, self._count.tokens, self._count.prompt_tokens)
        self._dechunker = Dechunker(self._content.append) if head.chunked else None

    def on_leg_data(self, leg: Leg, data: bytes) -> None:
        """Take more of it."""
        seam = self._seam
        if leg is not self._leg or seam is None:
            return
        if self._dechunker is not None:
            self._dechunker.feed(data)
            data, self._content[:] = b"".join(self._content), ()
        if events := seam.feed(data):
            self._on_events(events)
        if seam.is_done:
            self._finish()
        elif seam.broken:
            self._on_broken(seam.broken, leg.instances[-1])

    def on_leg_complete(self, leg: Leg) -> None:
        """It is over: whole, if it says why."""
        seam = self._seam
        if leg is not self._leg or seam is None:
            return None
        if events := seam.end():
            self._on_events(events)
        return self._on_broken(seam.broken, leg.instances[-1]) if seam.broken else self._finish()

    def on_leg_failed(self, leg: Leg, instance: Instance, error: UpstreamError) -> None:
        """The instance failed, in the middle of it or before."""
        if leg is not self._leg:
            return
        self._owner.report(instance, error)
        if error.reason == "refused" and self._refusals < MAX_REFUSALS:
            self._refusals += 1
            self._fruitless -= 1
        self._on_broken(error.reason, instance)

    def on_bug(self, error: Exception) -> None:
        """A bug was met on the way of a leg."""
        self._owner.on_bug(error)

    def _on_broken(self, why: str, instance: Instance) -> None:
        self._drop_leg()
        if self.is_aborted or self._owner.is_held_up(why):
            self._owner.on_stream_lost("aborted" if self.is_aborted else why)
            return
        self._owner.note(f"The stream broke off at {instance.url} once more: {why}")
        self._why = why
        if not self._gap.is_open:  # it had gone on
            self._gap.begin()
            self._from, self._excluded, self._refusals = instance.url, (), 0
        self._excluded = (*self._excluded, instance.key)
        if not self._next(_nothing):
            self._owner.on_stream_lost(why)

    def _next(self, leave: Callable[[], None]) -> bool:
        """Plan, choose, and send; ``leave``: to be called once that is sure."""
        plan = self._make_plan()
        if isinstance(plan, Impossible):
            return self._fail("impossible", plan.reason)
        if isinstance(plan, Finished):
            leave()
            self._finish_by_itself(plan)
            return True
        self._plan = plan
        try:
            leg = self._choose(plan)
        except SaturatedError:
            return self._wait(leave, 0.0, "saturated")
        except NoInstanceError:
            return self._wait(leave, self._owner.hope_secs(), "no_instance")
        leave()
        self._start(leg, plan)
        return True

    def _wait(self, leave: Callable[[], None], hope_secs: float, why: str) -> bool:
        """Wait for room at an instance (``saturated``), or for a probe that may bring one back."""
        may_wait = why == "saturated" or hope_secs > 0.0
        ticket = self._owner.wait_for_room(self, hope_secs) if may_wait else None
        if ticket is None:
            return self._fail("failed", why)
        leave()
        self._ticket = ticket
        return True

    def _make_plan(self) -> Plan:
        generated = self._generated
        if generated.tokens > self._known:
            self._fruitless, self._known = 0, generated.tokens
        if self._fruitless >= MAX_FRUITLESS:
            return Impossible("poison")
        if self._owner.record.continued >= self._keeper.live.current.proxy.max_continuations:
            return Impossible("too_often")
        return plan_continuation(self._source, generated, self._ways, exact=self._exact)

    def _choose(self, plan: Continuation) -> Leg:
        """Choose where it goes on; from then on that is given back, whatever goes wrong."""
        generated = self._generated
        ids = generated.ids[: generated.known] if plan.by == "tokens" else ()
        completion = self._completion.continued(generated.whole_text, ids)
        self._attempts += 1
        asks = self._exact and plan.by == "start" and self._ways.tells_ids(chat=self._source.chat)
        body = bytes(asking_ids(plan.body)) if asks else plan.body
        self._leg = leg = self._choose_leg(plan, completion, body)
        if leg.instances[-1].key in self._excluded and (self._why in LEFT_FOR_GOOD or self._tells_why):
            self._leg = None
            leg.cancel()
            raise NoInstanceError(f"only those are left that were left as {self._why}")
        return leg

    def _choose_leg(self, plan: Continuation, completion: Completion, body: bytes) -> Leg:
        """Choose another one, or else, unless it was left for good, one that broke off: better it than none."""
        return choose_leg(
            lambda excluded: self._owner.choose_leg(self, completion, body, excluded, self._attempts),
            self._excluded,
            lambda one: one.dialect.ways.understands(self._ways, self._source, plan.by, exact=self._exact),
            falls_back=not self._tells_why and self._why not in LEFT_FOR_GOOD,
        )

    @property
    def _tells_why(self) -> bool:
        """Whether its client is told why the only instance gave up: better than to begin anew there."""
        return self._why == "gave_up" and not self._generated.tokens

    def _start(self, leg: Leg, plan: Continuation) -> None:
        record, url = self._owner.record, leg.instances[-1].url
        record.flaw = ""
        record.goes_to([instance.url for instance in leg.instances])
        record.attempts += 1
        self._fruitless += 1
        self._seam, self._ways = None, leg.instances[-1].dialect.ways
        self._gap.on_sent()
        self._count.begin(plan, leg.instances[-1], self._source, self._generated)
        self._owner.note(
            f"continue stream: from {self._from} to {url}, reason: {self._why}, by {plan.by}, at {self._known} tokens"
        )
        leg.start()

    def _on_events(self, events: bytes) -> None:
        if self._gap.is_open:
            self._keeper.metrics.gap(self._gap.seconds)
            self._keeper.metrics.count("continued", self._why)
            self._gap.end()
            events = self._explanation() + events
            record = self._owner.record
            record.continued += 1
            record.continued_from, record.continued_at = self._from, self._known
        self._owner.on_stream_events(events)

    def _explanation(self) -> bytes:
        """Return a comment that says how it goes on, for a client that wants to know how it is scheduled."""
        if (decisions := self._completion.decisions) is None or self._plan is None:
            return b""
        how = f"at={self._known} by={self._plan.by} reason={self._why}"
        return explanation(self._from, self.instances(), how, decisions)

    def _finish(self) -> None:
        self._drop_leg()
        self._owner.on_stream_end()

    def _finish_by_itself(self, plan: Finished) -> None:
        """Nothing is left to be generated: write what is missing of the stream's end."""
        self._keeper.metrics.count("finished", self._why)
        self._owner.note(f"The stream broke off behind its last token ({self._why}); its end was written here")
        if not self._generated.is_done:
            prompt = self._count.prompt_tokens
            self._owner.on_stream_events(last_events(self._source, self._generated, plan.reason, prompt_tokens=prompt))
        self._owner.on_stream_end()

    def _give_up(self, reason: str) -> None:
        self._fail("failed", reason)
        self._owner.on_stream_lost(reason)

    def _fail(self, outcome: str, reason: str) -> bool:
        self._keeper.metrics.count(outcome, reason)
        self._owner.note(f"The stream can't go on at another instance: {reason}")
        return False

    def _drop_leg(self) -> None:
        self._count.cancel()
        dechunker, self._dechunker = self._dechunker, None
        leg, self._leg = self._leg, None
        try:
            if dechunker is not None:
                dechunker.close()
        finally:
            if leg is not None:
                leg.cancel()

    def __repr__(self) -> str:
        return f"<StreamContinuation {self._generated!r} {self._leg!r}>"


def _nothing() -> None:
    """Leave nobody: that was done."""
