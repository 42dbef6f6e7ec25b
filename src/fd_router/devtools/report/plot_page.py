"""The page of a plot: one file that needs no network, with its pictures and figures, for any width from 320 px on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from fd_router.devtools.report.outcomes import Result
from fd_router.devtools.report.plot_series import Series
from fd_router.devtools.report.tables import COLUMNS, LEGEND, cells_of

_LINES = {"-": "solid", "--": "dashed", ":": "dotted"}

_STYLE = """\
:root { color-scheme: light }
body { margin: 1rem; color: #111; background: #fff; font: 15px/1.4 system-ui, sans-serif }
h1 { font-size: 1.1rem }
ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0 0 1rem; padding: 0; list-style: none }
li { overflow-wrap: anywhere }
li span { display: inline-block; width: 1.6rem; margin-right: .4rem; vertical-align: middle; border-top: 3px }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)) }
img { display: block; width: 100%; height: auto }
div { overflow-x: auto; margin-top: 1rem }
table { border-collapse: collapse }
th, td { padding: .15rem .7rem .15rem 0; text-align: right; white-space: nowrap }
th:first-child { text-align: left }
thead { color: #555; vertical-align: top }
thead th { font-weight: normal }
p { color: #555; white-space: pre-line }
"""


def page(results: Sequence[Result], lines: Sequence[Series], pictures: Sequence[tuple[str, bytes]], title: str) -> str:
    """Return the HTML. ``pictures`` are SVGs with their titles."""
    legend = "".join([_legend_item(line) for line in lines])
    return f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE}</style>
<h1>{escape(title)}</h1>
<ul>{legend}</ul>
<main>
{"".join([_picture(*each) for each in pictures])}</main>
<div tabindex="0" role="region" aria-label="Figures">{_table(results)}</div>
<p>{escape(LEGEND)}</p>
</html>
"""


def _legend_item(line: Series) -> str:
    style = f"border-top-style: {_LINES[line.style]}; border-top-color: {line.colour}"
    return f'<li><span style="{style}"></span>{escape(line.name)}</li>'


def _picture(title: str, svg: bytes) -> str:
    data = base64.b64encode(svg).decode("ascii")
    return f'<img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">\n'


def _table(results: Sequence[Result]) -> str:
    head = "".join([f"<th>{escape(column.name)}<br>{escape(column.unit)}</th>" for column in COLUMNS])
    rows = [
        f'<tr><th scope="row">{escape(result.name)}</th>'
        + "".join([f"<td>{escape(cell)}</td>" for cell in cells_of(result.summary())])
        + "</tr>"
        for result in results
    ]
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
