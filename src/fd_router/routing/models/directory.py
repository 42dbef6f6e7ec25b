"""The model directory: the groups of several models, who schedules each, and which of them a request goes to."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from fd_router.config.models import ModelNames
from fd_router.errors import NoInstanceError, SaturatedError
from fd_router.instances.group_key import ANY_MODEL
from fd_router.instances.model_sets import ModelSet, ServedModels
from fd_router.routing.models.names import Chain, ModelTable
from fd_router.scheduling.explanation import Draw, Verdict
from fd_router.scheduling.policy import Policy
from fd_router.scheduling.request_view import RequestView

Policies = Mapping[str, Policy]
"""By role: those of a family of models."""

ResultT = TypeVar("ResultT")


class Directed(RequestView, Protocol):
    """A request that is told which model it goes to."""

    cache_seed: int
    served_as: str


class GroupScheduler(msgspec.Struct, frozen=True, eq=False):
    """Who schedules the requests of one model's groups: all three raise NoInstanceError."""

    select: Callable[..., Any]  # (request, keys tried) → a reservation
    select_pair: Callable[..., Any]  # as ``PairScheduler.select``
    explain: Callable[..., Sequence[Verdict | str]]  # (request, draw, who seeks a pair) → a verdict for each role


class Groups(Protocol):
    """What the fleet serves, and in which groups; the registry."""

    @property
    def served_models(self) -> ServedModels:
        """What is served now."""

    def forget_groups(self, models: Collection[str]) -> None:
        """Let go of the groups of other models."""


class ModelDirectory:
    """Follows what the fleet serves and what the options say; ``is_needed`` says whether requests have to ask it.

    A scheduler stands for each model's groups. Their policies are shared by models that share instances (a family: a
    base model and its adapters), for what a policy knows of an instance is true for all of these.
    """

    def __init__(
        self,
        groups: Groups,
        options: ModelNames,
        default: tuple[Policies, GroupScheduler],
        make_policies: Callable[[], Policies],
        make_scheduler: Callable[[str, Policies], GroupScheduler],
        rng: random.Random,
    ) -> None:
        """``default``: what schedules while there are no several models."""
        self._groups = groups
        self._default_policies, scheduler = default
        self._make_policies = make_policies
        self._make_scheduler = make_scheduler
        self._random = rng
        self._schedulers: dict[str, GroupScheduler] = {ANY_MODEL: scheduler}
        self._families: dict[str, Policies] = {}  # by model
        self._listeners: list[Callable[[], None]] = []
        self.options = options
        self._seen = groups.served_models
        self.table = ModelTable(self.options, self._seen, rng)

    @property
    def is_needed(self) -> bool:
        """Whether models tell instances, or requests, apart."""
        return self.table.matters

    @property
    def policies(self) -> list[Policies]:
        """Those in use, each once."""
        found = {id(policies): policies for policies in (self._default_policies, *self._families.values())}
        return list(found.values())

    @property
    def served(self) -> ServedModels:
        """What the fleet serves."""
        return self._groups.served_models

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` now, and after each change of names, groups or options."""
        self._listeners.append(listener)
        listener()

    def refresh(self) -> None:
        """What the fleet serves may have changed."""
        served = self._groups.served_models
        if served == self._seen:
            return
        self._seen = served
        self._rebuild(served)

    def _rebuild(self, served: ServedModels) -> None:
        self.table = ModelTable(self.options, served, self._random)
        families = served.families if served.are_several else ()
        self._set_schedulers(families)
        self._groups.forget_groups(frozenset().union(*families))
        for listener in self._listeners:
            listener()

    def use(self, options: ModelNames) -> None:
        """Go by these from now on."""
        self.options = options
        self._rebuild(self._groups.served_models)

    def find(self, request: RequestView, allowed: Collection[str] | None) -> Chain:
        """Return where a request may go; see ``ModelTable.chain_of``. Raises BadRequestError."""
        return self.table.chain_of(request.model, request.session_id, allowed)

    def choose(self, chain: Chain, request: Directed, pick: Callable[[GroupScheduler], ResultT]) -> ResultT:
        """Return what ``pick`` chooses in the first group of ``chain`` that has an instance for the request.

        Where that has no room, the request is to wait for it. Raises NoInstanceError.
        """
        refusal: NoInstanceError | None = None
        for destination in chain:
            scheduler = self._schedulers.get(destination.group)
            if scheduler is None:
                continue
            request.cache_seed, request.served_as = destination.cache_seed, destination.model
            try:
                return pick(scheduler)
            except SaturatedError:
                raise
            except NoInstanceError as error:
                refusal = refusal or error
        raise refusal or NoInstanceError(f"Failed to select worker: no instance serves {chain[0].model!r} any more")

    def explain(self, request: Directed, draw: Draw, seeker: object = None) -> Sequence[Verdict | str]:
        """Explain what would be chosen now, in the group that the request would go to. Raises as ``choose`` does.

        ``seeker``: see ``GroupScheduler.explain``.
        """
        return self.choose(self.find(request, None), request, lambda group: group.explain(request, draw, seeker))

    def _set_schedulers(self, families: Sequence[ModelSet]) -> None:
        policies = self._assign(families)
        before = self._schedulers
        self._schedulers = {ANY_MODEL: before[ANY_MODEL]}
        for model, of_family in policies.items():
            known = before.get(model) if self._families.get(model) is of_family else None
            self._schedulers[model] = known or self._make_scheduler(model, of_family)
        self._families = policies

    def _assign(self, families: Sequence[ModelSet]) -> dict[str, Policies]:
        """Give each family policies of its own: those that one of its models has, else those of before, else new ones.

        So a fleet that becomes one of several models keeps what was learnt of it.
        """
        assigned: dict[str, Policies] = {}
        taken: list[Policies] = []
        for family in families:
            known = [self._families[model] for model in sorted(family) if model in self._families]
            free = [each for each in (*known, self._default_policies) if not any(each is other for other in taken)]
            policies = free[0] if free else self._make_policies()
            taken.append(policies)
            assigned |= dict.fromkeys(family, policies)
        return assigned

    def __repr__(self) -> str:
        return f"<ModelDirectory {self.table!r}, {len(self._schedulers) - 1} groups>"
