"""Text generation as OpenAI began it: ``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

from functools import partial
from typing import Final

from fd_router.openai.body_check import CONTAINER
from fd_router.openai.endpoint import Endpoint
from fd_router.openai.large_bodies import READ_AT_ONCE_AS_FIELDS

_endpoint = partial(Endpoint, kind="chat", read_at_once=READ_AT_ONCE_AS_FIELDS, container=CONTAINER)

CHAT: Final = _endpoint(path="/v1/chat/completions", about="OpenAI Chat Completions")

COMPLETIONS: Final = _endpoint(path="/v1/completions", about="OpenAI Completions")

ENDPOINTS: Final = (CHAT, COMPLETIONS)
