"""``fd-router doctor``: everything that keeps a router from serving, and the mend."""

from __future__ import annotations

from typing import Any

import click

from fd_router.admin.doctor import examine_all, tell
from fd_router.admin.views import console
from fd_router.cli.commands.diagnosis import diagnosis, subject_of


@click.command("doctor")
@diagnosis
def command(**values: Any) -> int:
    """Look for what keeps a router from serving, and say how to mend it.

    Looks at the configuration and its files, limits and proxies of this machine, the dates of certificates, and, of a
    running router (HOST:PORT; by default the configuration's port on this machine), its health, its clock, the path by
    which instances register, and each instance. Changes nothing. Exits with 1 when anything is wrong.
    """
    client, report = subject_of(values)
    return tell(examine_all(client, report), console())
