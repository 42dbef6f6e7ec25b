"""Known differences: what this router knowingly does unlike FastDeploy's Go program, where an old file could hurt."""

from __future__ import annotations

from collections.abc import Iterator

from fd_router.config.host_names import is_loopback
from fd_router.config.loading import Config


def known_differences(config: Config) -> Iterator[str]:
    """Yield a line for the log for each difference that this configuration meets, with the option that undoes it."""
    server, log = config.server, config.log
    if is_loopback(server.host):
        yield (
            f"Only this machine can connect: server.host is {server.host}. FastDeploy's Go program ignored server.host "
            "and listened on every address; server.host: 0.0.0.0 does so"
        )
    if log.output == "file":
        yield (
            f"{log.path} is rotated, and rotated files are deleted after {log.max_age_days} days or beyond "
            f"{log.max_total_size_mb} MB in all. FastDeploy's Go program kept everything; log.max-age-days and "
            "log.max-total-size-mb set how much is kept"
        )
