"""Charts: how ours look, and how they become SVG files that are equal where the data is."""

from __future__ import annotations

from io import StringIO
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    type Points = Sequence[tuple[float, float]]
    type Series = Mapping[str, Points]

# As many as there are tables, and one to spare, before a colour is used again.
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#aec7e8", "#ffbb78"),
)
ALARM_COLOUR = "#d62728"
INCHES_WIDE = 10.0
FONT_SIZE = 8
LEGEND_COLUMNS = 3
_CELL: dict[str, Any] = {"fontsize": FONT_SIZE - 1, "family": "monospace", "parse_math": False}
_BETWEEN_COLUMNS = 2
# Texts stay texts, which can be searched, and read in a diff. The salt stands in for a random one.
_SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "charts"}


def new_figure(rows: Sequence[tuple[int, float]]) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row.

    Args:
        rows: of each row, how many axes share its width, and how many inches it is high.
    """
    heights = [inches for _, inches in rows]
    figure = Figure((INCHES_WIDE, sum(heights)), layout="constrained")
    # A row is a figure of its own: long labels in one take no room in another.
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False).flat
    axes: list[Axes] = []
    for part, (columns, _) in zip(parts, rows, strict=True):
        axes += part.subplots(1, columns, squeeze=False).flat
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=FONT_SIZE)
    return figure, axes


def set_title(axes: Axes, title: str) -> None:
    """Write a title above the left end of the axes."""
    axes.set_title(title, loc="left", fontweight="bold", fontsize=FONT_SIZE + 1)


def draw_lines(axes: Axes, series: Series) -> None:
    """Draw a line for each series, with a gap where a y is NaN; a lone point is a dot."""
    for (label, points), colour in zip(series.items(), cycle(COLOURS), strict=False):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, color=colour, label=label, marker=".", markersize=3)
    _finish(axes, series)


def draw_stacks(axes: Axes, series: Series, width: float) -> None:
    """Draw bars that begin at their x, those with the same x one on the other."""
    below: dict[float, float] = {}
    for (label, points), colour in zip(series.items(), cycle(COLOURS), strict=False):
        points = points or [(0, 0)]  # a bar without a height, for its colour in the legend
        places = [x for x, _ in points]
        heights = [y for _, y in points]
        bottoms = [below.get(x, 0) for x in places]
        axes.bar(places, heights, width, bottoms, align="edge", color=colour, label=label)
        below |= {x: bottom + y for x, y, bottom in zip(places, heights, bottoms, strict=True)}
    _finish(axes, series)


def draw_columns(axes: Axes, series: Mapping[str, Mapping[str, float]]) -> None:
    """Draw a column for each value: its name below it, its value on top; a series has a colour."""
    for (label, values), colour in zip(series.items(), cycle(COLOURS), strict=False):
        columns = axes.bar(list(values), list(values.values()), 0.6, color=colour, label=label)
        axes.bar_label(columns, [_rounded(each) for each in values.values()], fontsize=FONT_SIZE)
    axes.margins(y=0.12)  # room for the value of the highest
    if len(series) > 1:  # beside the title: below the axis are the names
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(series),
            fontsize=FONT_SIZE,
            frameon=False,
            borderaxespad=0,
            handlelength=1,
        )


def draw_bands(axes: Axes, bands: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw a row for each name, with bands that begin somewhere and have a width."""
    for place, spans in enumerate(bands.values()):
        axes.broken_barh(spans, (place - 0.35, 0.7), color=ALARM_COLOUR)
    axes.set_yticks(range(len(bands)), list(bands))
    axes.set_ylim(len(bands) - 0.5, -0.5)  # the first on top
    axes.grid(axis="x", color="#eee")
    axes.set_axisbelow(True)


def draw_table(
    axes: Axes, columns: Sequence[str], rows: Sequence[Sequence[str]], characters: int, lines: int
) -> None:
    """Write a table, its head in grey.

    Args:
        axes: where.
        columns: the names of the columns.
        rows: the cells of each row.
        characters: how many fit beside each other; the longest cells are cut.
        lines: for how many lines there is room.
    """
    widths = _fitting(columns, rows, characters)
    places = [0, *accumulate(width + _BETWEEN_COLUMNS for width in widths)]
    for line, cells in enumerate([columns, *rows]):
        colour = "black" if line else "gray"
        for cell, place, width in zip(cells, places[:-1], widths, strict=True):
            text = cell if len(cell) <= width else f"{cell[: width - 1]}…"
            axes.text(place, line, text, color=colour, va="center", **_CELL)
    axes.set_xlim(0, characters)
    axes.set_ylim(max(lines, len(rows) + 1) - 0.5, -0.5)  # the first on top
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()


def to_svg(figure: Figure) -> str:
    """Return the figure as an SVG document: the same text for the same figure."""
    text = StringIO()
    with mpl.rc_context(_SVG):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the ends of some lines.
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], characters: int) -> list[int]:
    """Return the width of each column: of the widest a character less until all fit."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    while sum(widths) + _BETWEEN_COLUMNS * (len(widths) - 1) > characters:
        widths[widths.index(max(widths))] -= 1
    return widths


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _finish(axes: Axes, series: Series) -> None:
    """Begin the y axis at 0; put a legend below the x axis where there is more than one series."""
    is_flat = not any(y > 0 for points in series.values() for _, y in points)
    axes.set_ylim(bottom=0, top=1 if is_flat else None)
    axes.grid(axis="y", color="#eee")
    axes.set_axisbelow(True)
    if len(series) > 1:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(0, -0.16, 1, 0),
            mode="expand",  # as wide as the axes, and no wider
            ncols=min(LEGEND_COLUMNS, len(series)),
            fontsize=FONT_SIZE,
            frameon=False,
            borderaxespad=0,
            handlelength=1,
        )
