"""The directory: which groups there are, who schedules them by which policies, and where a request goes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fd_router.config.models import ModelsConfig
from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.instances.group_key import ANY_MODEL
from fd_router.instances.registry import Registry
from fd_router.routing.models.directory import GroupScheduler, ModelDirectory, Policies
from fd_router.scheduling.policies.round_robin import RoundRobinPolicy
from tests.support.scheduling_fakes import FakeRequest, make_environment


class Schedulers:
    """Makes schedulers whose answer is who they are, unless the model is among ``empty`` or ``full``."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Policies]] = []
        self.empty: set[str] = set()
        self.full: set[str] = set()

    def make(self, model: str, policies: Policies) -> GroupScheduler:
        self.made.append((model, policies))

        def select(*_: Any) -> Any:
            if model in self.full:
                raise SaturatedError("full")
            if model in self.empty:
                raise NoInstanceError(f"nobody serves {model}")
            return model

        return GroupScheduler(select, select, select)

    def policies_of(self, model: str) -> Policies:
        return next(policies for name, policies in reversed(self.made) if name == model)


def new_policies() -> Policies:
    return {"mixed": RoundRobinPolicy(make_environment())}


class World:
    def __init__(self, registry: Registry, **options: Any) -> None:
        self.registry = registry
        self.schedulers = Schedulers()
        self.default = new_policies()
        scheduler = self.schedulers.make(ANY_MODEL, self.default)
        self.directory = ModelDirectory(
            registry, ModelsConfig(**options).checked, (self.default, scheduler), new_policies, self.schedulers.make,
            random.Random(1),
        )  # fmt: skip
        registry.on_change(lambda _: self.directory.refresh())
        self.changes = 0
        self.directory.on_change(self._count)

    def _count(self) -> None:
        self.changes += 1

    def ask(self, model: str) -> tuple[str, str, int]:
        """Return the group that a request for ``model`` goes to, and what it is told."""
        request: Any = FakeRequest()
        request.model, request.served_as = model, ""
        group = self.directory.choose(self.directory.find(request, None), request, lambda group: group.select(request))
        return group, request.served_as, request.cache_seed


def test_it_is_not_needed_for_one_model(registry: Registry, describe: Any) -> None:
    world = World(registry)
    registry.register(describe(8000, model="a"))
    registry.register(describe(8001, model="a"))
    assert not world.directory.is_needed
    assert world.ask("whatever") == (ANY_MODEL, "", 0)
    assert world.changes == 2, "at first, and when the first one came: the second brought nothing new"


def test_each_model_has_its_group_and_its_policies(registry: Registry, describe: Any) -> None:
    world = World(registry)
    registry.register(describe(8000, model="a"))
    registry.register(describe(8001, model="b"))
    assert world.directory.is_needed
    assert (world.ask("a"), world.ask("b")) == (("a", "a", 0), ("b", "b", 0))
    assert world.schedulers.policies_of("a") is world.default, "what was learnt of the fleet until now is kept"
    assert world.schedulers.policies_of("b") is not world.default
    assert len(world.directory.policies) == 2


def test_models_that_share_instances_share_policies(registry: Registry, describe: Any) -> None:
    world = World(registry)
    registry.register(describe(8000, models=["base", "l1"]))
    registry.register(describe(8001, models=["base", "l2"]))
    registry.register(describe(8002, models=["embed"]))
    policies = {model: world.schedulers.policies_of(model) for model in ("base", "l1", "l2", "embed")}
    assert policies["base"] is policies["l1"] is policies["l2"]
    assert policies["embed"] is not policies["base"]
    assert world.ask("l1")[2] not in (0, world.ask("l2")[2])


def test_a_scheduler_stays_as_long_as_its_model_does(registry: Registry, describe: Any) -> None:
    world = World(registry)
    registry.register(describe(8000, model="a"))
    registry.register(describe(8001, model="b"))
    made = len(world.schedulers.made)
    registry.register(describe(8002, model="c"))
    assert [model for model, _ in world.schedulers.made[made:]] == ["c"]
    registry.remove("10.0.0.1:8002")
    assert {str(group.key) for group in registry.groups() if not group.is_empty} == {"mixed a", "mixed b"}
    with pytest.raises(Exception, match="does not exist"):
        world.ask("c")


def test_the_next_one_gets_what_nobody_can_serve(registry: Registry, describe: Any) -> None:
    world = World(registry, fallbacks={"a": ["b", "c"]})
    for port, model in enumerate("abc"):
        registry.register(describe(8000 + port, model=model))
    assert world.ask("a") == ("a", "a", 0)
    world.schedulers.empty = {"a"}
    assert world.ask("a") == ("b", "b", 0)
    world.schedulers.empty = {"a", "b"}
    assert world.ask("a") == ("c", "c", 0)
    world.schedulers.empty = {"a", "b", "c"}
    with pytest.raises(NoInstanceError, match="nobody serves a"):
        world.ask("a")


def test_one_that_is_full_is_waited_for(registry: Registry, describe: Any) -> None:
    world = World(registry, fallbacks={"a": "b"})
    registry.register(describe(8000, model="a"))
    registry.register(describe(8001, model="b"))
    world.schedulers.full = {"a"}
    with pytest.raises(SaturatedError):
        world.ask("a")


def test_other_options_are_in_force_at_once(registry: Registry, describe: Any) -> None:
    world = World(registry)
    registry.register(describe(8000, model="a"))
    world.directory.use(ModelsConfig(aliases={"x": "a"}).checked)
    assert world.ask("x") == (ANY_MODEL, "a", 0)
    world.directory.use(ModelsConfig().checked)
    assert not world.directory.is_needed
