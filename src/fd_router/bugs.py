"""Bugs: what a part raised that mustn't end the work of others. The loop is told, whose handler tells the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def tell_of_bug(what: str, error: BaseException) -> None:
    """Tell the running loop of ``error``; ``what`` failed."""
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})


@contextmanager
def bugs_told(what: str) -> Iterator[None]:
    """Tell of what is raised in this, and go on behind it: a bug with one must not keep the others waiting."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  as above
        tell_of_bug(what, error)
