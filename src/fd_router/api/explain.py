"""``/v1/explain``: where a completion request would go now and why, without sending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fd_router.api.query import read_query
from fd_router.errors import BadRequestError, NoInstanceError
from fd_router.http.messages import Request, Response, Routes, json_entries, json_response
from fd_router.instances.instance import Health, Instance, Readiness
from fd_router.openai.completion import Completion
from fd_router.openai.endpoints import BUILT_IN, CHAT, COMPLETIONS, Endpoint
from fd_router.scheduling.explanation import Shadowed, Standing, Verdict

Explain = Callable[[Completion, str, bytes], Sequence[Verdict | str]]
"""(completion, path, body) → for each role a verdict, or why nobody is chosen. Raises NoInstanceError."""

Prepare = Callable[[Completion], Awaitable[None] | None]
"""What happens before a selection: the tokenizer's work."""


_SHOWN = 256  # characters of a model's name that the answer repeats


class _Shape(msgspec.Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Shape).decode


class ExplainApi:
    """The endpoint. ``policies`` are the names of the policies by role, in the order of the verdicts."""

    def __init__(
        self,
        explain: Explain,
        members: Callable[[], Iterable[Instance]],
        policies: Mapping[str, str],
        prepare: Prepare | None = None,
        endpoints: Sequence[Endpoint] = BUILT_IN,
    ) -> None:
        """``endpoints``: of the router; those that generate can be explained."""
        self._endpoints = {
            endpoint.path: endpoint for endpoint in endpoints if endpoint.mode in {"generate", "stateful"}
        }
        self._explain = explain
        self._members = members
        self._policies = policies
        self._prepare = prepare

    def routes(self) -> Routes:
        """Return the handler."""
        return {"/v1/explain": {"POST": self._answer}}

    async def _answer(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        completion = endpoint.read(request.body, request.head.headers)
        completion.session_id = request.head.session or completion.session_id
        if self._prepare is not None and (preparation := self._prepare(completion)) is not None:
            await preparation
        verdicts: Sequence[Verdict | str]
        try:
            verdicts = self._explain(completion, endpoint.path, request.body)
        except NoInstanceError as error:
            verdicts = [error.message] * len(self._policies)
        members = [member for member in self._members() if _serves(member, completion.served_as)]
        roles = [
            await _role(role, policy, verdict, [x for x in members if x.registration.role == role])
            for (role, policy), verdict in zip(self._policies.items(), verdicts, strict=True)
        ]
        answer = {"path": endpoint.path, "prompt": _prompt(completion), "roles": roles}
        if completion.served_as:
            answer["model"] = {"asked": completion.model[:_SHOWN], "served_as": completion.served_as}
        return json_response(200, answer)

    def _endpoint(self, request: Request) -> Endpoint:
        """Tell for which endpoint the request is: as the query says, else by its shape."""
        given = read_query(request, "path").get("path") or None
        if given is None:
            return CHAT if _has_messages(request.body) else COMPLETIONS
        if (endpoint := self._endpoints.get(given)) is None:
            allowed = " or ".join(self._endpoints)
            raise BadRequestError(f"path is {given[:80]!r}; it may be {allowed}, or be left out")
        return endpoint


def _serves(instance: Instance, model: str) -> bool:
    """Tell whether an instance serves ``model``, "" where models don't matter; what isn't known may be so."""
    return not model or not instance.models or any(card.name == model for card in instance.models)


def _has_messages(body: bytes) -> bool:
    try:
        return _decode(body).messages is not msgspec.UNSET
    except (msgspec.DecodeError, RecursionError):  # what only the tolerant decoder reads
        return b'"messages"' in body


def _prompt(completion: Completion) -> dict[str, Any]:
    ids = completion.token_ids
    return {
        "characters": len(completion.prompt),
        "tokens": completion.tokens if ids is None else len(ids),
        "estimated": ids is None,
    }


async def _role(role: str, policy: str, verdict: Verdict | str, members: Sequence[Instance]) -> dict[str, Any]:
    if isinstance(verdict, str):
        candidates = await json_entries(_entry(member, None, best=False) for member in members)
        return {"role": role, "policy": policy, "choice": None, "reason": verdict, "candidates": candidates}
    explanation = verdict.explanation
    best = {explanation.standings[place].candidate.url for place in explanation.best}
    standings = {standing.candidate.url: standing for standing in explanation.standings}
    answer = {
        "role": role,
        "policy": policy,
        "choice": explanation.standings[verdict.place].candidate.url,
        "reason": explanation.reason,
        "candidates": await json_entries(
            _entry(member, standings.get(member.url), best=member.url in best) for member in members
        ),
    }
    return answer if explanation.shadow is None else answer | {"shadow": _shadow(explanation.shadow, best)}


def _shadow(shadow: Shadowed, best: Collection[str]) -> dict[str, Any]:
    """Show what the shadow policy would choose: the best of its candidates, any of which it might take."""
    explanation = shadow.explanation
    wished = [explanation.standings[place].candidate.url for place in explanation.best]
    return {
        "policy": shadow.policy,
        "best": wished,
        "reason": explanation.reason,
        "agrees": any(url in best for url in wished),
    }


def _entry(instance: Instance, standing: Standing | None, *, best: bool) -> dict[str, Any]:
    return {
        "url": instance.url,
        "state": _state(instance),
        "candidate": standing is not None,
        "best": best,
        "running": instance.running,
        "tokens": instance.tokens,
        "prefix_hit_percent": standing.hit if standing is not None else None,
        "prefix_hit_source": _source(standing),
        "load": standing.load if standing is not None else None,
        "score": standing.score if standing is not None else None,
    }


def _source(standing: Standing | None) -> str | None:
    """Say who knows of the hit: the engine, by its KV events, or the router, by what it sent there."""
    if standing is None or standing.hit is None:
        return None
    return "engine" if standing.is_told else "router"


def _state(instance: Instance) -> str:
    """Return its health, or why it gets nothing although it is healthy."""
    if instance.health is not Health.HEALTHY:
        return str(instance.health.value)
    reasons = (
        ("draining", instance.is_draining),
        ("paused", instance.registration.is_paused),
        (instance.readiness.value, instance.readiness is not Readiness.READY),
        ("circuit_open", instance.is_ejected),
        ("stuck", instance.is_stuck),
        ("full", 0 < instance.limit <= instance.running),
    )
    return next((reason for reason, holds in reasons if holds), "healthy")
