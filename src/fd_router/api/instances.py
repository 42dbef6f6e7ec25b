"""The fleet in an admin's hands: ``/instances``, to list, drain and remove instances while requests run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Protocol
from urllib.parse import unquote

from fd_router.api.query import read_query, read_seconds
from fd_router.errors import BadRequestError
from fd_router.http.messages import Request, Response, Routes, json_entries, json_response
from fd_router.instances.instance import Instance
from fd_router.instances.registration import parse_registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registration_keys import ROLES
from fd_router.instances.registry import Registry
from fd_router.telemetry.contracts import Log

MAX_BAN_SECS = 30 * 24 * 3600
"""A ban that is meant for ever belongs into the instance's own configuration: it ends with the router's process."""


MAX_DEADLINE_SECS = 24 * 3600
"""Longer than any answer takes."""


class Deadlines(Protocol):
    """Who moves streams from instances that drain."""

    def drain_by(self, instance: Instance, seconds: float) -> None:
        """Have the streams leave ``instance`` that are still there in so many seconds."""

    def seconds_left(self, key: str) -> float | None:
        """Return how long the streams of the instance with ``key`` may stay; None: no deadline was set."""


def _alone(key: str, seconds: float, /) -> None:
    """A router that is alone has nobody to tell."""


class InstancesApi:
    """The endpoints by which a rollout takes instances out of service and waits until nothing runs there."""

    def __init__(
        self,
        registry: Registry,
        deadlines: Deadlines,
        *,
        log: Log,
        on_removed: Callable[[str, float], None] = _alone,
        on_deadline: Callable[[str, float], None] = _alone,
    ) -> None:
        """``on_removed`` is told the key of what an admin removed, and for how long it is banned.

        ``on_deadline`` that of what drains, and in how many seconds streams are to have left it.
        """
        self._on_removed = on_removed
        self._on_deadline = on_deadline
        self._registry = registry
        self._deadlines = deadlines
        self._log = log

    def routes(self) -> Routes:
        """Return the handlers. ``{key}`` is ``10.0.0.1:8000`` or ``[::1]:8000``, percent-encoded or not."""
        return {
            "/instances": {"GET": self._list},
            "/instances/{key}": {"GET": self._get, "DELETE": self._remove},
            "/instances/{key}/drain": {"POST": self._drain},
            "/instances/{key}/undrain": {"POST": self._undrain},
        }

    async def _list(self, request: Request) -> Response:
        read_query(request)
        members = map(self._entry, self._registry.all())
        removed_in_use = (self._entry(instance, removed=True) for instance in self._registry.removed_in_use())
        return json_response(200, {"instances": await json_entries(chain(members, removed_in_use))})

    async def _get(self, request: Request) -> Response:
        read_query(request)
        key = _key(request)
        if (instance := self._registry.get(key)) is not None:
            return json_response(200, self._entry(instance))
        for instance in self._registry.removed_in_use():
            if instance.key == key:
                return json_response(200, self._entry(instance, removed=True))
        raise _unknown(key)

    async def _drain(self, request: Request) -> Response:
        deadline_secs = read_seconds(request, "deadline_secs", MAX_DEADLINE_SECS)
        instance = self._set_draining(_key(request), draining=True)
        if deadline_secs is not None:
            self._deadlines.drain_by(instance, deadline_secs)
            self._on_deadline(instance.key, deadline_secs)
        return json_response(200, self._entry(instance))

    async def _undrain(self, request: Request) -> Response:
        read_query(request)
        return json_response(200, self._entry(self._set_draining(_key(request), draining=False)))

    def _set_draining(self, key: str, *, draining: bool) -> Instance:
        instance = self._registry.set_draining(key, draining)
        if instance is None:
            raise _unknown(key)
        return instance

    async def _remove(self, request: Request) -> Response:
        key, ban_secs = _key(request), read_seconds(request, "ban_secs", MAX_BAN_SECS) or 0.0
        instance = self._registry.remove(key, "removed by an admin")
        if instance is None and not ban_secs:
            raise _unknown(key)
        if ban_secs:
            self._registry.ban(key, ban_secs)
            self._log.info(f"{key} may not register itself for {ban_secs:g} s")
        self._on_removed(key, ban_secs)
        return json_response(200, {"removed": key, "running": instance.own_running if instance is not None else 0})

    def _entry(self, instance: Instance, *, removed: bool = False) -> dict[str, Any]:
        registration = instance.registration
        left = self._deadlines.seconds_left(instance.key) if instance.is_draining else None
        deadline = {"deadline_secs": round(left, 1)} if left is not None else {}
        return {
            "key": instance.key,
            "url": instance.url,
            "role": registration.role,
            "state": "removed" if removed else instance.health.value,
            "draining": instance.is_draining,
            **deadline,
            "paused": registration.is_paused,
            "readiness": instance.readiness.value,
            "models": [card.name for card in instance.models],
            "source": instance.source.name,
            "kept": instance.source.is_list,
            "running": instance.running,
            "tokens": instance.tokens,
            "running_elsewhere": instance.running_elsewhere,
        }


def _key(request: Request) -> str:
    """Return the key in the path as registrations write it: else a ban, say, would be another one's. Raises a 404."""
    given = unquote(request.head.path.split("/")[2])
    host, _, port = given.rpartition(":")
    try:
        return parse_registration({"role": ROLES[0], "host_ip": host, "port": port}).key
    except RegistrationError:
        raise _unknown(given) from None


def _unknown(key: str) -> BadRequestError:
    return BadRequestError(
        f"There is no instance {key}; fd-router status and GET /instances list the keys (host_ip:port)",
        status=404,
        code="no_such_instance",
    )
