"""The doctor: looks at everything that has kept a router from serving before, and prints the mend for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.markup import escape

from fd_router.admin import machine_checks
from fd_router.admin.findings import Finding, Level
from fd_router.admin.router_checks import RouterChecks
from fd_router.admin.router_client import RouterClient
from fd_router.config.loading import Report

_MARKS = {Level.GOOD: ("✓", "green"), Level.ODD: ("!", "yellow"), Level.BAD: ("✗", "red")}


def examine_all(client: RouterClient, report: Report | None) -> Iterator[Finding]:
    """Look at this machine, then at the router and its instances. ``report``: of a configuration, if one is named."""
    yield from machine_checks.versions()
    yield from machine_checks.open_files()
    yield from machine_checks.proxies(os.environ)
    yield from machine_checks.configuration(report)
    if report is not None:
        yield from machine_checks.exposure(report.config)
        yield from machine_checks.certificates(report.config)
        yield from machine_checks.disk(report.config)
    yield from RouterChecks(client).all()


def tell(findings: Iterable[Finding], console: Console) -> int:
    """Print each as it comes, and how many there are; return the exit code: 1 when anything is bad."""
    counts = dict.fromkeys(Level, 0)
    for finding in findings:
        counts[finding.level] += 1
        mark, colour = _MARKS[finding.level]
        console.print(f"[{colour}]{mark}[/] {escape(finding.what)}", soft_wrap=not console.is_terminal)
        if finding.mend:
            console.print(f"  → {finding.mend}", markup=False, soft_wrap=not console.is_terminal)
    wrong = f"{counts[Level.BAD]} wrong, {counts[Level.ODD]} to look at, {counts[Level.GOOD]} right"
    console.print(wrong, style="bold", markup=False)
    return 1 if counts[Level.BAD] else 0
