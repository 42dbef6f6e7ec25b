from __future__ import annotations

import tracemalloc

from fd_router.scheduling.prefix.sessions import Sessions


def test_a_hit_is_the_same_instance_as_the_last_time() -> None:
    sessions = Sessions()
    visits = [("s", "a"), ("s", "a"), ("t", "a"), ("s", "b"), ("s", "a"), ("t", "a")]
    assert [sessions.visit(*visit) for visit in visits] == [False, True, False, False, False, True]


def test_the_sessions_seen_last_are_kept() -> None:
    sessions = Sessions(limit=2)
    for session in ("one", "two", "one", "three"):
        sessions.visit(session, "a")
    assert len(sessions) == 2
    assert sessions.visit("one", "a")
    assert not sessions.visit("two", "a")


def test_an_endless_id_is_told_from_others_but_not_kept() -> None:
    sessions = Sessions()
    endless = "s" * 1_000_000
    tracemalloc.start()
    try:
        visits = [sessions.visit(endless + end, "a") for end in ("1", "2", "1", "\ud800", "\ud800")]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert visits == [False, False, True, False, True]
    assert kept < 10_000
