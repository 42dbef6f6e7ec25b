"""Several models behind one router: every request reaches its model, by whatever name it was asked for.

Routers in the test's own loop, in front of instances that refuse (404) what they don't serve, and whose answers say who
they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fd_router.app.config_checks import find_problems
from fd_router.config.loading import load
from fd_router.instances.sources.register_yaml import read_register_file
from tests.support.live_router import LiveRouter, LoopbackInstance, message
from tests.support.waiting import until

CHAT = "/v1/chat/completions"

ALIASES: dict[str, Any] = {
    **{f"big-{n}": "big" for n in range(4)},
    **{f"small-{n}": "small" for n in range(4)},
    "mixed": {"big": 50, "small": 50},
    "canary": {"big": 90, "small": 10},
}


class Engine(LoopbackInstance):
    """Refuses requests for a model that it doesn't serve; else its answer says which one it was asked for."""

    def __init__(self, *models: str) -> None:
        super().__init__()
        self.models = [*models]
        self.wrong: list[str] = []
        self.bodies: list[bytes] = []

    def answer_to(self, body: bytes) -> bytes | None:
        """Return the answer to a request."""
        self.bodies.append(body)
        asked = json.loads(body)["model"]
        self.asked_for.append(asked)
        if asked not in self.models:
            self.wrong.append(asked)
        status = "200 OK" if asked in self.models else "404 Not Found"
        text = json.dumps({"model": asked, "choices": []})
        return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


class Router(LiveRouter):
    """A router with such engines."""

    def __init__(self, directory: Path, models: Mapping[str, Any], **sections: Mapping[str, Any]) -> None:
        super().__init__(directory, "models.aliases", {}, {"models": models, **sections})
        self.engines: list[Engine] = []

    async def serve(self, *models: str, role: str = "mixed", **told: Any) -> Engine:
        """Start an engine and register it; without ``model`` or ``models`` it is asked what it serves."""
        engine = Engine(*models)
        await engine.start()
        self.instances.append(engine)
        self.engines.append(engine)
        entry = {"role": role, "host_ip": "127.0.0.1", "port": engine.port, **told}
        assert (await self.call("POST", "/register", json.dumps(entry).encode()))[0] == 200
        return engine

    async def chat(self, model: str | None, headers: str = "", **more: Any) -> tuple[int, Any]:
        """Ask for ``model``. Returns the status and the answer."""
        value = {"messages": [{"role": "user", "content": "hello"}], **({"model": model} if model else {}), **more}
        answer = await self.exchange(message(json.dumps(value).encode(), path=CHAT, headers=headers))
        return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

    def wrong(self) -> list[str]:
        return [name for engine in self.engines for name in engine.wrong]


@contextlib.asynccontextmanager
async def running(directory: Path, **options: Any) -> AsyncIterator[Router]:
    models = {"discovery": "always"}
    models |= {name: options.pop(name) for name in ("aliases", "fallbacks", "default", "strict") if name in options}
    async with Router(directory, models, **options) as router:
        yield router


async def ask_all(router: Router, names: Sequence[str], sessions: Sequence[str] = ("",)) -> list[tuple[str, int, str]]:
    """Ask for all names at once. Returns for each the name, the status, and the model that answered."""

    async def one(place: int, name: str) -> tuple[str, int, str]:
        session = sessions[place % len(sessions)]
        status, answer = await router.chat(name, **({"session_id": session} if session else {}))
        return name, status, answer.get("model", "")

    found: list[tuple[str, int, str]] = []
    for start in range(0, len(names), 40):
        found += await asyncio.gather(*(one(n, name) for n, name in enumerate(names[start : start + 40], start)))
    return found


async def test_two_models_ten_aliases_and_splits_none_at_a_wrong_model(tmp_path: Path) -> None:
    async with running(tmp_path, aliases=ALIASES) as router:
        for models in (("big",), ("big",), ("small",), ("small",)):
            await router.serve(*models)
        chosen = random.Random(2)
        names = [chosen.choice([*ALIASES, "big", "small"]) for _ in range(600)]
        found = await ask_all(router, names)
        assert (Counter(status for _, status, _ in found), router.wrong()) == (Counter({200: 600}), [])
        for name, _, served_by in found:
            assert name in ("mixed", "canary") or served_by == name.partition("-")[0]
        shares = Counter(served_by for name, _, served_by in found if name == "mixed")
        assert min(shares.values()) > 10


async def test_a_session_stays_with_its_half_of_a_split(tmp_path: Path) -> None:
    async with running(tmp_path, aliases=ALIASES) as router:
        await router.serve("big")
        await router.serve("small")
        sessions = [f"session-{n}" for n in range(20)]
        found = await ask_all(router, ["mixed"] * 100, sessions)
        by_session: dict[str, set[str]] = {}
        for place, (_, _, served_by) in enumerate(found):
            by_session.setdefault(sessions[place % 20], set()).add(served_by)
        assert all(len(models) == 1 for models in by_session.values())
        assert len(set().union(*by_session.values())) == 2


async def test_a_pair_is_of_one_model(tmp_path: Path) -> None:
    async with running(tmp_path, aliases=ALIASES, server={"splitwise": True}) as router:
        for models in (("big",), ("small",)):
            for role in ("prefill", "decode"):
                await router.serve(*models, role=role, model=models[0], transfer_protocol=["rdma"])
        found = await ask_all(router, ["big", "small", "big-0", "mixed", "small-1"] * 20)
        assert (Counter(status for _, status, _ in found), router.wrong()) == (Counter({200: 100}), [])
        assert {bool(engine.asked_for) for engine in router.engines} == {True}


async def test_only_the_models_name_changes_on_the_way(tmp_path: Path) -> None:
    async with running(tmp_path, aliases={"x": "big"}) as router:
        engine = await router.serve("big")
        await router.serve("small")
        seen = engine.bodies
        body = b'{"prompt": "caf\xc3\xa9", "model": "x", "seed": 123456789012345678901234567890, "stop": ["\\u0041"]}'
        assert (await router.ask(body)).startswith(b"HTTP/1.1 200 ")
        assert seen == [body.replace(b'"x"', b'"big"')]


async def test_names_that_nobody_serves(tmp_path: Path) -> None:
    async with running(tmp_path) as router:
        first = await router.serve("big")
        assert (await router.chat("any"))[0] == 404, "by the engine, for one model is nobody's concern"
        assert first.wrong == ["any"]
        await router.serve("small")
        status, answer = await router.chat("bigg")
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", None)
        assert answer["error"]["message"].endswith("did you mean 'big'?")
        assert (await router.chat(None))[0] == 400
        assert first.wrong == ["any"]


async def test_the_list_of_models(tmp_path: Path) -> None:
    async with running(tmp_path, aliases={"x": "big", "lost": "gone"}) as router:
        assert await router.call("GET", "/v1/models") == (200, {"object": "list", "data": []})
        await router.serve("org/big", "big")
        await router.serve(model="told")
        _, answer = await router.call("GET", "/v1/models")
        assert [model["id"] for model in answer["data"]] in (
            ["org/big", "big", "told", "x"], ["told", "org/big", "big", "x"],
        )  # fmt: skip
        assert all({"id", "object", "created", "owned_by"} <= model.keys() for model in answer["data"])
        for path in ("/v1/models/org/big", "/v1/models/org%2Fbig", "/v1/models/x"):
            status, model = await router.call("GET", path)
            assert (status, model["object"]) == (200, "model")
        status, answer = await router.call("GET", "/v1/models/gone")
        assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_pages_in_a_browser_may_ask_for_the_list(tmp_path: Path) -> None:
    async with running(tmp_path) as router:
        origin = "Origin: https://chat.example\r\n"
        asks = f"{origin}Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n"
        for path in ("/v1/models", "/v1/models/org/big"):
            preflight = await router.exchange(message(method="OPTIONS", path=path, headers=asks))
            assert b"access-control-allow-methods: GET" in preflight.lower().replace(b"get", b"GET")
            answer = await router.exchange(message(method="GET", path=path, headers=origin))
            assert b"access-control-allow-origin" in answer.lower()


async def test_explain_and_metrics_tell_the_model(tmp_path: Path) -> None:
    async with running(tmp_path, aliases={"x": "big"}) as router:
        big = await router.serve("big")
        await router.serve("small")
        body = json.dumps({"model": "x", "messages": []}).encode()
        status, answer = await router.call("POST", "/v1/explain", body)
        assert (status, answer["model"]) == (200, {"asked": "x", "served_as": "big"})
        (role,) = answer["roles"]
        assert [candidate["url"] for candidate in role["candidates"]] == [f"http://127.0.0.1:{big.port}"]
        assert (await router.call("POST", "/v1/explain", b'{"model": "gone", "messages": []}'))[0] == 404
        await router.chat("x")
        await router.chat("gone")
        page = (await router.exchange(message(method="GET", path="/metrics"))).decode()
        assert 'fd_router_model_requests_total{model="big",status_code="200"} 1.0' in page
        assert 'fd_router_model_instances_available{model="small",role="mixed"} 1.0' in page
        assert "fd_router_model_not_found_total 1.0" in page
        assert "gone" not in page


async def test_with_one_model_nothing_is_added_to_the_metrics(tmp_path: Path) -> None:
    async with running(tmp_path) as router:
        await router.serve("big")
        await router.chat("big")
        page = (await router.exchange(message(method="GET", path="/metrics"))).decode()
        assert "fd_router_model" not in page


async def test_who_waits_for_one_model_holds_up_nobody_who_wants_another(tmp_path: Path) -> None:
    async with running(tmp_path, protection={"max_requests_per_instance": 1}) as router:
        big = await router.serve("big")
        await router.serve("small")
        big.answer_to = lambda _body: b""  # type: ignore[method-assign]
        waiting = [asyncio.create_task(router.chat("big")) for _ in range(3)]
        await until(lambda: "room at an instance" in router.outlet.text)
        assert (await router.chat("small"))[0] == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_those_who_wait_follow_when_models_begin_to_matter(tmp_path: Path) -> None:
    """Queued while there was one model; the other one joins, and one of the two gets what is its."""
    async with running(tmp_path, protection={"max_requests_per_instance": 1}) as router:
        big = await router.serve("big")
        big.answer_to = lambda _body: b""  # type: ignore[method-assign]
        stuck = asyncio.create_task(router.chat("big"))
        await until(lambda: big.last_head != "")
        waiting = asyncio.create_task(router.chat("small"))
        await until(lambda: "room at an instance" in router.outlet.text)
        await router.serve("small")
        assert (await waiting)[0] == 200
        assert router.wrong() == []
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


@pytest.mark.parametrize("name", ["limited", "free"])
async def test_a_key_sees_its_models_only(tmp_path: Path, name: str) -> None:
    from fd_router.admission.keys import hash_key, make_key  # noqa: PLC0415

    keys = {"limited": make_key(), "free": make_key()}
    entries = [
        f"  - {{name: limited, sha256: {hash_key(keys['limited'])}, models: [x]}}",
        f"  - {{name: free, sha256: {hash_key(keys['free'])}}}",
    ]
    file = tmp_path / "keys.yaml"
    file.write_text("keys:\n" + "\n".join(entries) + "\n")
    async with running(tmp_path, aliases={"x": "big"}, access={"keys_path": str(file)}) as router:
        await router.serve("big")
        await router.serve("small")
        shown = f"Authorization: Bearer {keys[name]}\r\n"

        async def get(path: str, headers: str = shown) -> tuple[int, Any]:
            answer = await router.exchange(message(method="GET", path=path, headers=headers))
            return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])

        assert (await get("/v1/models", ""))[0] == 401
        ids = [model["id"] for model in (await get("/v1/models"))[1]["data"]]
        assert sorted(ids) == (["x"] if name == "limited" else ["big", "small", "x"])
        assert (await get("/v1/models/big"))[0] == (404 if name == "limited" else 200)
        assert (await router.chat("x", shown))[0] == 200
        assert (await router.chat("big", shown))[0] == (403 if name == "limited" else 200)
        assert router.wrong() == []


def test_the_example_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2] / "examples" / "models")
    loaded = load("config.yaml", {}, {})
    assert (loaded.warnings, [*find_problems(loaded.config)]) == ((), [])
    names = loaded.config.models.checked
    entries = read_register_file(Path("register.yaml"), lambda _: None).entries.values()
    served = {model for entry in entries for model in entry.models}
    assert {target.model for targets in names.aliases.values() for target in targets} <= served
