"""The panels of a plot, drawn by matplotlib: each alone, for the page, or all on one sheet."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from fd_router.devtools.report.plot_series import Series

_SHEET_INCHES = (12, 8)
_PANEL_INCHES = (4.8, 3.6)  # so small that its letters can be read where a telephone shows it
_DPI = 120
_SHORT_SECS = 300  # up to so many a trace's time is told in seconds
_MANY = 64  # instances from which on a line shows more than bars
_RULES: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "axes.titlesize": "medium",
}  # a $ in a name is a $


class Panel(msgspec.Struct, frozen=True):
    """One diagram of all results."""

    name: str
    title: str
    draw: Callable[[Axes, Sequence[Series]], None]

    def onto(self, axes: Axes, lines: Sequence[Series]) -> None:
        """Draw it with its title."""
        self.draw(axes, lines)
        axes.set_title(self.title)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)

    def svg(self, lines: Sequence[Series]) -> bytes:
        """Draw it alone."""
        with rc_context(_RULES):
            figure = Figure(figsize=_PANEL_INCHES, layout="constrained")
            self.onto(figure.add_subplot(), lines)
            return _saved(figure, "svg")


def panels_of(lines: Sequence[Series]) -> list[Panel]:
    """Return the panels that have something to show; the work is known only where it is known who served."""
    panels = [Panel("waits", "Time to first token", _draw_waits)]
    if any(line.work for line in lines):
        panels.append(Panel("work", "Prompt work of each instance, busiest first", _draw_work))
    return [*panels, Panel("time", "Time to first token over the trace (means)", _draw_time)]


def sheet(lines: Sequence[Series], title: str) -> bytes:
    """Draw all panels and the legend as PNG. The last panel has a row of its own."""
    *first, last = panels_of(lines)
    with rc_context(_RULES):
        figure = Figure(figsize=_SHEET_INCHES, layout="constrained")
        FigureCanvasAgg(figure)
        places = figure.subplot_mosaic([[panel.name for panel in first], [last.name] * len(first)])
        for panel in (*first, last):
            panel.onto(places[panel.name], lines)
        handles, names = places[last.name].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names) or 1), fontsize="small")
        figure.suptitle(title, fontsize="medium")
        return _saved(figure, "png")


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _draw_waits(axes: Axes, lines: Sequence[Series]) -> None:
    for line in lines:
        axes.plot(line.waits, line.shares, line.style, color=line.colour, label=line.name)
    axes.set(xlabel="s", ylabel="% of requests", xscale="log", ylim=(0, 100))
    axes.set_xlim(left=_left(lines))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # 0.1, where matplotlib would write a formula
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_work(axes: Axes, lines: Sequence[Series]) -> None:
    width = 0.8 / len(lines)
    for place, line in enumerate(lines):
        numbers = range(1, len(line.work) + 1)
        if len(line.work) > _MANY:
            axes.plot(numbers, line.work, line.style, color=line.colour)
        else:
            shift = (place - (len(lines) - 1) / 2) * width
            axes.bar([number + shift for number in numbers], line.work, width, color=line.colour)
    axes.set(xlabel="instance", ylabel="over the mean")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(1, color="#888888", linewidth=0.8)


def _draw_time(axes: Axes, lines: Sequence[Series]) -> None:
    unit, scale = _unit(lines)
    for line in lines:
        axes.plot([at / scale for at in line.times], line.means, line.style, color=line.colour, label=line.name)
    axes.set(xlabel=unit, ylabel="s", ylim=(0, None))
    axes.margins(x=0.01)


def _unit(lines: Sequence[Series]) -> tuple[str, float]:
    """Return the unit of the trace's time, and its seconds."""
    end = max((line.times[-1] for line in lines if line.times), default=0.0)
    return ("min", 60.0) if end > _SHORT_SECS else ("s", 1.0)


def _left(lines: Sequence[Series]) -> float:
    """Return where a scale of times begins: less than a thousandth of the longest isn't worth its decades."""
    longest = max((line.waits[-1] for line in lines if line.waits), default=1.0)
    shortest = min((line.waits[0] for line in lines if line.waits), default=longest)
    return max(shortest * 0.9, longest / 1000)
