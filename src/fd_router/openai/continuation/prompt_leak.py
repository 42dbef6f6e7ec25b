"""The prompt that leaks: what vLLM says first when the ids that it is given end within a character.

Its detokenizer begins with whole text. Behind half a character it waits for the rest, and then says all that it has:
the prompt, the answer so far, and the new character (vllm issue 48853). Ids whose event shows nothing are left out for
that reason; but an event of several ids, as an engine makes them whose client is slow, may end within a character too.
"""

from __future__ import annotations

from typing import Any, Final

from fd_router.openai.continuation.event_json import Fields, objects, text_of
from fd_router.openai.continuation.generated import REASONING, Generated
from fd_router.openai.continuation.source_request import SourceRequest

TOKENS_A_CHARACTER: Final = 4
"""The most tokens that a character of a prompt has: bytes of UTF-8."""


class PromptLeak:
    """Looks at the first text of a continuation. ``generated``: what there is before that."""

    def __init__(self, source: SourceRequest, generated: Generated) -> None:
        self._chat = source.chat
        self._prompt = _last_text(source) if source.chat else (source.prompt or "").lstrip()
        self._least = len(generated.prompt_ids or ()) // TOKENS_A_CHARACTER
        self._sent = {name: "".join(generated.reasoning) for name in REASONING}
        self._sent["content" if source.chat else "text"] = generated.whole_text

    def mend(self, content: Fields) -> bool:
        """Take out of an event what leaked. Returns whether it had the first text, so that no more can be wrong."""
        said = [(name, text) for name in self._sent if (text := text_of(content, name))]
        for name, text in said:
            content[name] = text[self._leaked(text, self._sent[name]) :]
        return bool(said)

    def _leaked(self, text: str, sent: str) -> int:
        """Return how many characters of ``text`` leaked."""
        if not sent:
            return 0
        if self._prompt and not self._chat:  # nothing but the prompt's text is before the answer's
            end = len(text) - len(text.lstrip()) + len(self._prompt) + len(sent)
            return end if text[:end].lstrip() == self._prompt + sent else 0
        at = text.rfind(sent)
        return at + len(sent) if at >= max(1, self._least) and self._prompt in text[:at] else 0


def _last_text(source: SourceRequest) -> str:
    """Return the text of the last message, which comes shortly before the answer in whatever template."""
    messages = objects(source.fields.get("messages"))
    content: Any = messages[-1].get("content") if messages else None
    if isinstance(content, str):
        return content.strip()
    return next((text_of(part, "text").strip() for part in objects(content)), "")
