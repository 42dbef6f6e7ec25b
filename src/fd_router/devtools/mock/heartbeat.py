"""How an instance makes itself known: ``POST /register`` at start and then every few seconds."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import msgspec

from fd_router.devtools.mock.options import MockOptions
from fd_router.devtools.mock.pd.transfer_rules import engine_id
from fd_router.devtools.router_address import RouterAddress
from fd_router.errors import UpstreamError
from fd_router.http.client import HttpClient
from fd_router.http.client_request import NO_HEADERS

FIRST_RETRY_SECS = 0.5
"""Until the first success, so that instances started before their router need not wait a whole interval."""


def registration(options: MockOptions, port: int) -> dict[str, Any]:
    """Return what an instance serving at ``port`` registers."""
    connector_port = options.connector_port or port
    anyone = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    told: dict[str, Any] = (
        {} if options.dialect == "fastdeploy" else {"dialect": options.dialect}
    )  # FastDeploy's know no such key
    if options.dialect == "sglang" and options.role == "prefill":
        told |= {"bootstrap_port": connector_port}
    if options.dialect == "vllm" and options.role != "mixed":
        told |= _transfer(options, connector_port)
    return told | {
        "role": options.role,
        "host_ip": anyone.get(options.host, options.host),
        "port": port,
        "connector_port": connector_port,
        "engine_worker_queue_port": 0,
        "transfer_protocol": options.transfer_protocol.split(","),
        "rdma_ports": [str(connector_port)] * options.tp_size,
        "device_ids": [str(index) for index in range(options.tp_size)],
        "metrics_port": port,
        "tp_size": options.tp_size,
        "version": options.version,
        "is_paused": options.paused,
        "connected_decodes": [],
    }


def _transfer(options: MockOptions, port: int) -> dict[str, Any]:
    """Return what a vLLM instance of a pair tells of its connector."""
    transfer: dict[str, Any] = {"kv_connector": options.kv_connector}
    if options.role != "prefill" or options.kv_connector == "NixlConnector":
        return {"kv_transfer": transfer}
    if options.kv_connector == "MooncakeConnector":  # its engine is asked for
        return {"kv_transfer": transfer, "bootstrap_port": port}
    return {"kv_transfer": transfer | {"engine_id": engine_id(options, port), "side_channel_port": port}}


class Heartbeat:
    """Registers at ``options.router`` for as long as ``run`` runs. ``log`` gets a line when the outcome changes."""

    def __init__(
        self, options: MockOptions, port: int, is_healthy: Callable[[], bool], log: Callable[[str], None]
    ) -> None:
        router = RouterAddress.parse(options.router)
        self._router = router.origin
        basic = base64.b64encode(f"any:{router.token}".encode()).decode("ascii")
        self._headers = {"authorization": f"Basic {basic}"} if router.token else NO_HEADERS
        self._client = HttpClient(keep=0)
        self._body = msgspec.json.encode(registration(options, port))
        self._interval = options.heartbeat_secs
        self._is_healthy = is_healthy
        self._log = log
        self._outcome = ""
        self._succeeded_once = False

    @property
    def is_registered(self) -> bool:
        """Whether the last attempt succeeded."""
        return self._outcome == "registered"

    async def run(self) -> None:
        """Register again and again; ends only by cancellation."""
        while True:
            if self._is_healthy():
                self._note(await self._register())
            wait = self._interval if self._succeeded_once else min(FIRST_RETRY_SECS, self._interval)
            await asyncio.sleep(wait)

    async def _register(self) -> str:
        try:
            answer = await self._client.fetch(self._router, "POST", "/register", self._body, headers=self._headers)
        except UpstreamError as error:
            return error.detail
        if answer.status != 200:
            return f"{answer.status} {answer.body[:300].decode('utf-8', 'replace')}"
        self._succeeded_once = True
        return "registered"

    def _note(self, outcome: str) -> None:
        if outcome != self._outcome:
            self._outcome = outcome
            prefix = "" if self.is_registered else "failed to register: "
            self._log(f"router {self._router.key}: {prefix}{outcome}")

    def __repr__(self) -> str:
        return f"<Heartbeat to {self._router.key}: {self._outcome or 'not yet'}>"
