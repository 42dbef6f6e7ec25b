"""What forwarding a request is in every mode: reading it, relaying the answer to its client, ending once.

The steps are synchronous callbacks of connections; there is no task on this path but the one that opens a
new connection when no kept one is free. What was taken on the way (counts of instances, connections) is
given back in ``_end``, once, whatever ended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.errors import BadRequestError, HttpError, LimitError, NoInstanceError, SaturatedError
from fd_router.http.client_stream import ClientStream
from fd_router.http.messages import Request, error_response
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.routing.context import RoutingContext
from fd_router.routing.log_tags import request_tags
from fd_router.routing.request_queue import QueueTicket, RequestQueue
from fd_router.routing.response_relay import ResponseRelay
from fd_router.scheduling.reservation import Reservation
from fd_router.telemetry.record import RequestRecord
from fd_router.telemetry.sanitize import escape_controls

MAX_REFUSALS = 32
"""Instances that may refuse one request's connection, beside its attempts: a bound for the time that it may take."""


class RoutedRequest(ResponseRelay):
    """One request's life: received → selected → sent → first byte → streaming → ended.

    A subclass says how an attempt is made (``_attempt``), held up, and abandoned.
    """

    __slots__ = (
        "_is_ended", "_is_full", "_notes", "_preparing", "_services", "_telemetry", "_ticket", "_tracked_id",
        "_tried",
    )  # fmt: skip

    def __init__(self, services: RoutingContext, request: Request, client: ClientStream, record: RequestRecord) -> None:
        self._request = request
        self._client = client
        self._services = services
        self._telemetry = services.telemetry
        self.record = record
        self._completion = None
        self._tried: tuple[str, ...] = ()  # keys of the instances that failed
        self._ticket: QueueTicket | None = None  # in the line of those that wait for room
        self._visit = None
        self._preparing: asyncio.Task[None] | None = None
        self._relay = client.write
        self._keep_alive = request.head.keep_alive
        self._is_delimited = True
        self._is_dechunking = False
        self._is_full = False  # the client takes less than it is sent
        self._is_ended = False
        self._tracked_id = ""  # by which ``InFlight`` knows it
        self._tail = b""
        self._usage = None
        self._notes: list[str] = []

    # what the client's connection calls

    def start(self) -> None:
        """Read the request and send it where scheduling chooses."""
        record, request = self.record, self._request
        gate = self._services.gate
        try:
            completion = Completion(request.body, request.head.headers) if gate is None else self._enter(gate)
        except HttpError as error:
            record.tags = request_tags(request, "", "")
            self._fail_locally(error)
            return
        self._completion = completion
        record.tags = completion.tags = request_tags(request, completion.request_id, completion.session_id)
        record.stream = completion.stream
        if completion.request_id:
            self._track(completion.request_id)
        tells = self._services.live.current.proxy.explain_header
        if tells != "off" and (tells == "always" or request.header(b"x-router-explain") == b"1"):
            completion.decisions = {}
        self._notes.append("Parsing completed; starting worker selection.")
        prepare = self._services.prepare
        if prepare is not None and (preparation := prepare(completion)) is not None:
            self._log_notes()
            self._preparing = asyncio.get_running_loop().create_task(self._begin_after(preparation))
        else:
            self._begin()

    def _enter(self, gate: ApiKeyGate) -> Completion:
        """Read the request of a client that has shown a key, if the key allows it. Raises HttpError."""
        self._visit = visit = gate.identify(self._request.head.authorization)
        self.record.key = visit.name
        completion = Completion(self._request.body, self._request.head.headers)
        visit.begin(completion)
        return completion

    async def _begin_after(self, preparation: Awaitable[None]) -> None:
        await preparation
        self._preparing = None
        if not self._is_ended:  # the client may have left, or the request been aborted, meanwhile
            self._begin()

    def _begin(self) -> None:
        line = self._services.line
        if line is not None and line.waiting:  # nobody overtakes
            self._wait(line)
            return
        try:
            self._attempt()
        except SaturatedError as error:
            if line is None:
                self._fail_locally(error)
            else:
                self._wait(line)
        except (BadRequestError, NoInstanceError) as error:
            self._fail_locally(error)
        else:
            self._log_notes()

    def _wait(self, line: RequestQueue, *, again: bool = False) -> None:
        """Wait for room; ``again``: it had been sent already, in vain."""
        completion, visit = self._completion, self._visit
        tier = completion.service_tier if completion is not None else ""
        priority = line.priority_of(self._request, tier, visit.allowance.key.priority if visit is not None else None)
        try:
            self._ticket = line.enter(self, priority, again=again)
        except LimitError as error:
            self._fail_locally(error)
        else:
            self._notes.append(f"Waiting for room at an instance (priority {priority}, {line.waiting - 1} others wait)")
            self._log_notes()

    def _wait_again(self, refusal: HttpError) -> None:
        """Wait for room after an attempt that failed with ``refusal``."""
        line = self._services.line
        if line is None:
            self._fail_locally(refusal)
        else:
            self._wait(line, again=True)

    # what the line calls

    def try_dispatch(self) -> bool:
        """Try to be sent now. Returns False when there is still no room, or no instance at all."""
        try:
            self._attempt()
        except NoInstanceError:
            return False
        except BadRequestError as error:
            self._ticket = None
            self._fail_locally(error)
            return True
        except Exception:
            self._fail_locally(HttpError("Internal server error: see the router's log"))
            raise
        self._ticket = None
        self._notes.append("There is room now; waiting is over.")
        self._log_notes()
        return True

    def on_waited_too_long(self, error: HttpError) -> None:
        """There was no room in time."""
        self._ticket = None
        self._fail_locally(error)

    def _track(self, request_id: str) -> None:
        """Make this findable by the id that its client, or this router, gave it."""
        self._tracked_id = request_id
        self._services.in_flight.add(request_id, self)

    def on_client_gone(self) -> None:
        """The client closed its connection: no instance must go on for nobody."""
        if not self._is_ended:
            self.record.status = 499
            self._end("client_gone")

    def on_write_paused(self) -> None:
        """The client is slower than the instance: stop reading from there."""
        self._is_full = True
        self._pause_upstream()

    def on_write_resumed(self) -> None:
        """The client has caught up."""
        self._is_full = False
        self._resume_upstream()

    def on_drain(self) -> None:
        """The router is about to stop: the answer is the connection's last, and says so if its head is yet to come."""
        if not self.record.status:
            self._keep_alive = False

    # what the abort endpoint calls

    @property
    def request_id(self) -> str:
        """The id that it is found by: its client's, or one made here."""
        return self._tracked_id

    @property
    def engine_id(self) -> str:
        """The id that its instances know it by now."""
        return self._tracked_id

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that work on the request now."""
        raise NotImplementedError

    def on_aborted(self) -> None:
        """The request was aborted. An engine mostly ends its answer itself; if it hasn't, tell the client."""
        if self._is_ended:
            return
        error = HttpError("The request was aborted by a call of /v1/abort_requests", status=499, code="aborted")
        if not self.record.status:  # no head has gone to the client
            self._fail_locally(error)
            return
        whole_events = self.record.stream and self._tail.endswith(b"\n\n\r\n") and not self._is_dechunking
        if whole_events:  # between two chunks of one event each: there is room for another one
            event = b"data: %b\n\n" % error_response(error).body
            self._client.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))
        self._end("completed" if whole_events else "failed")

    # what the sweep calls

    def on_overdue(self, seconds: float) -> None:
        """End: nothing has happened for ``seconds``, which no time limit allows."""
        if self._is_ended:
            return
        self._log_error(
            f"A request without a sign of life for {seconds:.0f} s was ended. This is a bug; please report it"
        )
        if self.record.status:  # the client has had a head
            self._end("failed")
        else:
            self._fail_locally(
                HttpError(f"Nothing happened to the request for {seconds:.0f} s", status=504, code="overdue")
            )

    def on_bug(self, error: Exception) -> None:
        """Tell the log of a bug met on the way, and end."""
        asyncio.get_running_loop().call_exception_handler({"message": "a request failed", "exception": error})
        if self.record.status:  # the client has had a head
            self._end("failed")
        else:
            self._fail_locally(HttpError("Internal server error: see the router's log"))

    # what the modes differ in

    def _attempt(self) -> None:
        """Select and send. Raises NoInstanceError."""
        raise NotImplementedError

    def _release_all(self) -> None:
        """Give back all that is still held, connections and counts."""
        raise NotImplementedError

    def _pause_upstream(self) -> None:
        """Stop reading the answer."""
        raise NotImplementedError

    def _resume_upstream(self) -> None:
        """Read the answer again."""
        raise NotImplementedError

    # another attempt

    def _exclude(self, failed: Instance, reason: str) -> bool:
        """Make no attempt at ``failed`` while there is another. Returns whether one more may be made.

        A first refusal doesn't count: nothing was sent, and it took no time. When many instances die at once, three
        attempts could all meet dead ones.
        """
        tried, record = self._tried, self.record
        if reason == "refused" and len(tried) < MAX_REFUSALS and failed.key not in tried:
            record.attempts -= 1
        self._tried = (*tried, failed.key)
        return record.attempts < self._services.live.current.proxy.max_attempts

    # giving back

    def _prefill_done(self, decision: Reservation[Instance]) -> None:
        if decision.prefill_done():
            instance = decision.instance
            self._notes.append(f"release prefill tokens: {instance.url}, tokens: {instance.tokens}")

    def _release(self, decision: Reservation[Instance]) -> None:
        held_tokens = decision.holds_tokens
        if decision.release():
            instance, notes = decision.instance, self._notes
            if held_tokens:
                notes.append(f"release prefill tokens: {instance.url}, tokens: {instance.tokens}")
            notes.append(f"release worker: {instance.url}, count: {instance.running}")

    # the log: lines that come in one turn are kept as notes and written in one go, at info

    def _log_notes(self) -> None:
        if self._notes:
            notes, self._notes = self._notes, []
            self._telemetry.log.info_all(notes, self.record.tags)

    def _log_error(self, message: str) -> None:
        self._log_notes()
        self._telemetry.log.error(message, self.record.tags)

    # endings

    def _fail_locally(self, error: HttpError) -> None:
        """End with an error answer of the router's own."""
        self.record.status = error.status
        self._end("failed", error)

    def _end(self, outcome: str, error: HttpError | None = None) -> None:
        """Give everything back, write it down, and tell the client how it ended. Happens once."""
        if self._is_ended:
            return
        self._is_ended = True
        if self._tracked_id:
            self._services.in_flight.discard(self._tracked_id, self)
        if self._ticket is not None:
            self._ticket.leave()
        if self._visit is not None:
            tail = self._usage.tail() if self._usage is not None else self._tail
            self._visit.end(tail, self.record.bytes_out)
        try:
            self._release_all()
            self._record_end(outcome, error)
        finally:  # not even a bug in the above leaves a client waiting
            self._finish_client(outcome, error)

    def _record_end(self, outcome: str, error: HttpError | None) -> None:
        record = self.record
        if error is not None and error.status >= 500:
            self._log_error(error.message)
        if record.status >= 400 and outcome == "completed":
            record.flaw = f"The instance's answer has status {record.status}"
        if outcome == "completed" and not record.flaw:
            self._notes.append("Request completed successfully.")
        else:
            why = error.message if error is not None else record.flaw
            self._notes.append(f"Request completed with an error. {escape_controls(why)}".rstrip())
        record.outcome, record.finished_at = outcome, self._services.clock()
        notes, self._notes = self._notes, []  # a leg that is drained may have more to tell
        self._telemetry.finish(record, notes)

    def _finish_client(self, outcome: str, error: HttpError | None) -> None:
        if error is not None:
            self._client.respond_error(error)
        elif outcome == "completed":
            self._client.complete(keep_alive=self._keep_alive)
        elif outcome == "failed":
            self._client.cut_off(delimited=self._is_delimited)

    def __repr__(self) -> str:
        head = self._request.head
        return f"<{type(self).__name__} {head.method} {head.path}{' ended' if self._is_ended else ''}>"
