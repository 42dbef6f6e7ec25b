"""What a Pod says of the instances in it: address and ports, what its labels and annotations tell, and readiness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from fd_router.config.discovery import KubernetesEntry
from fd_router.config.options import did_you_mean, kebab
from fd_router.errors import ConfigError
from fd_router.instances.instance import Readiness
from fd_router.instances.registration import Registration
from fd_router.instances.registration_errors import RegistrationError, shown
from fd_router.instances.registration_keys import MAX_LABEL, READERS
from fd_router.instances.sources.kubernetes.objects import ContainerPort, Meta, Pod
from fd_router.instances.sources.template import Template

PREFIX: Final = "fd-router/"
"""What labels and annotations for the router begin with: ``fd-router/role: prefill``. Annotations win."""

TOLD: Final = READERS.keys() - {"host_ip", "port", "is_paused", "connected_decodes"}
"""Keys of a registration that a Pod can tell so: where it is, it can't say of another place, and it has readiness."""

HTTP: Final = "http"
"""The name of the port that is meant where a container has several and nothing says which."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """An instance in a Pod, and whether it is to be given requests."""

    registration: Registration
    readiness: Readiness


class PodReader:
    """Reads Pods by the options of one entry."""

    kind = "Pod"

    def __init__(self, option: str, options: KubernetesEntry, template: Template) -> None:
        """Raise ConfigError, which begins with ``option``, for a key that no Pod can tell."""
        require_tellable(option, options)
        self._options = options
        self._template = template

    def read(self, pod: Pod) -> Sequence[Found]:
        """Return the instances in ``pod``; none as long as it has no address, and when its containers have ended.

        Raises RegistrationError for what can't be one.
        """
        if pod.is_over or not pod.status.pod_ip:
            return ()
        told = dict(told_by(pod.metadata, self._options))
        known = [port for container in pod.spec.containers for port in container.ports or ()]
        ports = ports_among(known, told.pop("port", self._options.port))
        own = labels_of(pod.metadata.name, pod.metadata.namespace, pod.spec.node_name)
        readiness = _readiness(pod)
        return [Found(self._template.fill(pod.status.pod_ip, port, told, own), readiness) for port in ports]

    def __repr__(self) -> str:
        return f"<PodReader {self._options.label_selector}>"


def require_tellable(option: str, options: KubernetesEntry) -> None:
    """Raise ConfigError, which begins with ``option``, for a key that no label can tell."""
    for key in options.from_labels:
        if _attribute(key) not in TOLD:
            near = did_you_mean(key, map(kebab, TOLD))
            raise ConfigError(f"{option}.from-labels.{key}: a Pod can't tell that{near}")


def labels_of(pod: str, namespace: str, node: str) -> dict[str, str]:
    """Return the labels that tell policies and operators where an instance runs, of what is known of that."""
    labels = {"pod": pod, "namespace": namespace, "node": node}
    return {name: text[:MAX_LABEL] for name, text in labels.items() if text}


def told_by(metadata: Meta, options: KubernetesEntry) -> Iterator[tuple[str, Any]]:
    """Give the keys of the registration that labels and annotations tell; what comes later wins.

    Raises RegistrationError.
    """
    labels, annotations = metadata.labels or {}, metadata.annotations or {}
    for key, name in options.from_labels.items():
        text = labels.get(name, annotations.get(name))
        if text is not None:
            yield _attribute(key), _value(name, text)
    for name, text in (*labels.items(), *annotations.items()):
        if name.startswith(PREFIX):
            yield _key(name), text if name == f"{PREFIX}port" else _value(name, text)


def ports_among(known: Sequence[ContainerPort], wanted: str | int | None) -> Sequence[int]:
    """Return the ports that are ``wanted`` (several: an instance each) by number or name, else the only one of these.

    Raises RegistrationError.
    """
    if wanted is None:
        return (_only(known),)
    return tuple(dict.fromkeys(_port(word.strip(), known) for word in str(wanted).split(",")))


def _readiness(pod: Pod) -> Readiness:
    if pod.is_terminating:
        return Readiness.TERMINATING
    return Readiness.READY if pod.is_ready else Readiness.UNREADY


def _attribute(key: str) -> str:
    return key.replace("-", "_")


def _key(name: str) -> str:
    """Return the key of the registration that a label or annotation of the router's tells."""
    key = _attribute(name.removeprefix(PREFIX))
    if key == "port" or key in TOLD:
        return key
    near = did_you_mean(kebab(key), map(kebab, TOLD))
    raise RegistrationError(f"{shown(name)}: a Pod can't tell that{near}")


def _value(name: str, text: str) -> object:
    """Read lists and objects, which stand there as JSON."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise RegistrationError(f"{shown(name)}: not JSON: {error}") from None


def _only(known: Sequence[ContainerPort]) -> int:
    tcp = [port for port in known if port.protocol == "TCP"]
    named = [port for port in tcp if port.name == HTTP] or tcp
    if len(named) == 1:
        return named[0].container_port
    raise RegistrationError(f"which port: it has {len(tcp)}, and neither the options nor {PREFIX}port say")


def _port(word: str, known: Sequence[ContainerPort]) -> int:
    if word.isascii() and word.isdigit() and len(word) <= 5 and 1 <= int(word) <= 65535:
        return int(word)
    for port in known:
        if port.name == word:
            return port.container_port
    names: Mapping[str, int] = {port.name: port.container_port for port in known if port.name}
    has = f"has {', '.join(names)}" if names else "names none"
    raise RegistrationError(f"it has no port {shown(word)!r}: it {has}")
