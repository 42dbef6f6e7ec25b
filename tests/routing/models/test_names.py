"""Which models a name leads to: aliases, splits, fallbacks, names that nobody serves."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from fd_router.config.models import ModelsConfig
from fd_router.engines.model_cards import told_cards
from fd_router.errors import BadRequestError
from fd_router.instances.model_sets import ModelSets
from fd_router.routing.models.names import ANY, ModelTable, UnknownModelError


def table(*members: tuple[str, ...], **options: Any) -> ModelTable:
    """A table of a fleet whose members serve these."""
    sets = ModelSets()
    for names in members:
        sets.add(told_cards(names))
    return ModelTable(ModelsConfig(**options).checked, sets.served, random.Random(1))


def models(table: ModelTable, asked: str, session: str = "") -> list[str]:
    return [destination.model for destination in table.chain_of(asked, session)]


TWO = (("big",), ("small",))


class TestWhenModelsMatter:
    @pytest.mark.parametrize("members", [(), (("a",),), (("a",), ("a",), ()), ((), ())])
    def test_one_model_or_none_told_is_nobodys_concern(self, members: Any) -> None:
        found = table(*members)
        assert not found.matters
        assert found.chain_of("whatever") == (ANY,)
        assert found.chain_of("") == (ANY,)

    @pytest.mark.parametrize(
        "options", [{"strict": True}, {"default": "a"}, {"aliases": {"x": "a"}}, {"fallbacks": {"a": "b"}}]
    )
    def test_every_option_makes_them_matter(self, options: Any) -> None:
        assert table(("a",), **options).matters

    def test_several_sets_do_and_so_do_adapters(self) -> None:
        assert table(*TWO).matters
        assert table(("a", "lora"), ("a", "lora")).matters


class TestUnknownNames:
    def test_with_several_sets_they_are_refused_with_the_nearest(self) -> None:
        with pytest.raises(UnknownModelError) as caught:
            table(*TWO).chain_of("bigg")
        assert (caught.value.status, caught.value.code, caught.value.type) == (
            404, "model_not_found", "invalid_request_error",
        )  # fmt: skip
        assert caught.value.message == (
            "The model `bigg` does not exist or you do not have access to it; did you mean 'big'?"
        )

    def test_names_that_a_key_may_not_ask_for_are_not_told(self) -> None:
        with pytest.raises(UnknownModelError) as caught:
            table(*TWO).chain_of("bigg", "", ("bigg", "small"))
        assert "'big'" not in caught.value.message

    def test_a_huge_name_costs_nothing(self) -> None:
        with pytest.raises(UnknownModelError) as caught:
            table(*TWO).chain_of("x" * 1_000_000)
        assert len(caught.value.message) < 400

    def test_with_one_set_they_pass_unless_strict(self) -> None:
        assert table(("big",)).chain_of("any") == (ANY,)
        with pytest.raises(UnknownModelError):
            table(("big",), strict=True).chain_of("any")
        assert table(strict=True).chain_of("any") == (ANY,), (
            "nothing is known yet: whether an instance is there decides"
        )

    def test_they_go_to_instances_of_which_nothing_is_known(self) -> None:
        assert table(*TWO, ()).chain_of("any") == (ANY,)
        assert models(table(*TWO, ()), "big") == ["big"]

    def test_they_go_to_the_default(self) -> None:
        found = table(*TWO, default="small")
        assert (models(found, "any"), models(found, "")) == (["small"], ["small"])
        strict = table(*TWO, default="small", strict=True)
        assert models(strict, "") == ["small"]
        with pytest.raises(UnknownModelError):
            strict.chain_of("any")

    def test_a_default_that_nobody_serves_is_no_endless_way(self) -> None:
        with pytest.raises(UnknownModelError):
            table(*TWO, default="gone").chain_of("any")

    def test_none_at_all_is_a_400(self) -> None:
        with pytest.raises(BadRequestError, match="You must provide a model parameter: big, small") as caught:
            table(*TWO).chain_of("")
        assert (caught.value.status, caught.value.code) == (400, "model_missing")


class TestAliases:
    def test_a_name_for_a_model_in_its_group(self) -> None:
        (destination,) = table(*TWO, aliases={"gpt": "big"}).chain_of("gpt")
        assert (destination.model, destination.group) == ("big", "big")
        (destination,) = table(("big",), aliases={"gpt": "big"}).chain_of("gpt")
        assert (destination.model, destination.group) == ("big", "*"), "all instances serve it"
        (destination,) = table((), aliases={"gpt": "big"}).chain_of("gpt")
        assert (destination.model, destination.group) == ("big", "*"), "so far as is known"

    def test_one_whose_model_nobody_serves(self) -> None:
        found = table(*TWO, aliases={"gpt": "gone"})
        with pytest.raises(UnknownModelError, match="it stands for gone, which no instance serves now"):
            found.chain_of("gpt")
        assert "gpt" not in found.names

    def test_it_hides_a_model_of_the_same_name(self) -> None:
        assert models(table(*TWO, aliases={"big": "small"}), "big") == ["small"]

    def test_names(self) -> None:
        found = table(*TWO, aliases={"gpt": "big", "mix": {"small": 1, "gone": 1}, "lost": "gone"})
        assert found.names == ("big", "small", "gpt", "mix")
        assert (found.models_of("mix"), found.models_of("big")) == (("small",), ())


class TestSplits:
    def test_shares_are_kept(self) -> None:
        found = table(("big",), ("canary",), aliases={"gpt-x": {"big": 90, "canary": 10}})
        drawn = Counter(models(found, "gpt-x")[0] for _ in range(2000))
        assert 150 < drawn["canary"] < 250
        by_session = Counter(models(found, "gpt-x", f"s{n}")[0] for n in range(2000))
        assert 150 < by_session["canary"] < 250

    def test_a_session_stays_with_its_model(self) -> None:
        found = table(("big",), ("canary",), aliases={"gpt-x": {"big": 50, "canary": 50}})
        again = table(("big",), ("canary",), aliases={"gpt-x": {"big": 50, "canary": 50}})
        for n in range(50):
            assert models(found, "gpt-x", f"s{n}") == models(found, "gpt-x", f"s{n}") == models(again, "gpt-x", f"s{n}")

    def test_a_larger_share_moves_few_sessions(self) -> None:
        before = table(("big",), ("canary",), aliases={"gpt-x": {"big": 90, "canary": 10}})
        after = table(("big",), ("canary",), aliases={"gpt-x": {"big": 80, "canary": 20}})
        moved = [n for n in range(1000) if models(before, "gpt-x", f"s{n}")[0] != models(after, "gpt-x", f"s{n}")[0]]
        assert 60 < len(moved) < 140

    def test_the_other_one_steps_in(self) -> None:
        found = table(("big",), ("canary",), aliases={"gpt-x": {"big": 90, "canary": 10}})
        assert sorted(models(found, "gpt-x")) == ["big", "canary"]
        gone = table(("big",), ("small",), aliases={"gpt-x": {"big": 90, "canary": 10}})
        assert {tuple(models(gone, "gpt-x")) for _ in range(50)} == {("big",)}

    def test_a_weight_of_nothing_gets_nothing(self) -> None:
        found = table(("big",), ("canary",), aliases={"gpt-x": {"canary": 0, "big": 1}})
        assert {tuple(models(found, "gpt-x")) for _ in range(200)} == {("big",)}
        last = table(("big",), ("canary",), aliases={"gpt-x": {"big": 1, "canary": 0}})
        assert {tuple(models(last, "gpt-x")) for _ in range(200)} == {("big",)}


class TestFallbacks:
    def test_in_their_order_behind_the_model(self) -> None:
        found = table(("big",), ("mid",), ("small",), fallbacks={"big": ["mid", "small"]}, aliases={"gpt": "big"})
        assert models(found, "big") == models(found, "gpt") == ["big", "mid", "small"]
        assert models(found, "mid") == ["mid"]

    def test_for_a_model_that_has_gone_altogether(self) -> None:
        assert models(table(("mid",), ("small",), fallbacks={"big": ["mid"]}), "big") == ["mid"]


class TestCacheSeeds:
    def test_an_adapters_prefixes_are_its_own(self) -> None:
        found = table(("big", "sql", "law"), ("other", "sql2"))
        seeds = {name: found.chain_of(name)[0].cache_seed for name in ("big", "sql", "law", "other", "sql2")}
        assert seeds["big"] == seeds["other"] == 0
        assert len(set(seeds.values())) == 4
        assert found.chain_of("sql")[0].cache_seed == table(("big", "sql")).chain_of("sql")[0].cache_seed
