"""What can be wrong with the options for access and admission beyond their form: files, lists of names."""

from __future__ import annotations

from pathlib import Path

from fd_router.admission.networks import read_networks, read_proxies
from fd_router.admission.priorities import Priorities
from fd_router.admission.tokens import read_tokens
from fd_router.config.admission import AccessConfig, AdmissionConfig
from fd_router.errors import ConfigError


def find_problems(access: AccessConfig, admission: AdmissionConfig) -> tuple[str, ...]:
    """Return a line for each problem that would keep the router from starting."""
    problems: list[str] = []
    for check in (
        lambda: _check_keys(access.keys_path, admission.priorities),
        lambda: read_tokens(access),
        lambda: read_networks(access),
        lambda: read_proxies(access),
    ):
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    return tuple(problems)


def _check_keys(path: str, priorities: str) -> None:
    names = Priorities.parse(priorities).names
    if path:
        from fd_router.admission.keys import read_keys  # noqa: PLC0415  YAML costs time; mostly there is no file

        read_keys(Path(path), names)
