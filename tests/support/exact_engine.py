"""An engine that always says the same, in the words of any dialect, and checks what it is given of its own answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fd_router.http.dechunk import dechunked
from fd_router.openai.continuation.event_splitter import DONE, EventSplitter, payload

PROMPT_IDS = [7, 8, 9]


class Step(NamedTuple):
    """What one event adds: ids, and what of them is shown, if anything."""

    ids: list[int]
    text: str = ""
    reasoning: str = ""
    half: bool = False  # the last of several ids is half a character, which the next event's text begins with


def steps_of(words: Sequence[str | bytes], *, thought: int = 0) -> list[Step]:
    """Make a token of each word; the first ``thought`` are thoughts. Bytes show nothing: the rest comes with the next.

    A token that is only half a character is one of these.
    """
    steps, pending = [], b""
    for number, word in enumerate(words):
        if isinstance(word, bytes):
            pending += word
            try:
                text, pending = pending.decode(), b""
            except UnicodeDecodeError:
                text = ""
        else:
            text = word
        steps.append(Step([100 + number], "" if number < thought else text, text if number < thought else ""))
    return steps


SMILE = "🙂".encode()
PLAIN = steps_of(
    ["Grü", "ße", ",", " 世", "界", "\n", "\n", "  x", SMILE[:1], SMILE[1:3], SMILE[3:], " and", " so", " on", "."]
)
TIGHT = steps_of(["Well", ",", " it", " is", " a", " \n", "line", "é".encode()[:1], "é".encode()[1:], " ends", " here"])
THINKING = [
    *steps_of(["Let", " me", " see", "…"], thought=4),
    Step([150]),  # the mark behind the thoughts, which a parser hides
    *[Step([200 + step.ids[0]], step.text) for step in steps_of(["It", " is", " ", SMILE[:2], SMILE[2:], " 42", "."])],
]
SEVERAL = [
    Step([100, 101], "two at"),
    Step([102], " a"),
    Step([103, 104, 105], " time, or"),
    Step([106]),
    Step([107], " three"),
]
LATE = [
    Step([100, 101], "Gru", half=True),
    Step([102, 103], "ß, ", half=True),
    Step([104]),
    Step([105, 106], "世界", half=True),
    Step([107], "🙂 ends"),
    Step([108], " here"),
]
"""What an engine says whose client is slow: an event has what came meanwhile, wherever that ends."""
LATE_THOUGHTS = [
    Step([100, 101], "", "Let me s", half=True), Step([102, 103], "", "ée."), Step([104]),
    Step([105, 106], "Well, n", half=True), Step([107], "ó."), Step([108], "é"),
]  # fmt: skip


def _in_lines(event: bytes) -> bytes:
    """An event whose data are in two lines: JSON may have a line's end between members."""
    head, comma, rest = event.partition(b',"')
    return b'%b,\ndata: "%b' % (head, rest) if comma else event


FORMS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "": lambda events: events,
    "crlf": lambda events: [event.replace(b"\n", b"\r\n") for event in events],
    "comments": lambda events: [b": ping\n\n" + event for event in events],
    "names": lambda events: [b"event: message\n" + event for event in events],
    "lines": lambda events: [_in_lines(event) for event in events],
    "pairs": lambda events: [b"".join(events[at : at + 2]) for at in range(0, len(events), 2)],
}
"""How events are written, a chunk each or several in one, whatever is in them."""


class ExactEngine:
    """One engine. ``dialect`` names the way in which it tells and takes ids and text."""

    def __init__(
        self, dialect: str, steps: Sequence[Step], *, number: int = 1, starts_over: bool = False, form: str = ""
    ) -> None:
        self.dialect = dialect
        self.steps = steps
        self.number = number  # of its answers: each has an id of its own
        self.starts_over = starts_over
        self.form = FORMS[form]  # of what it writes
        self.asked: list[dict[str, Any]] = []
        self.leaks = ""  # the prompt's text, of which nobody should see anything

    @property
    def ids(self) -> list[int]:
        return [one for step in self.steps for one in step.ids]

    @property
    def text(self) -> str:
        return "".join(step.text for step in self.steps)

    def answer(self, body: bytes, *, chat: bool) -> bytes:
        """Return the whole stream, an event a chunk."""
        fields = json.loads(body)
        self.asked.append(fields)
        given, steps = self._resume(fields, chat=chat)
        steps = _up_to_stop(steps, fields.get("stop", ""))
        events = self._events(fields, PROMPT_IDS + given, steps, chat=chat)
        pieces = [
            b"data: %b\n\n" % json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() for one in events
        ]
        chunks = self.form([*pieces, b"data: [DONE]\n\n"])
        return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"

    # what it is given

    def _resume(self, fields: dict[str, Any], *, chat: bool) -> tuple[list[int], list[Step]]:
        """Return the ids given beside the prompt, and the steps that are left."""
        if self.starts_over:
            return [], list(self.steps)
        self.leaks = "user\nSay it\nassistant\n" if chat else "Say it:"
        if (ids := self._given_ids(fields, chat=chat)) is not None:
            return self._behind_ids(ids)
        if (text := self._given_text(fields, chat=chat)) is not None:
            return self._behind_text(text)
        return [], list(self.steps)

    def _given_ids(self, fields: dict[str, Any], *, chat: bool) -> list[int] | None:
        if not chat:
            prompt = fields["prompt"]
            return prompt if isinstance(prompt, list) and isinstance(prompt[0], int) else None
        if self.dialect == "vllm":
            return (fields.get("kv_transfer_params") or {}).get("prompt_token_ids")
        return fields.get("prompt_token_ids") if self.dialect == "fastdeploy" else None

    def _given_text(self, fields: dict[str, Any], *, chat: bool) -> str | None:
        if not chat:
            assert fields["prompt"].startswith("Say it:")
            return fields["prompt"].removeprefix("Say it:")
        if not fields.get("continue_final_message"):
            assert fields["messages"][-1]["role"] == "user"
            return None
        assert self.dialect in {"vllm", "sglang"}
        if self.dialect == "vllm":
            assert fields["add_generation_prompt"] is False
        assert [message["role"] for message in fields["messages"]] == ["user", "assistant"]
        return fields["messages"][-1]["content"]

    def _behind_ids(self, ids: list[int]) -> tuple[list[int], list[Step]]:
        assert ids[: len(PROMPT_IDS)] == PROMPT_IDS
        given = ids[len(PROMPT_IDS) :]
        assert given == self.ids[: len(given)], "a token was lost or doubled"
        count, at = 0, 0
        while count < len(given):
            count += len(self.steps[at].ids)
            at += 1
        assert count == len(given), "between two tokens of one event"
        assert not given or self.steps[at - 1].text or self.steps[at - 1].reasoning, (
            "within a character: the prompt leaks"
        )
        return given, self._leaking(at) if at and self.steps[at - 1].half else list(self.steps[at:])

    def _leaking(self, at: int) -> list[Step]:
        """Return the steps from ``at`` on, behind half a character: the first that shows something shows all."""
        before, rest = self.steps[:at], list(self.steps[at:])
        first = next(number for number, step in enumerate(rest) if step.text or step.reasoning)
        so_far = self.leaks + "".join(step.reasoning + step.text for step in before)
        step = rest[first]
        rest[first] = (
            step._replace(reasoning=so_far + step.reasoning)
            if step.reasoning
            else step._replace(text=so_far + step.text)
        )
        return rest

    def _behind_text(self, text: str) -> tuple[list[int], list[Step]]:
        assert self.text.startswith(text), "a character was lost or doubled"
        so_far, ids = "", []
        for at, step in enumerate(self.steps):
            if len(so_far) + len(step.text) > len(text) or (so_far == text and step.ids):
                rest = step.text[len(text) - len(so_far) :]
                return ids, [Step(step.ids, rest), *self.steps[at + 1 :]]
            so_far, ids = so_far + step.text, ids + step.ids
        return ids, []

    # what it says

    def _events(
        self, fields: dict[str, Any], prompt: list[int], steps: Sequence[Step], *, chat: bool
    ) -> list[dict[str, Any]]:
        tells = fields.get("return_token_ids") is True
        head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.number}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1_700_000_000 + self.number,
            "model": "tiny",
        }
        most = fields.get("max_tokens")
        made = [step for number, step in enumerate(steps) if most is None or number < most]
        assert most is None or most > 0
        events = [{**head, **self._opening(prompt if tells else None, chat=chat)}] if chat else []
        events += [{**head, "choices": [self._choice(step, tells=tells, chat=chat)]} for step in made]
        if not chat and tells and events:
            events[0]["choices"][0]["prompt_token_ids"] = prompt
        last = events[-1]["choices"][0]
        last["finish_reason"] = "stop" if len(made) == len(steps) else "length"
        if (fields.get("stream_options") or {}).get("include_usage"):
            count = sum(len(step.ids) for step in made)
            usage: dict[str, Any] = {
                "prompt_tokens": len(prompt),
                "completion_tokens": count,
                "total_tokens": len(prompt) + count,
            }
            if any(step.reasoning for step in self.steps):
                thoughts = sum(len(step.ids) for step in made if step.reasoning)
                usage["completion_tokens_details"] = {"reasoning_tokens": thoughts}
            events.append({**head, "choices": [], "usage": usage})
        return events

    def _opening(self, prompt: list[int] | None, *, chat: bool) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        opening: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if prompt is not None:
            (opening if self.dialect == "vllm" else delta)["prompt_token_ids"] = prompt
        return opening

    def _choice(self, step: Step, *, tells: bool, chat: bool) -> dict[str, Any]:
        content: dict[str, Any] = {"content" if chat else "text": step.text}
        if step.reasoning:
            content = {"reasoning_content": step.reasoning}
        choice: dict[str, Any] = {"index": 0, **({"delta": content} if chat else content), "finish_reason": None}
        if tells:
            own = self.dialect == "fastdeploy"
            (content if own and chat else choice)["completion_token_ids" if own else "token_ids"] = step.ids
        return choice


def _up_to_stop(steps: list[Step], stop: str) -> list[Step]:
    """Return the steps up to the one with the end of ``stop``, which is shown; of what was before nothing is known."""
    text = ""
    for at, step in enumerate(steps):
        text += step.text
        if stop and stop in text:
            behind = len(text) - text.index(stop) - len(stop)
            return [*steps[:at], step._replace(text=step.text[: len(step.text) - behind])]
    return steps


def events_of(framed: bytes) -> list[dict[str, Any]]:
    """Return the objects of a whole stream's events, as a client reads them; ``[DONE]`` is one without members."""
    splitter = EventSplitter()
    events = splitter.feed(dechunked(framed))
    assert not splitter.pending
    payloads = [data for event in events if (data := payload(event))]
    return [{} if data == DONE else json.loads(data) for data in payloads]
