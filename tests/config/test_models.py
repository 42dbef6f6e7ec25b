"""The options of several models: what they mean, and what is said of those that can't be."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.config.models import ModelsConfig, Weighted
from fd_router.errors import ConfigError


def test_an_alias_is_a_model_or_models_with_weights() -> None:
    names = ModelsConfig(
        aliases={"gpt-4o": "big", "gpt-x": {"big": 90, "canary": 10}}, fallbacks={"big": "small"}
    ).checked
    assert names.aliases == {
        "gpt-4o": (Weighted("big", 1.0),),
        "gpt-x": (Weighted("big", 90.0), Weighted("canary", 10.0)),
    }
    assert names.fallbacks == {"big": ("small",)}


def test_a_model_s_own_name_may_be_split() -> None:
    names = ModelsConfig(aliases={"big": {"big": 95, "big-v2": 5}}, fallbacks={"big": ["small"]}).checked
    assert [target.model for target in names.aliases["big"]] == ["big", "big-v2"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"aliases": {"x": 5}}, "models.aliases: x: 5 is neither a model nor models with weights: give {big: 90"),
        ({"aliases": {"x": {}}}, "models.aliases: x: '{}' is neither"),
        ({"aliases": {"x": {"big": "much"}}}, "models.aliases: x: big: 'much' is no weight: a number from 0 to"),
        ({"aliases": {"x": {"big": -1}}}, "models.aliases: x: big: -1 is no weight"),
        ({"aliases": {"x": {"big": True}}}, "models.aliases: x: big: True is no weight"),
        ({"aliases": {"x": {"big": 0, "b": 0}}}, "models.aliases: x: all weights are 0: give one of the models"),
        ({"aliases": {"x": " big"}}, "models.aliases: x: ' big' is no name of a model: 1 to 256 printable"),
        ({"aliases": {"x": "x"}}, "models.aliases: x: it leads to itself; leave it out"),
        ({"aliases": {"x": "y", "y": "big"}}, "models.aliases: x: y is an alias itself; give the models"),
        ({"fallbacks": {"big": {"small": 1}}}, "models.fallbacks: big: \"{'small': 1}\" is neither a model nor a list"),
        ({"fallbacks": {"big": []}}, "models.fallbacks: big: '[]' is neither a model nor a list of models"),
        ({"fallbacks": {"big": ["big"]}}, "models.fallbacks: big: a model is no fallback of itself; leave it out"),
        (
            {"aliases": {"x": "big"}, "fallbacks": {"x": "small"}},
            "models.fallbacks: x: this is an alias; give the fall",
        ),
        ({"aliases": {"x": "big"}, "fallbacks": {"big": "x"}}, "models.fallbacks: big: x is an alias; give a model"),
        ({"default": "a\nb"}, "models.default: 'a\\nb' is no name of a model"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = ModelsConfig(**options).checked
    assert problem in str(caught.value)


def test_every_fault_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        _ = ModelsConfig(aliases={"x": 5, "y": {"big": "?"}}, fallbacks={"big": 1}).checked
    assert len(caught.value.problems) == 3
