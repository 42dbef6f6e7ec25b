"""Detects which dialect an instance speaks that tells none: by its metrics' names, or what only its engine answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fd_router.config.live import LiveConfig
from fd_router.engines.dialect import Dialect
from fd_router.errors import UpstreamError, place_of
from fd_router.instances.asking import AsksWhenUp
from fd_router.instances.instance import Instance
from fd_router.instances.registry import Registry
from fd_router.instances.source import REGISTER_API, REGISTER_YAML, STATE_FILE
from fd_router.telemetry.contracts import Log

METRICS = "/metrics"

IN_FASTDEPLOYS_WAY = (REGISTER_API, REGISTER_YAML, STATE_FILE)
"""Sources of FastDeploy's own: who is named there and tells no dialect is FastDeploy, which needn't be asked."""

Get = Callable[[Instance, str], Awaitable[tuple[int, bytes]]]
"""(instance, path) → status and body; ``METRICS`` is asked for where its metrics are. Raises UpstreamError."""


class DialectDetector(AsksWhenUp):
    """Asks each instance that comes up without a dialect of its own, once: another engine may have been started there.

    What answers nothing that is known keeps the dialect it has.
    """

    def __init__(self, registry: Registry, get: Get, live: LiveConfig, *, log: Log, max_concurrent: int = 32) -> None:
        self._registry = registry
        self._get = get
        self._live = live
        self._log = log
        super().__init__(registry, most=max_concurrent)

    def is_to_be_asked(self, instance: Instance) -> bool:
        """See ``AsksWhenUp``."""
        return not instance.registration.dialect and self._may_ask(instance)

    def _may_ask(self, instance: Instance) -> bool:
        when = self._live.current.instances.detect_dialects
        is_told = instance.source in IN_FASTDEPLOYS_WAY and not is_odd_half(instance)
        return when == "always" or (when == "auto" and not is_told)

    async def work(self, instance: Instance) -> None:
        """See ``AsksWhenUp``."""
        try:
            found = await self._find(instance)
        except UpstreamError:  # it is asked when it comes up again
            return
        if found is not None and found is not instance.dialect:
            self._log.info(f"{instance.url} speaks the dialect {found.name}")
            self._registry.set_detected(instance, found.name)

    async def _find(self, instance: Instance) -> Dialect | None:
        dialects = self._registry.dialects.all()
        status, page = await self._get(instance, METRICS)
        if status == 200 and (found := by_metrics(dialects, page)) is not None:
            return found
        for dialect in dialects:
            if dialect.detect_path:
                status, answer = await self._get(instance, dialect.detect_path)
                if status == 200 and self._recognizes(dialect, answer):
                    return dialect
        return None

    def _recognizes(self, dialect: Dialect, answer: bytes) -> bool:
        try:
            return dialect.recognizes(answer)
        except Exception as error:  # noqa: BLE001  a third party's
            self._log.warn(f"The dialect {dialect.name} failed in recognizes: {place_of(error)}")
            return False


def is_odd_half(instance: Instance) -> bool:
    """Tell whether it registered as half of a pair, but not where its KV cache comes and goes, as FastDeploy's do.

    Engines that know nothing of ``disaggregate_info`` would do the whole work, both of them.
    """
    registration = instance.registration
    return registration.role != "mixed" and not (registration.connector_port or registration.rdma_ports)


def by_metrics(dialects: Sequence[Dialect], page: bytes) -> Dialect | None:
    """Return the dialect whose metrics are on ``page``, None for none."""
    return next((one for one in dialects if one.metrics_prefix and b"\n" + one.metrics_prefix in b"\n" + page), None)
