"""Where the events of a stream end, and what the last of them says: by a look at the bytes, as they are framed."""

from __future__ import annotations

import re
from typing import Final

from fd_router.engines.error_answers import ERROR_MEMBER, has_error_event
from fd_router.http.chunks import LAST_CHUNK, whole_chunks
from fd_router.http.dechunk import dechunked

ENDS: Final = (b"\n\n\r\n", b"\r\n\r\n\r\n")
"""How a chunk ends whose last event is whole. No event has an empty line in it."""

_SIZE: Final = re.compile(rb"[0-9A-Fa-f]+(?:;[^\r\n]*)?\r?")
"""The line before that where the chunk begins with these line ends: then it ends elsewhere, and its event before it."""

WHOLE: Final = ENDS[0]

WHOLE_PIECE: Final = (b"}" + WHOLE, b"]" + WHOLE, b"]" + WHOLE + LAST_CHUNK)
"""How a piece ends that needn't be looked at: the last chunk behind ``[DONE]`` is the end of a whole answer."""

_WHOLE_ONES: Final = (*WHOLE_PIECE, b"}" + WHOLE + LAST_CHUNK, *(last + ENDS[1] for last in (b"}", b"]")))

_SAYS_END: Final = re.compile(rb'"finish_reason"\s*:\s*"|data:\s*\[DONE\]')
_CHOICES: Final = b'"choices"'

LOOK_OF_EVENTS: Final = re.compile(
    rb"(?:\r\n)?(?:[0-9A-Fa-f]+(?:;[^\r\n]*)?\r\n)?(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:"
)
"""How a stream of events begins, behind the length of a chunk; what is compressed, and JSON a line each, doesn't."""

_LONGEST_FIELD: Final = len(b"event:")

_LOOKED_AT: Final = 4096
"""Bytes of a body that are looked at, to tell what it is: the lengths of chunks may have extensions behind them."""

_SUSPECT: Final = (b'"abort"', b"error", b'"pd_reschedule"', b'"recover_stop"')
"""Without one of these there is no such event, nor one of the name ``error``."""

FINISH: Final = b'"finish_reason"'
"""FastDeploy leaves it out of the events of an answer that goes on: then two searches do."""

ROLE: Final = b'"role"'

_BROKEN: Final = re.compile(
    rb'(?m:^event:\s*error\b)|data:\s*\{\s*"(?:error"\s*:\s*[^n\s]|object"\s*:\s*"error")'
    rb'|"finish_reason"\s*:\s*"(?:abort|error|pd_reschedule|recover_stop)"'
)
"""An event by which an instance ends an answer that isn't whole. In a text, quotes are escaped."""

UNFINISHED: Final = re.compile(rb'"finish_reason": ?null[^0-9]{0,64}\Z')
"""How an event of a token ends, where nothing that differs from token to token stands behind it."""

NEVER: Final = b"\0 no stream ends so"
NOTHING: Final = slice(0)


class UsualEnd:
    """How pieces of streams end that need no other look: as an event of a token that was seen last, of whatever stream.

    Streams of one fleet mostly end their events alike: with the first one that differs it is learnt anew.
    """

    __slots__ = ("at", "end", "is_said")

    def __init__(self) -> None:
        self.is_said = False
        """Whether a stream has said that it ended: then one that is over without a word isn't whole."""
        self.end = NEVER
        self.at = NOTHING  # where in a piece that is

    def learn(self, end: bytes) -> None:
        """Pieces end with ``end``."""
        self.end, self.at = end, slice(-len(end), None)

    def __repr__(self) -> str:
        return f"<UsualEnd {self.end!r}>"


Bytes = bytes | bytearray


def end_of_whole(data: Bytes, after: int = 0) -> int:
    """Return where in ``data``, which begins behind a whole event, the last whole one ends, or the stream; 0: nowhere.

    ``after``: none ends before that.
    """
    if data.endswith(_WHOLE_ONES):
        return len(data)
    end = end_of_events(data, after=after)
    return len(data) if len(data) - end == len(LAST_CHUNK) and data.endswith(LAST_CHUNK) else end


def end_of_events(data: Bytes, before: int | None = None, *, after: int = 0) -> int:
    """Return where the last whole event of ``data``, or of those before ``before``, ends with its chunk; 0: nowhere."""
    start = max(0, after - len(ENDS[-1]))
    return max(_end_with(data, end, start, before) for end in ENDS)


def _end_with(data: Bytes, end: bytes, start: int, before: int | None) -> int:
    at = data.rfind(end, start, before)
    return 0 if at < 0 or _SIZE.fullmatch(data, data.rfind(b"\n", 0, at) + 1, at) is not None else at + len(end)


def is_foreign(beginning: Bytes) -> bool:
    """Return whether a body in chunks that begins so is no stream of events, whatever comes."""
    some = bytes(beginning[:_LOOKED_AT])
    content = dechunked(some)  # chunks may be of a byte each
    return len(content) >= _LONGEST_FIELD and LOOK_OF_EVENTS.match(content) is None


def is_harmless(data: Bytes) -> bool:
    """Return whether no event in ``data`` can say that the answer is broken."""
    abort, error, reschedule, recover = _SUSPECT
    parts = data.partition  # ``in`` costs thrice as much
    if parts(error)[1]:
        return False
    return not parts(FINISH)[1] or not (parts(abort)[1] or parts(reschedule)[1] or parts(recover)[1])


def broken_at(data: Bytes, end: int) -> int:
    """Return where an event begins that says that the answer is broken, -1: there is none."""
    if is_harmless(data):
        return -1
    found = _BROKEN.search(data, 0, end)
    return found.start() if found is not None else _error_at(data, end)


def _error_at(data: Bytes, end: int) -> int:
    """Return a place in an event with an error that isn't its first member, -1: there is none."""
    place = 0
    while (found := ERROR_MEMBER.search(data, place, end)) is not None:
        start, place = end_of_events(data, found.start()), _end_behind(data, found.end()) or end
        some = bytes(data[start:place])
        if has_error_event(b"".join(whole_chunks(some)[0]) or some):
            return found.start()
    return -1


def _end_behind(data: Bytes, place: int) -> int:
    """Return where the first event behind ``place`` ends with its chunk; 0: nowhere."""
    return min((at + len(end) for end in ENDS if (at := data.find(end, place)) >= 0), default=0)


def says_end(events: Bytes) -> bool:
    """Return whether one of some events says that the answer ends there: by a reason, or by the mark of all ends."""
    return _SAYS_END.search(events) is not None


def has_choices(events: Bytes) -> bool:
    """Return whether there is an event as OpenAI has them, of an answer that says why it ends."""
    return events.find(_CHOICES) >= 0
