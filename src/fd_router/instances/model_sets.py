"""The sets of models that the fleet's members serve: whether they tell several apart, and which belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import blake2b

import msgspec

from fd_router.engines.model_cards import ModelCard

ModelSet = frozenset[str]


class ServedModels(msgspec.Struct, frozen=True):
    """What the fleet serves now. ``families``: models that share instances, directly or through others."""

    names: frozenset[str] = frozenset()
    adapters: Mapping[str, str] = {}  # name → its base model
    families: tuple[ModelSet, ...] = ()  # in the order of their first names
    are_several: bool = False  # two instances or more serve different sets
    has_unknown: bool = False  # of an instance at least it isn't known what it serves

    def cache_seed(self, model: str) -> int:
        """Return what tells an adapter's prefixes from its base model's; 0: it isn't known as an adapter."""
        base = self.adapters.get(model, "")
        if not base:
            return 0
        digest = blake2b(f"{base}\0{model}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") or 1


class ModelSets:
    """Counts which members serve which sets. A member of which nothing is known serves the empty set."""

    def __init__(self) -> None:
        self._counts: Counter[ModelSet] = Counter()
        self._bases: dict[str, str] = {}  # adapter → base model, as told last
        self._served: ServedModels | None = None

    @property
    def are_several(self) -> bool:
        """Whether the members serve two or more distinct sets of models, those of which nothing is known aside."""
        return len(self._counts) - (frozenset() in self._counts) > 1

    @property
    def served(self) -> ServedModels:
        """What the fleet serves, the same object until that changes."""
        if self._served is None:
            self._served = self._count()
        return self._served

    def add(self, cards: Iterable[ModelCard]) -> None:
        """A member serves these models."""
        cards = tuple(cards)
        self._counts[frozenset(card.name for card in cards)] += 1
        self._bases |= {card.name: card.base for card in cards}
        self._served = None

    def remove(self, cards: Iterable[ModelCard]) -> None:
        """A member serves these no more."""
        names = frozenset(card.name for card in cards)
        self._counts[names] -= 1
        if not self._counts[names]:
            del self._counts[names]
        self._served = None

    def _count(self) -> ServedModels:
        names = frozenset[str]().union(*self._counts)
        self._bases = {name: base for name, base in self._bases.items() if name in names}
        adapters = {name: base for name, base in self._bases.items() if base}
        return ServedModels(
            names, adapters, _families(self._counts), self.are_several, has_unknown=frozenset() in self._counts
        )

    def __repr__(self) -> str:
        return f"<ModelSets {len(self._counts)}>"


def _families(sets: Iterable[ModelSet]) -> tuple[ModelSet, ...]:
    """Join the sets that have a model in common, by one look at each name: a fleet may serve a thousand models."""
    family_of: dict[str, set[str]] = {}
    for models in sets:
        known = {id(family_of[name]): family_of[name] for name in models if name in family_of}
        largest = max(known.values(), key=len, default=set[str]())
        joined: tuple[AbstractSet[str], ...] = (models, *known.values())
        for each in joined:
            if each is not largest:
                largest |= each
                family_of |= dict.fromkeys(each, largest)
    distinct = {id(family): family for family in family_of.values()}
    return tuple(sorted(map(frozenset, distinct.values()), key=min))
