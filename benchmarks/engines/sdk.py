"""What the scenarios of official packages have in common: steps at the router, beside the same ones at the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from bench import Finding

Client = TypeVar("Client")

OPTIONS: Final[Mapping[str, Any]] = {"api_key": "none", "max_retries": 0, "timeout": 120}
"""Of a package's client."""


def findings(
    package: str,
    steps: Mapping[str, Callable[[Client, Client], str]],
    client: Client,
    direct: Client,
    error_of_package: type[Exception],
) -> Iterator[Finding]:
    """Go through ``steps`` with a client of the router and one of the server itself."""
    for name, step in steps.items():
        try:
            yield Finding(f"{package}: {name}", True, step(client, direct))
        except (AssertionError, error_of_package, ValueError, AttributeError) as error:
            yield Finding(f"{package}: {name}", False, repr(error))


def same_errors(calls: Iterable[Sequence[Callable[[], Any]]], status_error: type[Exception]) -> str:
    """Check that each call, at the router and at the server, raises the same error with the same status."""
    told = []
    for number, pair in enumerate(calls):
        seen = []
        for call in pair:
            try:
                call()
            except status_error as error:
                seen.append((type(error).__name__, error.status_code))  # type: ignore[attr-defined]
        assert len(seen) == 2, f"wrong request {number} was answered"
        assert seen[0] == seen[1], seen
        told.append(f"{seen[0][1]}")
    return f"{', '.join(told)}: the server's own"
