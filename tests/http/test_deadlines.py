from __future__ import annotations

from fd_router.http.deadlines import NEVER, DeadlineSweeper
from tests.support.fake_transport import FakeLoop


class Member:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.calls = 0

    def on_deadline(self) -> None:
        self.calls += 1


def make_sweeper() -> tuple[FakeLoop, DeadlineSweeper]:
    loop = FakeLoop(now=100.0)
    sweeper = DeadlineSweeper(loop, interval=0.8)  # type: ignore[arg-type]
    sweeper.start()
    return loop, sweeper


def test_a_deadline_is_noticed_within_an_interval() -> None:
    loop, sweeper = make_sweeper()
    members = [Member(101.9) for _ in range(50)]
    for member in members:
        sweeper.add(member)
    loop.advance(1.89)
    assert not any(member.calls for member in members)
    loop.advance(0.8)
    assert all(member.calls == 1 for member in members)


def test_it_is_called_again_while_it_stays_past() -> None:
    loop, sweeper = make_sweeper()
    member = Member(100.5)
    sweeper.add(member)
    loop.advance(4.01)
    assert member.calls in (4, 5)
    member.deadline = NEVER
    before = member.calls
    loop.advance(10)
    assert member.calls == before


def test_members_are_spread_over_the_ticks() -> None:
    _, sweeper = make_sweeper()
    for _ in range(80):
        sweeper.add(Member(NEVER))
    assert [len(members) for members in sweeper._slices] == [80 // sweeper.SLICES] * sweeper.SLICES
    assert repr(sweeper) == "<DeadlineSweeper 80 members>"


def test_discarded_members_are_left_alone() -> None:
    loop, sweeper = make_sweeper()
    member, other = Member(100.0), Member(100.0)
    sweeper.add(member)
    sweeper.discard(member)
    sweeper.discard(other)
    loop.advance(2)
    assert member.calls == 0
    assert len(sweeper) == 0


def test_now_follows_the_clock_and_stop_stops() -> None:
    loop, sweeper = make_sweeper()
    loop.advance(1.0)
    assert abs(sweeper.now - 101.0) <= 0.1 + 1e-6
    sweeper.stop()
    sweeper.stop()
    assert loop.timers == []


def test_a_member_may_leave_while_it_is_called() -> None:
    loop, sweeper = make_sweeper()

    class Leaving(Member):
        def on_deadline(self) -> None:
            super().on_deadline()
            sweeper.discard(self)

    members = [Leaving(100.0) for _ in range(20)]
    for member in members:
        sweeper.add(member)
    loop.advance(2)
    assert [member.calls for member in members] == [1] * 20


def test_one_that_another_has_spared_in_the_same_tick_is_left_alone() -> None:
    """A kept connection, idle for too long, over which a request goes that another connection failed, for one."""
    loop, sweeper = make_sweeper()
    members: list[Member] = []

    class First(Member):
        def on_deadline(self) -> None:
            super().on_deadline()
            for number, other in enumerate(each for each in members if each is not self):
                if number % 2:
                    sweeper.discard(other)
                else:
                    other.deadline = NEVER

    members += [First(100.5) for _ in range(5)]
    for member in members:
        sweeper._slices[0].add(member)
    loop.advance(0.81)
    assert sorted(member.calls for member in members) == [0, 0, 0, 0, 1]
