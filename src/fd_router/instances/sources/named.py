"""The instances that the command line names: ``--instance [ROLE=]URL``, probed and never dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from fd_router.errors import ConfigError
from fd_router.instances.registration import Registration, parse_registration
from fd_router.instances.registration_errors import RegistrationError
from fd_router.instances.registration_keys import ROLES
from fd_router.instances.source import NAMED
from fd_router.instances.sources.members import Accept, SourceMembers

OPTION: Final = "manager.instance"

FORM: Final = "[ROLE=]URL, as http://10.0.0.1:8000 or prefill=https://engine.example:8000"


class NamedInstances:
    """The source that names what the option does, once."""

    name = NAMED.name

    def __init__(self, registrations: Sequence[Registration]) -> None:
        self._registrations = registrations

    async def run(self, members: SourceMembers) -> None:
        """Name them."""
        members.replace(self._registrations)

    def __repr__(self) -> str:
        return f"<NamedInstances {len(self._registrations)}>"


def read_named(text: str, accept: Accept) -> tuple[Registration, ...]:
    """Read the option's instances. Raises ConfigError, also where ``accept`` raises RegistrationError for one."""
    problems: list[str] = []
    found: dict[str, Registration] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        try:
            registration = parse_registration(dict(_fields(word)))
            accept(registration)
        except ValueError as error:  # a RegistrationError is one
            why = error.reason if isinstance(error, RegistrationError) else f"{FORM} is needed"
            problems.append(f"{OPTION}: {word!r}: {why}")
        else:
            if registration.key in found:
                problems.append(f"{OPTION}: {word!r}: {registration.key} is named twice")
            found[registration.key] = registration
    if problems:
        raise ConfigError(*problems)
    return tuple(found.values())


def _fields(word: str) -> Iterator[tuple[str, object]]:
    """Give the keys of a registration. Raises ValueError for what is of another form."""
    role, equals, url = word.partition("=")
    if equals and role.lower() not in ROLES:
        raise RegistrationError(f"invalid role: {role}: it may be {', '.join(ROLES)}")
    url = url if equals else word
    parts = urlsplit(url if "://" in url else f"//{url}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username or not parts.port:
        raise ValueError(url)
    yield "role", role if equals else "mixed"
    yield "host_ip", parts.hostname
    yield "port", parts.port
    yield "scheme", parts.scheme
