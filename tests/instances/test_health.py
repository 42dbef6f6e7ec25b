from __future__ import annotations

from itertools import product

import pytest

from fd_router.instances.health import RULES, Event, Status, Thresholds, advance
from fd_router.instances.instance import Health

H, S, U = Health.HEALTHY, Health.SUSPECT, Health.UNHEALTHY
OK, FAILED, CONNECTION, REGISTERED = Event.PROBE_OK, Event.PROBE_FAILED, Event.CONNECTION_FAILED, Event.REGISTERED


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        (H, OK, H),
        (H, FAILED, U),
        (H, CONNECTION, S),
        (H, REGISTERED, H),
        (S, OK, H),
        (S, FAILED, U),
        (S, CONNECTION, S),
        (S, REGISTERED, S),
        (U, OK, H),
        (U, FAILED, U),
        (U, CONNECTION, U),
        (U, REGISTERED, H),
    ],
)
def test_each_event_in_each_state_with_thresholds_of_one(before: Health, event: Event, after: Health) -> None:
    assert advance(Status(before), event, Thresholds()).health is after


def test_the_table_is_complete() -> None:
    assert set(RULES) == set(product(Health, Event))


@pytest.mark.parametrize(
    ("start", "events", "seen"),
    [
        (H, [FAILED, FAILED, FAILED], [H, H, U]),
        (H, [FAILED, FAILED, OK, FAILED, FAILED, FAILED], [H, H, H, H, H, U]),
        (H, [FAILED, FAILED, REGISTERED, FAILED, FAILED], [H, H, H, H, H]),
        (H, [CONNECTION, FAILED], [S, U]),
        (H, [CONNECTION, OK, FAILED, FAILED, FAILED], [S, H, H, H, U]),
        (H, [CONNECTION, CONNECTION, CONNECTION, CONNECTION], [S, S, S, S]),
        (U, [OK, OK], [U, H]),
        (U, [OK, FAILED, OK, OK], [U, U, U, H]),
        (U, [OK, CONNECTION, OK, OK], [U, U, U, H]),
        (U, [REGISTERED], [H]),
    ],
)
def test_thresholds_count_what_comes_in_a_row(start: Health, events: list[Event], seen: list[Health]) -> None:
    status = Status(start)
    states = []
    for event in events:
        status = advance(status, event, Thresholds(failures=3, successes=2))
        states.append(status.health)
        assert 0 in (status.failures, status.successes)
    assert states == seen
