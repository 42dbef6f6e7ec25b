"""The topic of sessions: what one worker's browsers began, the others know."""

from __future__ import annotations

import msgspec

from fd_router.admission.sessions import Sessions
from fd_router.state.topics.sessions import SharedSessions


class Worker:
    def __init__(self) -> None:
        self.sessions = Sessions(lambda: 100.0)
        self.topic = SharedSessions(self.sessions)
        self.flushes = 0
        self.topic.flush = self.count

    def count(self) -> None:
        self.flushes += 1


def test_begun_ended_and_told_to_a_newcomer() -> None:
    one, other, newcomer = Worker(), Worker(), Worker()
    secret, second = one.sessions.begin(), one.sessions.begin()
    assert one.flushes == 2
    news = one.topic.gather(whole=False)
    assert news is not None
    assert secret.encode() not in news
    other.topic.take("one", msgspec.Raw(news))
    assert other.sessions.has(secret)
    assert other.topic.gather(whole=False) is None
    other.sessions.end(secret)
    one.topic.take("other", msgspec.Raw(other.topic.gather(whole=False) or b""))
    assert not one.sessions.has(secret)
    [told] = one.topic.snapshot()
    newcomer.topic.take("one", msgspec.Raw(told))
    assert not newcomer.sessions.has(secret)
    assert newcomer.sessions.has(second)
    assert list(Worker().topic.snapshot()) == []
