"""The table of docs/compatibility.md, and the running programs that its rows are checked against."""

from __future__ import annotations

import http.client
import json
import re
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.fleet import eventually
from tests.support.mock_process import MockProcess, RouterProcess, ServerProcess
from tests.support.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
FAST: Mapping[str, Any] = {"prefill_tokens_per_sec": 1_000_000, "decode_ms_per_token": 1, "record_bodies": True}
ALL_KEYS: Mapping[str, Mapping[str, Any]] = {
    "server": {"mode": "debug", "name": "router", "splitwise": False},
    "scheduler": {
        "policy": "cache_aware", "prefill-policy": "cache_aware", "decode-policy": "request_num",
        "eviction-interval-secs": 60, "eviction-duration-mins": 30, "balance-abs-threshold": 1,
        "balance-rel-threshold": 0.2, "hit-ratio-weight": 1.0, "load-balance-weight": 0.05, "cache-block-size": 4,
        "tokenizer-timeout-secs": 2, "waiting-weight": 10, "stats-interval-secs": 1,
    },
    "manager": {
        "health-failure-threshold": 3, "health-success-threshold": 2, "health-check-timeout-secs": 2,
        "health-check-interval-secs": 1, "health-check-endpoint": "/health",
    },
    "log": {"level": "info", "output": "file"},
}  # fmt: skip
"""Every key that FastDeploy's pages name, but for those that rows try one by one."""


class Row(NamedTuple):
    """One row of the page."""

    section: str
    item: str
    go: str
    ours: str
    verdict: str
    check: str

    @property
    def sent(self) -> str:
        """The item's first text in ``code``, "" if it has none."""
        return next(iter(re.findall(r"`([^`]+)`", self.item)), "")

    @property
    def expected(self) -> list[str]:
        """The texts in ``code`` of what this router does."""
        return re.findall(r"`([^`]+)`", self.ours)


class Answer(NamedTuple):
    """An answer to a client."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def rows(page: Path = PAGE) -> list[Row]:
    """Read the page's tables."""
    found, section = [], ""
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in line[1:-1].split("|")] if line.startswith("| ") else []
        if len(cells) == 5 and cells[0] != "item":
            found.append(Row(section, *cells))
    return found


def ask(
    server: ServerProcess, method: str, path: str, value: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send one request; ``value`` as JSON, or bytes as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    try:
        body = value if value is None or isinstance(value, bytes) else json.dumps(value)
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        told = {name.lower(): text for name, text in response.getheaders()}
        return Answer(response.status, told, response.read())
    finally:
        connection.close()


def post(server: ServerProcess, value: Any = None, path: str = COMPLETIONS, **headers: str) -> Answer:
    """Send a completion's request; without a ``value`` an ordinary one."""
    wanted = {"prompt": "hello, hello", "max_tokens": 2} if value is None else value
    return ask(server, "POST", path, wanted, {name.replace("_", "-"): text for name, text in headers.items()})


class Stage:
    """Routers and mocks, each started when a check first needs it, all ended with the stage."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def mock(self, **options: Any) -> MockProcess:
        """Start a mock instance."""
        return self._stack.enter_context(MockProcess(**{**FAST, **options}))

    def router(self, *, splitwise: bool = False, instances: Any = None, **sections: Mapping[str, Any]) -> RouterProcess:
        """Start a router whose log is a file, with ``ALL_KEYS`` but for what ``sections`` change."""
        names = {*ALL_KEYS, *sections}
        config = {name: {**ALL_KEYS.get(name, {}), **sections.get(name, {})} for name in names}
        config["server"]["splitwise"] = splitwise
        return self._stack.enter_context(RouterProcess(config, instances=instances))

    def fleet(self, *roles: str, **sections: Any) -> tuple[RouterProcess, list[MockProcess]]:
        """Start a router and mocks that register themselves."""
        router = self.router(splitwise=roles[0] != "mixed", **sections)
        mocks = [self.mock(role=role, router=router.key) for role in roles]
        router.wait_for_instances(len(mocks))
        return router, mocks

    def run(self, *arguments: str, files: Mapping[str, str] | None = None, port: int = 0) -> ServerProcess:
        """Start the program in a directory of its own; the one who calls ends it."""
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        for name, text in (files or {}).items():
            (directory / name).write_text(text)
        process = ServerProcess(*arguments, port=port or free_port(), cwd=directory)
        self._stack.callback(process.end)
        return process

    @cached_property
    def mixed(self) -> tuple[RouterProcess, list[MockProcess]]:
        """A centralized router and an instance."""
        return self.fleet("mixed")

    @cached_property
    def pair(self) -> tuple[RouterProcess, list[MockProcess]]:
        """A PD router, a prefill and a decode instance."""
        return self.fleet("prefill", "decode")

    @cached_property
    def registrars(self) -> Mapping[bool, tuple[RouterProcess, MockProcess]]:
        """Routers to register at, by whether they are PD ones, and the instance to register."""
        spare = self.mock()
        return {splitwise: (self.router(splitwise=splitwise), spare) for splitwise in (False, True)}

    @cached_property
    def tour(self) -> str:
        """All log lines of a tour through what may happen."""
        return self._register_files() + self._mixed_tour() + self._pair_tour()

    def _register_files(self) -> str:
        texts = ["instances: []", "odd: yaml: here:", "instances:\n- {role: 1, host_ip: odd, port: 1}\n", None]
        mock = self.mock()
        texts.append(f"instances:\n- {{role: mixed, host_ip: 127.0.0.1, port: {mock.port}}}\n")
        told = ""
        for text in texts:
            port = free_port()
            manager = "manager: {register-path: register.yaml}\n"
            files = {"c.yaml": manager} if text is None else {"c.yaml": manager, "register.yaml": text}
            process = self.run("--port", str(port), "--config_path", "c.yaml", files=files, port=port)
            process.wait_until_up()
            process.stop()
            told += process.output
        return told

    def _mixed_tour(self) -> str:
        router, (mock, dying) = self.fleet("mixed", "mixed", proxy={"max-attempts": 2})
        post(router)
        post(router, b"{broken")
        for each in (mock, dying):
            each.set_faults("cut_mid_body:after_tokens=1")
        for _ in range(2):
            try:
                post(router, {"prompt": "x", "max_tokens": 5, "stream": True})
            except http.client.HTTPException:
                continue
        for each in (mock, dying):
            each.set_faults("reset_before_head")
        post(router)
        mock.set_faults()
        dying.set_faults("unhealthy:secs=1000")
        eventually(lambda: "Removed unhealthy mixed instance" in router.log)
        ask(router, "GET", "/health_generate")
        ask(router, "POST", "/register", {"role": "mixed", "host_ip": "127.0.0.1", "port": free_port()})
        eventually(lambda: "[stats]" in router.log)
        return router.log_so_far()

    def _pair_tour(self) -> str:
        router, (prefill, decode) = self.fleet("prefill", "decode", log={"level": "debug"})
        post(router)
        post(router, {"prompt": "x", "max_tokens": 3, "stream": True})
        decode.set_faults("status:status=500,count=1")
        post(router)
        decode.set_faults()
        prefill.set_faults("status:status=500,count=1")
        post(router)
        eventually(lambda: "Healthy instances: " in router.log)
        return router.log_so_far()
