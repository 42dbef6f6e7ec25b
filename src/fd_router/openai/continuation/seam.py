"""The seam: events of a second stream, written anew as those that would have come next in the first one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from fd_router.openai.continuation.event_json import Fields, decode_object, encode, ids_of, objects, text_of
from fd_router.openai.continuation.event_splitter import DONE, EventSplitter, payload
from fd_router.openai.continuation.generated import (
    BROKEN_FINISHES,
    IDS_AS_TEXT,
    PROMPT_IDS,
    PROMPT_TEXTS,
    TOKEN_IDS,
    Generated,
    content_of,
    id_places,
    is_error,
    prompt_ids_of,
    reasoning_of,
    token_ids_of,
)
from fd_router.openai.continuation.plan import Continuation
from fd_router.openai.continuation.prompt_leak import PromptLeak
from fd_router.openai.continuation.seam_text import SeamText
from fd_router.openai.continuation.source_request import SourceRequest
from fd_router.openai.continuation.token_usage import ESTIMATED, REASONING_TOKENS, joined_usage

LAST: Final = b"data: [DONE]\n\n"

STARTED_OVER: Final = "started_over"
ERROR_EVENT: Final = "error_event"
CUT_OFF: Final = "cut_off"
EVENT_TOO_LONG: Final = "event_too_long"

MAX_EVENT: Final = 8 * 1024 * 1024
"""Bytes of one event of the second stream, whose first one may tell the ids of a long prompt and all that follows."""

_IS_NAMED_ERROR: Final = re.compile(rb"event:\s*error\b")


def _nobody() -> int | None:
    """Nobody counts."""


class Seam:
    """Takes the content of the stream that goes on, gives the events for the client.

    ``generated`` is what there is so far, and is kept up to date. When ``broken`` isn't empty, the second stream is no
    answer either; when ``is_done``, the client's stream has its last event, whatever else comes.
    """

    __slots__ = (
        "_counted", "_generated", "_head", "_held", "_hides_ids", "_is_first", "_leak", "_plan", "_prompt_tokens",
        "_sent", "_source", "_splitter", "_text", "broken", "is_done",
    )  # fmt: skip

    def __init__(
        self,
        source: SourceRequest,
        generated: Generated,
        plan: Continuation,
        counted: Callable[[], int | None] = _nobody,
        prompt_tokens: int = 0,
    ) -> None:
        """``counted``: tells how many tokens the text has that the second instance is given, as soon as that is known.

        ``prompt_tokens``: an estimate, for an answer that ends before an instance tells them; 0: there is none.
        """
        self._counted = counted
        self._prompt_tokens = prompt_tokens
        self._source = source
        self._plan = plan
        self._generated = generated
        self._head = generated.head  # of the first stream, if it came so far
        generated.rewind()
        if plan.by == "text":
            generated.lose_ids()
        self._splitter = EventSplitter()
        self._text: SeamText | None = SeamText(
            generated.whole_text, plan.repeats, plan.beginning, source.stops if plan.by != "start" else ()
        )
        may_leak = plan.by == "tokens" and generated.ends_within
        self._leak = PromptLeak(source, generated) if may_leak else None
        self._sent = len(generated.whole_text)  # characters
        self._held: list[Fields] = []  # events that the client may not see before more has come
        self._is_first = True
        self._hides_ids = False  # they are told although the client didn't ask
        self.broken = ""
        """Why the second stream can't be used, a word."""
        self.is_done = False

    def feed(self, content: bytes) -> bytes:
        """Take more content. Returns the events that the client is to be sent now."""
        out = [self._rewritten(event) for event in self._splitter.feed(content)]
        if len(self._splitter.pending) > MAX_EVENT and not self.is_done:
            self.broken = self.broken or EVENT_TOO_LONG
        return b"".join(out)

    def _rewritten(self, event: bytes) -> bytes:
        if self.is_done or self.broken:
            return b""
        data = payload(event)
        if not data:
            return b"" if self._is_first else event  # a comment
        if data == DONE:
            self.is_done = True
            return self._release() + LAST
        fields = decode_object(data)
        if fields is None:
            return self._release() + event
        self.broken = ERROR_EVENT if _IS_NAMED_ERROR.match(event) else self._flaw(fields)
        return b"" if self.broken else self._join(fields)

    def _flaw(self, fields: Fields) -> str:
        """Return why the second stream can't be used, "" if this event is right."""
        if is_error(fields):
            return ERROR_EVENT
        finishes = {text_of(choice, "finish_reason") for choice in objects(fields.get("choices"))}
        if broken := finishes & BROKEN_FINISHES:
            return next(iter(broken))
        if self._is_first and (expected := self._plan.expected) is not None and prompt_ids_of(fields) != expected:
            return STARTED_OVER
        return ""

    # one event

    def _join(self, fields: Fields) -> bytes:
        """Write an event anew, and give it, or keep it until its text is beyond doubt."""
        fields.update(self._head)
        if self._plan.by == "start":  # it was given no more than the first stream, which broke off before it told
            self._generated.learn_prompt(fields)
        self._drop_prompt(fields)
        if isinstance(usage := fields.get("usage"), dict):
            thoughts = self._generated.thoughts - self._plan.thoughts
            fields["usage"] = joined_usage(usage, self._plan, thoughts, self._counted())
        opens, self._is_first = self._is_first, False
        choices = objects(fields.get("choices"))  # FastDeploy may put several of one answer's into an event
        new = [choice for choice in choices if not self._join_choice(choice, opens=opens)]
        if len(new) < len(choices):
            if not new:
                return b""
            fields["choices"] = new
        self._held.append(fields)
        return self._judge_text()

    def _join_choice(self, choice: Fields, *, opens: bool) -> bool:
        """Take out of a choice what was said before. Returns whether nothing else is in it."""
        content = content_of(choice, chat=self._generated.chat)
        if self._head and content.pop("role", None) is not None:
            opens = True
        _shift_offsets(choice, self._sent)
        if self._leak is not None and self._leak.mend(content):
            self._leak = None
        had_ids = self._skip_hidden(choice)
        had_text = self._skip_text(content)
        is_empty = not _shows_anything(choice, content) and not token_ids_of(choice)
        return is_empty and (had_ids or had_text or (opens and bool(self._head)))

    def _skip_hidden(self, choice: Fields) -> bool:
        """Take ids out that the client has seen. Returns whether there were some."""
        ids = token_ids_of(choice)
        if not ids or not self._generated.hidden:
            return False
        at = self._generated.take_again(ids)
        for place in id_places(choice):
            for name in TOKEN_IDS:
                if place.get(name) == ids:
                    place[name] = ids[at:]
        return at > 0

    def _skip_text(self, content: Fields) -> bool:
        """Take text out that the client has. Returns whether there was some."""
        name = "content" if self._generated.chat else "text"
        text = text_of(content, name)
        if not text or self._text is None:
            return False
        content[name] = new = self._text.feed(text)
        return len(new) < len(text)

    def _drop_prompt(self, fields: Fields) -> None:
        """Take the prompt out, which has some of the answer by now; the first event has told it."""
        told = prompt_ids_of(fields) is not None
        self._hides_ids = self._hides_ids or (told and not self._source.wants_ids)
        if not told or (self._source.wants_ids and not self._head):
            return
        for place in (fields, *_places(fields)):
            for name in (PROMPT_IDS, *PROMPT_TEXTS):
                place.pop(name, None)

    def end(self) -> bytes:
        """The second stream is over. Returns what is left of it; one that didn't say why it ended isn't whole."""
        rest = self.feed(b"\n\n") if self._splitter.pending.strip() else b""  # an event without the line behind it
        if self.is_done or self.broken:
            return rest
        if not self._generated.finish:
            self.broken = CUT_OFF
            return rest
        return rest + self._release()

    # what the text at the seam means

    def _judge_text(self) -> bytes:
        text = self._text
        if text is None:
            return self._release()
        if text.starts_over(whole=True):
            self._held, self.broken = [], STARTED_OVER
            return b""
        if text.stop:
            return self._stop_here(text)
        if text.is_open and not any(map(_shows_more, self._held)):
            return b""
        if text.new:
            self._text = None  # nearly always behind the first event
        return self._release()

    def _release(self) -> bytes:
        held, self._held = self._held, []
        for fields in held:
            self._generated.feed(fields)
            if self._hides_ids:
                _drop_ids(fields)
        return b"".join([b"data: %b\n\n" % encode(fields) for fields in held])

    def _stop_here(self, text: SeamText) -> bytes:
        """End the stream where a text to stop at was found across the seam.

        Where that is shown, the events that have it count, as in an answer that one instance gave.
        """
        shown = text.behind_stop() if self._source.shows_stop else 0
        self._held = _up_to(shown, self._held, text.stop, chat=self._generated.chat)
        self.is_done = True
        return self._release() + last_events(self._source, self._generated, "stop", self._prompt_tokens)

    def __repr__(self) -> str:
        return f"<Seam {self._generated!r}{' ' + self.broken if self.broken else ''}>"


def _shows_anything(choice: Fields, content: Fields) -> bool:
    shown = text_of(content, "content") or text_of(content, "text") or reasoning_of(content)
    return bool(shown or content.get("tool_calls") or choice.get("finish_reason"))


def _shift_offsets(choice: Fields, sent: int) -> None:
    """Have the places of tokens in a completion's text count from its beginning."""
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict) and (offsets := ids_of(logprobs, "text_offset")):
        logprobs["text_offset"] = [offset + sent for offset in offsets]


def _shows_more(fields: Fields) -> bool:
    """Return whether an event has more than text in it, after which its text can't be waited for."""
    return any(
        choice.get("finish_reason") or content.get("tool_calls") or reasoning_of(content)
        for choice in objects(fields.get("choices"))
        for content in (choice, content_of(choice, chat=True))
    )


def _up_to(characters: int, events: list[Fields], stop: str, *, chat: bool) -> list[Fields]:
    """Return the events that have the next so many characters; the last one says that the answer ends there."""
    kept: list[Fields] = []
    for fields in events:
        choices: list[Fields] = []
        for choice in objects(fields.get("choices")):
            if characters > 0:
                choices.append(choice)
                characters -= _cut_at(characters, choice, stop, chat=chat)
        if choices:
            kept.append({**fields, "choices": choices})
    return kept


def _cut_at(characters: int, choice: Fields, stop: str, *, chat: bool) -> int:
    """Cut a choice's text behind so many characters, and have it end there. Returns how many it had."""
    content, name = content_of(choice, chat=chat), "content" if chat else "text"
    text = text_of(content, name)
    if len(text) >= characters:
        content[name] = text[:characters]
        choice["finish_reason"] = "stop"
        if "stop_reason" in choice:  # vLLM tells the text, too
            choice["stop_reason"] = stop
    return len(text)


def _drop_ids(fields: Fields) -> None:
    for place in _places(fields):
        for name in (PROMPT_IDS, *TOKEN_IDS, IDS_AS_TEXT):
            place.pop(name, None)


def _places(fields: Fields) -> Iterable[Fields]:
    """Return the objects of an event's choices in which engines put token ids."""
    return (place for choice in objects(fields.get("choices")) for place in id_places(choice))


def last_events(source: SourceRequest, generated: Generated, reason: str, prompt_tokens: int = 0) -> bytes:
    """Return the events that end a stream of which nothing is left to be generated.

    ``prompt_tokens``: an estimate, where the stream doesn't tell them; 0: there is none.
    """
    events: list[Fields] = []
    if not generated.finish:
        events.append({**generated.head, "choices": [_last_choice(reason, chat=generated.chat)]})
    if source.wants_usage and (usage := _own_usage(generated, prompt_tokens)) is not None:
        events.append({**generated.head, "choices": [], "usage": usage})
    for event in events:
        generated.feed(event)
    return b"".join([b"data: %b\n\n" % encode(event) for event in events]) + LAST


def _last_choice(reason: str, *, chat: bool) -> Fields:
    content: Fields = {"delta": {}} if chat else {"text": ""}
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def _own_usage(generated: Generated, prompt_tokens: int) -> dict[str, Any] | None:
    """Return the usage of an answer whose instance didn't come to tell it; None if it can't be known, or was told."""
    ids = generated.prompt_ids
    is_exact = ids is not None and generated.has_all_ids
    if generated.has_last_usage or not (is_exact or prompt_tokens):
        return None
    prompt = prompt_tokens if ids is None else len(ids)
    completion = len(generated.ids) if is_exact else generated.tokens
    usage: Fields = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if not is_exact:
        usage[ESTIMATED] = True
    if generated.thoughts:
        usage["completion_tokens_details"] = {REASONING_TOKENS: generated.thoughts}
    return usage
