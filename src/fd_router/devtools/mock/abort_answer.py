"""What FastDeploy's instances answer to an order to abort requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fd_router.devtools.mock.generation import Generation


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
