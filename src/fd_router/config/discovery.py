"""The options of discoveries: what names instances for others to see to, and is followed as it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from fd_router.config.options import Option

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[float, msgspec.Meta(ge=0.01)]


class DnsName(msgspec.Struct, frozen=True, kw_only=True):
    """How a name is looked up, and what its instances are: an entry of ``discovery.dns``."""

    port: Port | None = None  # SRV records have ports of their own
    family: Literal["auto", "ipv4", "ipv6", "both"] = "auto"  # auto: IPv6 only where there is no IPv4
    registration: Mapping[str, Any] = {}  # what holds for all: any keys of a registration
    nameservers: tuple[str, ...] = ()  # none: those of /etc/resolv.conf
    min_secs: Seconds = 1.0  # between look-ups, however short an answer holds
    max_secs: Seconds = 60.0  # however long it does
    timeout_secs: Seconds = 5.0


class KubernetesEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Which Pods, or endpoints of a Service, are instances, and what they are: an entry of ``discovery.kubernetes``."""

    label_selector: Annotated[str, msgspec.Meta(min_length=1)]
    resource: Literal["pods", "endpointslices"] = "pods"
    family: Literal["ipv4", "ipv6"] = "ipv4"  # of EndpointSlices: each has addresses of one
    field_selector: str = ""
    namespace: str = ""  # "": the router's own, or that of the kubeconfig's context; "*": all
    port: Port | str | None = None  # a number, or the name of a container's port, or of the Service's
    registration: Mapping[str, Any] = {}  # what holds for all: any keys of a registration
    from_labels: Mapping[str, str] = {}  # key of a registration → the label or annotation that has it
    kubeconfig: str = ""  # none: in a cluster the service account's, else that of kubectl
    context: str = ""


class DiscoveryConfig(msgspec.Struct, frozen=True):
    """What names instances beside themselves, and is followed as it changes: see [discovery.md](discovery.md)."""

    file: Annotated[
        str,
        Option(
            help="A file with instances, in the form of `register.yaml` (or as JSON), that is followed as it changes: "
            "what it no longer names gets nothing new. One that can't be read, or has a mistake, changes nothing."
        ),
    ] = ""
    file_check_secs: Annotated[
        float,
        Option(help="How often the file is looked at, for whether it has changed.", unit="s", minimum=0.01),
    ] = 1.0
    dns: Annotated[
        dict[str, Any],
        Option(
            help="Names whose addresses are instances, looked up again whenever the answer's time (TTL) is over: each "
            "with a mapping of `port`, `family`, `registration`, `nameservers`, `min-secs`, `max-secs`, "
            "`timeout-secs`. A name that begins with `_` has SRV records, with ports of their own. Needs one more "
            "package: pip install 'dnspython>=2.6'."
        ),
    ] = msgspec.field(default_factory=dict)
    kubernetes: Annotated[
        dict[str, Any],
        Option(
            help="Pods, or endpoints of Services, that are instances, as a cluster's API server tells of them: names "
            "of your choice, each with a mapping of `label-selector`, `field-selector`, `resource`, `family`, "
            "`namespace`, `port`, `registration`, `from-labels`, `kubeconfig`, `context`. Needs one more "
            "package: pip install 'kubernetes_asyncio>=31'."
        ),
    ] = msgspec.field(default_factory=dict)
