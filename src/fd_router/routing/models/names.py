"""The table of model names: for each name that a request may ask for, the models that it may go to, in order.

Made anew when the configuration or what the fleet serves changes; a request looks its name up. No I/O, no clock.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, islice
from typing import Final

import msgspec

from fd_router.config.models import ModelNames, Weighted
from fd_router.config.options import did_you_mean
from fd_router.errors import BadRequestError
from fd_router.instances.group_key import ANY_MODEL
from fd_router.instances.model_sets import ServedModels

_SHOWN: Final = 256
"""Characters of a name that nobody serves which a message repeats, and which are compared with those that are."""

_COMPARED: Final = 200
"""Names that one is compared with: comparing takes some 20 µs each, and whoever can send requests may ask for it."""


class Destination(msgspec.Struct, frozen=True):
    """A model that a request may go to."""

    model: str  # as its instances call it; "": whatever the client wrote
    group: str  # the model of the group
    cache_seed: int = 0  # what its prompts' prefixes are told apart by; 0: its instances' base model


ANY: Final = Destination("", ANY_MODEL)
"""Any instance, with the name as the client wrote it."""

Chain = tuple[Destination, ...]
"""Destinations of one request: the first that has an instance for it gets it."""


class UnknownModelError(BadRequestError):
    """A request for a model that nobody serves, in the shape that OpenAI gives it."""

    status = 404
    code = "model_not_found"


class _Split(msgspec.Struct, frozen=True):
    """An alias that stands for several models: the chain of each, and where its share of all weights ends (0 to 1)."""

    ends: Sequence[float]
    chains: Sequence[Chain]

    def chain_at(self, point: float) -> Chain:
        """Return the chain whose share ``point`` (0 to 1) lies in."""
        return self.chains[min(bisect_right(self.ends, point), len(self.chains) - 1)]


class ModelTable:
    """The names, by the options and by what is served. ``matters``: whether requests have to be looked up at all."""

    def __init__(self, options: ModelNames, served: ServedModels, rng: random.Random) -> None:
        self._options = options
        self._served = served
        self._random = rng
        self._chains: dict[str, Chain] = {}
        self._splits: dict[str, _Split] = {}
        self._lost: dict[str, str] = {}  # names that lead to nobody now, and to which models
        for name in (*served.names, *options.fallbacks):
            if name not in options.aliases:
                self._add(name, (Weighted(name, 1.0),))
        for name, targets in options.aliases.items():
            self._add(name, targets)
        has_options = bool(options.aliases or options.fallbacks or options.default or options.strict)
        self.matters = has_options or served.are_several or bool(served.adapters)

    @property
    def names(self) -> tuple[str, ...]:
        """All names that lead to a model which is served now, aliases last."""
        aliases = [name for name in self._options.aliases if name in self._chains or name in self._splits]
        return (*sorted(self._served.names - set(aliases)), *aliases)

    def models_of(self, alias: str) -> tuple[str, ...]:
        """Return the models that an alias stands for and that are served, () for a name that is no alias."""
        targets = self._options.aliases.get(alias, ())
        return tuple(target.model for target in targets if self._group_of(target.model) is not None)

    def chain_of(self, asked: str, session_id: str = "", allowed: Collection[str] | None = None) -> Chain:
        """Return where a request for ``asked`` may go. ``allowed``: the only names that its client may hear of.

        Requests of one session get the same share of a split. Raises UnknownModelError; BadRequestError (400) for a
        request that names no model where one is needed.
        """
        chain = self._chains.get(asked)
        if chain is not None:
            return chain
        split = self._splits.get(asked)
        if split is not None:
            return split.chain_at(_point_of(asked, session_id) if session_id else self._random.random())
        return self._chain_of_unknown(asked, session_id, allowed)

    def _chain_of_unknown(self, asked: str, session_id: str, allowed: Collection[str] | None) -> Chain:
        options, served = self._options, self._served
        if asked in self._lost:
            raise self._unknown(asked, allowed, f"; it stands for {self._lost[asked]}, which no instance serves now")
        if options.default and options.default != asked and not (asked and options.strict):
            return self.chain_of(options.default, session_id, allowed)
        is_refused = served.are_several and not served.has_unknown
        if not is_refused and not (options.strict and served.names):
            return (ANY,)
        if not asked:
            names = self._visible(allowed)
            which = f": {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if names else ""
            raise BadRequestError(f"You must provide a model parameter{which}", code="model_missing")
        raise self._unknown(asked, allowed)

    def _unknown(self, asked: str, allowed: Collection[str] | None, why: str = "") -> UnknownModelError:
        more = why or did_you_mean(asked[:_SHOWN], islice(self._visible(allowed), _COMPARED))
        return UnknownModelError(f"The model `{asked[:_SHOWN]}` does not exist or you do not have access to it{more}")

    def _visible(self, allowed: Collection[str] | None) -> list[str]:
        return [name for name in self.names if allowed is None or name in allowed]

    # making the table

    def _add(self, name: str, targets: Sequence[Weighted]) -> None:
        chains = [self._chain(target.model, targets) for target in targets]
        if not any(chains):
            if targets[0].model != name or len(targets) > 1:
                self._lost[name] = " and ".join(target.model for target in targets)
        elif len(targets) == 1:
            self._chains[name] = chains[0]
        else:
            weights = [target.weight for target in targets]
            total = sum(weights)
            self._splits[name] = _Split([end / total for end in accumulate(weights)], chains)

    def _chain(self, model: str, targets: Iterable[Weighted]) -> Chain:
        """Return where a request for ``model`` goes: there, to its fallbacks, to what else its alias stands for."""
        others = [target.model for target in targets if target.model != model and target.weight]
        wanted = dict.fromkeys(name for first in (model, *others) for name in self._with_fallbacks(first))
        return tuple(found for name in wanted if (found := self._destination(name)) is not None)

    def _with_fallbacks(self, model: str) -> Iterator[str]:
        yield model
        yield from self._options.fallbacks.get(model, ())

    def _destination(self, model: str) -> Destination | None:
        group = self._group_of(model)
        if group is None:
            return None
        return Destination(model, group, self._served.cache_seed(model))

    def _group_of(self, model: str) -> str | None:
        """Return the model of the group that serves ``model``, None where nobody does."""
        served = self._served
        if model in served.names:
            return model if served.are_several else ANY_MODEL
        return ANY_MODEL if served.has_unknown or not served.names else None

    def __repr__(self) -> str:
        return f"<ModelTable of {len(self._chains) + len(self._splits)} names>"


def _point_of(name: str, session_id: str) -> float:
    """Return the same number from 0 to 1 for the same session, in every process."""
    digest = blake2b(f"{name}\0{session_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / (1 << 64)
