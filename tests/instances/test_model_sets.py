"""Which sets of models the members serve: whether they are several, and which families they make."""

from __future__ import annotations

from itertools import permutations

from fd_router.engines.model_cards import ModelCard, told_cards
from fd_router.instances.group_key import GroupKey
from fd_router.instances.model_sets import ModelSets
from fd_router.instances.registry import Registry


def sets_of(*members: tuple[str, ...]) -> ModelSets:
    sets = ModelSets()
    for names in members:
        sets.add(told_cards(names))
    return sets


def test_one_set_is_not_several_however_often_it_is_served() -> None:
    assert not sets_of().are_several
    assert not sets_of(("a", "b"), ("a", "b")).are_several
    assert not sets_of(("a",), ()).are_several, "of one it isn't known: it may serve the same"
    assert sets_of(("a",), ("a", "b")).are_several
    assert sets_of(("a",), ("b",), ()).are_several


def test_what_leaves_is_forgotten() -> None:
    sets = sets_of(("a",), ("b",), ())
    before = sets.served
    assert sets.served is before, "the same object as long as nothing changes"
    assert (before.names, before.are_several, before.has_unknown) == ({"a", "b"}, True, True)
    sets.remove(told_cards(("b",)))
    sets.remove(())
    assert (sets.served.names, sets.served.are_several, sets.served.has_unknown) == ({"a"}, False, False)


def test_families_are_models_that_share_instances() -> None:
    served = sets_of(("base", "l1"), ("base", "l2"), ("embed",), ()).served
    assert served.families == (frozenset({"base", "l1", "l2"}), frozenset({"embed"}))
    assert served.adapters == {"l1": "base", "l2": "base"}


def test_families_join_in_whatever_order_their_sets_came() -> None:
    chain = [(f"m{number}", f"m{number + 1}") for number in range(6)]
    apart = [("x",), ("y", "z")]
    for order in permutations(range(6)):
        served = sets_of(*(chain[at] for at in order), *apart).served
        assert served.families == (frozenset(f"m{number}" for number in range(7)), {"x"}, {"y", "z"})


class TestGroups:
    """The registry groups its members by model as soon as they serve different ones."""

    def test_members_move_when_a_second_set_comes_and_goes(self, registry: Registry, describe) -> None:
        one = registry.register(describe(8000, model="a"))
        assert [str(group.key) for group in one.groups] == ["mixed"]
        other = registry.register(describe(8001, models=["b", "b-lora"]))
        unknown = registry.register(describe(8002))
        assert [[str(group.key) for group in each.groups] for each in (one, other, unknown)] == [
            ["mixed a"], ["mixed b", "mixed b-lora"], ["mixed"],
        ]  # fmt: skip
        assert registry.group("mixed", "b").available == (other,)
        assert registry.group("mixed").available == (unknown,)
        assert registry.available("mixed") == (one, other, unknown)
        registry.remove(other.key)
        assert [str(group.key) for group in one.groups] == ["mixed"]
        assert registry.group("mixed").available == (one, unknown)
        registry.forget_groups(())
        assert registry.group("mixed", "b").is_empty

    def test_what_is_learnt_counts_where_nothing_is_told(self, registry: Registry, describe, changes) -> None:
        told = registry.register(describe(8000, model="a"))
        registry.learn_models(told.key, told_cards(("b",)))
        assert [card.name for card in told.models] == ["a"]
        registry.learn_models("10.0.0.1:8001", told_cards(("b",)))  # before it is a member
        learnt = registry.register(describe(8001))
        assert [card.name for card in learnt.models] == ["b"]
        assert learnt.groups[0].key == GroupKey("b", "mixed")
        before = len(changes)
        registry.learn_models(learnt.key, (ModelCard("b", "", {"created": 5}),))
        assert len(changes) == before, "another time of creation is no other model"
        registry.learn_models(learnt.key, told_cards(("b", "lora")))
        assert [change.kind.value for change in changes[before:]] == ["models"]
        registry.register(describe(8001))  # a heartbeat
        assert [card.name for card in learnt.models] == ["b", "lora"]
        registry.register(describe(8001, model="c"))
        assert [card.name for card in learnt.models] == ["c"]

    def test_a_role_changes_within_the_model(self, registry: Registry, describe) -> None:
        registry.register(describe(8000, model="a"))
        instance = registry.register(describe(8001, "prefill", model="b"))
        registry.register(describe(8001, "decode", model="b"))
        assert [str(group.key) for group in instance.groups] == ["decode b"]

    def test_counts_stay_when_groups_change(self, registry: Registry, describe) -> None:
        one = registry.register(describe(8000, model="a"))
        one.acquire(5)
        registry.register(describe(8001, model="b"))
        assert (one.running, one.tokens) == (1, 5)
        assert registry.group("mixed", "a").candidates() == (one,)
