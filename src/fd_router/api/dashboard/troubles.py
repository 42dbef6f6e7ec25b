"""Recent failures with their cause in words: of requests, while somebody looks, and of instances, always."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from fd_router.api.dashboard.recent import RecentList
from fd_router.instances.changes import Change, ChangeKind
from fd_router.telemetry.record import RequestRecord

PER_FRAME: Final = 20
"""Failed requests that are told one by one between two frames: when all fail, a few say it."""

_DETAIL_CHARACTERS: Final = 200

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "refused": "nothing listens there: its process has ended, or hasn't begun to listen",
        "exhausted": "the router has no open file, port or memory left for a connection",
        "unreachable": "there is no way to its address: the network, or the name",
        "connect_timeout": "it took no connection in time: it hangs, or the network drops what is sent there",
        "reset": "it closed the connection before it answered: it crashed, or an idle connection was too old",
        "first_byte_timeout": "it didn't begin to answer in time",
        "stalled": "it fell silent in the middle of its answer",
        "cut_off": "its connection ended in the middle of the answer: it crashed, or was restarted",
        "protocol": "what it sent isn't HTTP",
        "error_answer": "it answered with an error of its own",
        "busy": "it said that it has no room",
        "dead": "its probes found it dead while it should have answered",
    }
)
"""What a word of ``UpstreamError.REASONS`` means for the instance."""

STATUSES: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "what the client sent can't be read",
        401: "the client has shown no API key that is known",
        403: "the client's API key doesn't allow that",
        404: "nobody serves such a model or path",
        408: "the client was too slow to send it",
        413: "it is larger than a request may be",
        429: "too many: the API key's limit, or the queue's",
        502: "no instance could answer it",
        503: "there was no instance with room for it, or none at all",
        504: "it took longer than a request may",
    }
)
"""What a status means that the router answered with itself."""

CHANGES: Final[Mapping[ChangeKind, str]] = MappingProxyType(
    {
        ChangeKind.NOT_UP: "isn't up yet",
        ChangeKind.SUSPECT: "a connection to it failed; it is probed",
        ChangeKind.DOWN: "is unhealthy: its probes failed",
        ChangeKind.DEAD: "is dead: what it had goes elsewhere",
        ChangeKind.UP: "is healthy again",
        ChangeKind.PAUSED: "takes nothing new, by its own word",
        ChangeKind.RESUMED: "takes requests again",
        ChangeKind.DRAINING: "drains: it gets nothing new, by an admin's word",
        ChangeKind.UNDRAINED: "no longer drains",
        ChangeKind.CIRCUIT_OPEN: "gets nothing for a while: too many of its requests failed",
        ChangeKind.CIRCUIT_CLOSED: "gets requests again: one on trial went well",
        ChangeKind.REMOVED: "is no member any more",
    }
)
"""Changes of an instance that an operator wants to know of, in words."""

_GOOD: Final = frozenset({ChangeKind.UP, ChangeKind.RESUMED, ChangeKind.UNDRAINED, ChangeKind.CIRCUIT_CLOSED})


class TroubleList(RecentList):
    """Keeps the last failures. ``finished`` makes it a ``RecordSink``, ``on_change`` a registry's listener."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock, PER_FRAME)

    def finished(self, record: RequestRecord) -> None:
        """Look at a request that is over."""
        if record.status < 400 and record.outcome != "failed" and not record.failed_attempts and not record.continued:
            return
        if not record.inference or record.outcome == "client_gone":
            return
        if self.wanted <= 0:
            self.unseen += 1
            return
        self.wanted -= 1
        self.add(**_of_request(record))

    def on_change(self, change: Change) -> None:
        """Look at a change of an instance."""
        words = CHANGES.get(change.kind)
        if words is not None:
            detail = change.detail[:_DETAIL_CHARACTERS]
            self.add(
                kind="instance",
                url=change.instance.url,
                is_good=change.kind in _GOOD,
                cause=f"{words}{f' ({detail})' if detail else ''}",
            )


def _of_request(record: RequestRecord) -> dict[str, Any]:
    attempts = [
        {"url": " + ".join(url for url in one.instances if url), "cause": _cause_of_attempt(one.outcome, one.status)}
        for one in record.failed_attempts
    ]
    has_failed = record.outcome == "failed" or record.status >= 400
    return {
        "kind": "request",
        "path": record.endpoint,
        "status": record.status,
        "url": record.mixed or " + ".join(url for url in (record.prefill, record.decode) if url),
        "is_good": not has_failed,
        "attempts": attempts,
        "cause": _cause(record) if has_failed else _how_it_went_on(record),
    }


def _cause_of_attempt(outcome: str, status: int) -> str:
    words = REASONS.get(outcome, outcome)
    return f"{words} (status {status})" if status else words


def _cause(record: RequestRecord) -> str:
    if record.attempts and record.first_byte_at:
        if record.status >= 400:
            return f"the instance answered with status {record.status}"
        return "the answer broke off in the middle, and could not go on elsewhere"
    return STATUSES.get(record.status, f"status {record.status}")


def _how_it_went_on(record: RequestRecord) -> str:
    if record.continued:
        return f"its instance broke off behind {record.continued_at} tokens; another one went on with the stream"
    return "another instance answered it"
