"""The plots: ``plot.png`` for a report, ``plot.html`` to read on any screen. Both need the extra ``plots``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fd_router.devtools.report.outcomes import Result
from fd_router.devtools.report.plot_series import series_of

PNG, HTML = "plot.png", "plot.html"
MISSING = "no plots: they need matplotlib; pip install 'matplotlib>=3.9'"


def can_plot() -> bool:
    """Tell whether the extra ``plots`` is installed."""
    return find_spec("matplotlib") is not None


def write_plots(results: Sequence[Result], title: str, directory: Path) -> None:
    """Write both files. Raises ImportError without the extra, OSError."""
    from fd_router.devtools.report import plot_page, plot_panels  # noqa: PLC0415  an extra, and slow to import

    lines = series_of(results)
    (directory / PNG).write_bytes(plot_panels.sheet(lines, title))
    pictures = [(panel.title, panel.svg(lines)) for panel in plot_panels.panels_of(lines)]
    (directory / HTML).write_text(plot_page.page(results, lines, pictures, title), encoding="utf-8")
