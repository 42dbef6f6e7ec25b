"""An order to abort requests as FastDeploy's instances take it, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fd_router.devtools.mock.generation import Generation


class AbortOrder(msgspec.Struct):
    """The order: by ids, or all."""

    req_ids: list[str] | None = None
    abort_all: bool = False


def aborted_answer(request_id: str, names: Sequence[str] | None, chosen: Sequence[Generation]) -> dict[str, Any]:
    """Return the answer's JSON value; ``names``: of those that were asked for, None: all; ``chosen``: aborted ones."""
    not_found = [name for name in names or () if not any(each.is_named(name) for each in chosen)]
    aborted = [{"request_id": each.engine_id, "output_token_count": each.produced} for each in chosen]
    return {
        "request_id": request_id,
        "status": "success",
        "error_msg": None,
        "result": {"aborted": aborted, "not_found": not_found},
    }
