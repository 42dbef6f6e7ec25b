"""Text generation as OpenAI began it: ``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

from typing import Final

from fd_router.openai.endpoint import Endpoint

CHAT: Final = Endpoint(path="/v1/chat/completions", kind="chat", about="OpenAI Chat Completions")

COMPLETIONS: Final = Endpoint(path="/v1/completions", kind="chat", about="OpenAI Completions")

ENDPOINTS: Final = (CHAT, COMPLETIONS)
