"""The life of a routed request: its phase, what the log is told of it, and its end, at which all is given back once."""

from __future__ import annotations

from fd_router.bugs import tell_of_bug
from fd_router.errors import HttpError
from fd_router.instances.instance import Instance
from fd_router.routing.phase import ENDED, MOVES, STREAMING, Phase, PhaseError
from fd_router.routing.request_queue import QueueTicket
from fd_router.routing.response_relay import ResponseRelay
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.sanitize import escape_controls
from fd_router.telemetry.telemetry import Telemetry

NOT_FOUND = 404


class RequestLife(ResponseRelay):
    """What every request goes through in whatever mode, and however it goes: its phases, and one end.

    The phase moves only as the table in ``routing.phase`` allows. What was taken on the way (counts of instances,
    connections, a place in the queue, a key's allowance) is given back in ``_end``. Like ``ResponseRelay`` it has no
    ``__init__``: ``RoutedRequest`` sets all of it.
    """

    __slots__ = ("_is_full", "_notes", "_phase", "_telemetry", "_ticket", "_tracked_id")

    _phase: Phase
    _telemetry: Telemetry
    _is_full: bool  # the client takes less than it is sent
    _notes: list[str]  # for the log
    _ticket: QueueTicket | None  # of its place in the queue
    _tracked_id: str  # by which ``InFlight`` knows it

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    def _move(self, to: Phase) -> None:
        """Go on to ``to``. Raises PhaseError, behind an answer to the client, when the table has no such move."""
        if to not in MOVES[self._phase]:
            error = PhaseError(self._phase, to)
            self._end_by_bug()
            raise error  # to whoever called: it mustn't go on, and the log tells where it was
        self._phase = to

    # giving back

    def _prefill_done(self, reservation: Reservation[Instance]) -> None:
        if reservation.prefill_done():
            instance = reservation.instance
            self._notes.append(f"release prefill tokens: {instance.url}, tokens: {instance.tokens}")

    def _release(self, reservation: Reservation[Instance]) -> None:
        held_tokens = reservation.holds_tokens
        if reservation.release():
            instance, notes = reservation.instance, self._notes
            if held_tokens:
                notes.append(f"release prefill tokens: {instance.url}, tokens: {instance.tokens}")
            notes.append(f"release worker: {instance.url}, count: {instance.running}")

    # the log: lines that come in one turn are kept as notes and written in one go, at info

    def _log_notes(self) -> None:
        if self._notes:
            notes = self._notes
            self._telemetry.log.info_all(notes, self.record.tags)
            notes.clear()

    def _log_error(self, message: str) -> None:
        self._log_notes()
        self._telemetry.log.error(message, self.record.tags)

    # what the watchdog calls

    def on_overdue(self, seconds: float) -> None:
        """End: nothing has happened for ``seconds``, which no time limit allows."""
        if self._phase is ENDED:
            return
        self._log_error(
            f"A request without a sign of life for {seconds:.0f} s was ended. This is a bug; please report it"
        )
        error = HttpError(f"Nothing happened to the request for {seconds:.0f} s", status=504, code="overdue")
        self._fail_or_cut_off(error)

    # what the rescue calls

    def on_instance_dead(self, key: str, why: str) -> bool:
        """The instance with ``key`` is dead: go elsewhere, if it is to answer. Returns whether it did."""
        raise NotImplementedError

    # what the limit of a request's total time calls

    def on_timed_out(self, seconds: float) -> None:
        """End: it has taken ``seconds``, as long as a request may take in all."""
        if self._phase is ENDED:
            return
        message = f"The request took longer than {seconds:g} s (proxy.request-timeout-secs)"
        self._log_error(message)
        self._fail_or_cut_off(HttpError(message, status=504, code="request_timeout"))

    # endings

    def _leave(self, outcome: str) -> None:
        """Be no longer found, waited for, or counted against an API key; keep nothing of a stream that ended so."""
        raise NotImplementedError

    def _release_all(self) -> None:
        """Give back all that is still held, connections and counts."""
        raise NotImplementedError

    def _fail_locally(self, error: HttpError) -> None:
        """End with an error answer of the router's own."""
        self.record.status = error.status
        self._end("failed", error)

    def _fail_or_cut_off(self, error: HttpError) -> None:
        """End with ``error`` as the answer, or in the middle of the answer that has begun."""
        if self._phase is STREAMING:
            self._end("failed")
        else:
            self._fail_locally(error)

    def on_bug(self, error: Exception) -> None:
        """Tell the log of a bug met on the way, and end."""
        tell_of_bug("a request failed", error)
        self._end_by_bug()

    def _end_by_bug(self) -> None:
        self._fail_or_cut_off(HttpError("Internal server error: see the router's log"))

    def _end(self, outcome: str, error: HttpError | None = None) -> None:
        """Give everything back, write it down, and tell the client how it ended. Happens once."""
        if self._phase is ENDED:
            return
        self._phase = ENDED  # which every phase allows
        try:  # a bug in one step keeps neither the others' counts nor a client waiting
            if self._journal is not None or self._tracked_id or self._ticket is not None or self._grant is not None:
                self._leave(outcome)
        finally:
            try:
                self._release_all()
            finally:
                try:
                    self._record_end(outcome, error)
                finally:
                    try:
                        if error is None and outcome == "completed":
                            self._client.end()
                        else:
                            self._finish_client(outcome, error)
                    except BaseException:  # else the connection would answer this request for ever
                        self._client.abandon()
                        raise

    def _record_end(self, outcome: str, error: HttpError | None) -> None:
        record = self.record
        if error is not None and error.status >= 500:
            self._log_error(error.message)
        if record.status >= 400 and outcome == "completed":
            record.flaw = f"The instance's answer has status {record.status}"
            if record.status == NOT_FOUND:
                self._context.models.on_not_found()
        if outcome == "completed" and not record.flaw:
            self._notes.append("Request completed successfully.")
        else:
            why = error.message if error is not None else record.flaw
            self._notes.append(f"Request completed with an error. {escape_controls(why)}".rstrip())
        if outcome != "completed":  # else it may have been found to be broken although it was whole
            record.outcome = outcome
        if not record.finished_at:
            record.finished_at = self._context.clock()
        record.notes, self._notes = self._notes, []  # a leg that is drained may have more to tell
        self._telemetry.finish(record)

    def _finish_client(self, outcome: str, error: HttpError | None) -> None:
        if error is not None:
            self._client.send_error(error)
        elif outcome == "failed":
            self._client.reset()

    def __repr__(self) -> str:
        head = self._request.head
        return f"<{type(self).__name__} {head.method} {head.path} {self._phase.name.lower()}>"
