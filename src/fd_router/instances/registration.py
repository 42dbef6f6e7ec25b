"""The registration: what an instance tells of itself, its rules, and its two JSON forms.

One key more is a reader in ``registration_keys`` and an attribute here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fd_router.config.host_names import authority
from fd_router.engines.dialects import Dialects, UnknownDialectError
from fd_router.errors import UNREADABLE
from fd_router.instances.registration_errors import (
    RegistrationError,
    RegistrationSyntaxError,
    RoleNotServedError,
    kind_of,
)
from fd_router.instances.registration_keys import FOR_PAIRS, READERS, Role, scheme_of

_MAX_NESTING = 64

_TOLD_ONLY = (
    "max_requests",
    "dp_size",
    "dialect",
    "version",
    "connected_decodes",
    "labels",
    "scheme",
    "models",
    "bootstrap_port",
    "kv_events",
    "kv_transfer",
)
"""Keys that are shown only where they were told: FastDeploy's program knows none of them."""


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instance's valid registration. Ports are ints, 0 meaning not told; ids and RDMA ports stay strings."""

    role: Role
    host_ip: str  # normalised literal: no brackets, v6 compressed; or a host name in lower case
    port: int
    scheme: str = ""  # "https", or "": http
    connector_port: int = 0
    engine_worker_queue_ports: tuple[int, ...] = ()  # newer instances have one for each data-parallel rank
    transfer_protocol: tuple[str, ...] = ()
    rdma_ports: tuple[str, ...] = ()
    device_ids: tuple[str, ...] = ()
    metrics_port: int
    tp_size: int = 1
    dp_size: int = 0  # data-parallel ranks behind its address; 0 when not told
    version: str = ""  # of the model; "" when not told
    max_requests: int = 0  # how many it takes at once; 0 when not told
    dialect: str = ""  # the name of its engine's dialect; "" when not told
    is_paused: bool = False
    connected_decodes: tuple[Any, ...] = ()
    labels: dict[str, str] = {}  # for policies
    models: tuple[str, ...] = ()  # those it serves, the base model first; () when not told
    bootstrap_port: int = 0  # SGLang, Mooncake: of a prefill instance, where decode instances meet it
    kv_transfer: dict[str, Any] = {}  # vLLM: by which connector it hands KV caches over, and how that is reached
    kv_events: dict[str, Any] = {}  # where it publishes what its KV cache holds
    extra: dict[str, Any] = {}  # keys this router doesn't know, as they came
    key: str = ""  # ``host_ip:port``, the identity: ``10.0.0.1:8000``, ``[::1]:8000``; it isn't told, and always set

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "key", authority(self.host_ip, self.port))

    @property
    def url(self) -> str:
        """``http://``, or ``https://``, and the key."""
        return f"{self.scheme or 'http'}://{self.key}"

    @property
    def traits(self) -> Registration:
        """What its dialect and policies may judge it by: all but what changes with its work."""
        return msgspec.structs.replace(self, connected_decodes=(), max_requests=0, is_paused=False)

    def as_json(self) -> dict[str, Any]:
        """Give the registration schema back; ``parse_registration`` of it is equal to this one."""
        queue_ports = self.engine_worker_queue_ports
        fields: dict[str, Any] = {
            "role": self.role,
            "host_ip": self.host_ip,
            "port": self.port,
            "connector_port": self.connector_port,
            "engine_worker_queue_port": queue_ports[0] if len(queue_ports) == 1 else list(queue_ports),
            "transfer_protocol": list(self.transfer_protocol),
            "rdma_ports": list(self.rdma_ports),
            "device_ids": list(self.device_ids),
            "metrics_port": self.metrics_port,
            "tp_size": self.tp_size,
            "is_paused": self.is_paused,
        }
        return fields | {key: value for key in _TOLD_ONLY if (value := getattr(self, key))} | self.extra

    def as_registered(self) -> dict[str, Any]:
        """Give the entry that ``GET /registered`` shows: ports and ids as strings, "" when not told."""
        return {
            "url": self.url,
            "worker_type": self.role,
            "connector_port": str(self.connector_port or ""),
            "engine_worker_queue_port": ",".join(map(str, self.engine_worker_queue_ports)),
            "transfer_protocol": list(self.transfer_protocol),
            "rdma_ports": list(self.rdma_ports),
            "device_ids": list(self.device_ids),
            "metrics_port": str(self.metrics_port),
            "tp_size": self.tp_size,
        }


def decode_registration(body: bytes) -> Registration:
    """Read the body of ``POST /register``.

    Raises RegistrationSyntaxError when it isn't a JSON object of the right types, RegistrationError when a rule is
    broken.
    """
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE as error:
        raise RegistrationSyntaxError(str(error)) from None
    if not isinstance(value, dict):
        raise RegistrationSyntaxError(f"expected an object, got {kind_of(value)}")
    return parse_registration(value)


def parse_registration(mapping: Mapping[str, object]) -> Registration:
    """Check one entry in the registration schema, from JSON or YAML.

    Raises RegistrationSyntaxError for a value of the wrong type, RegistrationError for one that breaks a rule.
    """
    values: dict[str, Any] = {}
    for key in READERS:  # the role first, which says what else is looked at
        values[key] = _read(key, mapping, str(values.get("role", "")))
    values["engine_worker_queue_ports"] = values.pop("engine_worker_queue_port")
    values["models"] = tuple(dict.fromkeys((*values.pop("model"), *values["models"])))
    values["scheme"] = values["scheme"] or scheme_of(mapping["host_ip"])
    values["scheme"] = "" if values["scheme"] == "http" else values["scheme"]
    values["metrics_port"] = values["metrics_port"] or values["port"]
    values["tp_size"] = values["tp_size"] or len(values["device_ids"]) or 1
    extra = {str(key): value for key, value in mapping.items() if key not in READERS}
    registration = Registration(**values, extra=extra)
    _refuse_unprintable(registration)
    return registration


def faults_of(mapping: Mapping[str, object]) -> list[str]:
    """Say all that is wrong with an entry that ``parse_registration`` refuses, the first of it first."""
    faults: list[str] = []
    role = ""
    for key in READERS:
        try:
            value = _read(key, mapping, role)
        except RegistrationError as error:
            faults.append(error.message)
        else:
            role = str(value) if key == "role" else role
    return faults


def _read(key: str, mapping: Mapping[str, object], role: str) -> Any:
    """Read the value of ``key``. What only pairs need is as if not told where it is wrong in a mixed instance.

    FastDeploy's program doesn't look at it there.
    """
    read = READERS[key]
    try:
        return read(mapping.get(key))
    except RegistrationError as error:
        if role != "mixed" or key not in FOR_PAIRS or isinstance(error, RegistrationSyntaxError):
            raise
        return read(None)


def require_served(registration: Registration, dialects: Dialects, *, splitwise: bool) -> None:
    """Raise RegistrationError unless the router can send requests to such an instance.

    Its dialect must be one of ``dialects``, its role prefill or decode in splitwise mode, mixed otherwise.
    """
    try:
        dialect = dialects.named(registration.dialect)
    except UnknownDialectError as error:
        raise RegistrationError(f"invalid dialect: {error}") from None
    if splitwise and registration.role == "mixed":
        raise RoleNotServedError("splitwise mode only supports PREFILL/DECODE instances")
    if not splitwise and registration.role != "mixed":
        raise RoleNotServedError("only MIXED instances are allowed")
    if splitwise and not dialect.makes_pairs:
        raise RoleNotServedError(
            f"instances of dialect {dialect.name!r} can't share a request as prefill and decode: start the router "
            "without --splitwise for them"
        )
    if splitwise and (fault := dialect.pair_fault(registration)):
        raise RegistrationError(f"invalid kv_transfer: {fault}")


def _refuse_unprintable(registration: Registration) -> None:
    """Refuse what couldn't be shown again: one such entry would spoil the whole answer of ``/decode_instances``."""
    if _nests_deeper((registration.connected_decodes, registration.extra), _MAX_NESTING):
        raise RegistrationSyntaxError(f"nested deeper than {_MAX_NESTING} levels")
    try:
        msgspec.json.encode(registration.as_json())
    except (TypeError, ValueError, OverflowError) as error:
        raise RegistrationSyntaxError(str(error)) from None


def _nests_deeper(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return False
    return levels == 0 or any(_nests_deeper(item, levels - 1) for item in value)
