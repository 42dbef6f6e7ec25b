"""What engines have for their admins: paths that change an engine, told to every instance and to no client."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_GET, _POST, _BOTH = ("GET",), ("POST",), ("GET", "POST")

FAN_OUT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "/flush_cache": _BOTH,  # SGLang
    "/reset_prefix_cache": _POST,  # vLLM, with its development mode, as those that follow
    "/reset_mm_cache": _POST,
    "/pause": _POST,
    "/resume": _POST,
    "/is_paused": _GET,
    "/sleep": _POST,
    "/wake_up": _POST,
    "/is_sleeping": _GET,
    "/update_weights": _POST,
    "/start_profile": _BOTH,  # both engines
    "/stop_profile": _BOTH,
    "/v1/load_lora_adapter": _POST,
    "/v1/unload_lora_adapter": _POST,
    "/load_lora_adapter": _POST,  # SGLang, as those that follow
    "/unload_lora_adapter": _POST,
    "/pause_generation": _POST,
    "/continue_generation": _POST,
    "/release_memory_occupation": _BOTH,
    "/resume_memory_occupation": _BOTH,
    "/update_weights_from_disk": _POST,
    "/update_weights_from_distributed": _POST,
})  # fmt: skip
"""Path → methods. They are answered by the router, which tells all instances, and only to who shows the admin token."""
