"""An engine that says what was recorded, and goes on in the middle of that as the same engine would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fd_router.http.dechunk import dechunked
from fd_router.openai.continuation.event_splitter import DONE, EventSplitter, payload
from fd_router.openai.continuation.generated import (
    PROMPT_IDS,
    PROMPT_TEXTS,
    id_places,
    prompt_ids_of,
    reasoning_of,
    token_ids_of,
)

FOLDER = Path(__file__).parent.parent / "fixtures" / "streams"

THINK = 7
"""The mark that opens thoughts in vLLM's recording, which counts what is behind it only."""

Event = dict[str, Any]


class RecordedEngine:
    """``name``: of the recording. ``number``: of its answer, which has an id of its own."""

    def __init__(self, name: str, *, number: int = 1) -> None:
        self.number = number
        self.recorded = (FOLDER / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]
        payloads = [payload(event) for event in EventSplitter().feed(dechunked(self.recorded))]
        self.events: list[bytes] = [data for data in payloads if data != DONE]
        decoded = [json.loads(data) for data in self.events]
        self.prompt = next((ids for event in decoded if (ids := prompt_ids_of(event))), [])
        choices = [choice for event in decoded for choice in event["choices"]]
        self.ids = [one for choice in choices for one in token_ids_of(choice) or ()]
        self.text = "".join(map(text_of, choices))

    def answer(self, body: bytes, *, chat: bool) -> bytes:
        """Return the whole stream that answers ``body``."""
        asked = json.loads(body)
        ids, text = self._given_ids(asked), self._given_text(asked, chat=chat)
        if self.number == 1 and not ids and not text:
            return self.recorded
        pieces = [b"data: %b\n\n" % encoded(event) for event in self._rest(ids, len(text))]
        return b"".join([b"%x\r\n%b\r\n" % (len(one), one) for one in (*pieces, b"data: [DONE]\n\n")]) + b"0\r\n\r\n"

    # what it is given

    def _given_ids(self, asked: Event) -> list[int]:
        told = (asked.get("kv_transfer_params") or {}).get(PROMPT_IDS) or asked.get(PROMPT_IDS)
        if told is None and isinstance(asked.get("prompt"), list):
            told = asked["prompt"]
        if told is None:
            return []
        assert told[: len(self.prompt)] == self.prompt
        given: list[int] = told[len(self.prompt) :]
        assert given == self.ids[: len(given)], "a token was lost or doubled"
        return given

    def _given_text(self, asked: Event, *, chat: bool) -> str:
        if isinstance(asked.get("prompt"), list) or (chat and not asked.get("continue_final_message")):
            return ""
        text: str = asked["messages"][-1]["content"] if chat else asked["prompt"].removeprefix("Say it:")
        assert self.text.startswith(text), "a character was lost or doubled"
        return text

    # what it says

    def _rest(self, given: list[int], said: int) -> Iterator[Event]:
        """Give the events that are left behind so many ids, or characters."""
        is_told = False
        for event in self._regrouped(self._left(len(given), said)):
            event.update(id=f"another-{self.number}", created=event["created"] + self.number)
            if isinstance(usage := event.get("usage"), dict):
                self._count(usage, given)
            is_told = tell_prompt(event, None if is_told else [*self.prompt, *given]) or is_told
            yield event

    def _left(self, given: int, said: int) -> Iterator[Event]:
        """Give the events that have something left, and what they have."""
        count = characters = 0
        for data in self.events:
            event: Event = json.loads(data)
            left = []
            for choice in event["choices"]:
                ids, text = token_ids_of(choice) or [], text_of(choice)
                count, characters = count + len(ids), characters + len(text)
                if not (ids and count <= given) and not (text and characters <= said):
                    left.append(choice)
            if left or not event["choices"]:
                yield {**event, "choices": left}

    def _regrouped(self, events: Iterator[Event]) -> Iterator[Event]:
        """Put as many choices into an event as were recorded."""
        most = max(len(json.loads(data)["choices"]) for data in self.events)
        waiting: list[Event] = []
        for event in events:
            if most == 1 or not event["choices"] or "role" in event["choices"][0]["delta"]:
                yield event
                continue
            waiting += event["choices"]
            while len(waiting) >= most or (waiting and waiting[-1].get("finish_reason")):
                yield {**event, "choices": waiting[:most]}
                waiting = waiting[most:]

    def _count(self, usage: dict[str, Any], given: list[int]) -> None:
        """Count what is given as prompt."""
        usage["prompt_tokens"] += len(given)
        usage["completion_tokens"] -= len(given)
        if details := usage.get("completion_tokens_details"):
            details["reasoning_tokens"] = 0 if THINK in given else self._thoughts(len(given))

    def _thoughts(self, given: int) -> int:
        """Count the tokens of thoughts behind so many."""
        count = thoughts = pending = 0
        for data in self.events:
            for choice in json.loads(data)["choices"]:
                for _ in token_ids_of(choice) or ():
                    count += 1
                    pending += count > given and choice.get("delta") != {}
                if text_of(choice):
                    thoughts, pending = thoughts + (pending if reasoning_of(choice.get("delta", {})) else 0), 0
        return thoughts


def tell_prompt(event: Event, ids: list[int] | None) -> bool:
    """Have the first event that stands for it tell the prompt: where it was recorded, or in a completion's choice."""
    places = [event, *(place for choice in event["choices"] for place in id_places(choice))]
    told = [place for place in places if place.get(PROMPT_IDS)]
    if ids is None or not event["choices"]:
        return False
    for place in told:
        place[PROMPT_IDS] = ids
        place.update({name: "all of it" for name in PROMPT_TEXTS if name in place})
    if not told and "text" in event["choices"][0]:
        event["choices"][0][PROMPT_IDS] = ids
    return True


def text_of(choice: dict[str, Any]) -> str:
    """Return what a choice shows."""
    delta = choice.get("delta", choice)
    return reasoning_of(delta) or delta.get("content") or delta.get("text") or ""


def encoded(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
