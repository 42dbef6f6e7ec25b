"""The template of a discovery: what holds for all of its instances, checked before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fd_router.errors import ConfigError
from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.sources.members import Accept

_FOUND = ("host_ip", "port")
"""What a discovery finds."""


class Template:
    """The keys of a registration that the operator has given; the role is mixed where they don't tell one."""

    def __init__(self, option: str, given: Mapping[str, Any], accept: Accept, *, is_whole: bool = True) -> None:
        """``accept`` raises RegistrationError for what can't be a member here.

        ``is_whole``: whether an instance may not tell a role of its own.

        Raises ConfigError, which begins with ``option``, for what no instance could be registered with.
        """
        self._given = {"role": "mixed", **given}
        for key in _FOUND:
            if key in given:
                raise ConfigError(f"{option}.{key}: that is found, and can't be given")
        try:
            example = self.fill("127.0.0.1", 1)
            if is_whole or "role" in given:
                accept(example)
        except RegistrationError as error:
            raise ConfigError(f"{option}: {error.reason}") from None

    def fill(
        self, host: str, port: int, more: Mapping[str, Any] | None = None, labels: Mapping[str, str] | None = None
    ) -> Registration:
        """Return the registration of the instance at ``host:port``. ``more`` wins over what was given for all.

        ``labels`` are those that tell where it was found; labels that were given win. Raises RegistrationError.
        """
        told = {**self._given, **(more or {}), "host_ip": host, "port": port}
        own = told.get("labels")
        if labels and (own is None or isinstance(own, Mapping)):
            told["labels"] = {**labels, **(own or {})}
        return parse_registration(told)

    def __repr__(self) -> str:
        return f"<Template {', '.join(self._given)}>"
