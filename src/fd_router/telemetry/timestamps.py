"""Timestamps in log messages, to the millisecond, as FastDeploy's scripts read them."""

from __future__ import annotations

import time
from functools import lru_cache
from math import floor


def ts_ms(now: float) -> str:
    """Write ``2026-03-30 20:16:57.021``, local time; ``now`` is seconds since 1970."""
    return _written(int(now * 1000))


def now_ts_ms() -> str:
    """Write the present moment so."""
    return _written(floor(time.time() * 1000))


@lru_cache(maxsize=4)
def _written(milliseconds: int) -> str:
    """Write a moment; a request asks several times within one millisecond."""
    second, rest = divmod(milliseconds, 1000)
    return f"{_stamp(second)}.{str(1000 + rest)[1:]}"  # a third of what ``:03d`` costs


@lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
