"""The waiting of a routed request: for room, or for an instance that a probe may bring back."""

from __future__ import annotations

from fd_router.errors import BadRequestError, HttpError, LimitError, NoInstanceError, SaturatedError
from fd_router.instances.doubt import Doubt
from fd_router.instances.instance import Health, Instance
from fd_router.openai.completion import KEPT_TEXT, Completion
from fd_router.routing.by_model import RequestByModel
from fd_router.routing.phase import QUEUED
from fd_router.routing.precedence import PrecedenceReader
from fd_router.routing.request_queue import RequestQueue


class WaitingRequest(RequestByModel):
    """What of a request's life happens in the queue. Like ``RequestLife`` it has no ``__init__``."""

    __slots__ = ("_died", "_refusal")

    _died: tuple[Instance, ...]  # those that were lost, once they had it all, without a word
    _refusal: HttpError | None  # why it failed before it waited to know whether they died

    def _attempt(self) -> None:
        """Select and send. Raises NoInstanceError; then nothing has changed."""
        raise NotImplementedError

    def _give_up(self, refusal: HttpError) -> None:
        """End, since no other attempt can be made; ``refusal`` says why."""
        self._fail_locally(refusal)

    def _wait_or_fail(self, refusal: HttpError, *, again: bool = False) -> None:
        """Wait for room where requests can, else end with ``refusal``; ``again``: it had been sent before, in vain."""
        queue = self._queue
        if queue is None:
            self._give_up(refusal)
        else:
            self._wait(queue, again=again)

    def _wait(
        self, queue: RequestQueue, *, again: bool = False, hope_secs: float = 0.0, refusal: HttpError | None = None
    ) -> None:
        """Queue. ``hope_secs``: see ``RequestQueue.enter``. ``refusal``: what it ends with where none may wait."""
        priority = self._priority(queue)
        try:
            ticket = queue.enter(self, priority, self._party(), again=again, hope_secs=hope_secs)
        except LimitError as error:
            self._fail_locally(refusal or error)
            return
        self._ticket = ticket
        self.record.queued_at = self.record.queued_at or self._context.clock()
        self._drop_texts()
        self._move(QUEUED)
        what = "a probe that may bring an instance back" if ticket.hopes else "room at an instance"
        self._notes.append(f"Waiting for {what} (priority {priority}, {queue.waiting - 1} others wait)")
        self._log_notes()

    def _has_precedence(self, reader: PrecedenceReader, completion: Completion) -> bool:
        """Read who goes before whom where requests wait for an instance. Returns False when it has ended so."""
        queue, grant = self._queue, self._grant
        if queue is None:
            return True
        key = grant.allowance.key if grant is not None else None
        try:
            completion.precedence = reader.read(self._request, self._priority(queue), self._party(), key)
        except BadRequestError as error:
            self._fail_locally(error)
            return False
        return True

    def _priority(self, queue: RequestQueue) -> str:
        completion, grant = self._completion, self._grant
        tier = completion.service_tier if completion is not None else ""
        return queue.priority_of(self._request, tier, grant.allowance.key.priority if grant is not None else None)

    def _party(self) -> str:
        """Return among whose requests it waits for its turn: its key's, its session's, or its client's."""
        if self._grant is not None:
            return f"key {self._grant.name}"
        if self._completion is not None and self._completion.session_id:
            return f"session {self._completion.session_id}"
        return self._request.head.client

    def _drop_texts(self) -> None:
        """Keep a large prompt once, as the body that is sent: scheduling has seen it, and mostly won't again."""
        if len(self._request.body) > KEPT_TEXT and (completion := self._completion) is not None:
            completion.drop_texts()

    def _wait_for_probe(self, refusal: NoInstanceError) -> None:
        """Wait for a probe under way that may bring an instance back, if there is one, else end with ``refusal``."""
        queue, seconds = self._queue, self._context.hope_secs()
        if queue is None or not seconds:
            self._fail_locally(refusal)
        else:
            self._wait(queue, hope_secs=seconds, refusal=refusal)

    # requests under which instances die

    def _is_poison(self) -> bool:
        """Whether two instances that had it died, whose ports refuse now: a third would die too."""
        died = self._died
        return len(died) > 1 and len({x.key for x in died if x.doubt is Doubt.GONE}) > 1

    def _is_in_doubt(self) -> bool:
        """Whether two were lost under it, and probes under way will tell whether they died."""
        died = self._died
        return len(died) > 1 and len({x.key for x in died if x.health is not Health.HEALTHY}) > 1

    def _wait_for_certainty(self, refusal: HttpError) -> bool:
        """Wait for these probes. Returns False where it can't."""
        queue, seconds = self._queue, self._context.hope_secs()
        if queue is None or not seconds:
            return False
        self._refusal = refusal
        self._wait(queue, hope_secs=seconds, refusal=refusal)
        return True

    def _give_up_for_good(self, refusal: HttpError) -> None:
        self._log_error(f"Not sent again: {len(self._died)} instances died under the request")
        refusal.may_be_repeated = False
        self._give_up(refusal)

    # what the queue calls

    def try_dispatch(self) -> bool:
        """Try to be sent now. Returns False when there is still no room, or no instance at all."""
        if self._is_poison():
            self._ticket = None
            self._give_up_for_good(HttpError("Instances died under the request, one after the other", status=502))
            return True
        return not (self._is_in_doubt() and self._context.hope_secs()) and self._dispatch_if_possible()

    def _dispatch_if_possible(self) -> bool:
        ticket = self._ticket
        try:
            self._find_route()
            self._attempt()
        except SaturatedError:
            if ticket is not None:
                ticket.wait_for_room()
            return False
        except NoInstanceError as error:
            if ticket is None or not ticket.hopes or self._context.hope_secs():
                return False
            self._ticket = None
            self._give_up(self._refusal or error)
        except HttpError as error:  # waiting would not help it
            self._ticket = None
            self._fail_locally(error)
        except Exception as error:  # noqa: BLE001  a bug with one must not keep the others waiting
            self._ticket = None
            self.on_bug(error)
        else:
            self._ticket = None
            self._notes.append("There is room now; waiting is over.")
            self._log_notes()
        return True

    def on_turned_away(self, error: HttpError) -> None:
        """There was no room, or no probe done, in time, or those who wait are too many."""
        ticket, self._ticket = self._ticket, None
        if ticket is None or not ticket.hopes:
            self._fail_locally(error)
            return
        try:
            self._find_route()
            self._attempt()
        except HttpError as refusal:  # that there is no instance, not that there was no room
            self._give_up(self._refusal or refusal)
        except Exception as bug:  # noqa: BLE001  as above
            self.on_bug(bug)
