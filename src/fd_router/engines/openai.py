"""The dialect of anything else that speaks OpenAI's protocol: it answers requests, and no more is known of it."""

from __future__ import annotations

from typing import ClassVar

from fd_router.engines.dialect import Dialect


class OpenAiDialect(Dialect):
    """What is the same everywhere. Its instances can't pair, and learn of an abort by the end of the connection."""

    name: ClassVar[str] = "openai"
