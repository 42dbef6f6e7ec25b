"""The continuable request: its stream doesn't break with its instance, if another one can go on with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from fd_router.engines.continuation.ways import asking_ids
from fd_router.engines.dialect import Dialect
from fd_router.engines.error_answers import ERROR_IN_STREAM
from fd_router.errors import HttpError, Retry, UpstreamError
from fd_router.http.chunks import LAST_CHUNK, chunk, whole_chunks
from fd_router.http.fetch import fetch
from fd_router.http.heads import ResponseHead
from fd_router.instances.instance import Instance
from fd_router.openai.completion import Completion
from fd_router.openai.continuation.seam import CUT_OFF, LAST
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.routing.continuation.contracts import Leg, LegListener, Move
from fd_router.routing.continuation.event_bytes import WHOLE
from fd_router.routing.continuation.id_filter import ChunkedIdFilter, IdFilter, PlainIdFilter
from fd_router.routing.continuation.journal import HANDED_ON, Journal
from fd_router.routing.continuation.keeper import MOST_READ, StreamKeeper
from fd_router.routing.continuation.resumption import Resumption
from fd_router.routing.continuation.stream import StreamContinuation
from fd_router.routing.continuation.stream_reading import LONG, StreamReading
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
    _continuation: StreamContinuation | Resumption | None  # once it did

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
        self._journal = streams.open(self._request, self, aligned=self._has_asked)
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
        last_words = journal.held_back if journal is not None else b""
        goes_on = self._continue_stream(CUT_OFF if flaw else "gave_up", instance, last_words)
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
        if self.is_held_up(error.reason) or not self._continue_stream(error.reason, failed):
            self._end("failed")

    def instances(self) -> tuple[Instance, ...]:
        """Return the instances that work on the request now."""
        raise NotImplementedError

    @property
    def delivered_at(self) -> float:
        """When bytes of its first instance's answer came last, in monotonic seconds; 0.0: none are read now."""
        raise NotImplementedError

    def move_stream(
        self, key: str, why: str, *, silent_since: float = math.inf, reading: StreamReading | None = None
    ) -> Move:
        """Have another instance go on, if the one with ``key`` sends its stream, and nothing of it ``silent_since``.

        ``reading``: from ``read_ahead``.
        """
        if not self._may_move(key, silent_since):
            return Move.ENDS
        record, continuation = self.record, self._continuation
        attempt = record.attempt(why, self._context.clock(), record.status)
        instance = self.instances()[-1]
        moved = self._move_first(why, instance, reading) if continuation is None else continuation.move(why, instance)
        if moved is Move.MOVED:
            record.attempt_failed(attempt)
        return moved

    def read_ahead(self, key: str, *, silent_since: float = math.inf) -> StreamReading | None:
        """Begin to read a stream that is to be moved; None: it can't be, or there is little to read."""
        journal, streams = self._journal, self._context.streams
        if journal is None or streams is None or journal.lost or self._continuation is not None:
            return None
        if journal.size <= LONG or not self._may_move(key, silent_since):
            return None
        return StreamReading(journal.framed, chat=streams.chat)

    def _may_move(self, key: str, silent_since: float) -> bool:
        """Return whether the instance with ``key`` sends the stream, and nothing of it ``silent_since``.

        Else it goes on there, or is held up by its client.
        """
        instances, continuation = self.instances(), self._continuation
        if self._phase is not STREAMING or not instances or instances[-1].key != key or self.is_abort_asked:
            return False
        delivered_at = self.delivered_at if continuation is None else continuation.delivered_at
        return silent_since == math.inf or 0.0 < delivered_at <= silent_since

    def on_instance_dead(self, key: str, why: str) -> bool:
        """The instance with ``key`` is dead: go elsewhere, if it is to answer. Returns whether it did."""
        continuation = self._continuation
        return self._goes_from_dead(key, why) if continuation is None else continuation.on_instance_dead(key)

    def _goes_from_dead(self, key: str, why: str) -> bool:
        """Do so where no stream has begun."""
        raise NotImplementedError

    def _move_first(self, why: str, instance: Instance, reading: StreamReading | None) -> Move:
        """Have another instance go on for the first time."""
        source = self._source(instance)
        if source is None:
            return Move.STAYS
        whole = reading or self._reading()
        self._continuation = stream = self._make_continuation(source, instance, whole)
        moved = stream.move(why, instance)
        if moved is not Move.MOVED:
            self._continuation = None
        if moved is Move.MOVED or whole is not reading:
            whole.close()
        return moved

    def _continue_stream(self, why: str, failed: Instance, last_words: bytes = b"") -> bool:
        """Have another instance go on where ``failed`` broke off. Returns False, and changes nothing, if none can.

        A long stream, or one of many, is read first, which takes slices; if then none can go on, its client gets
        ``last_words``, or sees it break.
        """
        source, streams = self._source(failed), self._context.streams
        if source is None or streams is None:
            return False
        reading = self._reading()
        if streams.turns.has_time() and not reading.is_long:
            return self._begin_anew(source, reading, why, failed)
        go_on = partial(self._resume_stream, source, reading, why, failed, last_words)
        self._continuation = resumption = Resumption(reading, go_on, self.on_bug)
        self._end_attempt()
        streams.turns.add(resumption.slices())
        return True

    def _resume_stream(
        self, source: SourceRequest, reading: StreamReading, why: str, failed: Instance, last_words: bytes
    ) -> None:
        """Do so with a stream that has been read."""
        if self._continuation is not None and self._continuation.is_aborted:
            self.on_stream_lost("aborted")
        elif not self._begin_anew(source, reading, why, failed):
            if last_words:
                self._pass_on_end(last_words)
            else:
                self.on_stream_lost(why)

    def _begin_anew(self, source: SourceRequest, reading: StreamReading, why: str, failed: Instance) -> bool:
        before, self._continuation = self._continuation, self._make_continuation(source, failed, reading)
        reading.close()
        if self._continuation.begin(why, (failed.key,)):
            return True
        self._continuation = before
        return False

    def _pass_on_end(self, last_words: bytes) -> None:
        """End as the instance did that broke off, or was about to: nobody goes on with the stream."""
        events = last_words[: whole_chunks(last_words)[1]]
        is_cut_off = self._journal is not None and self._journal.is_cut_off
        if not is_cut_off and LAST not in events:  # the instance was left before it came to that
            events += chunk(LAST)
        end = events + LAST_CHUNK
        self.record.bytes_out += len(end)
        self.record.flaw, self.record.outcome = CUT_SHORT if is_cut_off else ERROR_IN_STREAM, "failed"
        (self._client.outlet if self._usage is None else self._usage).write(end)
        self._end("completed")

    def _reading(self) -> StreamReading:
        """Return what reads the stream so far."""
        journal, streams = self._journal, self._context.streams
        assert journal is not None
        assert streams is not None
        return StreamReading(journal.framed, chat=streams.chat)

    def _source(self, instance: Instance) -> SourceRequest | None:
        """Read the request once more; None, and told to log and metric, if nothing can go on behind ``instance``."""
        journal, streams = self._journal, self._context.streams
        if journal is None or streams is None or self._completion is None:
            self._was_not_kept(streams)
            return None
        if journal.lost:
            self._cannot_go_on(journal.lost)
            return None
        if not self._keeps_to_model(instance):
            self._cannot_go_on("no_instance")
            return None
        if len(body := self._asked_body) > MOST_READ:
            self._cannot_go_on("long_body")
            return None
        try:
            return SourceRequest(bytes(body), chat=streams.chat)
        except ValueError:
            self._cannot_go_on("body")
            return None

    def _keeps_to_model(self, instance: Instance) -> bool:
        """See to it that the model of ``instance`` goes on: there may be others by now. Returns False if it can't."""
        if self._route is not None:
            return True
        try:
            self._find_route()
        except HttpError:
            return False
        if self._route is None or self._route.go_to([card.name for card in instance.models]):
            return True
        self._route = None
        return False

    def _make_continuation(
        self, source: SourceRequest, instance: Instance, reading: StreamReading
    ) -> StreamContinuation:
        """Make what goes on behind what ``instance`` has sent."""
        streams, completion = self._context.streams, self._completion
        assert streams is not None
        assert completion is not None
        if self._route is not None:
            self._route.pin()
        exact = streams.is_exact(self._request)
        for _ in reading.read():
            pass
        generated = reading.generated
        return StreamContinuation(self, streams, completion, source, generated, exact=exact, ways=instance.dialect.ways)

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
            self._usage.write_to(self._client.outlet)

    def is_held_up(self, why: str) -> bool:
        """Return whether it broke off because its client takes nothing: nobody is to generate the rest for that."""
        return why == "stalled" and self._is_full

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
        (self._client.outlet if self._usage is None else self._usage).write(framed)

    def on_stream_end(self) -> None:
        """The stream has its last event."""
        self._client.outlet.write(LAST_CHUNK)
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
