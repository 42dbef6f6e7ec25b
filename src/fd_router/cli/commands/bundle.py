"""``fd-router bundle``: an archive for a bug report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fd_router.admin.bundle import LOG, Bundle, default_name
from fd_router.cli.commands.diagnosis import diagnosis, subject_of
from fd_router.config.loading import Config


@click.command("bundle")
@click.option("--output", default="", metavar="FILE", help="The archive.  [default: fd-router-bundle-TIME.tar.gz]")
@click.option(
    "--log-lines", type=click.IntRange(0, 1_000_000), default=5000, show_default=True, help="Of the log's end."
)
@diagnosis
def command(output: str, log_lines: int, **values: Any) -> int:
    """Write an archive with what a bug report needs.

    Configuration in force, what the doctor says, instances, metrics, the end of the log, versions and limits. Tokens,
    keys and their hashes are removed; prompts are in none of it. Look it through before you send it: it has the
    addresses of instances and clients.
    """
    client, report = subject_of(values)
    path = Path(output or default_name())
    names = Bundle(client, report, log_lines=log_lines).write(path)
    click.echo(f"{path}: {', '.join(names)}")
    if LOG not in names:
        why = "no configuration was named (--config_path)" if report is None else _where(report.config)
        click.echo(f"Without the log: {why}. Add its end, please.")
    return 0


def _where(config: Config) -> str:
    log = config.log
    return f"there is no file {log.path}" if log.output == "file" else "it goes to standard output"
