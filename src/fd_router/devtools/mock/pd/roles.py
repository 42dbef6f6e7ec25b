"""The role of a mock instance in a pair, by its engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fd_router.devtools.mock.answers import Handle
from fd_router.devtools.mock.completions import Body
from fd_router.devtools.mock.generation import Generation
from fd_router.devtools.mock.http_server import Call
from fd_router.devtools.mock.options import MockOptions
from fd_router.devtools.mock.pd.disaggregation import Member
from fd_router.devtools.mock.pd.role import PdRole
from fd_router.devtools.mock.pd.transfer_role import TransferRole
from fd_router.errors import BadRequestError


class PairTicket(Protocol):
    """One request of a pair."""

    @property
    def request_id(self) -> str:
        """What both instances know it by, "" where only one has it."""


class PairRole(Protocol):
    """The pair's side of a prefill or decode instance."""

    def routes(self) -> Mapping[str, Mapping[str, Handle]]:
        """Return the endpoints where KV caches are handed over."""

    def read(self, body: Body, call: Call) -> Any:
        """Check what a request says of its pair, and return its ticket. Raises BadRequestError."""

    def refuse_duplicate(self, request_id: str) -> BadRequestError:
        """Return the error of a request that is running already."""

    def generation(self, ticket: Any, *arguments: Any, **options: Any) -> Generation:
        """Make the generation of a request that ``read`` found right."""

    def forget(self, ticket: Any) -> None:
        """The request ended without a generation."""

    def describe(self) -> dict[str, int]:
        """Return what ``/mock/state`` shows of it."""

    def close(self) -> None:
        """End every connection and wait for nothing."""


def make_role(options: MockOptions, told: dict[str, Any], log: Callable[[str], None]) -> PairRole | None:
    """Make the role of an instance that registers what is ``told``; None where it is no half of a pair."""
    if options.role == "mixed":
        return None
    if options.dialect in {"vllm", "sglang"}:
        return TransferRole(options, told["host_ip"], told["connector_port"], log)
    return PdRole(Member.of(options, told), options.kv_wait_secs)
