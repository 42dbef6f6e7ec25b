from __future__ import annotations

import pytest

from fd_router.admission.priorities import Priorities
from fd_router.config.loading import OPTIONS
from fd_router.errors import ConfigError

THREE = Priorities.parse("high=16 normal=4, low=1")


def test_the_default_is_valid() -> None:
    option = next(option for option in OPTIONS if option.key == "admission.priorities")
    assert option.parse(option.default) == option.default
    assert Priorities.parse(option.default).names == ("high", "normal", "low")


@pytest.mark.parametrize("text", ["", "high=1", "normal", "normal=0", "normal=1 normal=2", "Normal=1", "normal=1 x=y"])
def test_what_is_no_list_of_priorities(text: str) -> None:
    with pytest.raises(ConfigError, match="admission.priorities"):
        Priorities.parse(text)


@pytest.mark.parametrize(
    ("wanted", "tier", "most", "chosen"),
    [
        ("", "", None, "normal"),
        ("high", "", None, "high"),
        ("urgent", "", None, "normal"),
        ("", "priority", None, "high"),
        ("", "flex", None, "low"),
        ("", "auto", None, "normal"),
        ("", "default", None, "normal"),
        ("low", "priority", None, "low"),  # the header is the plainer word
        ("", "", "high", "high"),
        ("", "", "low", "low"),
        ("high", "", "normal", "normal"),  # nobody gets more than the key gives
        ("", "priority", "low", "low"),
        ("low", "", "high", "low"),  # but less for the asking
        ("", "flex", "high", "low"),
        ("", "", "gone", "normal"),
    ],
)
def test_which_one_a_request_has(wanted: str, tier: str, most: str | None, chosen: str) -> None:
    assert THREE.choose(wanted, tier, most) == chosen
