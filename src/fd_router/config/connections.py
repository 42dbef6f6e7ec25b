"""The connections to some instances that differ from those to all: which instances, TLS, and the key for them.

``instances.connections`` maps an address, a network, a name with wildcards, a model or a label to what holds for the
instances that it fits. What a rule doesn't say is as for all (``tls.upstream-*``, ``instances.api-key-path``).
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fd_router.config.host_names import authority
from fd_router.config.instances import InstancesConfig
from fd_router.config.options import did_you_mean, kebab, may_be_name
from fd_router.config.tls import TlsConfig
from fd_router.errors import ConfigError

OPTION = "instances.connections"

_FORM = (
    "an address (10.0.0.5, 10.0.0.5:8000), a network (10.0.0.0/24), a host name (gpu-*.example), model:NAME or "
    "label:NAME=TEXT"
)


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """How the router speaks to instances: over TLS or not, whom it believes, and what it shows them."""

    tls: bool | None = None  # None: where an instance's address says https
    ca_path: str = ""
    name: str = ""
    verify: bool = True
    cert_path: str = ""
    key_path: str = ""
    api_key_path: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What a rule may ask of an instance."""

    host: str
    port: int
    models: Sequence[str] = ()
    labels: Mapping[str, str] = {}


class ConnectionRule(msgspec.Struct, frozen=True):
    """Settings, and which instances they are for; "" fits all."""

    match: str
    settings: ConnectionSettings

    def key_of(self, attribute: str) -> str:
        """Return what messages call one of the settings."""
        if self.match:
            return f"{OPTION}: {self.match}: {kebab(attribute)}"
        return "instances.api-key-path" if attribute == "api_key_path" else f"tls.upstream-{kebab(attribute)}"

    def fits(self, facts: Facts) -> bool:
        """Tell whether it is for the instance of which these ``facts`` are known."""
        kind, _, rest = self.match.partition(":")
        if not self.match:
            return True
        if kind == "model":
            return rest in facts.models
        if kind == "label":
            name, _, text = rest.partition("=")
            return facts.labels.get(name) == text
        if "/" in self.match:
            return _is_in(facts.host, self.match)
        wanted, address = self.match.lower(), authority(facts.host, facts.port)
        return wanted == address or any(fnmatch.fnmatchcase(known, wanted) for known in (facts.host, address))


def read_connections(instances: InstancesConfig, tls: TlsConfig) -> tuple[ConnectionRule, ...]:
    """Return the rules in the order in which they are asked, that for all instances last. Raises ConfigError."""
    rules: list[ConnectionRule] = []
    problems: list[str] = []
    for match, given in instances.connections.items():
        try:
            rules.append(ConnectionRule(_checked_match(match), _settings(match, given, instances, tls)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return (*rules, ConnectionRule("", _for_all(instances, tls)))


def _for_all(instances: InstancesConfig, tls: TlsConfig) -> ConnectionSettings:
    return ConnectionSettings(
        tls=True if tls.upstream else None,
        ca_path=tls.upstream_ca_path,
        name=tls.upstream_name,
        verify=tls.upstream_verify,
        cert_path=tls.upstream_cert_path,
        key_path=tls.upstream_key_path,
        api_key_path=instances.api_key_path,
    )


def _settings(match: str, given: Any, instances: InstancesConfig, tls: TlsConfig) -> ConnectionSettings:
    known = ConnectionSettings.__struct_encode_fields__
    if not isinstance(given, Mapping):
        raise ConfigError(f"{OPTION}: {match}: a mapping is needed, of {', '.join(known)}")
    fields = {kebab(str(name)): value for name, value in given.items()}
    for name in fields:
        if name not in known:
            hint = did_you_mean(name, known) or f"; known are {', '.join(known)}"
            raise ConfigError(f"{OPTION}: {match}: unknown key {name[:40]!r}{hint}")
    try:
        own = msgspec.convert(fields, ConnectionSettings, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise ConfigError(f"{OPTION}: {match}: {where.strip('`')}: {what}") from None
    for name, value in fields.items():
        if isinstance(value, str) and not may_be_name(value):
            raise ConfigError(f"{OPTION}: {match}: {name}: {value[:40]!r}: no file or host is called so")
    told = {name.replace("-", "_"): getattr(own, name.replace("-", "_")) for name in fields}
    if "cert_path" in told:  # a key is its certificate's: that of the other one would be of no use
        told.setdefault("key_path", "")
    return msgspec.structs.replace(_for_all(instances, tls), **told)


def _checked_match(match: str) -> str:
    kind, colon, rest = match.partition(":")
    if kind == "label" and colon:
        name, equals, _ = rest.partition("=")
        is_right = bool(name and equals)
    elif kind == "model" and colon:
        is_right = bool(rest)
    elif "/" in match:
        is_right = _is_network(match)
    else:
        is_right = bool(match) and match.isascii() and match.isprintable() and " " not in match
    if not is_right:
        raise ConfigError(f"{OPTION}: {match[:80]!r} fits no instance; give {_FORM}")
    return match


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network)
    except ValueError:  # a host name is in no network
        return False
