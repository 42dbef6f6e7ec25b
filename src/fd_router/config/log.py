"""The options of the log. Declared as in ``config.sections``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option


class LogConfig(msgspec.Struct, frozen=True):
    """What is logged, where, and how long it is kept."""

    level: Annotated[
        str, Option(live=True, help="The least level that is logged.", choices=("debug", "info", "warn", "error"))
    ] = "info"
    output: Annotated[str, Option(help="Where the log goes.", choices=("stdout", "file"))] = "stdout"
    format: Annotated[
        str, Option(help="FastDeploy's text lines, or one JSON object a line.", choices=("text", "json"))
    ] = "text"
    path: Annotated[str, Option(help="The log file when the output is a file.")] = "logs/router.log"
    max_age_days: Annotated[
        int, Option(help="Rotated log files older than this are deleted.", unit="days", minimum=1, zero_is_default=True)
    ] = 7
    max_total_size_mb: Annotated[
        int,
        Option(
            help="The oldest rotated log files are deleted while all together are larger than this.",
            unit="MB",
            minimum=1,
            zero_is_default=True,
        ),
    ] = 500
    cleanup_interval_secs: Annotated[
        float, Option(help="How often old log files are looked for.", unit="s", minimum=1, zero_is_default=True)
    ] = 3600.0
