"""``/v1/abort_requests`` of FastDeploy's instances: what is sent there, and what they answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from fd_router.engines.dialect import AbortMessage, AbortReply
from fd_router.errors import UNREADABLE

ABORT_PATH = "/v1/abort_requests"

_CHOICE = re.compile(r"_[0-9]+\Z")
"""What FastDeploy appends to a request's id: the number of the choice."""


def abort_message(ids: Sequence[str] | None) -> AbortMessage:
    """Make the message that aborts the requests with ``ids``, None: all."""
    order = {"abort_all": True} if ids is None else {"req_ids": ids}
    return AbortMessage(ABORT_PATH, msgspec.json.encode(order))


def read_abort(answer: bytes) -> AbortReply:
    """Read the answer: what was aborted, or nothing at all (newer instances)."""
    if not answer.strip():
        return AbortReply(is_silent=True)
    try:
        value = msgspec.json.decode(answer)
    except UNREADABLE:
        return AbortReply(error="the answer isn't JSON")
    if not isinstance(value, dict):
        return AbortReply(error="the answer is no object")
    if message := value.get("error_msg"):
        return AbortReply(error=str(message))
    result = value.get("result")
    if not isinstance(result, dict):
        return AbortReply(is_silent=True)
    aborted = result.get("aborted")
    entries = [entry for entry in aborted if isinstance(entry, dict)] if isinstance(aborted, list) else []
    told = {str(entry.get("request_id", "")) for entry in entries}
    return AbortReply(entries, frozenset(told | {_CHOICE.sub("", name) for name in told}))
