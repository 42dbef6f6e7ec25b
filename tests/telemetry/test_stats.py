from __future__ import annotations

import re
from types import SimpleNamespace

from fd_router.telemetry.stats import StatsLine

HEALTH = SimpleNamespace(value="healthy")
ROLE = SimpleNamespace(role="mixed")


def instance(url: str, running: int) -> SimpleNamespace:
    return SimpleNamespace(url=url, own_running=running, own_tokens=0, health=HEALTH, registration=ROLE)


def test_the_line_tells_load_and_hits_since_the_last_one() -> None:
    counts = [10, 20]
    fleet = [instance("http://b:1", 14), instance("http://a:1", 0)]
    stats = StatsLine(lambda: fleet, lambda: (counts[0], counts[1]))
    counts[:] = [16, 27]
    assert stats.next() == (
        "[stats] total_running=14, workers: [http://a:1: running=0, http://b:1: running=14], "
        "cache_hit_rate=85.71% (hits=6/total=7)"
    )
    assert stats.next().endswith("cache_hit_rate=0.00% (hits=0/total=0)")


def test_an_empty_fleet() -> None:
    line = StatsLine(tuple, lambda: (0, 0)).next()
    assert re.fullmatch(r"\[stats\] total_running=0, workers: \[\], cache_hit_rate=0\.00% \(hits=0/total=0\)", line)
