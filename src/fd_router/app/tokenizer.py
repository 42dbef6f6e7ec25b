"""The part of the composition root that builds the tokenizer, if one is configured."""

from __future__ import annotations

import time
from typing import Any

from fd_router.config.loading import SchedulerConfig
from fd_router.errors import ConfigError
from fd_router.http.connection_pool import Pools
from fd_router.http.fetch import fetch
from fd_router.http.instance_access import InstanceAccess
from fd_router.telemetry.telemetry import Telemetry
from fd_router.tokenization.local import BOTH_TOKENIZERS, LocalTokenizer, open_encoder
from fd_router.tokenization.service import EngineTokenizer, ServiceTokenizer, Tokenizer, tokenizer_address


def build_tokenizer(
    options: SchedulerConfig, pools: Pools, telemetry: Telemetry, *, reads_engine_prompt: bool
) -> Tokenizer | None:
    """Build the tokenizer that ``options`` name: in the router, or a service. Raises ConfigError.

    ``reads_engine_prompt``: policies go by the prompt as engines have it.
    """
    limits: dict[str, Any] = {
        "clock": time.monotonic,
        "log": telemetry.log,
        "time_limit": options.tokenizer_timeout_secs,
        "max_concurrent": options.tokenizer_max_concurrent,
        "reads_engine_prompt": reads_engine_prompt,
    }
    if options.tokenizer_path and options.tokenizer_url:
        raise ConfigError(BOTH_TOKENIZERS)
    if options.tokenizer_path:
        return LocalTokenizer(open_encoder(options.tokenizer_path), **limits)
    if not options.tokenizer_url:
        return None
    address = tokenizer_address(options.tokenizer_url)
    access = InstanceAccess(told_https=address.is_encrypted)

    async def post(body: bytes, time_limit: float) -> tuple[int, bytes]:
        return await fetch(pools.service(address, access), "POST", address.path, body, time_limit=time_limit)

    return (EngineTokenizer if options.tokenizer_messages else ServiceTokenizer)(post, **limits)
