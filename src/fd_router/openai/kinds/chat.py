"""Text generation as OpenAI began it: ``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

from typing import Final

from fd_router.openai.endpoint import Endpoint
from fd_router.openai.large_bodies import VERY_LARGE

CHAT: Final = Endpoint(
    path="/v1/chat/completions", kind="chat", about="OpenAI Chat Completions", read_at_once=VERY_LARGE
)

COMPLETIONS: Final = Endpoint(path="/v1/completions", kind="chat", about="OpenAI Completions", read_at_once=VERY_LARGE)

ENDPOINTS: Final = (CHAT, COMPLETIONS)
