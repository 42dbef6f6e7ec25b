"""The keys of a registration, and how the value of each is read: one reader a key, None meaning not told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, get_args

from fd_router.config.host_names import is_name, plain_address
from fd_router.config.models import MODEL_FORM, is_model_name
from fd_router.engines.cache_facts import MAX_RANKS
from fd_router.instances.registration_errors import RegistrationError, shown, wrong_type

Role = Literal["mixed", "prefill", "decode"]
ROLES: tuple[Role, ...] = get_args(Role)
"""In the order of the integers 0, 1, 2 that mean the same."""

PROTOCOLS = ("ipc", "rdma")
SCHEMES = ("http", "https")

OWN_MACHINE = {4: "127.0.0.1", 6: "::1"}
"""What 0.0.0.0 and :: are taken for, by the version of IP: one instance mustn't be two, with two limits."""

_ZMQ_ENDPOINT = re.compile(r"tcp://[0-9A-Za-z_.:*\[\]-]{1,253}:[0-9]{1,5}")

_MAX_REQUESTS = 1_000_000
_MAX_LABELS = 32
MAX_LABEL = 100  # characters of a label's name, and of its text
_MAX_TEXT = 253
_MAX_MODELS = 1000  # of an instance, adapters included

Reader = Callable[[object], Any]
"""Reads a value. Raises RegistrationSyntaxError for one of the wrong type, RegistrationError for a broken rule."""


def _role(value: object) -> Role:
    if value is None or value == "":
        raise RegistrationError("role is required")
    if isinstance(value, str):
        for role in ROLES:
            if role == value.lower():
                return role
    elif isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type("role", "a string or an integer", value)
    elif 0 <= value < len(ROLES):
        return ROLES[value]
    raise RegistrationError(f"invalid role: {shown(value)}")


def _host_ip(value: object) -> str:
    if value is None or value == "":
        raise RegistrationError("host_ip is required")
    if not isinstance(value, str):
        raise wrong_type("host_ip", "a string", value)
    host = value.removeprefix("https://").removeprefix("http://")
    if is_name(name := host.lower().removesuffix(".")):
        return name
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = plain_address(host)  # one instance mustn't be two, with two limits and a ban that holds for one
    except ValueError:
        raise RegistrationError(f"invalid host_ip: {shown(value)}") from None
    if "%" in host:  # a zone means nothing on another host, and has no place in a Host header
        raise RegistrationError(f"invalid host_ip: {shown(value)}")
    if address.is_unspecified:  # FastDeploy's Go program dials its own machine then: so would a connection to it
        return OWN_MACHINE[address.version]
    return str(address)


def scheme_of(host_ip: object) -> str:
    """Return the scheme that stands before an address, "" for none."""
    scheme, found, _ = host_ip.partition("://") if isinstance(host_ip, str) else ("", "", "")
    return scheme if found else ""


def _scheme(value: object) -> str:
    if value is None or value == "":
        return ""
    if value not in SCHEMES:
        raise RegistrationError(f"invalid scheme: {shown(value)}: it may be {' or '.join(SCHEMES)}")
    return str(value)


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
        raise wrong_type(name, "an integer or a string", value)
    if isinstance(value, int):
        port = value
    else:
        port = int(value) if len(value) <= 5 and value.isascii() and value.isdigit() else 0
    if not 1 <= port <= 65535:
        raise RegistrationError(f"{complaint}: {shown(value)}")
    return port


def _queue_ports(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    values = value if isinstance(value, list | tuple) else [value]
    ports = [_optional_port("engine_worker_queue_port", item) for item in values]
    return tuple(port for port in ports if port)


def _protocols(value: object) -> tuple[str, ...]:
    protocols = _strings("transfer_protocol", value)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise RegistrationError(f"invalid protocol: {shown(protocol)}")
    return protocols


def _rdma_ports(value: object) -> tuple[str, ...]:
    ports = _strings("rdma_ports", value)
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
            raise wrong_type(f"each of {name}", "an integer or a string", item)
        strings.append(item if isinstance(item, str) else shown(int(item)))
    return tuple(strings)


def _sequence(name: str, value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise wrong_type(name, "a list", value)
    return tuple(value)


def _small_size(name: str, value: object) -> int:
    if value is None or value == "":
        return 0
    if isinstance(value, str) and len(value) <= 5 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise wrong_type(name, "a small integer", value)
    return value


def _text(name: str, value: object) -> str:
    """Read a short printable text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong_type(name, "a text", value)
    if len(value) > _MAX_TEXT or not value.isprintable() or not value.isascii():
        raise RegistrationError(f"invalid {name}: {shown(value)}: at most {_MAX_TEXT} printable ASCII characters")
    return value


def _count(name: str, most: int, value: object) -> int:
    """Read a whole number from 0, not told, to ``most``."""
    if value is None or value == "":
        return 0
    if isinstance(value, str) and len(value) <= len(str(most)) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "an integer", value)
    if not 0 <= value <= most:
        raise RegistrationError(f"invalid {name}: {shown(value)}")
    return value


def _dialect(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong_type("dialect", "a string", value)
    return value


def _version(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_type("version", "a string", value)
    return value if isinstance(value, str) else shown(value)


def _labels(value: object) -> dict[str, str]:
    """Read a mapping of short texts. YAML makes numbers of some texts, so those are taken too."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong_type("labels", "an object", value)
    if len(value) > _MAX_LABELS:
        raise RegistrationError(f"labels: {len(value)} are too many, {_MAX_LABELS} are taken at most")
    labels = {shown(name): _label(shown(name), text) for name, text in value.items()}
    for name, text in labels.items():
        if not 0 < len(name) <= MAX_LABEL or len(text) > MAX_LABEL:
            sizes = f"1 to {MAX_LABEL} and at most {MAX_LABEL} characters"
            raise RegistrationError(f"labels.{name}: a name and its text have {sizes}")
    return labels


def _models(value: object) -> tuple[str, ...]:
    """Read the names of models: a list, or one text. A comma may stand in a name."""
    if value is None or value == "":
        return ()
    values = value if isinstance(value, list | tuple) else [value]
    if len(values) > _MAX_MODELS:
        raise RegistrationError(f"models: {len(values)} are too many, {_MAX_MODELS} are taken at most")
    return tuple(dict.fromkeys(_model(name) for name in values))


def _model(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type("a model", "a text", value)
    if not is_model_name(value):
        raise RegistrationError(f"invalid model: {shown(value)!r}: {MODEL_FORM} are needed")
    return value


def _label(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise wrong_type(f"labels.{name}", "a text", value)
    return value if isinstance(value, str) else shown(value)


def _kv_events(value: object) -> dict[str, Any]:
    """Read where an instance publishes the events of its KV cache: an endpoint, or an object of engines' own keys."""
    if value is None or value == "":
        return {}
    told = {"endpoint": value} if isinstance(value, str) else value
    if not isinstance(told, Mapping):
        raise wrong_type("kv_events", "a text or an object", value)
    for name in ("endpoint", "replay_endpoint"):
        place = told.get(name)
        if place is not None and not (isinstance(place, str) and _ZMQ_ENDPOINT.fullmatch(place)):
            raise RegistrationError(f"invalid kv_events.{name}: {shown(place)}: tcp://HOST:PORT is needed")
    return {str(name): item for name, item in told.items()}


_TRANSFER_KEYS: Mapping[str, Reader] = MappingProxyType({
    "kv_connector": partial(_text, "kv_transfer.kv_connector"),
    "engine_id": partial(_text, "kv_transfer.engine_id"),
    "side_channel_host": partial(_text, "kv_transfer.side_channel_host"),
    "side_channel_port": partial(_optional_port, "kv_transfer.side_channel_port"),
    "pp_size": partial(_small_size, "kv_transfer.pp_size"),
})  # fmt: skip
"""vLLM's own words, as in its ``--kv-transfer-config``; the side channel is NIXL's (``VLLM_NIXL_SIDE_CHANNEL_…``)."""


def _kv_transfer(value: object) -> dict[str, Any]:
    """Read how an instance hands KV caches over: a connector's name, or an object. What isn't told isn't in it."""
    if value is None or value == "":
        return {}
    told = {"kv_connector": value} if isinstance(value, str) else value
    if not isinstance(told, Mapping):
        raise wrong_type("kv_transfer", "a text or an object", value)
    for name in told:
        if name not in _TRANSFER_KEYS:
            known = ", ".join(_TRANSFER_KEYS)
            raise RegistrationError(f"kv_transfer.{shown(name)} isn't known; known are {known}")
    read = {str(name): _TRANSFER_KEYS[name](item) for name, item in told.items()}
    return {name: item for name, item in read.items() if item}


def _flag(name: str, value: object) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool | int):
        raise wrong_type(name, "a boolean", value)
    return bool(value)


FOR_PAIRS = frozenset({"connector_port", "engine_worker_queue_port", "rdma_ports", "kv_transfer"})
"""Keys that only the instances of pairs need."""

READERS: Mapping[str, Reader] = MappingProxyType({
    "role": _role,
    "host_ip": _host_ip,
    "port": _serving_port,
    "device_ids": partial(_strings, "device_ids"),
    "connector_port": partial(_optional_port, "connector_port"),
    "engine_worker_queue_port": _queue_ports,
    "transfer_protocol": _protocols,
    "rdma_ports": _rdma_ports,
    "metrics_port": partial(_optional_port, "metrics_port"),
    "tp_size": partial(_small_size, "tp_size"),
    "version": _version,
    "dp_size": partial(_count, "dp_size", MAX_RANKS),
    "max_requests": partial(_count, "max_requests", _MAX_REQUESTS),
    "dialect": _dialect,
    "is_paused": partial(_flag, "is_paused"),
    "connected_decodes": partial(_sequence, "connected_decodes"),
    "labels": _labels,
    "model": _models,
    "models": _models,
    "scheme": _scheme,
    "bootstrap_port": partial(_optional_port, "bootstrap_port"),
    "kv_events": _kv_events,
    "kv_transfer": _kv_transfer,
})  # fmt: skip
"""How the value of each key is read, None where it isn't told. In this order, so the first fault is told of several."""
