"""The options of an engine model, for whoever runs one: each declared once, to be a field of that one's options.

Types and not a base class, since a Struct has one base at most.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from fd_router.config.options import Option
from fd_router.devtools.engine_model.runs import EngineSettings

PrefillSpeed = Annotated[float, Option(help="An instance's prefill speed.", unit="tokens/s", minimum=0.001)]
DecodeTime = Annotated[float, Option(help="Time between two tokens of a request.", unit="ms", minimum=0)]
DecodeTimeMore = Annotated[float, Option(help="What each running request adds to that time.", unit="ms", minimum=0)]
CacheSize = Annotated[int, Option(help="Size of an instance's prefix cache.", unit="tokens", minimum=0)]
MaxRunning = Annotated[
    int, Option(help="Requests that run at once in an instance; others wait.", unit="requests", minimum=1)
]

PREFILL_TOKENS_PER_SEC: Final = 20_000.0
DECODE_MS_PER_TOKEN: Final = 10.0
DECODE_MS_PER_RUNNING: Final = 0.05
CACHE_TOKENS: Final = 400_000
MAX_RUNNING: Final = 256


class EngineOptions(Protocol):
    """Options that have these."""

    @property
    def prefill_tokens_per_sec(self) -> float:
        """A ``PrefillSpeed``."""

    @property
    def decode_ms_per_token(self) -> float:
        """A ``DecodeTime``."""

    @property
    def decode_ms_per_running(self) -> float:
        """A ``DecodeTimeMore``."""

    @property
    def cache_tokens(self) -> int:
        """A ``CacheSize``."""

    @property
    def max_running(self) -> int:
        """A ``MaxRunning``."""


def engine_settings(options: EngineOptions) -> EngineSettings:
    """Return the engine model's settings."""
    return EngineSettings(
        prefill_tokens_per_sec=options.prefill_tokens_per_sec,
        decode_secs=options.decode_ms_per_token / 1000,
        decode_secs_per_running=options.decode_ms_per_running / 1000,
        cache_tokens=options.cache_tokens,
        max_running=options.max_running,
    )
