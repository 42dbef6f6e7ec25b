"""What an EndpointSlice says of the instances behind a Service: for who may not look at Pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fd_router.config.discovery import KubernetesEntry
from fd_router.instances.instance import Readiness
from fd_router.instances.registration_errors import RegistrationError, shown
from fd_router.instances.sources.kubernetes.objects import ContainerPort, Endpoint, EndpointConditions, EndpointSlice
from fd_router.instances.sources.kubernetes.pods import Found, labels_of, ports_among, require_tellable, told_by
from fd_router.instances.sources.template import Template


class SliceReader:
    """Reads EndpointSlices by the options of one entry. What labels tell, a Service's, holds for all its endpoints."""

    kind = "EndpointSlice"

    def __init__(self, option: str, options: KubernetesEntry, template: Template) -> None:
        """Raise ConfigError, which begins with ``option``, for a key that no label can tell."""
        require_tellable(option, options)
        self._options = options
        self._template = template

    def read(self, told: EndpointSlice) -> Sequence[Found]:
        """Return the instances that are its endpoints. Raises RegistrationError where they can't be any."""
        endpoints = [endpoint for endpoint in told.endpoints or () if endpoint.addresses]
        if not endpoints:
            return ()
        if told.address_type.lower() != self._options.family:
            has = shown(told.address_type)
            raise RegistrationError(f"its addresses are {has}, and family is {self._options.family}")
        keys: dict[str, Any] = dict(told_by(told.metadata, self._options))
        known = [
            ContainerPort(port.port, port.name or "", port.protocol or "TCP") for port in told.ports or () if port.port
        ]
        ports = ports_among(known, keys.pop("port", self._options.port))
        return [
            Found(
                self._template.fill(endpoint.addresses[0], port, keys, _labels(told, endpoint)),
                _readiness(endpoint.conditions),
            )
            for endpoint in endpoints
            for port in ports
        ]

    def __repr__(self) -> str:
        return f"<SliceReader {self._options.label_selector}>"


def _labels(told: EndpointSlice, endpoint: Endpoint) -> dict[str, str]:
    target = endpoint.target_ref
    pod = target.name if target is not None and target.kind == "Pod" else ""
    return labels_of(pod, told.metadata.namespace, endpoint.node_name or "")


def _readiness(conditions: EndpointConditions) -> Readiness:
    """Read them as the API's reference says: an endpoint of which it isn't known whether it is ready is."""
    if conditions.terminating:
        return Readiness.TERMINATING
    return Readiness.UNREADY if conditions.ready is False else Readiness.READY
