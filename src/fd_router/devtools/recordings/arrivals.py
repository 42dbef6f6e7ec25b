"""From a recording to a trace: who asked when, for how much, sharing which prefix, and how long each really took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from fd_router.devtools.recordings.reading import Recording, Served
from fd_router.devtools.report.outcomes import Outcome
from fd_router.devtools.traces.trace import TraceError, TraceRequest

TOKENS_PER_CHARACTER = 0.25
"""Where no engine told how long a prompt was."""

DECODE_SECS = 0.02
"""Seconds for a token, where no engine told how many there were: so their number is guessed from the time they took."""


class Arrivals(msgspec.Struct, frozen=True):
    """A recording's requests, as a trace has them, and what became of them, in the same order.

    Of answers that weren't streamed nobody knows when their first token came.
    """

    requests: list[TraceRequest]
    outcomes: list[Outcome]
    served: list[Served]

    def observed(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return those of the ``outcomes``, in the same order as these, whose first tokens were recorded."""
        return [each for each, own in zip(outcomes, self.outcomes, strict=True) if not math.isnan(own.ttft)]


def arrivals_of(recording: Recording, *, limit: int = 0) -> Arrivals:
    """Make a trace of the requests that had an answer, the first ``limit`` of them (0: all). Raises TraceError."""
    served = recording.served()
    served = served[:limit] if limit else served
    if not served:
        raise TraceError("the recording has no request with an answer")
    per_unit = _tokens_per_unit(served)
    block_tokens = max(1, round(recording.header.block_size * per_unit))
    secs_per_token = _secs_per_token(served)
    first = served[0].decision.at
    requests, outcomes = [], []
    for number, one in enumerate(served, 1):
        decision = one.decision
        tokens = one.prompt_tokens or max(1, round(decision.length * per_unit))
        at = decision.at - first
        output = _output_tokens(one, tokens, secs_per_token)
        hash_ids = decision.hash_ids[: -(-tokens // block_tokens)]
        requests.append(TraceRequest(number, at, tokens, output, hash_ids, block_tokens, decision.session))
        outcomes.append(
            Outcome(
                at=at,
                input_tokens=tokens,
                instance=str(one.instance),
                ttft=one.first_at - decision.at if one.first_at else math.nan,
                seconds=one.ended_at - decision.at,
                cached_tokens=one.cached_tokens if one.prompt_tokens else None,
                output_tokens=output,
                session=decision.session,
            )
        )
    return Arrivals(requests, outcomes, served)


def output_tokens(one: Served) -> int:
    """Return how many tokens an answer had by its engine's word, 0 when it didn't tell."""
    return max(0, one.total_tokens - one.prompt_tokens) if one.prompt_tokens else 0


def _output_tokens(one: Served, prompt_tokens: int, secs_per_token: float) -> int:
    if one.total_tokens:
        return max(1, one.total_tokens - prompt_tokens)
    return max(1, 1 + round((one.ended_at - (one.first_at or one.sent_at)) / secs_per_token))


def _tokens_per_unit(served: Sequence[Served]) -> float:
    """Return the tokens of a character, or of a token that the client sent."""
    told = [one for one in served if one.prompt_tokens and one.decision.length]
    units = sum(one.decision.length for one in told)
    return sum(one.prompt_tokens for one in told) / units if units else TOKENS_PER_CHARACTER


def _secs_per_token(served: Sequence[Served]) -> float:
    paces = [
        (one.ended_at - one.first_at) / (tokens - 1)
        for one in served
        if one.first_at and (tokens := output_tokens(one)) > 1
    ]
    return statistics.median(paces) or DECODE_SECS if paces else DECODE_SECS
