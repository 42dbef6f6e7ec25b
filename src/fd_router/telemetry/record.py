"""The record of one request, and of each attempt at it: the one source of its access line, its metrics, its spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from fd_router.telemetry.tracing.context import TraceContext


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt to have a request answered. Times are monotonic seconds; 0.0: it never came to that."""

    instances: tuple[str, ...]  # the URL of its instance, or those of prefill and decode
    started: float  # the instances were chosen
    sent_at: float  # the request was sent, over a connection that may have had to be opened
    first_byte_at: float  # of the instance's answer
    ended_at: float
    outcome: str  # as the request's, or, if it failed, why: a word of ``UpstreamError.REASONS``, "error_answer", …
    status: int  # of the instance's answer, 0: there was none


class RequestRecord(msgspec.Struct, gc=False):
    """Filled by the request on the way, read by the sinks when it is over.

    A Struct: what it gains when it is made, with thirty members, is more than what setting the dozen that change loses.
    Times are monotonic seconds; 0.0 means that it never came to that.
    """

    method: str
    endpoint: str  # bounded: a path the router knows, or "unmatched"; the label in metrics
    client: str  # the client's IP address, one of IPv4 never mapped into IPv6; "" where it has none
    started: float  # the first byte of the request's head was read
    path: str = ""  # as the client sent it, for the log; "" = as endpoint
    http_version: str = "1.1"
    inference: bool = False  # counts as an inference request, not only as an HTTP one
    tags: str = ""  # made by ``context_tags``: "[trace_id:…] [req_id:…] …", with a space at the end
    attempt_started: float = 0.0  # the last attempt's instances were chosen …
    sent_at: float = 0.0  # … and it was sent to them
    first_byte_at: float = 0.0  # the first byte of the instance's answer
    finished_at: float = 0.0
    status: int = 0
    flaw: str = ""  # why an answer is not what was asked for although it was completed
    outcome: str = "completed"  # "completed" | "failed" | "client_gone"
    stream: bool = False
    mixed: str = ""  # URLs of the instances chosen last, "" = none
    prefill: str = ""
    decode: str = ""
    attempts: int = 0
    model: str = ""  # the model that served it, "" where the fleet doesn't tell models apart
    continued: int = 0  # how often its stream went on at another instance …
    continued_from: str = ""  # … last from this one (its URL) …
    continued_at: int = 0  # … behind so many tokens
    key: str = ""  # the name of the client's API key, "" = none was needed
    bytes_out: int = 0  # bytes of the answer handed to the client's connection
    failed_attempts: tuple[AttemptRecord, ...] = ()
    queued_at: float = 0.0  # it began to wait for room, the first time
    prefill_at: float = 0.0  # the prefill of the last pair was done
    trace: TraceContext | None = None  # None: it isn't traced
    notes: Sequence[str] = ()  # lines for the log that are still to be written, before the request's own

    def attempt(self, outcome: str, now: float, status: int = 0) -> AttemptRecord:
        """Make the record of the last attempt, which ended ``now`` so."""
        instances = (self.mixed,) if self.mixed else (self.prefill, self.decode)
        return AttemptRecord(instances, self.attempt_started, self.sent_at, self.first_byte_at, now, outcome, status)

    def attempt_failed(self, attempt: AttemptRecord) -> None:
        """Keep the record of an attempt that failed. There may be another one."""
        self.failed_attempts = (*self.failed_attempts, attempt)
        self.attempt_started = self.sent_at = 0.0

    def goes_to(self, urls: Sequence[str]) -> None:
        """Note that other instances, of the same roles, serve it now; decode's is the last one, or the only one."""
        if self.mixed:
            self.mixed = urls[-1]
        else:
            self.prefill, self.decode = "".join(urls[:-1]), urls[-1]

    def all_attempts(self) -> tuple[AttemptRecord, ...]:
        """Return the attempts at a request that is over, in their order; the last one is made for this alone."""
        if not self.attempt_started:
            return self.failed_attempts
        status = self.status if self.first_byte_at else 0
        return (*self.failed_attempts, self.attempt(self.outcome, self.finished_at, status))


@runtime_checkable
class RecordSink(Protocol):
    """Who is given each request's record when it is over: metrics and the log, spans, or a plug-in of somebody's own.

    It is called on the event loop, so it mustn't wait for anything; nor may it change the record.
    """

    def finished(self, record: RequestRecord) -> None:
        """Take the record of a request that is over."""
