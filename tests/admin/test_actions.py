from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from fd_router.admin.actions import Actions
from fd_router.admin.router_client import Address, AdminError, RouterClient
from tests.support.scripted_router import ScriptedRouter, entry

Act = Callable[[Actions], int]


def act(router: ScriptedRouter, what: Act, *, width: int = 60, as_json: bool = False) -> tuple[int, str]:
    output = io.StringIO()
    console = Console(file=output, width=width, highlight=False)
    client = RouterClient(Address.parse(router.address))
    code = what(Actions(client, console, as_json=as_json, sleep=lambda _: None))
    return code, output.getvalue()


FLEET = [
    entry("10.0.0.1:8000", running=3, tokens=2048),
    entry("10.0.0.2:8000", role="decode", draining=True),
    entry("10.0.0.3:8000", state="unhealthy", paused=True, source="register.yaml"),
    entry("10.0.0.4:8000", readiness="terminating", source="kubernetes x"),
]


def test_status_fits_sixty_columns() -> None:
    with ScriptedRouter(
        {"GET /health": (200, {"status": "healthy"}), "GET /instances": (200, {"instances": FLEET})}
    ) as router:
        code, text = act(router, Actions.status)
        assert act(router, Actions.status, as_json=True)[1].startswith('{\n  "status": "healthy"')
    assert code == 0
    assert "1 of 4 instances may be chosen; 3 requests and 2,048 prompt tokens there" in " ".join(text.split())
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("10.")}
    assert rows["10.0.0.1:8000"].split() == ["10.0.0.1:8000", "mixed", "healthy", "3", "2048", "register"]
    assert "draining" in rows["10.0.0.2:8000"]
    assert "terminating" in rows["10.0.0.4:8000"]
    assert "unhealthy" in rows["10.0.0.3:8000"]
    assert all(len(line) <= 60 for line in text.splitlines()[1:])


@pytest.mark.parametrize(("entries", "said"), [([], "No instance has registered"), ([FLEET[2]], "0 of 1 instances")])
def test_a_fleet_that_can_serve_nobody(entries: list[Any], said: str) -> None:
    answers = {"GET /health": (503, {"status": "draining"}), "GET /instances": (200, {"instances": entries})}
    with ScriptedRouter(answers) as router:
        code, text = act(router, Actions.status)
    assert code == 1
    assert "is draining" in text
    assert said in text


def test_half_a_fleet_can_serve_nobody() -> None:
    why = "no decode instance takes requests"
    answers: dict[str, Any] = {
        "GET /health": (200, {"status": "healthy"}),
        "GET /instances": (200, {"instances": [entry("10.0.0.1:8000", role="prefill")]}),
        "GET /ready": (503, {"status": "not ready", "reason": why}),
    }
    with ScriptedRouter(answers) as router:
        code, text = act(router, Actions.status, width=200)
        assert code == 1
        assert f"No request can be served: {why}\n" in text
        code, text = act(router, Actions.status, as_json=True)
        assert (code, json.loads(text)["not_ready"]) == (1, why)
        router.answers["GET /ready"] = (503, {"status": "not ready", "reason": "draining"})
        assert act(router, Actions.status)[0] == 0


def test_a_drain_is_waited_for() -> None:
    key = "10.0.0.1:8000"
    answers = {
        "POST /instances/10.0.0.1%3A8000/drain": (200, entry(key, running=2, draining=True)),
        "GET /instances/10.0.0.1%3A8000": [
            (200, entry(key, running=1, draining=True)), (200, entry(key, draining=True)),
        ],
    }  # fmt: skip
    with ScriptedRouter(answers) as router:
        assert act(router, lambda a: a.drain(key)) == (0, f"{key} drains: 2 requests still run there\n")
        assert act(router, lambda a: a.drain(key, wait_secs=0.5)) == (1, f"{key} drains: 1 request still runs there\n")
        assert act(router, lambda a: a.drain(key, wait_secs=60)) == (0, f"{key} drains: nothing runs there\n")


def test_a_drain_with_a_deadline_for_streams() -> None:
    key = "10.0.0.1:8000"
    drained = entry(key, running=2, draining=True) | {"deadline_secs": 30.0}
    with ScriptedRouter({"POST /instances/10.0.0.1%3A8000/drain?deadline_secs=30": (200, drained)}) as router:
        assert act(router, lambda a: a.drain(key, deadline_secs=30)) == (
            0,
            f"{key} drains: 2 requests still run there; streams that still run in 30 s move to another instance\n",
        )


def test_undrain_and_remove() -> None:
    key = "[::1]:8000"
    path = "/instances/%5B%3A%3A1%5D%3A8000"
    answers = {
        f"POST {path}/undrain": (200, entry(key)),
        f"DELETE {path}": (200, {"removed": key, "running": 0}),
        f"DELETE {path}?ban_secs=600": (200, {"removed": key, "running": 3}),
    }
    with ScriptedRouter(answers) as router:
        assert act(router, lambda a: a.undrain(key)) == (0, f"{key} no longer drains: it is healthy\n")
        comes_back = "its next heartbeat brings it back, or a reload where register.yaml names it"
        assert comes_back in act(router, lambda a: a.remove(key), width=160)[1]
        said = act(router, lambda a: a.remove(key, ban_secs=600), width=160)[1]
        assert said == (
            f"{key} is removed: 3 requests still run there; it may not register for 600 s; but a reload where "
            "register.yaml names it brings it back\n"
        )
        with pytest.raises(AdminError):
            act(router, lambda a: a.undrain("10.0.0.9:1"))


def candidate(url: str, **values: Any) -> dict[str, Any]:
    base = {
        "url": url, "state": "healthy", "candidate": True, "best": False, "running": 1, "tokens": 0,
        "prefix_hit_percent": None, "load": 4, "score": 0.75,
    }  # fmt: skip
    return base | values


def test_an_explanation() -> None:
    role = {
        "role": "mixed", "policy": "cache_aware", "choice": "http://10.0.0.2:8000", "reason": "lowest score [0.75]",
        "candidates": [
            candidate("http://10.0.0.1:8000", best=True), candidate("http://10.0.0.2:8000", prefix_hit_percent=75),
        ],
    }  # fmt: skip
    answer = {"path": "/v1/completions", "prompt": {"characters": 5, "tokens": 10, "estimated": True}, "roles": [role]}
    nobody = {**answer, "roles": [{**role, "choice": None, "reason": "no instance", "candidates": []}]}
    with ScriptedRouter({"POST /v1/explain?path=/p": (200, answer), "POST /v1/explain": (200, nobody)}) as router:
        code, text = act(router, lambda a: a.explain(b"{}", path="/p"))
        assert router.asked[-1][1] == b"{}"
        assert act(router, lambda a: a.explain(b"{}"))[0] == 1
        shown = json.loads(act(router, lambda a: a.explain(b"{}", path="/p"), as_json=True)[1])
    assert (code, shown) == (0, answer)
    assert "mixed by cache_aware: http://10.0.0.2:8000, lowest score [0.75]" in " ".join(text.split())
    assert "→ 10.0.0.2:8000 healthy" in text
    assert "= 10.0.0.1:8000 healthy" in text
    assert "75" in text


OUTCOME = {
    "changed": [],
    "needs_restart": [],
    "instances_added": [],
    "instances_removed": [],
    "problems": [],
    "warnings": [],
}


@pytest.mark.parametrize(
    ("status", "values", "code", "said"),
    [
        (200, {}, 0, "Reloaded: no option differs; keys, tokens and certificates are those of their files now\n"),
        (
            200, {"changed": ["proxy.max-attempts"], "needs_restart": ["server.port"]}, 0,
            "Reloaded\nin force: proxy.max-attempts\nneeds a restart: server.port\n",
        ),
        (400, {"problems": ["c.yaml:1: x"]}, 1, "Nothing has changed:\nc.yaml:1: x\n"),
    ],
)  # fmt: skip
def test_a_reload(status: int, values: dict[str, Any], code: int, said: str) -> None:
    with ScriptedRouter({"POST /admin/reload": (status, OUTCOME | values)}) as router:
        assert act(router, Actions.reload) == (code, said)


def test_a_reload_that_is_not_allowed() -> None:
    answer = (401, {"error": {"message": "refused"}})
    with ScriptedRouter({"POST /admin/reload": answer}) as router, pytest.raises(AdminError, match="give the token"):
        act(router, Actions.reload)


def test_one_that_is_aborted_is_no_plural() -> None:
    answer = {"result": {"aborted": [{}], "not_found": []}}
    with ScriptedRouter({"POST /v1/abort_requests": (200, answer)}) as router:
        assert act(router, lambda a: a.abort(["a"])) == (0, "1 request aborted\n")


def test_an_abort() -> None:
    answer = {"result": {"aborted": [{}, {}], "not_found": ["c"]}}
    with ScriptedRouter({"POST /v1/abort_requests": (200, answer)}) as router:
        assert act(router, lambda a: a.abort(["a", "b", "c"])) == (1, "2 requests aborted\nnot found: c\n")
        assert json.loads(router.asked[-1][1]) == {"req_ids": ["a", "b", "c"]}
        act(router, lambda a: a.abort([], everything=True))
        assert json.loads(router.asked[-1][1]) == {"abort_all": True}
