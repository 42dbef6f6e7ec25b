"""What a stream has generated, read from its events: text, token ids, reasoning, tool calls, and how it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fd_router.openai.continuation.event_json import Fields, decode_object, ids_of, objects, text_of
from fd_router.openai.continuation.event_splitter import DONE, payload

HEAD: Final = ("id", "object", "created", "model", "system_fingerprint")
"""The members that are the same in all events of a stream."""

PROMPT_IDS: Final = "prompt_token_ids"
"""Where engines tell the prompt's ids, in the first event: at its top, in the choice or in the delta."""

PROMPT_TEXTS: Final = ("prompt_text", "prompt_tokens")
"""What vLLM, and FastDeploy beside the ids, call the prompt's text; in usage, the latter is a number."""

IDS_AS_TEXT: Final = "completion_tokens"
"""What FastDeploy calls the text of an event's tokens, beside their ids; in usage, it is a number."""

TOKEN_IDS: Final = ("token_ids", "completion_token_ids", "output_ids")
"""What vLLM and SGLang, FastDeploy, and SGLang's own protocol call the ids generated."""

REASONING: Final = ("reasoning_content", "reasoning")
"""What engines call the text of a thinking model's thoughts."""

MULTIMODAL: Final = "multimodal_content"
"""Where FastDeploy's models that make images as well put all that they say, in parts, instead of the content."""

_BEYOND_TEXT: Final = ("refusal", "audio", "images")
"""Other members of a delta that show something."""

_SHOWS_NOTHING: Final = frozenset((
    "role", "content", "tool_calls", "function_call", MULTIMODAL, *REASONING, *_BEYOND_TEXT,
    PROMPT_IDS, *PROMPT_TEXTS, "text_after_process", *TOKEN_IDS, IDS_AS_TEXT, "raw_prediction",
))  # fmt: skip
"""Members of a delta of which it is known whether they show something."""

BROKEN_FINISHES: Final = frozenset({"abort", "pd_reschedule", "recover_stop", "error"})
"""Reasons to finish of an instance that stops before the answer is whole."""


class Generated:
    """Fed with a stream's events, in their order. ``chat`` tells the protocol: deltas, or texts.

    Token ids count up to the last event that shows something (``known``): what comes behind may be half a character, or
    hidden by a parser. An engine that is given such ids continues with the wrong text.
    """

    __slots__ = (
        "_may_be_thought", "chat", "ends_within", "finish", "has_all_ids", "has_last_usage", "has_logprobs",
        "has_tool_calls", "has_unknown", "head", "hidden", "ids", "is_done", "is_foreign", "known", "prompt_ids",
        "reasoning", "several", "shown", "text", "thoughts",
    )  # fmt: skip

    def __init__(self, *, chat: bool) -> None:
        self.chat = chat
        self.head: Fields = {}  # of its first event
        self.prompt_ids: list[int] | None = None
        self.ids: list[int] = []
        self.known = 0  # of these ids, those that are shown
        self.hidden: list[int] = []  # ids that come again; a client that sees ids has seen them
        self.ends_within = False  # the last of them came with others, and may be half a character
        self.has_all_ids = True  # nothing was shown without its ids
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.thoughts = 0  # tokens of it, without the marks around it, as far as ids are told
        self._may_be_thought = 0  # tokens behind these: thoughts, if the next text is one
        self.shown = 0  # events that show something: about as many tokens
        self.has_tool_calls = False
        self.has_logprobs = False
        self.is_foreign = False  # there were events that aren't of the protocol: what they say isn't known
        self.has_unknown = False  # there was a member of which it isn't known whether it shows something
        self.several = False  # choices
        self.finish = ""
        self.has_last_usage = False  # it was told in an event of its own
        self.is_done = False

    @property
    def whole_text(self) -> str:
        """The text so far, without the thoughts."""
        return "".join(self.text)

    @property
    def has_begun(self) -> bool:
        """Whether there was an event at all."""
        return bool(self.head)

    @property
    def tokens(self) -> int:
        """Tokens that are shown: by their ids, or else by the events, of which each has one or a few."""
        return self.known if self.has_all_ids else self.shown

    @property
    def blank_at_end(self) -> int:
        """Events at the end that show nothing but white space, of which each is a token or a few."""
        return next((at for at, text in enumerate(reversed(self.text)) if not text.isspace()), len(self.text))

    def feed_event(self, event: bytes) -> None:
        """Take one whole event as it came."""
        data = payload(event)
        if data == DONE:
            self.is_done = True
        elif data and (fields := decode_object(data)) is not None:
            self.feed(fields)
        elif data:
            self.is_foreign = True

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take the object of one event."""
        if is_error(event):
            return
        if not self.head:
            self.head = {name: event[name] for name in HEAD if name in event}
        choices = objects(event.get("choices"))
        self.is_foreign = self.is_foreign or not isinstance(event.get("choices"), list)
        self.has_last_usage = self.has_last_usage or (not choices and isinstance(event.get("usage"), dict))
        self.learn_prompt(event)
        for choice in choices:
            self._take_choice(choice)

    def rewind(self) -> None:
        """Forget the ids that show nothing, since another stream begins with these again."""
        self.hidden = self.ids[self.known :] + self.hidden
        self.ids = self.ids[: self.known]

    def take_again(self, ids: list[int]) -> int:
        """Take ids of the stream that goes on. Returns how many of them came before, and are hidden."""
        hidden = self.hidden
        at = 0
        while at < min(len(ids), len(hidden)) and ids[at] == hidden[at]:
            at += 1
        self.ids += ids[:at]
        if at == len(ids):
            self.hidden = hidden[at:]
        else:
            self.hidden = []
            self._may_be_thought = self._may_be_thought if at == len(hidden) else 0  # else it says something else
        return at

    def lose_ids(self) -> None:
        """What follows goes on from the text: its ids aren't those behind the ones so far."""
        self.shown = self.tokens
        self.has_all_ids = False

    def learn_prompt(self, event: Mapping[str, Any]) -> None:
        """Take the prompt's ids, if an event tells them."""
        if self.prompt_ids is None:
            self.prompt_ids = prompt_ids_of(event)

    def _take_choice(self, choice: Fields) -> None:
        if choice.get("index", 0) != 0:
            self.several = True
        content = content_of(choice, chat=self.chat)
        ids = token_ids_of(choice)
        if ids:
            self.ids += ids
        if self._shows(content):
            self.shown += 1
            self.has_all_ids = self.has_all_ids and bool(ids)
            self.known = len(self.ids)
            self.ends_within = len(ids or ()) > 1
        self._count_thoughts(content, len(ids or ()))
        self.has_logprobs = self.has_logprobs or bool(choice.get("logprobs"))
        self.finish = text_of(choice, "finish_reason") or self.finish

    def _count_thoughts(self, content: Fields, tokens: int) -> None:
        """Half a character has the member of the thoughts with nothing in it; a mark doesn't have it."""
        if reasoning_of(content):
            self.thoughts += self._may_be_thought + tokens
        if self.known == len(self.ids):
            self._may_be_thought = 0
        elif any(isinstance(content.get(name), str) for name in REASONING):
            self._may_be_thought += tokens

    def _shows(self, content: Fields) -> bool:
        """Take what an event shows. Returns whether it is anything at all."""
        text = text_of(content, "content" if self.chat else "text")
        reasoning = reasoning_of(content)
        calls = bool(content.get("tool_calls") or content.get("function_call"))
        if text:
            self.text.append(text)
        if reasoning:
            self.reasoning.append(reasoning)
        self.has_tool_calls = self.has_tool_calls or calls
        if self.chat:
            self.is_foreign = self.is_foreign or _is_beyond_text(content)
            self.has_unknown = self.has_unknown or _has_unknown(content)
        return bool(text or reasoning or calls)

    def __repr__(self) -> str:
        return f"<Generated {self.tokens} tokens{' ' + self.finish if self.finish else ''}>"


def _is_beyond_text(delta: Mapping[str, Any]) -> bool:
    """Return whether a delta shows something that isn't a text in its content."""
    content = delta.get("content")
    if content and not isinstance(content, str):
        return True
    parts = objects(delta.get(MULTIMODAL))
    return any(part.get("type", "text") != "text" or part.get("text") for part in parts) or any(
        delta.get(name) for name in _BEYOND_TEXT
    )


def _has_unknown(delta: Mapping[str, Any]) -> bool:
    """Return whether a delta has a text, or more, in a member that no engine known here has."""
    return any(
        value and isinstance(value, str | list | dict) and name not in _SHOWS_NOTHING for name, value in delta.items()
    )


def is_error(event: Mapping[str, Any]) -> bool:
    """Return whether an event says that the engine failed: as OpenAI has it, or as an object of that kind."""
    return bool(event.get("error")) or event.get("object") == "error"


def content_of(choice: Fields, *, chat: bool) -> Fields:
    """Return the object that has a choice's text: its delta (chat), or itself."""
    if not chat:
        return choice
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else {}


def reasoning_of(content: Mapping[str, Any]) -> str:
    """Return what an event adds to the thoughts; some engines tell it by both names."""
    return next((text for name in REASONING if (text := text_of(content, name))), "")


def id_places(choice: Fields) -> Iterable[Fields]:
    """Return the objects of a choice in which engines put token ids."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return (choice,)
    return (choice, delta, *objects(delta.get(MULTIMODAL)))


def token_ids_of(choice: Fields) -> list[int] | None:
    """Return the ids generated that an event's choice tells; None if it tells none."""
    found = (ids_of(place, name) for place in id_places(choice) for name in TOKEN_IDS)
    return next((ids for ids in found if ids is not None), None)


def prompt_ids_of(event: Mapping[str, Any]) -> list[int] | None:
    """Return the prompt's ids that an event tells; None if it tells none."""
    if (ids := ids_of(event, PROMPT_IDS)) is not None:
        return ids
    for choice in objects(event.get("choices")):
        for place in id_places(choice):
            if (ids := ids_of(place, PROMPT_IDS)) is not None:
                return ids
    return None
