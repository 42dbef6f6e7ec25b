"""The access rules: which instance is spoken to with which TLS settings and which key, by what it registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fd_router.config.connections import ConnectionRule, ConnectionSettings, Facts
from fd_router.http.instance_access import InstanceAccess
from fd_router.instances.registration import Registration


class AccessRules:
    """The first rule that fits an instance holds; the last one fits all. No registration names a file itself."""

    def __init__(self, rules: Sequence[ConnectionRule] = (ConnectionRule("", ConnectionSettings()),)) -> None:
        """Raise ConfigError for files that can't be used: now, and not when the first instance needs them."""
        self._rules = rules
        self._accesses: dict[tuple[str, bool], InstanceAccess] = {}  # by match, and whether the address says https
        for rule in rules:
            for told_https in (False, True):
                if _reads_files(rule.settings):
                    self._get(rule, told_https=told_https)

    @property
    def has_keys(self) -> bool:
        """Whether some instances are shown a key."""
        return any(rule.settings.api_key_path for rule in self._rules)

    def of(self, registration: Registration) -> InstanceAccess:
        """Return the access to the instance that told ``registration``, the same object for the same rule."""
        labels, models = registration.labels, registration.models
        facts = Facts(registration.host_ip, registration.port, models, labels)
        rule = next(rule for rule in self._rules if rule.fits(facts))
        return self._get(rule, told_https=bool(registration.scheme))

    def prepare(self) -> Callable[[], None]:
        """Read all files anew; what is returned puts them in force. Raises ConfigError."""
        commits = [access.prepare() for access in tuple(self._accesses.values())]

        def replace() -> None:
            for commit in commits:
                commit()

        return replace

    def _get(self, rule: ConnectionRule, *, told_https: bool) -> InstanceAccess:
        key = rule.match, told_https
        access = self._accesses.get(key)
        if access is None:
            access = self._accesses[key] = InstanceAccess(rule, told_https=told_https)
        return access

    def __repr__(self) -> str:
        return f"<AccessRules {', '.join(rule.match or 'all' for rule in self._rules)}>"


def _reads_files(settings: ConnectionSettings) -> bool:
    return bool(settings.ca_path or settings.cert_path or settings.api_key_path)
