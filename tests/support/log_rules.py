"""FastDeploy's rules for the router's log, restated: what its analysis scripts make of the lines.

They read latency from request lines, load and hit rate from ``[stats]`` lines, stickiness from strategy lines, the
time that scheduling takes from stamps with the same request id, and join a request's lines to a trace by that id.
Nothing here knows the router: only the lines count.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

_LINE = re.compile(r"\[(?P<level>[A-Z]+)\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d logger\.go:\d+: (?P<rest>.*)")
_TAGS = re.compile(r"\[(trace_id|req_id|session_id|request_id):([^\]]+)\] ")
_URL = r"https?://[A-Za-z0-9.:\[\]-]+?"
_REQUEST = re.compile(r"\[([A-Z]+)\] (/\S*) HTTP/\d\.\d (\d{3}) (\S+) ([0-9a-f.:]+)")
_SELECT = re.compile(rf"select worker \((\w+)\): ({_URL}), (?:tokens|count): (\d+)")
_RELEASE = re.compile(rf"release worker: ({_URL}), count: (\d+)")
_TOKENS = re.compile(rf"release prefill tokens: ({_URL}), tokens: (\d+)")
_STRATEGY = re.compile(r"cache-aware \w+: final strategy: (\w+)(?:, selected=(\S+?),|, )")
_HITS = re.compile(r"hitRatios=map\[([^\]]*)\]")
_STATS = re.compile(
    r"\[stats\] total_running=(\d+), workers: \[(.*)\], cache_hit_rate=[\d.]+% \(hits=(\d+)/total=(\d+)\)"
)
_STAMP = re.compile(r"ts_ms=(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})")
_PARTS = re.compile(r"([\d.]+)(h|ms|m|s|µs|us|ns)")
_MS: Mapping[str, float] = {"h": 3.6e6, "m": 6e4, "s": 1e3, "ms": 1.0, "µs": 1e-3, "us": 1e-3, "ns": 1e-6}


class Line(NamedTuple):
    """One line in the router's format."""

    level: str
    tags: Mapping[str, str]
    message: str


class RequestLine(NamedTuple):
    """``[POST] /v1/… HTTP/1.1 200 2.8ms 10.0.0.1``."""

    method: str
    path: str
    status: int
    milliseconds: float
    client: str


class Strategy(NamedTuple):
    """What a cache-aware policy decided."""

    name: str
    selected: str  # "" where it fell back
    hit_ratios: Mapping[str, float]
    session: str


class Stats(NamedTuple):
    """One interval's load and session hits."""

    running: int
    by_worker: Mapping[str, int]
    hits: int
    total: int


def milliseconds(duration: str) -> float:
    """Read a duration as Go writes it: ``1m30s``, ``1.5s``, ``150.5ms``, ``500µs``."""
    return sum(float(number) * _MS[unit] for number, unit in _PARTS.findall(duration))


def read(text: str) -> Iterator[Line]:
    """Read a log; lines in no such format are no lines."""
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            rest, tags = match["rest"], {}
            while tag := _TAGS.match(rest):
                tags[tag[1]] = tag[2]
                rest = rest[tag.end() :]
            yield Line(match["level"], tags, rest)


def request_lines(lines: Iterable[Line]) -> list[RequestLine]:
    """Latency: every HTTP request's line."""
    found = [match for line in lines if (match := _REQUEST.match(line.message))]
    return [RequestLine(m[1], m[2], int(m[3]), milliseconds(m[4]), m[5]) for m in found]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` (0 to 1) of them don't exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def selections(lines: Iterable[Line]) -> list[tuple[str, str]]:
    """Load: (role, URL) of each selection."""
    return [(m[1], m[2]) for line in lines if (m := _SELECT.match(line.message))]


def unmatched(lines: Iterable[Line]) -> tuple[int, int]:
    """Pair each release with an earlier selection of its URL; return how many of either are left over."""
    held: defaultdict[str, int] = defaultdict(int)
    surplus = 0
    for line in lines:
        if selected := _SELECT.match(line.message):
            held[selected[2]] += 1
        elif released := _RELEASE.match(line.message):
            surplus += held[released[1]] == 0
            held[released[1]] = max(0, held[released[1]] - 1)
    return sum(held.values()), surplus


def token_releases(lines: Iterable[Line]) -> list[str]:
    """Return the URL of each release of prefill tokens."""
    return [m[1] for line in lines if (m := _TOKENS.match(line.message))]


def strategies(lines: Iterable[Line]) -> list[Strategy]:
    """Cache: what was decided, and each instance's share of the prompt that it holds, in percent."""
    found = []
    for line in lines:
        if match := _STRATEGY.match(line.message):
            hits = _HITS.search(line.message)
            pairs = (entry.rpartition(":") for entry in hits[1].split()) if hits else ()
            ratios = {url: float(ratio) for url, _, ratio in pairs}
            found.append(Strategy(match[1], match[2] or "", ratios, line.tags.get("session_id", "")))
    return found


def sticky(decided: Iterable[Strategy]) -> int:
    """Stickiness: how often a session's next request went where the one before it had gone."""
    visits: defaultdict[str, list[str]] = defaultdict(list)
    for one in decided:
        visits[one.session].append(one.selected)
    return sum(before == after for urls in visits.values() for before, after in pairwise(urls))


def stats(lines: Iterable[Line]) -> list[Stats]:
    """Load and hit rate, an interval each."""
    found = []
    for line in lines:
        if match := _STATS.match(line.message):
            workers = re.findall(rf"({_URL}): running=(\d+)", match[2])
            by_worker = {url: int(number) for url, number in workers}
            found.append(Stats(int(match[1]), by_worker, int(match[3]), int(match[4])))
    return found


def scheduling_times(lines: Iterable[Line]) -> Mapping[str, float]:
    """Scheduling time in ms by request id: from the first to the last stamp of those with two or more."""
    stamps: defaultdict[str, list[datetime]] = defaultdict(list)
    for line in lines:
        if (match := _STAMP.search(line.message)) and "request_id" in line.tags:
            stamps[line.tags["request_id"]].append(datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S.%f"))
    both = {name: (min(found), max(found)) for name, found in stamps.items() if len(found) >= 2}
    return {name: (last - first).total_seconds() * 1000 for name, (first, last) in both.items()}


def traces(lines: Iterable[Line]) -> Mapping[str, Sequence[str]]:
    """Return the messages of each request id, in their order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in lines:
        if "request_id" in line.tags:
            found[line.tags["request_id"]].append(line.message)
    return found


def count(lines: Iterable[Line], words: str) -> int:
    """Count the lines that begin with ``words``."""
    return sum(line.message.startswith(words) for line in lines)
