"""``GET /v1/models`` and ``/v1/models/{model}``: what can be asked for, merged over the healthy instances."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from operator import is_
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote

from fd_router.engines.model_cards import ModelCard
from fd_router.errors import BadRequestError
from fd_router.http.messages import Request, Response, Routes, json_response
from fd_router.instances.instance import Health, Instance

OWNER = "fd-router"
"""Who a model is said to be owned by that no instance tells more of than its name."""


class ModelNames(Protocol):
    """The names that lead to models; see ``routing.models.names``."""

    @property
    def names(self) -> Sequence[str]:
        """All of them."""

    def models_of(self, alias: str) -> Sequence[str]:
        """Return the models that an alias stands for, () for no alias."""


class Holder(Protocol):
    """Whose key a client has shown."""

    @property
    def models(self) -> Collection[str] | None:
        """The names that it may ask for; None: all."""


Identify = Callable[[bytes], Holder]
"""Finds the holder of the key in an Authorization header. Raises AccessError."""


class ModelsApi:
    """The endpoints, in OpenAI's shape. A client sees what its key may ask for."""

    PATHS: ClassVar = ("/v1/models", "/v1/models/{model+}")

    def __init__(
        self,
        members: Callable[[], Iterable[Instance]],
        names: Callable[[], ModelNames],
        learn: Callable[[], Awaitable[None]],
        identify: Identify | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``learn`` finds out what isn't known yet. ``identify`` is None where no keys are needed.

        ``clock`` tells the time of day.
        """
        self._learn = learn
        self._members = members
        self._names = names
        self._identify = identify
        self._since = int(clock())
        self._merged: dict[str, dict[str, Any]] = {}  # of what was known then
        self._known: Sequence[Sequence[ModelCard]] = ()
        self._known_names: ModelNames | None = None

    def routes(self) -> Routes:
        """Return the handlers. A model's name may have slashes in it, percent-encoded or not."""
        all_models, one_model = self.PATHS
        return {all_models: {"GET": self._list}, one_model: {"GET": self._get}}

    async def _list(self, request: Request) -> Response:
        cards = await self._cards_for(request)
        return json_response(200, {"object": "list", "data": list(cards.values())})

    async def _get(self, request: Request) -> Response:
        name = unquote(request.head.path.removeprefix("/v1/models/"))
        card = (await self._cards_for(request)).get(name)
        if card is None:
            message = f"The model '{name[:256]}' does not exist or you do not have access to it"
            raise BadRequestError(message, status=404, code="model_not_found")
        return json_response(200, card)

    async def _cards_for(self, request: Request) -> dict[str, dict[str, Any]]:
        allowed = self._allowed(request)
        await self._learn()
        return self._cards(allowed)

    def _allowed(self, request: Request) -> Collection[str] | None:
        """Return the names that the client may ask for, None for all. Raises AccessError (401)."""
        return None if self._identify is None else self._identify(request.head.authorization).models

    def _cards(self, allowed: Collection[str] | None) -> dict[str, dict[str, Any]]:
        """Return the cards by name, those that are ``allowed``."""
        served = [instance.models for instance in self._members() if instance.health is Health.HEALTHY]
        names = self._names()
        is_known = names is self._known_names and len(served) == len(self._known) and all(map(is_, served, self._known))
        if not is_known:  # a large fleet has many cards, and anybody may ask
            self._merged = self._merge(served, names)
            self._known, self._known_names = served, names
        return {name: card for name, card in self._merged.items() if allowed is None or name in allowed}

    def _merge(self, served: Sequence[Sequence[ModelCard]], names: ModelNames) -> dict[str, dict[str, Any]]:
        """Merge the cards of models in the order of their instances' URLs, and then those of aliases."""
        cards: dict[str, dict[str, Any]] = {}
        for models in served:
            for card in models:
                if card.name not in cards:
                    cards[card.name] = self._card(card)
        for name in names.names:
            healthy = [model for model in names.models_of(name) if model in cards]
            if healthy:
                cards[name] = {**cards[healthy[0]], "id": name}
        return cards

    def _card(self, card: ModelCard) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": card.name, "object": "model", "created": self._since, "owned_by": OWNER}
        return shown | ({"parent": card.base} if card.base else {}) | dict(card.told)
