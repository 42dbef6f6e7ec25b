"""The part of the composition root that builds what lets requests in: API keys and their watch, tokens, networks."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from fd_router.admission.api_key_gate import ApiKeyGate
from fd_router.admission.api_key_store import ApiKeyStore
from fd_router.admission.networks import read_networks
from fd_router.admission.priorities import Priorities
from fd_router.admission.tokens import read_tokens
from fd_router.api.access import Guard, Rules
from fd_router.config.live import LiveConfig
from fd_router.config.loading import Config
from fd_router.errors import ConfigError, FdRouterError
from fd_router.http.deadlines import DeadlineSweeper
from fd_router.http.listener import Listener, open_sockets
from fd_router.http.server_connection import ServerConnection
from fd_router.http.server_context import ServerContext
from fd_router.http.tls_greeting import TlsGreeter
from fd_router.routing.request_queue import QueueObserver, RequestQueue
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.telemetry.metrics.admission import AdmissionMetrics
from fd_router.telemetry.telemetry import Telemetry


class AdmissionParts:
    """Gate and guard. Raises ConfigError when a file of keys or tokens can't be used: who could be let in then?"""

    def __init__(self, live: LiveConfig, telemetry: Telemetry, sweeper: DeadlineSweeper) -> None:
        config = live.current
        self._access = access = config.access
        self._log = telemetry.log
        self._metrics = AdmissionMetrics()
        self._priorities = Priorities.parse(config.admission.priorities)
        self.networks = read_networks(access)
        admin, register = read_tokens(access)
        rules = Rules(admin, register, self.networks, access.protect_metrics)
        self.guard = Guard(rules, telemetry.log)
        self._takes_any_instance = register is None and self.networks is None
        self._is_open = self._takes_any_instance and not (access.keys_path or admin)
        self._ring = ApiKeyStore(Path(access.keys_path), self._priorities, time.monotonic) if access.keys_path else None
        self.gate: ApiKeyGate | None = None
        if self._ring is not None:
            self._ring.reload()
            self.gate = ApiKeyGate(self._ring, time.monotonic, self._metrics.refused)
            self._metrics.holders = self._ring.all
        call_soon = asyncio.get_running_loop().call_soon
        observer = QueueObserver(self._metrics.waited, self._metrics.refused, telemetry.log.warn)
        self.queue = RequestQueue(live, self._priorities, sweeper, time.monotonic, call_soon, observer)
        self._metrics.lengths = self.queue.lengths
        telemetry.metrics.show(self._metrics)

    @property
    def keep_authorization(self) -> bool:
        """Whether instances get the clients' Authorization headers."""
        choice = self._access.forward_authorization
        return choice == "always" or (choice == "auto" and self._ring is None)

    def warn_if_open(self, listener: Listener, control: Listener | None) -> None:
        """Say so, loudly, when whoever reaches this machine may do everything, or bring instances of his own.

        By the addresses that are listened on: a socket that was handed over needn't be the configured one.
        """
        hosts = [host for host in (control or listener).hosts if not ipaddress.ip_address(host).is_loopback]
        if not hosts or not self._takes_any_instance:
            return
        if self._is_open and control is None:
            what = (
                "DO EVERYTHING: send requests (no access.keys-path), register instances, to which prompts are sent then"
            )
            remedy = "administrate (no access.admin-token). See docs/security.md, or listen on 127.0.0.1 (server.host)"
        else:
            what = "REGISTER INSTANCES, to which prompts are sent then"
            remedy = "whatever else is protected. See docs/security.md"
        none = "(no access.register-token, no access.register-networks)"
        self._log.warn(f"ANYBODY WHO REACHES {hosts[0]} MAY {what} {none}, {remedy}")

    def prepare_tokens(self, config: Config) -> Callable[[], None]:
        """Read the files of tokens anew; what is returned puts them in force. Raises ConfigError."""
        admin, register = read_tokens(config.access)
        return lambda: self.guard.use(admin, register)

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run as long as the router does."""
        return [self._watch(self._ring)] if self._ring is not None and self._access.keys_check_interval_secs else []

    def reload(self) -> tuple[str, ...]:
        """Read the file of keys again. Returns a line for each problem; if there is any, nothing has changed."""
        if self._ring is None:
            return ()
        try:
            count = self._ring.reload()
        except ConfigError as error:
            for problem in error.problems:
                self._log.error(f"API keys not reloaded, those in force stay: {problem}")
            return error.problems
        self._log.info(f"API keys loaded: {count} from {self._ring.path}")
        return ()

    async def _watch(self, ring: ApiKeyStore) -> None:
        while True:
            await asyncio.sleep(self._access.keys_check_interval_secs)
            if ring.has_changed():
                self.reload()


async def open_control(config: Config, context: ServerContext, tls: ssl.SSLContext | None, log: RouterLog) -> Listener:
    """Listen on the control port, for the endpoints that aren't for everybody.

    The control port answers until the router has stopped, so that a drain can be watched there. Raises FdRouterError.
    """
    access = config.access
    log.info(f"Control endpoints at {access.control_host}:{access.control_port}")
    try:
        sockets = open_sockets(access.control_host, access.control_port, reuse_port=config.server.reuse_port)
        # During a restart, what instances and admins say is for the new router: the old one will forget it.
        listener = Listener(
            sockets,
            lambda: ServerConnection(context),
            greeter=TlsGreeter(context, tls) if tls is not None else None,
            takes_over=config.server.reuse_port,
            keepalive_secs=config.proxy.client_keepalive_secs,
        )
        await listener.start()
    except (FdRouterError, OSError) as error:
        why = str(error).replace(" with --port", "")  # which is the other one's
        raise FdRouterError(f"access.control-port: {why}") from None
    return listener
