"""FastDeploy's dialect, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from fd_router.engines.cache_facts import CacheFacts
from fd_router.engines.continuation.engines import FASTDEPLOY
from fd_router.engines.continuation.ways import Ways
from fd_router.engines.dialect import (
    OK,
    AbortMessage,
    AbortReply,
    Dialect,
    GivenBack,
    Role,
    Verdict,
)
from fd_router.engines.engine_load import read_engine_load
from fd_router.engines.error_answers import ABORT, RECOVERED, begins_with_error
from fd_router.engines.fastdeploy.aborts import abort_message, read_abort
from fd_router.engines.fastdeploy.disaggregation import FastDeployPairing, plan_again, plan_first
from fd_router.engines.fastdeploy.given_back import PD_ERROR, RESCHEDULE, is_given_back, read_given_back
from fd_router.engines.pairing import PairedRequest, Pairing, PairMember, PairPlan

_USUAL: Final = b'{"id"'
"""How whole answers begin that aren't errors: to look for one would cost four times as much."""


class FastDeployDialect(Dialect):
    """FastDeploy: both halves of a pair get the same body at once, and decode may give a request back."""

    name: ClassVar[str] = "fastdeploy"
    makes_pairs: ClassVar[bool] = True
    unpaired_paths: ClassVar[frozenset[str]] = frozenset(("/v1/responses", "/v1/messages", "/generate"))
    goes_by_model: ClassVar[bool] = False
    metrics_prefix: ClassVar[bytes] = b"fastdeploy:"
    ways: ClassVar[Ways] = FASTDEPLOY

    def __init__(self) -> None:
        self._pairing = FastDeployPairing()
        self._infos = self._pairing.infos

    def read_cache(self, page: bytes) -> CacheFacts | None:
        """Read how many blocks are to be had: all that there are, when it is idle."""
        load = read_engine_load(page)
        return None if load is None or not load.free_blocks else CacheFacts(blocks=int(load.free_blocks))

    def pairing(self, member: PairMember) -> Pairing:  # noqa: ARG002
        """Return the one that it has."""
        return self._pairing

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:
        """Plan as it does, with a call less."""
        info = self._infos.of(prefill, decode)
        return plan_again(request, info) if request.reschedules else plan_first(request, info)

    def judge(self, role: Role, status: int, piece: bytes, whole: bool) -> Verdict:
        """Tell what an answer means.

        Of the beginning of an error with ``PD Error`` in it only the whole tells; a stream gives a request back by its
        first event.
        """
        # To search by ``partition`` costs two thirds of ``find``, and a third of ``in``.
        if (
            role == "decode"
            and (piece.partition(RESCHEDULE)[1] or piece.partition(PD_ERROR)[1])
            and not 400 <= status < 500
        ):
            is_error = not whole and PD_ERROR in piece and begins_with_error(piece)
            if is_error or is_given_back(piece):
                return Verdict.GIVEN_BACK
        if (
            status < 300
            and (piece[:5] == _USUAL or not begins_with_error(piece))
            and not (piece.partition(ABORT)[1] or piece.partition(RECOVERED)[1])
        ):
            return OK
        return Dialect.judge(self, role, status, piece, whole)

    def read_given_back(self, answer: bytes) -> GivenBack:
        """Read why decode gave the request back, and the tokens so far."""
        return read_given_back(answer)

    def abort(self, ids: Sequence[str] | None) -> Sequence[AbortMessage]:
        """Tell it all ids in one message."""
        return (abort_message(ids),)

    def read_abort(self, answer: bytes) -> AbortReply:
        """Read what was aborted."""
        return read_abort(answer)
