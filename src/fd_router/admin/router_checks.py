"""What the doctor asks a running router, and its instances: are they there, with the same time, can they register?"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from fd_router import __version__
from fd_router.admin.findings import Finding, bad, good, odd
from fd_router.admin.router_client import AdminError, Reply, RouterClient, RouterUnreachableError
from fd_router.admin.views import fleet_line, state_of

MOST_APART_SECS: Final = 5.0
_AT_ONCE: Final = 16
_FULL: Final = 0.8
_FIGURE: Final = re.compile(
    r"^(process_open_fds|process_max_fds|fd_router_state_up)(?:\{[^}]*\})? (\S+)$", re.MULTILINE
)
_VERSION: Final = re.compile(r'^fd_router_build_info\{.*?version="([^"]+)"', re.MULTILINE)


class RouterChecks:
    """The checks of the router that ``client`` asks. ``timeout_secs``: for each instance."""

    def __init__(
        self,
        client: RouterClient,
        *,
        timeout_secs: float = 3.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._timeout = timeout_secs
        self._now = now

    def all(self) -> Iterator[Finding]:
        """Look at everything; when the router isn't there, that is all there is to say."""
        url = self._client.address.url
        try:
            health = self._client.send("GET", "/health")
        except RouterUnreachableError as error:
            yield bad(str(error), "start the router, or name another: fd-router doctor HOST:PORT")
            return
        yield from self._health(url, health)
        yield from self._clock(url, health.headers)
        yield from self._register_path(url)
        yield from self._figures(url)
        yield from self._fleet()

    def _health(self, url: str, reply: Reply) -> Iterator[Finding]:
        if reply.status == 200:
            yield good(f"the router at {url} is up")
        elif reply.status == 503:
            yield odd(f"the router at {url} is stopping", "clients should be sent to another one by now")
        else:
            yield bad(f"{url}/health: status {reply.status}", "is that an fd-router?")

    def _clock(self, url: str, headers: Mapping[str, str]) -> Iterator[Finding]:
        apart = self._apart(headers.get("date", ""))
        if apart is not None and abs(apart) > MOST_APART_SECS:
            direction = "ahead of" if apart > 0 else "behind"
            mend = (
                "let both follow a time server (chrony, systemd-timesyncd): logs can't be compared, certificates fail"
            )
            yield odd(f"the clock of {url} is {abs(apart):.0f} s {direction} this machine's", mend)

    def _apart(self, date: str) -> float | None:
        """Return by how many seconds ``date`` is ahead; None when it can't be read."""
        try:
            return (parsedate_to_datetime(date) - self._now()).total_seconds()
        except (ValueError, TypeError):
            return None

    def _register_path(self, url: str) -> Iterator[Finding]:
        reply = self._client.send("GET", "/register")
        if reply.status == 405:
            yield good(f"instances can register at {url}/register, as far as this machine can tell")
        else:
            mend = "is it the port for the router's own endpoints (access.control-port)? does a proxy hide the path?"
            yield bad(f"{url}/register isn't there (status {reply.status})", mend)

    def _figures(self, url: str) -> Iterator[Finding]:
        reply = self._client.send("GET", "/metrics")
        text = reply.body.decode("utf-8", "replace") if reply.status == 200 else ""
        if (found := _VERSION.search(text)) and found[1] != __version__:
            yield odd(f"{url} runs fd-router {found[1]}, this is {__version__}", "restart it with the newer one")
        figures = {name: float(value) for name, value in _FIGURE.findall(text)}
        if figures.get("fd_router_state_up") == 0.0:
            mend = "state.url: each process goes by what it knows itself until it is back, drains and removals too"
            yield bad(f"{url} doesn't reach the server by which routers know of each other", mend)
        open_files, most = figures.get("process_open_fds", 0.0), figures.get("process_max_fds", 0.0)
        if most and open_files > most * _FULL:
            what = f"{url} has {open_files:,.0f} of {most:,.0f} files open"
            yield bad(what, "raise LimitNOFILE or ulimit -n, and restart it; look for clients that keep connections")

    def _fleet(self) -> Iterator[Finding]:
        try:
            entries = self._client.instances()
        except AdminError as error:
            yield odd(f"its instances can't be asked for: {error}", "give the admin token to see them")
            return
        if not entries:
            mend = "start FastDeploy instances with --router HOST:PORT, or name them in manager.register-path"
            yield odd("no instance is known", mend)
            return
        reason = self._client.why_not_ready() if any(map(_serves, entries)) else "see below"
        what = fleet_line(entries)
        yield bad(f"{what}, but no request can be served", reason) if reason else good(what)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for findings in pool.map(self._instance, entries):
                yield from findings

    def _instance(self, entry: Mapping[str, Any]) -> Sequence[Finding]:
        url, state = str(entry["url"]), state_of(entry)
        begun = time.monotonic()
        reply, why = self._ask(url)
        took = (time.monotonic() - begun) * 1000
        told = f"{url} is {state} for the router"
        if reply is None:
            if _serves(entry):
                mend = "this machine has another way to it than the router: a firewall, another network?"
                return [odd(f"{told}, but not reached from here: {why}", mend)]
            return [bad(f"{told}, and not reached from here: {why}", _mend(entry))]
        findings = list(self._clock(url, reply.headers))
        if reply.status != 200:
            return [*findings, bad(f"{told}; its /health answers {reply.status}", _mend(entry))]
        if _serves(entry):
            return [*findings, good(f"{told}; its /health answers 200 in {took:.0f} ms")]
        return [*findings, odd(f"{told}, though its /health answers 200 here", _mend(entry))]

    def _ask(self, url: str) -> tuple[Reply | None, str]:
        """Ask an instance for its health. What it says isn't trusted, so its certificate needn't be either."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl._create_unverified_context()  # noqa: S323, SLF001
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, b""), ""
        except (OSError, http.client.HTTPException) as error:
            return None, (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        finally:
            connection.close()


def _serves(entry: Mapping[str, Any]) -> bool:
    return state_of(entry) == "healthy"


def _mend(entry: Mapping[str, Any]) -> str:
    if entry.get("draining"):
        return f"fd-router undrain {entry['key']}, when its maintenance is over"
    if entry.get("paused"):
        return "it paused itself; it says so in its registration"
    if entry.get("readiness", "ready") != "ready":
        return f"its source says so ({entry['source']}): kubectl describe pod tells why"
    return "is it up, and is that address the right one? the router's log says what its probes found"
