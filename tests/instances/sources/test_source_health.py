"""Whether a source can be asked is told once each way, and again for another reason."""

from __future__ import annotations

from fd_router.instances.sources.source_health import SourceHealth


def test_it_is_told_once_each_way(log) -> None:
    health = SourceHealth("dns x", log)
    health.worked()
    for why in ("timeout", "timeout", "NXDOMAIN"):
        health.failed(why)
        assert not health.is_up
    assert health.failures == 3
    health.worked()
    health.worked()
    assert health.is_up
    begin = "Source dns x can't be read, its instances stay as they are:"
    assert log.lines == [
        ("warn", f"{begin} timeout"),
        ("warn", f"{begin} NXDOMAIN"),
        ("info", "Source dns x is read again"),
    ]


def test_what_another_tells_is_only_counted(log) -> None:
    health = SourceHealth("mine", log)
    health.count_failure()
    assert (health.is_up, health.failures) == (False, 1)
    health.worked()
    assert (health.is_up, log.lines) == (True, [])
    assert repr(health) == "<SourceHealth of mine: up, 1 failures>"
