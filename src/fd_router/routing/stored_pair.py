"""A request to a pair whose decode instance keeps the answer under an id: who asks for that later is sent there."""

from __future__ import annotations

from fd_router.http.heads import ResponseHead
from fd_router.openai.kinds.responses import find_response_id
from fd_router.routing.other_endpoint_pair import OtherEndpointPairRequest
from fd_router.routing.pair_context import PairContext
from fd_router.routing.pair_legs import DecodeLeg
from fd_router.routing.stored import MAX_SEARCHED
from fd_router.routing.stored_answers import StoredAnswers


class StoringPairContext(PairContext, frozen=True, kw_only=True, eq=False):
    """What such a request needs beside the others."""

    answers: StoredAnswers


class StoringPairRequest(OtherEndpointPairRequest):
    """Remembers which decode instance made an answer, once its id has come."""

    __slots__ = ("_keeper", "_searched")

    _context: StoringPairContext

    def on_decode_begun(self, leg: DecodeLeg, head: ResponseHead, body: bytes) -> None:
        """Pass decode's first bytes on, in which the id may be."""
        super().on_decode_begun(leg, head, body)
        self._keeper = leg.instance.key
        self._searched = MAX_SEARCHED if head.status >= 300 else 0
        self._learn(body)

    def on_decode_data(self, data: bytes) -> None:
        """Pass more on, in which it may be."""
        self._learn(data)
        super().on_decode_data(data)

    def _learn(self, piece: bytes) -> None:
        if self._searched < MAX_SEARCHED and piece:
            self._searched += len(piece)
            if answer_id := find_response_id(piece):
                self._context.answers.keep(answer_id, self._keeper, self.record.key)
                self._searched = MAX_SEARCHED
