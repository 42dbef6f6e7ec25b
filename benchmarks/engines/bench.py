"""What scenarios with real engines stand on: vLLM servers with the tiny model, routers before them, and findings."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "src"), str(ROOT)]

import httpx  # noqa: E402
from processes import FD_ROUTER, Program, free_port, wait_until  # noqa: E402

MODEL = "tiny"
START_SECS = 300.0
"""How long a server may take until it answers: half a minute, or ten times that where the machine is busy."""

ARGUMENTS = (
    *("--served-model-name", MODEL, "--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager"),
    *("--max-model-len", "4096", "--max-num-batched-tokens", "4096", "--max-num-seqs", "16"),
    *("--block-size", "32", "--num-gpu-blocks-override", "256"),
    *("--enable-prompt-tokens-details", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
"""A small server: 8,192 tokens of cache. What comes later among the arguments overrides it.

By bfloat16 a text depends on what else is in the batch, and vLLM dies (SIGILL) of a first step that has one token to
compute where the CPU has AMX.
"""

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_RESPONSES_API_STORE": "1",
}


BLOCK = 32
"""Tokens; as among the arguments."""


def cache_options(blocks: int, live: int = 0, replay: int = 0) -> Sequence[str]:
    """Return a server's arguments for so many blocks of cache, of which it tells by KV events at these ports."""
    places = {"endpoint": live or free_port(), "replay_endpoint": replay or free_port()}
    told = {name: f"tcp://*:{port}" for name, port in places.items()}  # it would connect to a host that is named
    events = {"enable_kv_cache_events": True, "publisher": "zmq", **told}
    blocks_of_cache = ("--num-gpu-blocks-override", str(blocks), "--max-model-len", "2048")
    return *blocks_of_cache, "--kv-events-config", json.dumps(events)


def told_options(tokenizer: Served, **scheduler: Any) -> dict[str, Any]:
    """Return a router's options for exact tokens by ``tokenizer``, in blocks as the servers have them."""
    return {
        "tokenizer-url": f"{tokenizer.url}/tokenize",
        "tokenizer-messages": True,
        "tokenizer-timeout-secs": 20,
        "cache-block-size": BLOCK,
        **scheduler,
    }


class Finding(NamedTuple):
    """One thing that a scenario looked at: what, whether it is as it should be, and what was seen."""

    what: str
    holds: bool
    seen: str = ""


class Served:
    """A vLLM server on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def metric(self, name: str) -> float:
        """Return the sum of the samples called ``name`` on its metrics' page."""
        page = httpx.get(f"{self.url}/metrics", timeout=10).text
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.partition("{")[0] == name)


class Server(Program, Served):
    """A vLLM server that is started here."""

    def __init__(
        self,
        folder: Path,
        output: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        Served.__init__(self, port or free_port())
        added = {**ENVIRONMENT, **(environment or {})}
        command = [str(folder / "venv" / "bin" / "vllm"), "serve", str(folder / "model"), "--port", str(self.port)]
        assignments = [f"{key}={value}" for key, value in added.items()]
        super().__init__(f"vllm-{self.port}", ["env", *assignments, *command, *ARGUMENTS, *arguments], output)

    def is_ready(self) -> bool:
        """Whether it answers. Raises RuntimeError when it has ended."""
        if self.has_ended:
            raise RuntimeError(f"{self.name} ended: {self.output.read_text(errors='replace')[-2000:]}")
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class Router(Program):
    """A router of this tree with ``options`` (the configuration's sections) before ``instances`` (of register.yaml)."""

    def __init__(self, output: Path, instances: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        register = output / f"register-{self.port}.yaml"
        register.write_text(json.dumps({"instances": list(instances)}))  # JSON is YAML
        config: dict[str, Any] = {**options}
        config["server"] = {"host": "127.0.0.1", "port": str(self.port), **config.get("server", {})}
        manager = {"register-path": str(register), "health-check-interval-secs": 1}
        config["manager"] = {**manager, **config.get("manager", {})}
        path = output / f"router-{self.port}.yaml"
        path.write_text(json.dumps(config))
        super().__init__(f"router-{self.port}", [*FD_ROUTER, "--config_path", str(path)], output)

    def has_healthy(self, number: int) -> bool:
        """Whether so many instances are healthy."""
        if self.has_ended:
            raise RuntimeError(f"{self.name} ended: {self.output.read_text(errors='replace')[-2000:]}")
        try:
            told = httpx.get(f"{self.url}/registered_number", timeout=5).json()
        except httpx.TransportError:
            return False
        return sum(told.values()) >= number


class Silence:
    """How long servers said nothing while the block was run: the longest answer to ``/health``, of which one is asked
    for all the time. On a busy machine no server gets a turn for seconds: nobody behind a router can be answered then.
    """

    def __init__(self, servers: Sequence[Served]) -> None:
        self._servers = servers
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server,), daemon=True) for server in servers]
        self.secs = 0.0

    def _ask(self, server: Served) -> None:
        while not self._is_over.wait(0.2):
            begun = time.monotonic()
            with suppress(httpx.HTTPError):
                httpx.get(f"{server.url}/health", timeout=60)
                self.secs = max(self.secs, time.monotonic() - begun)

    def __enter__(self) -> Silence:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)


class Bench:
    """Starts what scenarios ask for; ``folder``: where vLLM and the model are. A context manager: leaving ends all."""

    def __init__(self, folder: Path, output: Path, ports: Sequence[int] = ()) -> None:
        """``ports``: where two plain servers run already; else they are started."""
        self.folder = folder
        self.output = output
        self._open = ExitStack()
        self._servers: Sequence[Served] = [Served(port) for port in ports]

    def start(
        self,
        *arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        environments: Sequence[Mapping[str, str]] = (),
        port: int = 0,
    ) -> list[Server]:
        """Start a server for each of ``arguments`` at once, and wait until all answer.

        ``environments``: one for each of them. ``port``: where it is to be, if it is one.
        """
        places = environments or [environment or {}] * len(arguments)
        servers = [Server(self.folder, self.output, *each, port) for each in zip(arguments, places, strict=True)]
        for server in servers:
            self._open.callback(server.end)
        for server in servers:
            if not wait_until(server.is_ready, START_SECS, every=0.5):
                raise RuntimeError(f"{server.name} doesn't answer after {START_SECS:.0f} s")
        return servers

    @property
    def servers(self) -> Sequence[Served]:
        """Two plain servers, started when they are first wanted."""
        if not self._servers:
            self._servers = self.start((), ())
        return self._servers

    def router(
        self,
        servers: Sequence[Served] | None = None,
        instances: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Router:
        """Start a router before ``servers`` (else the two plain ones), mixed, or ``instances``; wait until it is ready.

        ``options``: sections of the configuration. It ends when the bench does, or by its ``end()``.
        """
        if instances is None:
            instances = [
                {"role": "mixed", "host_ip": "127.0.0.1", "port": each.port, "dialect": "vllm"}
                for each in servers or self.servers
            ]
        router = Router(self.output, instances, options)
        self._open.callback(router.end)
        if not wait_until(lambda: router.has_healthy(len(instances)), 30.0):
            raise RuntimeError(f"the router doesn't find {len(instances)} healthy instances")
        return router

    def client_environment(self) -> dict[str, str]:
        """The environment of clients that are programs of their own: no proxy, nothing asked of the network."""
        return {**os.environ, **ENVIRONMENT, "NO_PROXY": "127.0.0.1", "TRANSFORMERS_OFFLINE": "1"}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
