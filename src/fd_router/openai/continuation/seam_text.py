"""The text at a seam: white space that comes twice, texts to stop at that are cut in two, answers that start over."""

from __future__ import annotations

from collections.abc import Sequence


class SeamText:
    """Looks at the first characters of a continuation until nothing can be wrong with them any more.

    ``sent``: the text so far. ``repeats``: what of its end comes again. ``beginning``: of an answer that starts over.
    ``stops``: texts that end the answer; the instance that goes on doesn't know that one had begun.
    """

    __slots__ = ("_beginning", "_new", "_reach", "_repeats", "_stops", "_tail", "stop")

    def __init__(self, sent: str, repeats: str, beginning: str, stops: Sequence[str]) -> None:
        self._reach = max(map(len, stops), default=1) - 1
        self._tail = sent[-self._reach :] if self._reach else ""
        self._stops = [stop for stop in stops if len(stop) > 1]
        self._beginning = beginning
        self._repeats = repeats
        self._new = ""  # what came so far, less what repeats
        self.stop = ""  # the text that was found across the seam
        """Which text to stop at was found, "" for none."""

    @property
    def is_open(self) -> bool:
        """Whether what came so far may yet turn out wrong."""
        return self.starts_over(whole=False) or self._may_be_stop()

    def feed(self, text: str) -> str:
        """Take more of the text as the instance sent it. Returns it less what was sent before."""
        if self._repeats:
            text = self._less_repeated(text)
        self._new += text
        self.stop = self._find_stop()
        return text

    def starts_over(self, *, whole: bool) -> bool:
        """Return whether what came begins like the whole answer; not ``whole``: so far, with more of it to come."""
        if whole or not self._beginning:
            return bool(self._beginning) and self._new.startswith(self._beginning)
        return len(self._new) < len(self._beginning) and self._beginning.startswith(self._new)

    def behind_stop(self) -> int:
        """Return how many characters of what came belong to the stop that was found."""
        both = self._tail + self._new
        return both.index(self.stop) + len(self.stop) - len(self._tail)

    @property
    def new(self) -> str:
        """All that came, less what was sent before."""
        return self._new

    def _less_repeated(self, text: str) -> str:
        at = 0
        while at < len(text) and at < len(self._repeats) and text[at] == self._repeats[at]:
            at += 1
        self._repeats = self._repeats[at:] if at == len(text) else ""
        return text[at:]

    def _find_stop(self) -> str:
        both, end = self._tail + self._new[: self._reach], len(self._tail)
        places = [(both.find(stop, 0), stop) for stop in self._stops]
        crossing = [(at, stop) for at, stop in places if 0 <= at < end < at + len(stop)]
        return min(crossing)[1] if crossing else ""

    def _may_be_stop(self) -> bool:
        """Return whether what came, with the end of what was sent, is the beginning of a text to stop at."""
        if not self._stops or len(self._new) >= self._reach:
            return False
        both = self._tail + self._new
        ends = [both[at:] for at in range(len(self._tail))]
        return any(stop.startswith(end) and stop != end for stop in self._stops for end in ends)
