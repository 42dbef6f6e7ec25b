"""The plots: ``plot.png`` for a report, ``plot.html`` to look closer. Both need the extra ``plots``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fd_router.devtools.report.outcomes import Result
from fd_router.devtools.report.plot_series import COLOURS, Series, series_of

PNG, HTML = "plot.png", "plot.html"
MISSING = "no plots: they need matplotlib and plotly; pip install 'fd-router[plots]'"

_WAITS = "Time to first token"
_TIME = "Time to first token over the trace (means)"
_WORK = "Prompt work of each instance, busiest first"
_STYLES = ("-", "--", ":")  # when there are more lines than colours
_SHORT_SECS = 300  # up to so many a trace's time is told in seconds
_MANY = 64  # instances from which on a line shows more than bars


def can_plot() -> bool:
    """Tell whether the extra ``plots`` is installed."""
    return all(find_spec(name) is not None for name in ("matplotlib", "plotly"))


def write_plots(results: Sequence[Result], title: str, directory: Path) -> None:
    """Write both files. Raises ImportError without the extra, OSError."""
    lines = series_of(results)
    _write_png(lines, title, directory / PNG)
    _write_html(lines, title, directory / HTML)


def _write_png(lines: Sequence[Series], title: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    unit, scale = _unit(lines)
    waits, work, time = (figure.add_subplot(2, 2, place) for place in (1, 2, (3, 4)))
    for place, line in enumerate(lines):
        style = _STYLES[place // len(COLOURS) % len(_STYLES)]
        waits.plot(line.waits, line.shares, style, color=line.colour, label=line.name)
        time.plot([at / scale for at in line.times], line.means, style, color=line.colour)
        if len(line.work) > _MANY:
            work.plot(range(1, len(line.work) + 1), line.work, color=line.colour)
        else:
            width = 0.8 / len(lines)
            left = [number + (place - (len(lines) - 1) / 2) * width for number in range(1, len(line.work) + 1)]
            work.bar(left, line.work, width, color=line.colour)
    waits.set(title=_WAITS, xlabel="s", ylabel="% of requests", xscale="log", ylim=(0, 100))
    waits.set_xlim(left=_left(lines))
    work.set(title=_WORK, xlabel="instance", ylabel="over the mean")
    work.xaxis.set_major_locator(MaxNLocator(integer=True))
    work.axhline(1, color="#888888", linewidth=0.8)
    time.set(title=_TIME, xlabel=unit, ylabel="s", ylim=(0, None))
    for axes in (waits, work, time):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    handles, names = waits.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names) or 1), fontsize="small")
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=120)


def _unit(lines: Sequence[Series]) -> tuple[str, float]:
    """Return the unit of the trace's time, and its seconds."""
    end = max((line.times[-1] for line in lines if line.times), default=0.0)
    return ("min", 60.0) if end > _SHORT_SECS else ("s", 1.0)


def _left(lines: Sequence[Series]) -> float:
    """Return where a scale of times begins: less than a thousandth of the longest isn't worth its decades."""
    longest = max((line.waits[-1] for line in lines if line.waits), default=1.0)
    return longest / 1000


def _write_html(lines: Sequence[Series], title: str, path: Path) -> None:
    from plotly import graph_objects as go  # noqa: PLC0415  an extra, and slow to import
    from plotly.subplots import make_subplots  # noqa: PLC0415

    unit, scale = _unit(lines)
    figure = make_subplots(
        rows=2, cols=2, specs=[[{}, {}], [{"colspan": 2}, None]], subplot_titles=(_WAITS, _WORK, _TIME)
    )
    for line in lines:
        common = {"name": line.name, "legendgroup": line.name}
        colour = {"color": line.colour}
        waits = go.Scatter(x=line.waits, y=line.shares, mode="lines", line=colour, **common)
        numbers = list(range(1, len(line.work) + 1))
        work = go.Bar(x=numbers, y=line.work, marker=colour, showlegend=False, **common)
        times = [at / scale for at in line.times]
        time = go.Scatter(x=times, y=line.means, mode="lines", line=colour, showlegend=False, **common)
        figure.add_trace(waits, row=1, col=1)
        figure.add_trace(work, row=1, col=2)
        figure.add_trace(time, row=2, col=1)
    figure.update_xaxes(title_text="s", type="log", row=1, col=1)
    figure.update_layout(xaxis_minallowed=math.log10(_left(lines)))
    figure.update_yaxes(title_text="% of requests", row=1, col=1)
    figure.update_xaxes(title_text="instance", row=1, col=2)
    figure.update_yaxes(title_text="over the mean", row=1, col=2)
    figure.update_xaxes(title_text=unit, row=2, col=1)
    figure.update_yaxes(title_text="s", rangemode="tozero", row=2, col=1)
    figure.update_layout(title=title, template="plotly_white", height=860, hovermode="closest")
    figure.write_html(path, include_plotlyjs=True)  # whole, so that it opens without a network
