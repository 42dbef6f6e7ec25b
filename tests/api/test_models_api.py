"""The list of models: merged over healthy instances, with aliases, as far as a client's key goes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from fd_router.api.models import ModelsApi
from fd_router.config.models import ModelsConfig
from fd_router.engines.model_cards import ModelCard
from fd_router.errors import AccessError, BadRequestError
from fd_router.http.messages import Request, RequestHead
from fd_router.instances.instance import Health
from fd_router.routing.models.names import ModelTable


class World:
    """The endpoints over a registry; ``allowed`` is what the key of the client may ask for."""

    def __init__(self, registry: Any, describe: Any, **options: Any) -> None:
        self.registry = registry
        self.describe = describe
        self.options = ModelsConfig(**options).checked
        self.allowed: tuple[str, ...] | None = None
        self.learnt = 0
        self.use_names()
        self.api = ModelsApi(registry.all, lambda: self.table, self._learn, self._identify, clock=lambda: 7.9)

    async def _learn(self) -> None:
        self.learnt += 1

    def _identify(self, authorization: bytes) -> Any:
        if authorization != b"Bearer key":
            raise AccessError("none")
        return SimpleNamespace(models=self.allowed)

    def use_names(self) -> None:
        self.table = ModelTable(self.options, self.registry.served_models, None)  # type: ignore[arg-type]

    def serve(self, port: int, *cards: ModelCard) -> Any:
        instance = self.registry.register(self.describe(port))
        self.registry.learn_models(instance.key, cards)
        self.use_names()
        return instance

    async def get(self, path: str = "/v1/models", shown: bytes = b"Bearer key") -> Any:
        routes = self.api.routes()
        handler = routes[path if path in routes else "/v1/models/{model+}"]["GET"]
        response = await handler(Request(RequestHead("GET", path, authorization=shown)))
        return json.loads(response.body)

    async def ids(self) -> list[str]:
        return [card["id"] for card in (await self.get())["data"]]


@pytest.fixture
def world(registry, describe) -> World:
    return World(registry, describe, aliases={"gpt": "big", "mix": {"gone": 1, "small": 1}, "lost": "gone"})


async def test_cards_are_as_instances_tell_them(world: World) -> None:
    world.serve(8000, ModelCard("big", "", {"id": "big", "created": 1, "max_model_len": 4096}))
    world.serve(8001, ModelCard("big", "", {"id": "big", "created": 2}), ModelCard("lora", "big"))
    answer = await world.get()
    assert answer["object"] == "list"
    assert answer["data"] == [
        {"id": "big", "object": "model", "created": 1, "owned_by": "fd-router", "max_model_len": 4096},
        {"id": "lora", "object": "model", "created": 7, "owned_by": "fd-router", "parent": "big"},
        {"id": "gpt", "object": "model", "created": 1, "owned_by": "fd-router", "max_model_len": 4096},
    ]
    assert world.learnt == 1


async def test_only_of_healthy_instances(world: World) -> None:
    first, _ = world.serve(8000, ModelCard("big")), world.serve(8001, ModelCard("small"))
    assert await world.ids() == ["big", "small", "gpt", "mix"]
    first.health = Health.UNHEALTHY
    assert await world.ids() == ["small", "mix"]
    first.health = Health.HEALTHY
    assert await world.ids() == ["big", "small", "gpt", "mix"]


async def test_what_a_key_may_not_ask_for_is_not_there(world: World) -> None:
    world.serve(8000, ModelCard("big"))
    world.allowed = ("gpt", "small")
    assert await world.ids() == ["gpt"]
    assert (await world.get("/v1/models/gpt"))["id"] == "gpt"
    with pytest.raises(BadRequestError, match="'big' does not exist or you do not have access") as caught:
        await world.get("/v1/models/big")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    for path in ("/v1/models", "/v1/models/gpt"):
        with pytest.raises(AccessError):
            await world.get(path, b"")
    world.allowed = None
    assert await world.ids() == ["big", "gpt"]


async def test_a_name_with_slashes(world: World) -> None:
    world.serve(8000, ModelCard("org/big"))
    for path in ("/v1/models/org/big", "/v1/models/org%2Fbig"):
        assert (await world.get(path))["id"] == "org/big"


async def test_the_merged_list_is_kept_until_something_changes(world: World) -> None:
    instance = world.serve(8000, ModelCard("big"))
    await world.get()
    before = world.api._merged
    await world.get()
    assert world.api._merged is before
    world.registry.learn_models(instance.key, (ModelCard("big", "", {"created": 5}),))
    assert (await world.get())["data"][0]["created"] == 5
