"""Answers by which a FastDeploy decode instance gives a request back, for want of memory."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fd_router.engines.dialect import GivenBack
from fd_router.engines.error_answers import error_message
from fd_router.errors import UNREADABLE

PD_ERROR = b"PD Error"
"""What an error message has in it that says so."""

RESCHEDULE = b"pd_reschedule"
"""The ``finish_reason`` by which it is said otherwise."""


_FIRST_EVENT = re.compile(rb"\A(?:[0-9A-Fa-f]+[^\r\n]*\r\n)?\s*data:([^\r\n]+)")


def is_given_back(body: bytes) -> bool:
    """Whether a whole answer, or the first event of a stream, gives the request back."""
    if "PD Error" in error_message(body):
        return True
    return RESCHEDULE in body and any(choice.get("finish_reason") == "pd_reschedule" for choice in _choices(body))


def read_given_back(body: bytes) -> GivenBack:
    """Read which way it was, and the ``completion_token_ids``, wherever FastDeploy put them."""
    reason = "PD Error" if PD_ERROR in body else "pd_reschedule"
    for choice in _choices(body):
        inner = (choice.get("message"), choice.get("delta"))
        for place in (choice, *(one for one in inner if isinstance(one, dict))):
            ids = place.get("completion_token_ids")
            if isinstance(ids, list) and all(isinstance(item, int) for item in ids):
                return GivenBack(reason, ids)
    return GivenBack(reason, [])


def _choices(body: bytes) -> list[dict[str, Any]]:
    event = _FIRST_EVENT.match(body)
    try:
        answer = msgspec.json.decode(body if event is None else event[1])
    except UNREADABLE:
        return []
    choices = answer.get("choices") if isinstance(answer, dict) else None
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
