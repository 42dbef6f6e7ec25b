"""Requests about stored answers: to the instance that keeps the answer, or, where that isn't known, to one after the
other until one knows it.
"""

from __future__ import annotations

from collections.abc import Callable

from fd_router.errors import BadRequestError
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Health, Instance
from fd_router.openai.kinds.responses import find_response_id
from fd_router.routing.single import SingleContext, SingleInstanceRequest
from fd_router.routing.stored_answers import StoredAnswers
from fd_router.scheduling.reservation import Reservation

MAX_SEARCHED = 16 * 1024
"""Bytes at the beginning of an answer in which its id is looked for. It is the first member, in the first event."""

NOT_FOUND = 404


class StoredContext(SingleContext, frozen=True, kw_only=True, eq=False):
    """What requests about stored answers need beside the others."""

    answers: StoredAnswers
    find_instance: Callable[[str], Instance | None]  # by its key
    id_segment: int = 0  # of the path, which is the answer's id; 0: the body names it, if it goes on from one


class StoredAnswerRequest(SingleInstanceRequest):
    """A request that makes a stored answer, goes on from one, or asks about one."""

    __slots__ = ("_searched",)

    _context: StoredContext

    def _attempt(self) -> None:
        completion = self._completion
        self._searched = 0
        if completion is None:
            return
        if not self._excluded and (keeper := self._keeper()) is not None:
            if self._route is not None:
                self._route.go_to([card.name for card in keeper.models])
                self._follow()
            self._reservation = reservation = Reservation(keeper, completion.tokens)
            self._send_to(reservation)
        else:
            super()._attempt()

    def _wanted(self) -> str:
        """Return the id of the stored answer that it is about, "" if there is none."""
        segment = self._context.id_segment
        if segment:
            return self._request.head.path.split("/")[segment]
        return self._completion.previous_response_id if self._completion is not None else ""

    def _keeper(self) -> Instance | None:
        """Return the instance that keeps the answer, if it is known and can be asked. Raises BadRequestError (404)."""
        context, wanted = self._context, self._wanted()
        keeper = context.answers.keeper(wanted) if wanted else None
        if keeper is None:
            return None
        if keeper.client != self.record.key:  # an id is no secret by itself
            raise BadRequestError(f"Response with id '{wanted[:80]}' not found.", status=404, code="not_found")
        instance = context.find_instance(keeper.instance)
        return instance if instance is not None and instance.health is not Health.UNHEALTHY else None

    # where it isn't known: to ask the next one

    def _may_resend(self, instance: Instance, status: int, *, is_forbidden: bool, so_far: int = 0) -> bool:
        if status == NOT_FOUND and self._wanted():
            return True
        return super()._may_resend(instance, status, is_forbidden=is_forbidden, so_far=so_far)

    def _leave_instance(self, instance: Instance, status: int, what: str) -> None:
        if status != NOT_FOUND:
            super()._leave_instance(instance, status, what)
            return
        self._notes.append(f"{instance.url} doesn't keep that response")
        self.record.attempts -= 1  # no failure
        self._end_attempt()
        self._excluded = (*self._excluded, instance.key)

    # what becomes of the answer

    def _pass_on(self, head: ResponseHead, body: bytes) -> None:
        super()._pass_on(head, body)
        self._searched = MAX_SEARCHED if head.status >= 300 or self._context.id_segment else 0
        if body and not self._searched:
            self._learn(body)

    def on_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        if self._searched < MAX_SEARCHED:
            self._learn(data)
        super().on_data(data)

    def _learn(self, piece: bytes) -> None:
        """Remember who keeps the answer, once its id has come."""
        reservation = self._reservation
        self._searched += len(piece)
        if reservation is not None and (answer_id := find_response_id(piece)):
            self._context.answers.keep(answer_id, reservation.instance.key, self.record.key)
            self._searched = MAX_SEARCHED
