import base64
import re

import pytest
from matplotlib.figure import Figure

from fd_router.devtools.report.outcomes import Outcome, Result
from fd_router.devtools.report.plot_panels import panels_of
from fd_router.devtools.report.plot_series import BINS, POINTS, series_of
from fd_router.devtools.report.plots import write_plots
from fd_router.devtools.simulate import run as simulate_run
from fd_router.devtools.simulate.options import SimulateOptions

GOOD = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'


def result(name, number=1000, instances=4):
    outcomes = [
        Outcome(n * 0.6, 100, f"i{n % 3}", ttft=(n + 1) / 100, seconds=20, cached_tokens=0) for n in range(number)
    ]
    return Result(name, [*outcomes, Outcome(600, 100, error="503")], instances, 0.1)


def test_lines_are_thin_and_end_where_the_data_does():
    (line,) = series_of([result("a")])
    assert len(line.waits) == POINTS + 1
    assert (line.waits[0], line.waits[-1], line.shares[-1]) == (0.01, 10.0, 100)
    assert len(line.means) == BINS
    assert (line.times[0], line.times[-1]) == pytest.approx((5, 595))
    assert line.means[0] == pytest.approx(0.09, abs=0.01)
    assert line.work == pytest.approx([334 / 250, 333 / 250, 333 / 250, 0])


def test_nothing_served_is_an_empty_line():
    (line,) = series_of([Result("a", [Outcome(0, 1, error="x")], 0, 0)])
    assert (line.waits, line.means, line.work) == ([], [], [])


@pytest.mark.slow
@pytest.mark.parametrize("results", [[result("one"), result("two", 10, 80)], [Result("none", [], 0, 0)]])
def test_both_plots_are_written(tmp_path, results):
    write_plots(results, "A <title> with $x^2$", tmp_path)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "plot.html").read_text()
    assert "A &lt;title&gt; with $x^2$" in page
    assert all(each.name in page for each in results)
    assert len(page) < 300_000


def test_a_page_needs_no_network_and_fits_a_telephone(tmp_path):
    results = [result("one"), result("two")]
    write_plots(results, "t", tmp_path)
    page = (tmp_path / "plot.html").read_text()
    assert set(re.findall(r'(?:src|href)="([a-z]+:[^,]*)', page)) == {"data:image/svg+xml;base64"}
    assert "script" not in page
    assert "width=device-width" in page
    pictures = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)", page)]
    for picture, title in zip(pictures, re.findall('<img alt="([^"]+)"', page), strict=True):
        assert title in picture
        assert not re.search(r'(?:href|src)="(?!#)', picture)
    waits = re.sub(r"<[^>]+>|\s+", " ", pictures[0])
    assert {"0.01", "0.1", "1", "10", "% of requests"} <= set(re.split(" {2,}", waits.strip()))
    row = re.search(r'<th scope="row">one</th>(.*?)</tr>', page)[1]
    assert re.findall("<td>(.*?)</td>", row)[-2:] == ["1,001", "1"]


def test_where_nobody_knows_who_served_the_sheet_has_no_empty_panel():
    """A router that tells no instance: the panel of their work would be a third of the picture, and white."""
    known = series_of([result("a")])
    unknown = series_of([Result("a", [Outcome(0, 100, ttft=1, seconds=2)], 0, 0)])
    assert [panel.name for panel in panels_of(known)] == ["waits", "work", "time"]
    assert [panel.name for panel in panels_of(unknown)] == ["waits", "time"]
    axes = Figure().add_subplot()
    panels_of(unknown)[0].onto(axes, unknown)
    assert axes.get_xlim()[0] == pytest.approx(0.9)  # no decades without a request


def test_more_lines_than_colours_have_styles():
    lines = series_of([result(str(number), 3) for number in range(10)])
    assert len({(line.colour, line.style) for line in lines}) == 10


def test_without_the_extra_a_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(simulate_run, "can_plot", lambda: False)
    trace = tmp_path / "trace.jsonl"
    trace.write_text(GOOD % 0 + GOOD % 1000)
    assert simulate_run.run(SimulateOptions(trace=str(trace), policy="random", out=str(tmp_path / "out"))) == 0
    said = capsys.readouterr()
    assert "pip install 'matplotlib>=3.9'" in said.err
    assert "random" in said.out
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["results.json"]
