"""Charts show what they were given, and every text in them can be read."""

from __future__ import annotations

import json
import math
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from benchmarks import __main__ as benchmarks
from benchmarks import loading
from benchmarks.cost import RESULTS
from local.charts import (
    COLOURS,
    draw_bands,
    draw_columns,
    draw_lines,
    draw_stacks,
    draw_table,
    new_figure,
    set_title,
    to_svg,
)
from shared.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "{http://www.w3.org/2000/svg}"


def placed(figure):
    """The texts of a figure, and where they are, in pixels."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return [
        (each.get_text(), each.get_window_extent())
        for each in figure.findobj(Text)
        if each.get_visible() and each.get_text() and each not in beyond_an_axis(figure)
    ]


def beyond_an_axis(figure):
    """The labels of ticks that are kept in stock and not drawn."""
    return {
        tick.label1
        for axes in figure.get_axes()
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }


def unreadable(figure):
    """The texts that leave the frame, and the pairs that overlap."""
    texts, frame = placed(figure), figure.bbox
    assert texts
    outside = [
        text
        for text, box in texts
        if box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    ]
    overlapping = [(a, b) for (a, box), (b, other) in combinations(texts, 2) if box.overlaps(other)]
    return outside + overlapping


def one(draw, *arguments, title="A < B & C"):
    figure, [axes] = new_figure([(1, 2.4)])
    set_title(axes, title)
    draw(axes, *arguments)
    return figure, axes


def lines_by_table():
    return {table: [(x, x + place) for x in range(5)] for place, table in enumerate(TABLES)}


@pytest.fixture
def dashboard_like():
    """Rows of one and of two charts, with long labels, a legend of many, and nothing to show."""
    figure, axes = new_figure([(1, 2), (2, 2.4), (2, 2.4), (2, 2)])
    alarms, rows, seconds, other, failures, long, empty = axes
    draw_bands(alarms, {f"totesys-ingestion-prod-{n}": [(n, 1)] for n in range(8)})
    draw_stacks(rows, lines_by_table(), 0.8)
    draw_lines(seconds, {"Duration": [(0, 12_345_678), (5, 2)]})
    draw_lines(other, {})
    draw_lines(failures, {name: [] for name in ("ingest-errors", "Errors", "ExecutionsTimedOut")})
    draw_table(long, ["table", "message"], [(name, 99 * "m") for name in TABLES], 78, 12)
    draw_table(empty, ["table", "message"], [], 78, 12)
    for each in axes:
        set_title(each, "Seconds a watermark stands still while rows wait")
    return figure


def test_every_text_is_inside_the_frame_and_on_no_other(dashboard_like):
    assert unreadable(dashboard_like) == []


def test_a_long_cell_is_cut_and_the_others_are_whole():
    figure, _ = one(draw_table, ["a", "b"], [("short", "long " * 9), ("$x$", "")], 20, 5)
    texts = {text for text, _ in placed(figure)}
    assert {"a", "b", "short", "$x$", "long long lo…"} <= texts


def test_a_line_has_a_gap_where_a_value_is_missing():
    _, axes = one(draw_lines, {"a": [(0, 1), (1, math.nan), (2, 3)], "b": [(0, math.nan)]})
    [first, _] = axes.lines
    assert [math.isnan(y) for y in first.get_ydata()] == [False, True, False]


def test_it_is_noticed_when_texts_overlap_or_leave_the_frame():
    figure, axes = one(draw_columns, {"": {"a": 1, "b": 2}})
    assert unreadable(figure) == []
    axes.annotate("here", (0.5, 1))
    axes.annotate("there", (0.5, 1))
    figure.text(0.99, 0.9, "outside")
    assert unreadable(figure) == ["outside", ("here", "there")]


def test_a_columns_name_is_below_it_and_its_value_on_top():
    series = {
        "exact": {"psql, JSON": 0.416, "ours": 1.5},
        "wrong": {"a literal\nimplementation": 1234.5, "none": 0.0},
    }
    values = series["exact"] | series["wrong"]
    figure, axes = one(draw_columns, series)
    assert unreadable(figure) == []
    texts = dict(placed(figure))
    shown = zip(values, ["0.42", "1.5", "1,234", "0.00"], axes.patches, strict=True)
    for name, value, column in shown:
        bar = column.get_window_extent()
        assert texts[name].y1 <= bar.y0
        assert texts[value].y0 >= bar.y1
        for box in (texts[name], texts[value]):
            assert (box.x0 + box.x1) / 2 == pytest.approx((bar.x0 + bar.x1) / 2, abs=1)
    assert texts.keys() >= series.keys()
    assert [bar.get_facecolor() for bar in axes.patches] == [
        to_rgba(COLOURS[n]) for n in (0, 0, 1, 1)
    ]


def test_stacked_bars_begin_at_their_x_and_stand_on_each_other():
    _, axes = one(draw_stacks, {"a": [(0, 30), (5, 0)], "b": [(0, 50), (5, 7)]}, 4)
    found = [(bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()) for bar in axes.patches]
    assert found == [(0, 0, 4, 30), (5, 0, 4, 0), (0, 30, 4, 50), (5, 0, 4, 7)]
    assert axes.get_ylim()[1] >= 80


def test_lines_go_through_their_points_from_a_y_axis_of_0():
    _, axes = one(draw_lines, {"a": [(0, 5), (10, 7)], "b": []})
    assert [list(map(tuple, line.get_xydata())) for line in axes.lines] == [[(0, 5), (10, 7)], []]
    assert axes.get_ylim()[0] == 0


def test_bands_are_beside_their_names():
    figure, axes = one(draw_bands, {"first": [(0, 2), (5, 1)], "second": [], "third": [(3, 4)]})
    texts = dict(placed(figure))
    assert texts["first"].y0 > texts["second"].y1 > texts["third"].y1
    first, second, third = axes.collections
    spans = [[path.get_extents().intervalx.tolist() for path in each.get_paths()] for each in
             (first, second, third)]  # fmt: skip
    assert spans == [[[0, 2], [5, 6]], [], [[3, 7]]]
    for name, each in (("first", first), ("third", third)):
        middle = each.get_paths()[0].get_extents().intervaly.mean()
        _, y = axes.transData.transform((0, middle))
        assert y == pytest.approx((texts[name].y0 + texts[name].y1) / 2, abs=2)


def test_every_series_has_a_colour_and_a_name_in_the_legend():
    figure, axes = one(draw_lines, lines_by_table())
    assert len({line.get_color() for line in axes.lines}) == min(len(TABLES), len(COLOURS))
    assert {*TABLES} <= {text for text, _ in placed(figure)}


def test_the_same_data_gives_the_same_file():
    first, again = (to_svg(one(draw_lines, lines_by_table())[0]) for _ in range(2))
    assert first == again
    assert "date>" not in first
    assert to_svg(one(draw_lines, {"a": [(0, 1)]})[0]) != first


def svg_texts(svg):
    return [each.text for each in ElementTree.fromstring(svg).iter(f"{NAMESPACE}text")]


def test_the_picture_of_the_benchmarks_is_of_their_results():
    figure = benchmarks.chart(json.loads(RESULTS.read_text()))
    assert unreadable(figure) == []
    assert svg_texts(to_svg(figure)) == svg_texts(benchmarks.CHART.read_text())


def test_the_picture_of_loads_is_of_their_results():
    figure = loading.chart(json.loads(RESULTS.read_text())["loading"])
    assert unreadable(figure) == []
    assert svg_texts(to_svg(figure)) == svg_texts(loading.CHART.read_text())


def test_the_picture_of_the_dashboard_has_its_titles():
    declared = (ROOT / "resources" / "dashboard.yml").read_text()
    titles = re.findall(r'"title": "([^"]+)"', declared)
    assert len(titles) >= 10
    assert {*titles, "payment"} <= set(svg_texts((ROOT / "docs" / "dashboard.svg").read_text()))
