"""The continuable request: its stream doesn't break with its instance, if another one can go on with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from fd_router.engines.continuation.ways import asking_ids
from fd_router.engines.dialect import Dialect
from fd_router.errors import Retry, UpstreamError
from fd_router.http.chunks import LAST_CHUNK, chunk
from fd_router.http.fetch import fetch
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.openai.continuation.seam import CUT_OFF
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.routing.continuation.contracts import Leg, LegListener, Move
from fd_router.routing.continuation.event_bytes import WHOLE
from fd_router.routing.continuation.id_filter import ChunkedIdFilter, IdFilter, PlainIdFilter
from fd_router.routing.continuation.journal import HANDED_ON, Journal
from fd_router.routing.continuation.keeper import MOST_READ, StreamKeeper
from fd_router.routing.continuation.stream import StreamContinuation
from fd_router.routing.phase import ENDED, STREAMING
from fd_router.routing.reading import RequestThatIsRead
from fd_router.routing.request_queue import Queued, QueueTicket
from fd_router.spliced_body import Body
from fd_router.tokenization.text_count import PATH, TextCount

CUT_SHORT: Final = "The stream is over, and doesn't say why"


class ContinuableRequest(RequestThatIsRead):
    """What of a request's life concerns a stream that goes on. Like ``RequestLife`` it has no ``__init__``."""

    __slots__ = ("_asks", "_continuation", "is_abort_asked")

    _asks: bool  # for token ids, which the client doesn't
    is_abort_asked: bool  # by /v1/abort_requests: an engine that does so is right
    _continuation: StreamContinuation | None  # once it did

    def _body_for(self, dialect: Dialect) -> Body:
        """Return the body for an instance of ``dialect``: the client's, or one that asks for ids as well."""
        streams = self._context.streams
        self._has_asked = self._asks and streams is not None and dialect.ways.tells_ids(chat=streams.chat)
        body = self._asked_body
        return asking_ids(body) if self._has_asked else body

    @property
    def _asked_body(self) -> Body:
        """The client's body, as it asks for the model that was chosen."""
        return self._request.body if self._route is None else self._route.body

    # the stream as long as its first instance sends it

    def _open_journal(self, head: ResponseHead) -> Journal | None:
        """Return what keeps the stream that begins with ``head``; None if it shall break with its instance."""
        streams = self._context.streams
        if streams is None or not head.chunked or head.status != 200:
            return None
        self._journal = streams.open(self._request, self.on_stream_broken, aligned=self._has_asked)
        return self._journal

    def _id_filter(self, head: ResponseHead) -> IdFilter:
        """Return who takes the body behind ``head``, and gives on what the client may see of it."""
        return ChunkedIdFilter(head) if head.chunked else PlainIdFilter(head)

    @property
    def _last_sent(self) -> bytes:
        """What of the body came last, as far as it was sent."""
        journal = self._journal
        return self._tail if journal is None else journal.last_sent if journal.lost else WHOLE

    def on_stream_broken(self) -> None:
        """An event says that the instance gives up, or none said why it is over: go on elsewhere, or pass that on."""
        instance, journal, record = self.instances()[-1], self._journal, self.record
        record.attempt_failed(record.attempt("error_answer", self._context.clock(), record.status))
        flaw = CUT_SHORT if journal is not None and journal.is_cut_off else ""
        goes_on = self._continue_stream(CUT_OFF if flaw else "gave_up", instance)
        if goes_on or flaw:  # else it is told by the events that are handed on
            self._telemetry.metrics.upstream_failed(instance.url, "error_answer")
            instance.failed("error_answer", begun=True)
        if goes_on or journal is None:
            return
        if flaw:
            record.flaw, record.outcome = flaw, "failed"
            self._log_error(f"scanner error: {instance.url}: {flaw}")
        journal.hand_on()

    def _break_off(self, error: UpstreamError, failed: Instance) -> None:
        """Go on in the middle of the answer, which the instance didn't finish, or end there."""
        record = self.record
        record.attempt_failed(record.attempt(error.reason, self._context.clock(), record.status))
        self._log_error(f"scanner error: {error.instance}: {error.detail}")
        if not self._continue_stream(error.reason, failed):
            self._end("failed")

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that work on the request now."""
        raise NotImplementedError

    @property
    def delivered_at(self) -> float:
        """When bytes of its first instance's answer came last, in monotonic seconds; 0.0: none are read now."""
        raise NotImplementedError

    def move_stream(self, key: str, why: str, *, silent_since: float = math.inf) -> Move:
        """Have another instance go on, if the one with ``key`` sends its stream, and nothing of it ``silent_since``."""
        instances, continuation = self.instances(), self._continuation
        if self._phase is not STREAMING or not instances or instances[-1].key != key or self.is_abort_asked:
            return Move.ENDS
        delivered_at = self.delivered_at if continuation is None else continuation.delivered_at
        if silent_since < math.inf and not 0.0 < delivered_at <= silent_since:
            return Move.ENDS  # it goes on there, or is held up by its client
        record = self.record
        attempt = record.attempt(why, self._context.clock(), record.status)
        instance = instances[-1]
        moved = self._move_first(why, instance) if continuation is None else continuation.move(why, instance)
        if moved is Move.MOVED:
            record.attempt_failed(attempt)
        return moved

    def on_instance_dead(self, key: str, why: str) -> bool:
        """The instance with ``key`` is dead: go elsewhere, if it is to answer. Returns whether it did."""
        continuation = self._continuation
        return self._goes_from_dead(key, why) if continuation is None else continuation.on_instance_dead(key)

    def _goes_from_dead(self, key: str, why: str) -> bool:
        """Do so where no stream has begun."""
        raise NotImplementedError

    def _move_first(self, why: str, instance: Instance) -> Move:
        """Have another instance go on for the first time."""
        stream = self._make_continuation(instance)
        if stream is None:
            return Move.STAYS
        self._continuation = stream
        moved = stream.move(why, instance)
        if moved is not Move.MOVED:
            self._continuation = None
        return moved

    def _continue_stream(self, why: str, failed: Instance) -> bool:
        """Have another instance go on where ``failed`` broke off. Returns False, and changes nothing, if none can."""
        self._continuation = stream = self._make_continuation(failed)
        if stream is not None and stream.begin(why, (failed.key,)):
            return True
        self._continuation = None
        return False

    def _make_continuation(self, instance: Instance) -> StreamContinuation | None:
        """Make what goes on behind what ``instance`` has sent; None, and told to log and metric, if nothing can."""
        journal, streams, completion = self._journal, self._context.streams, self._completion
        if journal is None or streams is None or completion is None:
            self._was_not_kept(streams)
            return None
        if journal.lost:
            self._cannot_go_on(journal.lost)
            return None
        if len(body := self._asked_body) > MOST_READ:
            self._cannot_go_on("long_body")
            return None
        try:
            source = SourceRequest(bytes(body), chat=streams.chat)
        except ValueError:
            self._cannot_go_on("body")
            return None
        if self._route is not None:
            self._route.pin()
        exact = streams.is_exact(self._request)
        return StreamContinuation(
            self, streams, completion, source, journal.content(), exact=exact, ways=instance.dialect.ways
        )

    def _was_not_kept(self, streams: StreamKeeper | None) -> None:
        """Say why of a stream that nobody kept, unless that is somebody's wish."""
        if self.record.stream and (streams is None or not streams.is_off(self._request)):
            self._cannot_go_on("endpoint" if streams is None else "framing")

    def _cannot_go_on(self, why: str) -> None:
        if why != HANDED_ON:  # else that was told, or it is being aborted
            self._telemetry.metrics.continuations.count("impossible", why)
            self.note(f"The stream can't go on at another instance: {why}")

    def on_abort_asked(self) -> None:
        """Its instances are told to abort it: whatever they say then, nobody is to go on."""
        self.is_abort_asked = True
        if self._continuation is not None:
            self._continuation.is_aborted = True
        elif self._journal is not None:
            self._journal.hand_on()

    @property
    def waits_until(self) -> float:
        """Until when it may wait in the queue, in monotonic seconds; 0.0: it doesn't wait there."""
        if self._continuation is not None:
            return self._continuation.waits_until
        return self._ticket.deadline if self._ticket is not None else 0.0

    # what the continuation calls

    def choose_leg(
        self, stream: LegListener, completion: Completion, body: bytes, excluded: Sequence[str], number: int
    ) -> Leg:
        """Choose where the stream goes on. Raises NoInstanceError; then nothing has changed."""
        raise NotImplementedError

    def count_text(self, instance: Instance, model: str, text: str) -> TextCount | None:
        """Have the instance's tokenizer count a text; None: its engine has none that does."""
        if not instance.dialect.ways.counts_text:
            return None
        pool = self._context.pools.of(instance)
        return TextCount(lambda question: fetch(pool, "POST", PATH, question), model, text)

    def _end_attempt(self) -> None:
        """Give back what an attempt that came to nothing holds, connections and counts."""
        raise NotImplementedError

    def leave_instance(self) -> None:
        """Give back what is still held at the instance that broke off, and what is kept of its stream."""
        self._end_attempt()
        if self._journal is not None:
            self._journal.end(whole=False)
            self._journal.note(WHOLE)
        if self._usage is not None:
            self._usage.write_to(self._client.send_body)

    def hope_secs(self) -> float:
        """Return how long a probe may take that may bring an instance back; 0: none."""
        return self._context.hope_secs()

    def wait_for_room(self, waiting: Queued, hope_secs: float) -> QueueTicket | None:
        """Queue; None: requests don't wait here."""
        queue = self._queue
        if queue is None:
            return None
        return queue.enter(waiting, self._priority(queue), self._party(), again=True, hope_secs=hope_secs)

    def report(self, instance: Instance, error: UpstreamError) -> None:
        """Report an instance that failed the continuation."""
        self._telemetry.metrics.upstream_failed(error.instance, error.reason)
        if error.retry is Retry.ALWAYS:
            self._context.connection_failed(instance, error.reason)

    def on_stream_events(self, events: bytes) -> None:
        """Send more events."""
        framed = chunk(events)
        self.record.bytes_out += len(framed)
        if self._journal is not None:
            self._journal.note(framed)
        (self._client.send_body if self._usage is None else self._usage.feed)(framed)

    def on_stream_end(self) -> None:
        """The stream has its last event."""
        self._client.send_body(LAST_CHUNK)
        self._end("completed")

    def on_stream_lost(self, why: str) -> None:
        """The stream can't go on after all: let the client see it."""
        if self._phase is not ENDED:
            self._log_error(f"scanner error: the stream that went on broke off: {why}")
            self._end("failed")

    def note(self, line: str) -> None:
        """Tell the log."""
        self._log_notes()
        self._telemetry.log.info_all([line], self.record.tags)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the answer handed to the client's connection so far."""
        return self.record.bytes_out + (self._journal.size if self._journal is not None else 0)

    # the end

    def _close_stream(self, outcome: str) -> None:
        """Let go of what is kept for a stream that is over."""
        journal, continuation = self._journal, self._continuation
        self._journal = self._continuation = None  # no cycles: what is over is freed at once
        try:
            if continuation is not None:
                continuation.cancel()
        finally:
            if journal is not None:
                self.record.bytes_out += journal.size
                journal.end(whole=outcome == "completed" and continuation is None)
