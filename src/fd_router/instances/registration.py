"""What an instance tells of itself: the registration schema, its rules, and its two JSON forms."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec

from fd_router.engines.dialects import Dialects, UnknownDialectError
from fd_router.errors import FdRouterError

Role = Literal["mixed", "prefill", "decode"]
ROLES: tuple[Role, ...] = get_args(Role)
"""In the order of the integers 0, 1, 2 that mean the same."""

PROTOCOLS = ("ipc", "rdma")

T = TypeVar("T")

_MAX_NESTING = 64
_MAX_SHOWN = 100
_MAX_LABELS = 32
_MAX_LABEL = 100  # characters of a name, and of a text


class RegistrationError(FdRouterError, ValueError):
    """A registration that can't be accepted. ``reason`` is the bare fault, ``message`` the text of the 400 answer."""

    prefix = "invalid InstanceInfo format: "

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def message(self) -> str:
        """The fault as the HTTP answer and the log tell it."""
        return self.prefix + self.reason


class RegistrationSyntaxError(RegistrationError):
    """Not JSON, not an object, or a value of the wrong type."""

    prefix = "Invalid InstanceInfo JSON format: "


class RoleNotServedError(RegistrationError):
    """A valid registration whose role doesn't fit the router's mode."""

    prefix = ""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """One instance's valid registration. Ports are ints, 0 meaning not told; ids and RDMA ports stay strings."""

    role: Role
    host_ip: str  # normalised literal: no brackets, v6 compressed
    port: int
    connector_port: int = 0
    engine_worker_queue_ports: tuple[int, ...] = ()  # newer instances have one for each data-parallel rank
    transfer_protocol: tuple[str, ...] = ()
    rdma_ports: tuple[str, ...] = ()
    device_ids: tuple[str, ...] = ()
    metrics_port: int
    tp_size: int = 1
    version: str = ""  # of the model; "" when not told
    max_requests: int = 0  # how many it takes at once; 0 when not told
    dialect: str = ""  # the name of its engine's dialect; "" when not told
    is_paused: bool = False
    connected_decodes: tuple[Any, ...] = ()
    labels: dict[str, str] = {}  # for policies
    extra: dict[str, Any] = {}  # keys this router doesn't know, as they came

    @property
    def key(self) -> str:
        """``host_ip:port``, the identity: ``10.0.0.1:8000``, ``[::1]:8000``."""
        return f"[{self.host_ip}]:{self.port}" if ":" in self.host_ip else f"{self.host_ip}:{self.port}"

    @property
    def url(self) -> str:
        """``http://`` and the key."""
        return "http://" + self.key

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
        if self.max_requests:
            fields["max_requests"] = self.max_requests
        if self.dialect:
            fields["dialect"] = self.dialect
        if self.version:
            fields["version"] = self.version
        if self.connected_decodes:
            fields["connected_decodes"] = list(self.connected_decodes)
        if self.labels:
            fields["labels"] = self.labels
        return fields | self.extra

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


_KNOWN = frozenset(Registration.__struct_fields__) - {"engine_worker_queue_ports", "extra"} | {
    "engine_worker_queue_port"
}


def decode_registration(body: bytes) -> Registration:
    """Read the body of ``POST /register``.

    Raises RegistrationSyntaxError when it isn't a JSON object of the right types, RegistrationError when a rule is
    broken.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistrationSyntaxError(str(error)) from None
    if not isinstance(value, dict):
        raise RegistrationSyntaxError(f"expected an object, got {_kind(value)}")
    return parse_registration(value)


def parse_registration(mapping: Mapping[str, object]) -> Registration:
    """Check one entry in the registration schema, from JSON or YAML.

    Raises RegistrationSyntaxError for a value of the wrong type, RegistrationError for one that breaks a rule.
    """
    role = _role(mapping.get("role"))
    host_ip = _host_ip(mapping.get("host_ip"))
    port = _serving_port(mapping.get("port"))
    device_ids = _strings("device_ids", mapping.get("device_ids"))
    registration = Registration(
        role=role,
        host_ip=host_ip,
        port=port,
        connector_port=_for_pairs(role, 0, _connector_port, mapping),
        engine_worker_queue_ports=_for_pairs(role, (), _queue_ports, mapping),
        transfer_protocol=_protocols(mapping.get("transfer_protocol")),
        rdma_ports=_for_pairs(role, (), _rdma_ports, mapping),
        metrics_port=_optional_port("metrics_port", mapping.get("metrics_port")) or port,
        device_ids=device_ids,
        tp_size=_tp_size(mapping.get("tp_size")) or len(device_ids) or 1,
        version=_version(mapping.get("version")),
        max_requests=_max_requests(mapping.get("max_requests")),
        dialect=_dialect(mapping.get("dialect")),
        is_paused=_flag("is_paused", mapping.get("is_paused")),
        connected_decodes=_sequence("connected_decodes", mapping.get("connected_decodes")),
        labels=_labels(mapping.get("labels")),
        extra={str(key): value for key, value in mapping.items() if key not in _KNOWN},
    )
    _refuse_unprintable(registration)
    return registration


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


def _role(value: object) -> Role:
    if value is None or value == "":
        raise RegistrationError("role is required")
    if isinstance(value, str):
        for role in ROLES:
            if role == value.lower():
                return role
    elif isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type("role", "a string or an integer", value)
    elif 0 <= value < len(ROLES):
        return ROLES[value]
    raise RegistrationError(f"invalid role: {_shown(value)}")


def _host_ip(value: object) -> str:
    if value is None or value == "":
        raise RegistrationError("host_ip is required")
    if not isinstance(value, str):
        raise _wrong_type("host_ip", "a string", value)
    host = value.removeprefix("https://").removeprefix("http://")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise RegistrationError(f"invalid host_ip: {_shown(value)}") from None
    if getattr(address, "scope_id", None):  # a zone means nothing on another host, and has no place in a Host header
        raise RegistrationError(f"invalid host_ip: {_shown(value)}")
    # ::ffff:10.0.0.1 is 10.0.0.1: one instance mustn't be two, with two limits and a ban that holds for one of them.
    return str(getattr(address, "ipv4_mapped", None) or address)


def _serving_port(value: object) -> int:
    if value is None or value == "":
        raise RegistrationError("port is required")
    return _port("port", value, "invalid port")


def _optional_port(name: str, value: object) -> int:
    if value is None or value in ("", "0") or (type(value) is int and value == 0):
        return 0
    return _port(name, value, f"invalid {name}")


def _port(name: str, value: object, complaint: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _wrong_type(name, "an integer or a string", value)
    if isinstance(value, int):
        port = value
    else:
        port = int(value) if len(value) <= 5 and value.isascii() and value.isdigit() else 0
    if not 1 <= port <= 65535:
        raise RegistrationError(f"{complaint}: {_shown(value)}")
    return port


def _for_pairs(role: Role, absent: T, read: Callable[[Mapping[str, object]], T], mapping: Mapping[str, object]) -> T:
    """Read what only pairs need: of a mixed instance it isn't looked at, so nothing is wrong with it (FastDeploy)."""
    try:
        return read(mapping)
    except RegistrationError as error:
        if role == "mixed" and not isinstance(error, RegistrationSyntaxError):
            return absent
        raise


def _connector_port(mapping: Mapping[str, object]) -> int:
    return _optional_port("connector_port", mapping.get("connector_port"))


def _queue_ports(mapping: Mapping[str, object]) -> tuple[int, ...]:
    value = mapping.get("engine_worker_queue_port")
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    values = value if isinstance(value, list | tuple) else [value]
    ports = [_optional_port("engine_worker_queue_port", item) for item in values]
    return tuple(port for port in ports if port)


def _protocols(value: object) -> tuple[str, ...]:
    protocols = _strings("transfer_protocol", value)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise RegistrationError(f"invalid protocol: {_shown(protocol)}")
    return protocols


def _rdma_ports(mapping: Mapping[str, object]) -> tuple[str, ...]:
    ports = _strings("rdma_ports", mapping.get("rdma_ports"))
    for i, port in enumerate(ports):
        _port("rdma_ports", port, f"rdma_ports[{i}] invalid port")
    return ports


def _strings(name: str, value: object) -> tuple[str, ...]:
    """Read a list of strings or ints, or a comma-separated string of them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    strings = []
    for item in _sequence(name, value):
        is_whole = isinstance(item, float) and item.is_integer()  # 3.0 is "3", as FastDeploy's unit test has it
        if isinstance(item, bool) or not (is_whole or isinstance(item, int | str)):
            raise _wrong_type(f"each of {name}", "an integer or a string", item)
        strings.append(item if isinstance(item, str) else _shown(int(item)))
    return tuple(strings)


def _sequence(name: str, value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise _wrong_type(name, "a list", value)
    return tuple(value)


def _tp_size(value: object) -> int:
    if value is None or value == "":
        return 0
    if isinstance(value, str) and len(value) <= 5 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise _wrong_type("tp_size", "a small integer", value)
    return value


def _max_requests(value: object) -> int:
    if value is None or value == "":
        return 0
    if isinstance(value, str) and len(value) <= 7 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type("max_requests", "an integer", value)
    if not 0 <= value <= 1_000_000:
        raise RegistrationError(f"invalid max_requests: {_shown(value)}")
    return value


def _dialect(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong_type("dialect", "a string", value)
    return value


def _version(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong_type("version", "a string", value)
    return value if isinstance(value, str) else _shown(value)


def _labels(value: object) -> dict[str, str]:
    """Read a mapping of short texts. YAML makes numbers of some texts, so those are taken too."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong_type("labels", "an object", value)
    if len(value) > _MAX_LABELS:
        raise RegistrationError(f"labels: {len(value)} are too many, {_MAX_LABELS} are taken at most")
    labels = {_shown(name): _label(_shown(name), text) for name, text in value.items()}
    for name, text in labels.items():
        if not 0 < len(name) <= _MAX_LABEL or len(text) > _MAX_LABEL:
            sizes = f"1 to {_MAX_LABEL} and at most {_MAX_LABEL} characters"
            raise RegistrationError(f"labels.{name}: a name and its text have {sizes}")
    return labels


def _label(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise _wrong_type(f"labels.{name}", "a text", value)
    return value if isinstance(value, str) else _shown(value)


def _flag(name: str, value: object) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool | int):
        raise _wrong_type(name, "a boolean", value)
    return bool(value)


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


def _wrong_type(name: str, expected: str, value: object) -> RegistrationSyntaxError:
    return RegistrationSyntaxError(f"{name}: expected {expected}, got {_kind(value)}")


def _kind(value: object) -> str:
    """Name the JSON type of ``value``."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {_shown(value)}"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    return "null" if value is None else "an object"


def _shown(value: object) -> str:
    """Print ``value`` for a message: on one line (it goes to the log) and bounded."""
    try:
        text = str(value)
    except ValueError:  # CPython refuses to print an int of more than 4300 digits
        return "a huge number"
    if len(text) > _MAX_SHOWN:
        text = text[:_MAX_SHOWN] + "…"
    return "".join(char if char.isprintable() else "?" for char in text)
