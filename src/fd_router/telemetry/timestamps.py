"""Timestamps in log messages, to the millisecond, as FastDeploy's scripts read them."""

from __future__ import annotations

import time
from functools import lru_cache


def ts_ms(now: float) -> str:
    """Write ``2026-03-30 20:16:57.021``, local time; ``now`` is seconds since 1970."""
    second = int(now)
    return f"{_stamp(second)}.{min(int((now - second) * 1000), 999):03d}"


def now_ts_ms() -> str:
    """Write the present moment so."""
    return ts_ms(time.time())


@lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
