"""Reads a recording: the events in their order, and what became of each request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from fd_router.devtools.traces.trace import TraceError
from fd_router.errors import UNREADABLE
from fd_router.scheduling.recording import events

_MARK = b'{"event":"recording"'


class Served(msgspec.Struct):
    """One attempt at a request, and what became of it. Times as in the recording; 0.0: it never came to that."""

    decision: events.Decision
    instance: int
    dispatched_at: float = 0.0
    sent_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    prompt_tokens: int = 0  # as the engine told; 0: it didn't
    cached_tokens: int = 0
    total_tokens: int = 0  # of prompt and answer; 0: it didn't tell


class Recording(msgspec.Struct, frozen=True):
    """A whole recording."""

    header: events.Header
    entries: Sequence[events.Event]

    @property
    def prefilling(self) -> dict[int, events.Made]:
        """The policies that choose where prompts are prefilled, by their numbers."""
        made = (event for event in self.entries if isinstance(event, events.Made))
        return {event.policy: event for event in made if event.role != "decode"}

    @property
    def instances(self) -> int:
        """How many instances were candidates of those who prefill."""
        wanted = self.prefilling
        decisions = (each for each in self.entries if isinstance(each, events.Decision) and each.policy in wanted)
        return len({number for each in decisions for number in each.candidates or ()})

    def served(self) -> list[Served]:
        """Return the requests that had an answer, by the time that they came; only streams have a first token."""
        requests: dict[int, Served] = {}
        members: dict[int, list[int]] = {}
        wanted = self.prefilling
        for event in self.entries:
            if isinstance(event, events.Decision):
                if event.policy not in wanted:
                    continue
                if event.candidates is not None:
                    members[event.policy] = event.candidates
                requests[event.request] = Served(event, members[event.policy][event.chosen])
            elif (served := requests.get(getattr(event, "request", 0))) is not None:
                _note(served, event)
        return [
            served
            for served in requests.values()
            if served.ended_at and (served.first_at or served.total_tokens or served.prompt_tokens)
        ]


def _note(served: Served, event: events.Event) -> None:
    match event:
        case events.Dispatched():
            served.dispatched_at = served.sent_at = event.at
        case events.Sent():
            served.sent_at = event.at
        case events.First():
            served.first_at = event.at
        case events.Usage():
            served.prompt_tokens, served.cached_tokens = event.prompt_tokens, event.cached_tokens
        case events.Total():
            served.total_tokens = event.tokens
        case events.Ended():
            served.ended_at = event.at
        case _:
            pass


def is_recording(path: str) -> bool:
    """Whether the file is a recording, by its beginning. Raises OSError."""
    with Path(path).open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def read_recording(path: str) -> Recording:
    """Read a whole recording; a last line that was cut off is left out. Raises TraceError, OSError."""
    decode = msgspec.json.Decoder(events.AnyEvent).decode
    found: list[events.Event] = []
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            if line:
                found.append(decode(line))
        except UNREADABLE as error:
            if number == len(lines):  # the router was killed
                break
            raise TraceError(f"{path}:{number}: {error}; no line of a recording may be changed") from None
    header = found[0] if found else None
    if not isinstance(header, events.Header):
        raise TraceError(f"{path}: no recording: its first line has no event called recording")
    if header.version != events.VERSION:
        raise TraceError(
            f"{path}: the recording is of version {header.version}, which this program can't read; it reads "
            f"{events.VERSION}"
        )
    return Recording(header, found[1:])
