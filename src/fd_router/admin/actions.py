"""What an operator does with a fleet: it asks a running router, prints the answer, and returns the exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console

from fd_router.admin.router_client import NO_HEADERS, AdminError, RouterClient, instance_path
from fd_router.admin.views import explanation_table, fleet_line, fleet_table, requests_word, state_of

POLL_SECS = 0.5
"""Between two looks at an instance that is waited for."""

_RELOAD = "a reload where register.yaml names it"
_COMES_BACK = f"its next heartbeat brings it back, or {_RELOAD}"


class Actions:
    """The actions, on ``client``'s router. ``as_json``: print what the router answered."""

    def __init__(
        self,
        client: RouterClient,
        console: Console,
        *,
        as_json: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._console = console
        self._as_json = as_json
        self._sleep = sleep

    def status(self) -> int:
        """Show the router and its instances; 1 when no request can be served."""
        health = self._client.send("GET", "/health").json()["status"]
        reason = self._client.why_not_ready()
        entries = self._client.instances()
        serving = not reason and any(state_of(entry) == "healthy" for entry in entries)
        if self._tell({"status": health, "instances": entries, **({"not_ready": reason} if reason else {})}):
            return 0 if serving else 1
        self._say(f"{self._client.address.url} is {health}: {fleet_line(entries)}")
        if reason:
            self._say(f"No request can be served: {reason}")
        if entries:
            self._console.print(fleet_table(entries))
        else:
            self._say("No instance has registered: start them with --router, or name them in register.yaml")
        return 0 if serving else 1

    def drain(self, key: str, *, wait_secs: float = 0.0, deadline_secs: float | None = None) -> int:
        """Give an instance nothing new; with ``wait_secs``, wait so long until nothing runs there (else 1).

        ``deadline_secs``: streams that still run there in so many seconds go on at another instance.
        """
        query = f"?deadline_secs={deadline_secs:g}" if deadline_secs is not None else ""
        entry = self._client.ask("POST", instance_path(key, "/drain") + query)
        deadline, waited = wait_secs, 0.0
        while entry["running"] and waited < deadline:
            self._sleep(POLL_SECS)
            waited += POLL_SECS
            entry = self._client.instance(key)
        if not self._tell(entry):
            self._say(f"{entry['key']} drains: {_running(entry)}{_moved(entry)}")
        return 1 if wait_secs and entry["running"] else 0

    def undrain(self, key: str) -> int:
        """Let an instance have requests again."""
        entry = self._client.ask("POST", instance_path(key, "/undrain"))
        if not self._tell(entry):
            self._say(f"{entry['key']} no longer drains: it is {state_of(entry)}")
        return 0

    def remove(self, key: str, *, ban_secs: float = 0.0) -> int:
        """Forget an instance, and keep it away for ``ban_secs``."""
        query = f"?ban_secs={ban_secs:g}" if ban_secs else ""
        answer = self._client.ask("DELETE", instance_path(key) + query)
        if not self._tell(answer):
            banned = (
                f"it may not register for {ban_secs:g} s; but {_RELOAD} brings it back" if ban_secs else _COMES_BACK
            )
            self._say(f"{answer['removed']} is removed: {_running(answer)}; {banned}")
        return 0

    def explain(self, body: bytes, *, path: str = "", headers: Mapping[str, str] = NO_HEADERS) -> int:
        """Show where a request would go now, and why; 1 when nowhere. ``headers``: the request's, for policies."""
        answer = self._client.ask("POST", f"/v1/explain{f'?path={path}' if path else ''}", body, headers)
        chosen = all(role["choice"] for role in answer["roles"])
        if not self._tell(answer):
            prompt = answer["prompt"]
            about = "about " if prompt["estimated"] else ""
            self._say(f"{answer['path']}: {prompt['characters']:,} characters, {about}{prompt['tokens']:,} tokens")
            for role in answer["roles"]:
                self._say(f"{role['role']} by {role['policy']}: {role['choice'] or 'nobody'}, {role['reason']}")
                self._console.print(explanation_table(role))
        return 0 if chosen else 1

    def reload(self) -> int:
        """Have all files read anew; 1 when something is wrong with them, and nothing has changed."""
        reply = self._client.send("POST", "/admin/reload")
        answer = reply.json()
        if reply.status not in {200, 400} or "problems" not in answer:
            self._client.ask("POST", "/admin/reload")  # which says why
            raise AdminError(f"{self._client.address.url}: status {reply.status}")
        if not self._tell(answer):
            for line in _reloaded(answer):
                self._say(line)
        return 1 if answer["problems"] else 0

    def abort(self, ids: Sequence[str], *, everything: bool = False) -> int:
        """End running requests; 1 when one of the ``ids`` isn't known."""
        order = {"abort_all": True} if everything else {"req_ids": list(ids)}
        answer = self._client.ask("POST", "/v1/abort_requests", msgspec.json.encode(order))
        result = answer["result"]
        if not self._tell(answer):
            count = len(result["aborted"])
            self._say(f"{count} {requests_word(count)} aborted")
            for name in result["not_found"]:
                self._say(f"not found: {name}")
        return 1 if result["not_found"] else 0

    def _tell(self, answer: Any) -> bool:
        """Print ``answer`` as JSON if that is wanted; return whether it is."""
        if self._as_json:
            self._console.file.write(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n")
        return self._as_json

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=not self._console.is_terminal)


def _running(entry: dict[str, Any]) -> str:
    running = entry["running"]
    return (
        f"{running} {requests_word(running)} still run{'s' if running == 1 else ''} there"
        if running
        else "nothing runs there"
    )


def _moved(entry: dict[str, Any]) -> str:
    """Say when the streams of an instance that drains move, if they do."""
    left = entry.get("deadline_secs")
    return f"; streams that still run in {left:g} s move to another instance" if entry["running"] and left else ""


def _reloaded(answer: dict[str, Any]) -> list[str]:
    if answer["problems"]:
        return ["Nothing has changed:", *answer["problems"]]
    named = (
        ("changed", "in force"), ("needs_restart", "needs a restart"), ("instances_added", "instances added"),
        ("instances_removed", "instances removed"), ("warnings", "warning"),
    )  # fmt: skip
    lines = [f"{title}: {', '.join(answer[key])}" for key, title in named if answer.get(key)]
    return [
        "Reloaded"
        + ("" if lines else ": no option differs; keys, tokens and certificates are those of their files now"),
        *lines,
    ]
