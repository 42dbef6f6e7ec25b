"""What to ask an engine's ``/tokenize`` for a request's exact tokens: its messages, for the engine's chat template."""

from __future__ import annotations

from typing import Final

import msgspec

_CHAT: Final = (
    "model", "messages", "tools", "tool_choice", "reasoning_effort", "chat_template", "chat_template_kwargs",
    "add_generation_prompt", "continue_final_message", "add_special_tokens", "mm_processor_kwargs",
)  # fmt: skip
"""Members of a chat request that its template goes by; the rest is about what is generated."""

_PLAIN: Final = ("model", "prompt", "add_special_tokens")

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def tokenize_question(body: bytes) -> str:
    """Return the question about a completion request, "" for a body that can't be asked about.

    vLLM and SGLang render messages as for a completion, unless the request says otherwise.
    """
    try:
        members = _decode(body)
        names = _CHAT if "messages" in members else _PLAIN if "prompt" in members else ()
        asked = {name: members[name] for name in names if name in members}
        return msgspec.json.encode(asked).decode() if asked else ""
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are ValueErrors
        return ""
