"""A router and its mock instances, all of them processes, as one context manager."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.mock_process import MockProcess, RouterProcess, call

Result = TypeVar("Result")

SETTLE_SECS = 40.0
"""How long what must come may take, as counts that come back to zero: far more than it needs; machines may be busy."""

CALM = {"manager": {"health-check-interval-secs": 0.2}, "log": {"output": "file"}}
"""What every router of these tests is configured with, unless a test says otherwise."""

QUICK = {"decode_ms_per_token": 1, "prefill_tokens_per_sec": 1_000_000}
"""Options of a mock whose answers take no time worth mentioning."""

BUG = "A bug in the router"

COUNTS = ("fd_router_instance_running_requests", "fd_router_instance_tokens")
"""What is back at zero when nothing is under way."""


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    """Make the body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def eventually(condition: Callable[[], Result], seconds: float = SETTLE_SECS) -> Result:
    """Wait until ``condition`` holds, and return what it gave. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"{condition} never held")
        time.sleep(0.01)
    return result


def sample(text: str, name: str, **labels: str) -> float:
    """Add up the samples called ``name`` in a /metrics page that have these labels, and perhaps others."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))


def transfer(role: str, port: int) -> dict[str, Any]:
    """Return what one of a pair registers of how its cache is handed over."""
    if role == "mixed":
        return {}
    ways = {"transfer_protocol": ["rdma"], "rdma_ports": [str(port)], "device_ids": ["0"]}
    return {"connector_port": port, "tp_size": 1, **ways}


class Fleet:
    """A router that keeps ``instances`` mocks (from register.yaml), and what stands at ``ports`` beside them.

    ``mock`` are the mocks' options, ``roles`` theirs in turn, ``config`` the router's sections over
    ``CALM``. Leaving it checks that every count is back at zero and that the router saw no bug of its own.
    """

    def __init__(
        self,
        instances: int = 2,
        *,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        mock: Mapping[str, Any] = QUICK,
        ports: Sequence[int] = (),
        roles: Sequence[str] = ("mixed",),
    ) -> None:
        sections = {name: {**CALM.get(name, {}), **(config or {}).get(name, {})} for name in {*CALM, *(config or {})}}
        with contextlib.ExitStack() as stack:
            told = [roles[number % len(roles)] for number in range(instances)]
            self.mocks = [self._own(stack, MockProcess(role=role, **mock)) for role in told]
            self.expected = instances + len(ports)
            listed = [*(("mixed", port) for port in ports), *zip(told, (each.port for each in self.mocks), strict=True)]
            entries = [
                {"role": role, "host_ip": "127.0.0.1", "port": port, **transfer(role, port)} for role, port in listed
            ]
            self.router = self._own(stack, RouterProcess(sections, instances=entries))
            self._stack = stack.pop_all()

    @staticmethod
    def _own(stack: contextlib.ExitStack, process: Any) -> Any:
        stack.callback(process.end)
        return process

    def add(self, process: Any) -> Any:
        """Wait until a process that was started for this fleet serves; it ends with the fleet."""
        return self._own(self._stack, process).wait_until_up()

    def __enter__(self) -> Self:
        try:
            for process in (*self.mocks, self.router):
                process.wait_until_up()
            self.router.wait_for_instances(self.expected)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self.check()

    @property
    def port(self) -> int:
        """The router's port."""
        return int(self.router.port)

    @property
    def url(self) -> str:
        """The router's URL."""
        return str(self.router.url)

    def metrics(self) -> str:
        """Return the router's /metrics page."""
        return call(self.port, "GET", "/metrics")[1].decode()

    def metric(self, name: str, **labels: str) -> float:
        """Add up the samples called ``name`` that have these labels."""
        return sample(self.metrics(), name, **labels)

    def is_healthy(self, instance: Any) -> bool:
        """Tell whether the router would choose ``instance``."""
        return self.metric("fd_router_instance_healthy", instance=instance.url) == 1

    def running(self, instance: Any) -> float:
        """Return how many requests the router counts at ``instance``."""
        return self.metric("fd_router_instance_running_requests", instance=instance.url)

    def ask(self, **more: Any) -> tuple[int, Any]:
        """Send a short chat request and return the status and the JSON body."""
        answer: tuple[int, Any] = self.router.call("POST", "/v1/chat/completions", chat(**{"max_tokens": 1, **more}))
        return answer

    def reset(self) -> None:
        """Turn off all faults, forget what the mocks were sent, and wait until all of them may be chosen again.

        What a test before has left running would be counted in the next one: that is waited for, too.
        """
        alive = [each for each in self.mocks if each.process.poll() is None]
        for each in alive:
            each.set_faults()
            each.call("DELETE", "/mock/requests")
        if self.router.process.poll() is None:
            eventually(lambda: self._is_calm(alive))

    def _is_calm(self, mocks: Sequence[Any]) -> bool:
        page = self.metrics()
        healthy = (sample(page, "fd_router_instance_healthy", instance=mock.url) for mock in mocks)
        return all(healthy) and not any(sample(page, name) for name in COUNTS)

    def settle(self) -> None:
        """Wait until no request and no token is counted anywhere. Raises AssertionError with what is left."""
        until = time.monotonic() + SETTLE_SECS
        while time.monotonic() < until:
            page = self.metrics()
            left = {name: sample(page, name) for name in COUNTS}
            if not any(left.values()):
                break
            time.sleep(0.02)
        assert left == dict.fromkeys(COUNTS, 0), "given back too little, or too much"

    def check(self) -> None:
        """Check what must hold after whatever a test did."""
        if self.router.process.poll() is None:
            self.settle()
        written = self.router.output + self.router.log
        assert "Traceback" not in written
        bugs = [line for line in written.splitlines() if BUG in line]
        assert not bugs, bugs  # told by itself: an assertion of a support file isn't rewritten by pytest

    def __repr__(self) -> str:
        return f"<Fleet {self.router!r} with {self.mocks!r}>"
