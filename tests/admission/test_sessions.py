"""Sessions: begun, known, over."""

from __future__ import annotations

from fd_router.admission.sessions import MAX_SESSIONS, SESSION_SECS, Sessions


def test_a_session_is_known_until_it_ends() -> None:
    now = 100.0
    sessions = Sessions(lambda: now)
    one, other = sessions.begin(), sessions.begin()
    assert one != other
    assert sessions.has(one)
    assert not sessions.has("")
    assert not sessions.has(one + "x")
    sessions.end(one)
    sessions.end("unknown")
    assert not sessions.has(one)
    now += SESSION_SECS
    assert not sessions.has(other)


def test_the_oldest_makes_room_and_all_may_be_ended() -> None:
    sessions = Sessions(lambda: 0.0)
    secrets = [sessions.begin() for _ in range(MAX_SESSIONS + 1)]
    assert not sessions.has(secrets[0])
    assert sessions.has(secrets[1])
    assert secrets[1] not in repr(sessions)
    sessions.end_all()
    assert not any(map(sessions.has, secrets))


def test_what_others_tell_of_is_known_and_not_told_again() -> None:
    now = 100.0
    one, other = Sessions(lambda: now), Sessions(lambda: now)
    told: list[tuple[bytes, float]] = []
    one.on_change = lambda mark, seconds: (told.append((mark, seconds)), other.put(mark, seconds))  # type: ignore[assignment, func-returns-value]
    secret = one.begin()
    assert other.has(secret)
    now += 10
    assert list(other.in_force().values()) == [SESSION_SECS - 10]
    assert secret.encode() not in b"".join(other.in_force())
    other.put(next(iter(other.in_force())), 1e9)
    assert list(other.in_force().values()) == [SESSION_SECS]
    one.end(secret)
    one.end(secret)
    assert not other.has(secret)
    assert [seconds for _, seconds in told] == [SESSION_SECS, 0.0]
