"""The hooks of a plug-in's class, looked at before it is built: what would fail with every request is told at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from fd_router.scheduling.policy import Policy

ARGUMENTS: Mapping[str, Sequence[str]] = {
    "choose": ("request", "candidates"),
    "explain": ("request", "candidates"),
    "on_dispatch": ("request", "candidate"),
    "place": ("request", "candidate"),
    "on_instance_unavailable": ("url",),
    "on_gone": ("url",),
}
"""What each hook is called with, in this order."""


def faults_of(found: type) -> list[str]:
    """Say what is wrong with the hooks that a class has of its own: no method, async, other arguments."""
    faults = (
        _fault(found, hook, arguments)
        for hook, arguments in ARGUMENTS.items()
        if hasattr(found, hook) and getattr(found, hook) is not vars(Policy).get(hook)
    )
    return [fault for fault in faults if fault]


def _fault(found: type, hook: str, arguments: Sequence[str]) -> str:
    method: Any = getattr(found, hook)
    call = f"{hook}({', '.join(arguments)})"
    if not callable(method):
        return f"{found.__name__}.{hook} is no method; it must be one: {call}"
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        kind = "a generator" if inspect.isgeneratorfunction(method) else "async"
        return f"{found.__name__}.{hook} is {kind}; it must be a plain method that answers at once: {call}"
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # written in C, say
        return ""
    has_self = not isinstance(inspect.getattr_static(found, hook), staticmethod | classmethod)
    try:
        signature.bind(*(["self"] if has_self else []), *arguments)
    except TypeError as error:
        return f"{found.__name__}.{hook}{signature} can't be called as {call}: {error}"
    return ""
