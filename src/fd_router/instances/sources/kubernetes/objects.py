"""The API server's objects, as far as they matter here: JSON, decoded without what is passed over.

None leads back to itself, so the garbage collector needn't look at the thousands that a list has. What stands in a row
is a tuple: of those it forgets what holds nothing that it has to look at, and of lists never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

ObjectT = TypeVar("ObjectT")


class Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What every object has. ``resource_version`` is that of the list in a list's."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class ContainerPort(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A port that a container says it listens on."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, frozen=True, gc=False):
    """One container of a Pod."""

    ports: tuple[ContainerPort, ...] | None = None


class Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a Pod is to be."""

    containers: tuple[Container, ...] = ()
    node_name: str = ""


class Condition(msgspec.Struct, frozen=True, gc=False):
    """One thing that holds for a Pod, or doesn't: ``status`` is True, False or Unknown."""

    type: str
    status: str


class Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a Pod is."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] | None = None


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A Pod."""

    metadata: Meta
    spec: Spec = Spec()
    status: Status = Status()

    @property
    def is_ready(self) -> bool:
        """Whether its readiness probes say that it may be given work."""
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions or ())

    @property
    def is_terminating(self) -> bool:
        """Whether somebody has deleted it: it has its grace period to end what it does."""
        return self.metadata.deletion_timestamp is not None

    @property
    def is_over(self) -> bool:
        """Whether its containers have ended for good."""
        return self.status.phase in ("Succeeded", "Failed")


class EndpointPort(msgspec.Struct, frozen=True, gc=False):
    """A port of all endpoints of a slice, with the name that the Service gives it."""

    port: int | None = None
    name: str | None = None
    protocol: str | None = None


class EndpointConditions(msgspec.Struct, frozen=True, gc=False):
    """What holds for an endpoint; None: it isn't known, and taken for true where it is about being ready."""

    ready: bool | None = None
    terminating: bool | None = None


class Reference(msgspec.Struct, frozen=True, gc=False):
    """What an endpoint is an address of."""

    kind: str = ""
    name: str = ""


class Endpoint(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An address behind a Service. All of ``addresses`` are the same endpoint's; the first one is used."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None
    target_ref: Reference | None = None


class EndpointSlice(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Some of a Service's endpoints, whose labels the control plane gives it, too (``discovery.k8s.io/v1``)."""

    metadata: Meta
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class Listed(msgspec.Struct, Generic[ObjectT], frozen=True, gc=False):
    """A part of a list."""

    metadata: Meta
    items: tuple[ObjectT, ...] | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """A line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why the API server refuses something (its ``Status``), also in the middle of a watch."""

    code: int = 0
    message: str = ""
    reason: str = ""
