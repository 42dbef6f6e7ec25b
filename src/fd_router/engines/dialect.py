"""The dialect of an inference engine: all that the router must know of it, behind one base class.

What every engine that speaks OpenAI's protocol does alike is the default here; a dialect overrides where its engine
differs. An instance has a dialect, found by the name that its registration tells (``engines.dialects``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, ClassVar, Final, Literal

import msgspec

from fd_router.engines.cache_facts import CacheFacts
from fd_router.engines.continuation.ways import PLAIN, Ways
from fd_router.engines.engine_load import EngineLoad, read_engine_load
from fd_router.engines.error_answers import begins_with_error, end_flaw, is_aborted, is_clients_error
from fd_router.engines.kv_sources import KvEventSource
from fd_router.engines.pairing import Order, PairedRequest, Pairing, PairMember, PairPlan, SameBody

__all__ = [
    "MANY",
    "OK",
    "AbortMessage",
    "AbortReply",
    "Dialect",
    "GivenBack",
    "Order",
    "PairMember",
    "PairPlan",
    "PairedRequest",
    "Pairing",
    "Role",
    "SameBody",
    "Verdict",
]

Role = Literal["mixed", "prefill", "decode"]

MANY: Final = 1_000_000
"""As often as a request may be sent at all."""


class Verdict(Enum):
    """What an answer, or its beginning, means for the request."""

    OK = "ok"
    ERROR = "error"  # the instance's fault
    BUSY = "busy"  # no fault: it has as much as it can take, another one may have room
    GIVEN_BACK = "given back"  # decode has no memory to go on: to be scheduled again, with the tokens so far
    CLIENT_ERROR = "client error"  # about the request: another instance would say the same


OK: Final = Verdict.OK
"""For who judges, or is told a verdict, on the hot path: an Enum finds its members by a search, which takes longer than
all the rest of a judgement."""


class GivenBack(msgspec.Struct, frozen=True):
    """What a decode instance says that gives a request back: why, in the engine's words, and the tokens so far."""

    reason: str
    token_ids: list[int]


class AbortMessage(msgspec.Struct, frozen=True):
    """A POST that makes an engine abort requests."""

    path: str
    body: bytes


class AbortReply(msgspec.Struct, frozen=True):
    """What an engine answers to it. ``is_silent``: it did as it was told, without a word."""

    aborted: list[dict[str, Any]] = []  # an entry for each, with its ``request_id``, as it came
    ids: frozenset[str] = frozenset()  # of those, as the router knows them
    is_silent: bool = False
    error: str = ""


class Dialect:
    """One engine's dialect. An object of it serves all instances that speak it.

    What is decided for every request (``plan``, ``judge``) must be quick: it is called on the hot path.
    """

    name: ClassVar[str] = ""
    """What registrations call it: ``"dialect": "fastdeploy"``."""

    unpaired_paths: ClassVar[frozenset[str]] = frozenset()
    """Generating endpoints that its pairs don't serve."""

    makes_pairs: ClassVar[bool] = False
    """Whether two instances of it can be the prefill and the decode half of a request at all."""

    health_path: ClassVar[str] = ""
    """Where its probes go; "": to ``manager.health-check-endpoint``."""

    goes_by_model: ClassVar[bool] = True
    """Whether its engine refuses a request for another model than its own, so that it is asked for them at once; others
    are asked when something shows that models matter."""

    models_path: ClassVar[str] = "/v1/models"
    """Where it lists the models that it serves, as OpenAI does; "": nowhere."""

    load_path: ClassVar[str] = "/metrics"
    """Where ``read_load`` finds its page; where there is none, an instance's ``/metrics`` is read instead."""

    tells_cache: ClassVar[bool] = False
    """Whether it is asked there what its KV cache holds: whether it has a ``read_cache`` of its own."""

    load_is_metrics: ClassVar[bool] = True
    """Whether that is where its metrics are (``metrics_port``), or where requests go."""

    has_ranks: ClassVar[bool] = False
    """Whether a server of it may have several data-parallel ranks, of which a header asks for one."""

    metrics_prefix: ClassVar[bytes] = b""
    """How the names of its metrics begin, by which it is detected where no dialect is told; b"": not by them."""

    detect_path: ClassVar[str] = ""
    """What else to GET to detect it, if ``recognizes`` the answer (status 200); "": nothing."""

    kv_sources_path: ClassVar[str] = ""
    """Where it tells (``read_kv_sources``) where the events of its KV cache are published; "": nowhere."""

    busy_statuses: ClassVar[frozenset[int]] = frozenset((304, 429, 503))
    """Statuses by which it says that it has no room, so that another instance should be asked."""

    passing_statuses: ClassVar[frozenset[int]] = frozenset((408, 425, 502))
    """Statuses of a failure that another instance need not have."""

    abort_closed_statuses: ClassVar[frozenset[int]] = frozenset()
    """Statuses, beside 404 and the like, by which it says that its endpoint for aborts isn't open."""

    doubtful_statuses: ClassVar[frozenset[int]] = frozenset((500,))
    """Statuses of a failure that may be the request's own doing: it is sent to one other instance, and no third."""

    ways: ClassVar[Ways] = PLAIN
    """How it is told to go on with an answer that another instance began."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.tells_cache = cls.read_cache is not Dialect.read_cache

    def recognizes(self, answer: bytes) -> bool:  # noqa: ARG002
        """Tell whether ``answer`` to a GET of ``detect_path`` is of this engine."""
        return False

    def pairing(self, member: PairMember) -> Pairing | None:  # noqa: ARG002
        """Return the protocol by which ``member`` hands KV caches over, or takes them; None for none that is known."""
        return None

    def pair_fault(self, member: PairMember) -> str:
        """Say why what ``member`` registers can't be half of a pair, naming the key and the mend; "" when it can."""
        pairing = self.pairing(member)
        return "" if pairing is None else pairing.fault(member)

    def can_pair(self, prefill: PairMember, decode: PairMember) -> bool:
        """Tell whether the two, which both speak this dialect, can serve a request together."""
        pairing = self.pairing(prefill)
        return pairing is not None and pairing is self.pairing(decode) and pairing.can_pair(prefill, decode)

    def plan(self, request: PairedRequest, prefill: PairMember, decode: PairMember) -> PairPlan:
        """Plan one attempt of ``request`` at a pair that ``can_pair``.

        Raises ValueError when the client's body is no JSON object.
        """
        pairing = self.pairing(prefill)
        if pairing is None:
            raise NotImplementedError
        return pairing.plan(request, prefill, decode)

    def judge(self, role: Role, status: int, piece: bytes, whole: bool) -> Verdict:  # noqa: ARG002
        """Tell what an answer means: all of it, or, if not ``whole``, what came of its body first.

        The body is as it came: perhaps with the sizes of its chunks in it.
        """
        if status >= 300 and status in self.busy_statuses:
            return Verdict.BUSY
        if status < 400:
            if begins_with_error(piece):
                return Verdict.CLIENT_ERROR if is_clients_error(piece) else Verdict.ERROR
            return Verdict.ERROR if is_aborted(piece) else OK
        is_ours = status >= 500 or status in self.passing_statuses
        return Verdict.ERROR if is_ours else Verdict.CLIENT_ERROR

    def judge_end(self, tail: bytes) -> str:
        """Tell what is wrong with an answer that began well, by its last bytes as they came; "" when nothing is."""
        return end_flaw(tail)

    def resends(self, status: int) -> int:
        """Tell how often a request may be sent to another instance that was answered with ``status``."""
        if status in self.busy_statuses or status in self.passing_statuses:
            return MANY
        return 1 if status in self.doubtful_statuses else 0

    def read_given_back(self, answer: bytes) -> GivenBack:  # noqa: ARG002
        """Read a whole answer that was judged to give the request back."""
        return GivenBack("given back", [])

    def read_load(self, page: bytes) -> EngineLoad | None:
        """Read what the page at ``load_path`` tells of the load; None when it doesn't."""
        return read_engine_load(page)

    def read_cache(self, page: bytes) -> CacheFacts | None:  # noqa: ARG002
        """Read what the page at ``load_path`` tells of the KV cache; None when it doesn't."""
        return None

    def read_kv_sources(self, answer: bytes) -> Sequence[KvEventSource]:  # noqa: ARG002
        """Read the answer to a GET of ``kv_sources_path``; nothing where no events are published."""
        return ()

    def abort(self, ids: Sequence[str] | None) -> Sequence[AbortMessage]:  # noqa: ARG002
        """Return what to send to have the requests with ``ids`` (None: all of them) aborted.

        Nothing: the engine has no such endpoint. It is told by the end of its connection then.
        """
        return ()

    def read_abort(self, answer: bytes) -> AbortReply:  # noqa: ARG002
        """Read the body that it answered with status 200 to one of those messages."""
        return AbortReply(is_silent=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
