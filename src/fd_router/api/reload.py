"""``/admin/reload``: what ``SIGHUP`` does, with an answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from fd_router.api.orders import Orders
from fd_router.api.query import read_query
from fd_router.http.messages import Request, Response, Routes, json_response


class Outcome(msgspec.Struct, frozen=True):
    """What a reload did. With ``problems`` nothing has changed. Options by their keys: values may be secret."""

    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()  # differ from what is in force, and go on doing so
    instances_added: tuple[str, ...] = ()  # to those kept from register.yaml, by key
    instances_removed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Say what a successful one changed, for the log."""
        parts = [f"{', '.join(self.changed) or 'no option'} changed"]
        if self.instances_added or self.instances_removed:
            parts.append(f"{len(self.instances_added)} instances added, {len(self.instances_removed)} removed")
        if self.needs_restart:
            parts.append(f"a restart is needed for {', '.join(self.needs_restart)}")
        return "; ".join(parts)


def reload_routes(reload: Callable[[], Coroutine[Any, Any, Outcome]]) -> Routes:
    """Return the handler that has ``reload`` read everything anew: to its end, though its caller leaves.

    Half of what the files have would be in force else, until the next reload.
    """
    orders = Orders()

    async def answer(request: Request) -> Response:
        read_query(request)
        outcome = await orders.carry_out(reload())
        status = "unchanged" if outcome.problems else "reloaded"
        return json_response(400 if outcome.problems else 200, {"status": status} | msgspec.structs.asdict(outcome))

    return {"/admin/reload": {"POST": answer}}
