from __future__ import annotations

import pytest

from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.scheduling.pairs import PairScheduler, Side
from fd_router.scheduling.policies import make_policy
from tests.support.scheduling_fakes import AskedGroup, FakeCandidate, FakeRequest, make_environment


class Pairs:
    """Prefill instances 1, 2, … and decode instances 11, 12, …; those that don't fit together are named."""

    def __init__(self, prefills: int = 2, decodes: int = 2, misfits: set[tuple[int, int]] | None = None) -> None:
        self.prefills = tuple(FakeCandidate(number) for number in range(1, prefills + 1))
        self.decodes = tuple(FakeCandidate(number) for number in range(11, decodes + 11))
        self._misfits = {(f"10.0.0.{prefill}:8000", f"10.0.0.{decode}:8000") for prefill, decode in (misfits or set())}
        self.scheduler = PairScheduler[FakeCandidate](
            Side(AskedGroup(lambda: self.prefills), make_policy("request_num", make_environment())),
            Side(AskedGroup(lambda: self.decodes), make_policy("request_num", make_environment())),
            lambda prefill, decode: (prefill.key, decode.key) not in self._misfits,
        )

    def select(self, *tried: FakeCandidate) -> tuple[FakeCandidate, FakeCandidate]:
        prefill, decode = self.scheduler.select(FakeRequest("abc"), tuple(each.key for each in tried))
        return prefill.instance, decode.instance


def test_both_are_counted() -> None:
    pairs = Pairs(1, 1)
    assert pairs.select() == (pairs.prefills[0], pairs.decodes[0])
    assert [(each.running, each.tokens) for each in (*pairs.prefills, *pairs.decodes)] == [(1, 6), (1, 0)]


def test_saturated_ones_are_left_out() -> None:
    pairs = Pairs(2, 2)
    pairs.prefills[0].is_saturated = pairs.decodes[1].is_saturated = True
    for _ in range(4):
        assert pairs.select() == (pairs.prefills[1], pairs.decodes[0])


def test_a_prefill_whose_partners_are_saturated_is_left_out() -> None:
    pairs = Pairs(2, 2, misfits={(1, 12), (2, 11)})
    pairs.decodes[0].is_saturated = True
    for _ in range(3):
        assert pairs.select() == (pairs.prefills[1], pairs.decodes[1])


@pytest.mark.parametrize("side", ["prefills", "decodes"])
def test_saturated_is_not_no_instance(side: str) -> None:
    pairs = Pairs(2, 2)
    saturated: tuple[FakeCandidate, ...] = getattr(pairs, side)
    for each in saturated:
        each.is_saturated = True
    with pytest.raises(SaturatedError, match="No available prefill/decode workers: each pair has one that has as many"):
        pairs.select()
    for each in saturated:
        each.is_saturated = False
    assert pairs.select()


def test_what_was_tried_is_nothing_to_wait_for() -> None:
    pairs = Pairs(2, 1)
    pairs.prefills[0].is_saturated = True
    with pytest.raises(NoInstanceError) as raised:
        pairs.select(pairs.decodes[0])
    assert not isinstance(raised.value, SaturatedError)
    with pytest.raises(SaturatedError):
        pairs.select(pairs.prefills[1])


def test_there_is_none() -> None:
    with pytest.raises(NoInstanceError, match="0 healthy prefill and 1 healthy decode") as raised:
        Pairs(0, 1).select()
    assert (raised.value.status, raised.value.headers) == (503, (("retry-after", "5"),))


def test_a_fleet_that_changed_is_matched_anew() -> None:
    pairs = Pairs(2, 2, misfits={(1, 11), (1, 12)})
    assert pairs.select()[0] is pairs.prefills[1]
    pairs.prefills = pairs.prefills[:1]
    with pytest.raises(NoInstanceError, match="of which no two fit together"):
        pairs.select()


def test_a_dialect_that_fails_to_pair_is_asked_again() -> None:
    pairs, failures = Pairs(), [ZeroDivisionError]

    def can_pair(prefill: FakeCandidate, decode: FakeCandidate) -> bool:
        for failure in failures:
            raise failure
        return True

    pairs.scheduler = PairScheduler[FakeCandidate](
        Side(AskedGroup(lambda: pairs.prefills), make_policy("request_num", make_environment())),
        Side(AskedGroup(lambda: pairs.decodes), make_policy("request_num", make_environment())),
        can_pair,
    )
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            pairs.select()
    failures.clear()
    assert pairs.select() == (pairs.prefills[0], pairs.decodes[0])
