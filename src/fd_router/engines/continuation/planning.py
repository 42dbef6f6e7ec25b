"""The decision whether, and how, another instance can go on with a broken stream."""

from __future__ import annotations

from typing import Final

from fd_router.engines.continuation.ways import Ways, limited
from fd_router.openai.continuation.event_json import ids_of
from fd_router.openai.continuation.generated import BROKEN_FINISHES, Generated
from fd_router.openai.continuation.plan import Continuation, Finished, Impossible, Plan
from fd_router.openai.continuation.source_request import SourceRequest

BEGINNING: Final = 32
"""Characters by which an answer is recognized that starts over …"""

TELLING: Final = 8
"""… and the fewest that tell anything."""


def plan_continuation(source: SourceRequest, generated: Generated, ways: Ways, *, exact: bool) -> Plan:
    """Plan how a stream goes on that broke behind ``generated``; ``exact``: by token ids, or not at all."""
    if generated.finish and generated.finish not in BROKEN_FINISHES:
        return Finished(generated.finish)
    if word := _obstacle(source, generated):
        return Impossible(word)
    if (most := source.most) is not None and generated.shown and generated.tokens >= most:
        return Finished("length")
    try:
        return _plan(source, generated, ways, exact=exact)
    except (ValueError, RecursionError):
        return Impossible("body")  # only the standard library reads it


def _obstacle(source: SourceRequest, generated: Generated) -> str:
    if word := source.obstacle:
        return word
    if generated.is_foreign:
        return "events"
    if generated.several:
        return "choices"
    return "tool_call" if generated.has_tool_calls else ""


def _plan(source: SourceRequest, generated: Generated, ways: Ways, *, exact: bool) -> Plan:
    if not generated.shown:  # as far as is known
        return Impossible("events") if generated.has_unknown else Continuation(body=source.body, by="start")
    prompt = _prompt_ids(source, generated)
    make = ways.by_tokens(source)
    if make is not None and prompt and generated.has_all_ids and not _lags(source, generated):
        ids = generated.ids[: generated.known]
        body = make(source, prompt, ids)
        return Continuation(body=body, by="tokens", tokens=len(ids), thoughts=generated.thoughts, expected=prompt + ids)
    if exact:
        return Impossible("no_tokens")
    return _plan_by_text(source, generated, ways)


def _plan_by_text(source: SourceRequest, generated: Generated, ways: Ways) -> Plan:
    make = ways.by_text(source)
    if make is None or (not source.chat and source.prompt is None):
        return Impossible("engine")
    if generated.reasoning:
        return Impossible("reasoning")  # its marks aren't known
    if generated.has_logprobs or source.fields.get("logprobs"):
        return Impossible("logprobs")
    if source.fields.get("truncate_prompt_tokens") is not None:
        return Impossible("truncation")
    text = generated.whole_text
    kept = text.rstrip()  # white space at the end makes other tokens than it had, and templates cut it off
    if not kept:
        return Continuation(body=source.body, by="start", repeats=text)
    tokens = max(0, generated.tokens - generated.blank_at_end)
    body = limited(source, tokens, make(source, kept))
    beginning = kept[:BEGINNING] if len(kept) >= TELLING else ""
    return Continuation(body=body, by="text", tokens=tokens, repeats=text[len(kept) :], beginning=beginning)


def _prompt_ids(source: SourceRequest, generated: Generated) -> list[int] | None:
    """Return the prompt's ids: as the stream told them, or the client."""
    if generated.prompt_ids is not None or source.chat:
        return generated.prompt_ids
    if source.fields.get("truncate_prompt_tokens") is not None or source.has_suffix:
        return None
    return ids_of(source.fields, "prompt")


def _lags(source: SourceRequest, generated: Generated) -> bool:
    """Return whether text is behind its ids: the engine keeps characters back that may begin a text to stop at.

    Or whether it may be so by half a character: a prompt that leaks then may have such a text in it.
    """
    if generated.ends_within and source.stops:
        return True
    return not source.shows_stop and any(len(stop) > 1 for stop in source.stops)
