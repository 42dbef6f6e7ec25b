from __future__ import annotations

from fd_router.scheduling.environment import Choice
from fd_router.telemetry.debug_lines import choice_lines, healthy_line
from tests.support.scheduling_fakes import fleet


def test_a_choice_is_told_of_without_the_prompt() -> None:
    candidates = fleet(1, 4)
    first, second = (candidate.url for candidate in candidates)
    choice = Choice(first, "", candidates, [1.0, 4.0], {first: 50}, hit=50, blocks=8)
    assert list(choice_lines(choice, 33, (1.0, 0.5))) == [
        "cache-aware prefill: tokenizer tokens=33",
        "cache-aware prefill: hashes=8",
        f"radix match: hits=map[{first}:50]",
        f"cache-aware score: worker={first} hit=50 loadRatio=0.250 score=0.625",
        f"cache-aware score: worker={second} hit=0 loadRatio=1.000 score=1.500",
        f"radix record: worker={first} hashes=8",
    ]


def test_an_idle_fleet_has_no_load() -> None:
    lines = list(choice_lines(Choice("x", "", fleet(0), [0.0], {}), None, (1.0, 1.0)))
    assert lines[2].endswith("hit=0 loadRatio=0.000 score=1.000")


def test_the_healthy_are_named_by_role() -> None:
    assert healthy_line({"prefill": ["a", "b"], "mixed": []}) == "Healthy instances: prefill=[a b], mixed=[]"
