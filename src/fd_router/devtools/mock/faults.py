"""Faults on demand: what a mock instance does wrong, how often, and to which requests.

``KINDS`` lists them, and ``fd-router mock --help`` what each does.

Most strike request by request; these take ``probability`` (default 1), ``count`` (so many requests,
then never again), ``match`` (``all``, ``stream``, ``whole``: answers that are streamed or not) and ``path`` (default:
the completion endpoints).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from fd_router.errors import BadRequestError

Seconds = Annotated[float, msgspec.Meta(ge=0)]

PER_REQUEST = ("probability", "count", "match", "path")


class Kind(msgspec.Struct, frozen=True):
    """What a kind of fault does, and the parameters it takes."""

    does: str
    parameters: tuple[str, ...] = PER_REQUEST

    @classmethod
    def per_request(cls, does: str, *own: str) -> Kind:
        """Make one that strikes single requests, with parameters of its ``own``."""
        return cls(does, (*PER_REQUEST, *own))


KINDS = {
    "refuse": Kind("nobody listens for a time (open connections stay)", ("secs",)),
    "unhealthy": Kind("/health answers 503, no heartbeats are sent", ("secs",)),
    "reset_before_head": Kind.per_request("the connection is reset instead of an answer"),
    "hang_before_head": Kind.per_request("no answer ever comes"),
    "cut_mid_body": Kind.per_request(
        "the connection ends in the middle of the body", "after_tokens", "after_bytes", "how"
    ),
    "slow": Kind.per_request("extra delay before the head and before each token", "head_secs", "token_secs"),
    "status": Kind.per_request("an OpenAI-shaped error", "status"),
    "garbage": Kind.per_request("bytes that aren't HTTP, then the connection ends"),
    "close_idle": Kind.per_request("a good answer; the connection is closed right after it"),
    "reschedule": Kind.per_request(
        "the request is given back for want of memory, as decode instances do: with the finish reason pd_reschedule "
        'and the tokens so far, or with a "PD Error"',
        "after_tokens",
        "form",
    ),
    "kv_lost": Kind.per_request("a prefill instance of vLLM or SGLang answers well, but has no cache for decode"),
    "kv_drop": Kind("a share of the batches of KV events is lost on the way; replays have them", ("probability",)),
    "kv_restart": Kind("once: the engine begins anew, with an empty cache and KV events from number 0", ()),
    "error_event": Kind.per_request("an error object in the middle of a stream (else status 500)", "after_tokens"),
}

PARAMETERS = {
    "probability": "0 to 1: how likely a request is struck (default 1)",
    "count": "so many requests are struck, then never again (default: no limit)",
    "match": "all, stream or whole: answers that are streamed or not (default all)",
    "path": "requests to this path only (default: the completion endpoints)",
    "secs": "how long it lasts (default: refuse 5, unhealthy until changed)",
    "after_tokens": "tokens before it strikes (default 3)",
    "after_bytes": "bytes of a body that isn't streamed (default: half of it)",
    "how": "rst or fin: how the connection ends (default rst)",
    "head_secs": "delay before the head (default 0)",
    "token_secs": "delay before each token (default 0)",
    "status": "the error's status, 400 to 599 (default 500)",
    "form": "finish or error (default finish)",
}
"""What each means, whichever kind takes it."""

COMPLETION_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/generate")


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault: a kind and its parameters."""

    kind: Literal[
        "refuse", "unhealthy", "reset_before_head", "hang_before_head", "cut_mid_body", "slow", "status", "garbage",
        "close_idle", "reschedule", "kv_lost", "kv_drop", "kv_restart", "error_event",
    ]  # fmt: skip
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: no limit
    match: Literal["all", "stream", "whole"] = "all"
    path: str = ""
    secs: Seconds | None = None
    after_tokens: Annotated[int, msgspec.Meta(ge=0)] = 3  # of a stream, or those of a rescheduled answer
    after_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None  # of a body that isn't streamed; default: half of it
    how: Literal["rst", "fin"] = "rst"
    form: Literal["finish", "error"] = "finish"
    head_secs: Seconds = 0.0
    token_secs: Seconds = 0.0
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500

    @property
    def is_per_request(self) -> bool:
        """Whether it strikes single requests, rather than the instance as a whole."""
        return "count" in KINDS[self.kind].parameters

    def fits(self, path: str, stream: bool) -> bool:
        """Tell whether a request to ``path`` may be struck."""
        at_path = path == self.path if self.path else path in COMPLETION_PATHS
        return at_path and (self.match == "all" or (self.match == "stream") == stream)


class FaultsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Faults that replace those which are on."""

    faults: list[str | dict[str, Any]]


def parse_fault(spec: str | dict[str, Any]) -> Fault:
    """Make a fault from ``kind:key=value,key=value`` or from its JSON object.

    Raises BadRequestError that names what is wrong.
    """
    fields = _fields(spec) if isinstance(spec, str) else spec
    kind = str(fields.get("kind"))
    if kind not in KINDS:
        raise BadRequestError(f"unknown fault {kind!r}: there are {', '.join(KINDS)}")
    for key in fields:
        if key != "kind" and key not in KINDS[kind].parameters:
            raise BadRequestError(f"fault {kind} has no {key!r}: it takes {', '.join(KINDS[kind].parameters)}")
    try:
        return msgspec.convert(fields, Fault, strict=not isinstance(spec, str))
    except msgspec.ValidationError as error:
        raise BadRequestError(f"fault {kind}: {error}") from None


def _fields(spec: str) -> dict[str, Any]:
    kind, _, rest = spec.partition(":")
    fields: dict[str, Any] = {"kind": kind.strip()}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise BadRequestError(f"fault {kind}: {item!r} is not key=value")
        fields[key.strip()] = value.strip()
    return fields


class FaultInjector:
    """The faults that are on now. Which requests they strike is decided by ``rng`` alone, so a seed repeats it."""

    __slots__ = ("_faults", "_rng", "struck")

    def __init__(self, faults: Iterable[Fault], rng: random.Random) -> None:
        self._rng = rng
        self._faults: list[list[Any]] = []  # [fault, how many requests are left or -1]
        self.struck = 0
        self.replace(faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Turn off what was on, and ``faults`` on."""
        self._faults = [[fault, fault.count or -1] for fault in faults]

    def strike(self, path: str, stream: bool) -> Fault | None:
        """Return the fault for a request to ``path``: the first that fits and whose dice say so."""
        for entry in self._faults:
            fault, left = entry
            if left and fault.is_per_request and fault.fits(path, stream) and self._dice(fault.probability):
                entry[1] = left - 1 if left > 0 else left
                self.struck += 1
                return fault  # type: ignore[no-any-return]
        return None

    def loses_kv_events(self) -> bool:
        """Tell whether the next batch of KV events is lost."""
        fault = self.find("kv_drop")
        return fault is not None and self._dice(fault.probability)

    def turn_off(self, kind: str) -> None:
        """Forget the faults of this kind."""
        self._faults = [entry for entry in self._faults if entry[0].kind != kind]

    def find(self, kind: str) -> Fault | None:
        """Return the first fault of this kind that is on."""
        return next((fault for fault, _ in self._faults if fault.kind == kind), None)

    def describe(self) -> list[dict[str, Any]]:
        """List the faults with what is left of their count (None: no limit)."""
        return [{**msgspec.to_builtins(fault), "left": left if left >= 0 else None} for fault, left in self._faults]

    def _dice(self, probability: float) -> bool:
        return probability >= 1 or self._rng.random() < probability

    def __repr__(self) -> str:
        return f"<FaultInjector {[fault.kind for fault, _ in self._faults]} struck={self.struck}>"
