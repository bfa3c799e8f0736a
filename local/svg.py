"""Charts as SVG: panels of lines, bars or bands, in two columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    type Points = Sequence[tuple[float, float]]

COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#aec7e8", "#ffbb78"),
)
WIDTH, HEIGHT, GAP = 460, 220, 20
LEFT, TOP, BOTTOM = 50, 58, 22
LETTER = 5.8  # how wide one is, about
_TEXT = 'font-family="sans-serif" font-size="11" fill="#444"'


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: what it shows.
        series: points of x and y by label; x from 0 to `span`.
        span: how wide the x axis is.
        ticks: labels of the x axis, by their places.
        kind: lines; bars, one on top of the other; or bands, which show where y is not 0.
    """

    title: str
    series: Mapping[str, Points]
    span: float
    ticks: Mapping[float, str] = field(default_factory=dict)
    kind: Literal["line", "bar", "band"] = "line"

    @property
    def top(self) -> float:
        """The end of the y axis: a round number above all that is shown."""
        highest = max(self._heights(), default=0)
        scale = 1.0
        while scale * 10 < highest:
            scale *= 10
        return next((n * scale for n in (1, 2, 5, 10) if n * scale >= highest), 10 * scale)

    def _heights(self) -> Iterator[float]:
        stacks: dict[float, float] = {}
        for points in self.series.values():
            for x, y in points:
                stacks[x] = y + (stacks.get(x, 0) if self.kind == "bar" else 0)
                yield stacks[x]


def draw(panels: Sequence[Panel]) -> str:
    """Return an SVG document."""
    rows = -(-len(panels) // 2)
    width, height = 2 * WIDTH + 3 * GAP, rows * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        x = GAP + number % 2 * (WIDTH + GAP)
        y = GAP + number // 2 * (HEIGHT + GAP)
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> Iterator[str]:
    yield _text(0, 12, panel.title, 'font-weight="bold"')
    draw_series = {"line": _lines, "bar": _bars, "band": _bands}[panel.kind]
    for x, label in panel.ticks.items():
        at = _x(panel, x)
        yield f'<path d="M{at:.0f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>'
        yield _text(at, HEIGHT - 8, label, 'text-anchor="middle"')
    if panel.kind != "band":
        yield from _legend(panel)
        for share in (0, 0.5, 1):
            at = _y(panel, share * panel.top)
            yield f'<path d="M{LEFT} {at:.0f}H{WIDTH}" stroke="#ddd"/>'
            yield _text(LEFT - 6, at + 4, f"{share * panel.top:,g}", 'text-anchor="end"')
    yield from draw_series(panel)


def _legend(panel: Panel) -> Iterator[str]:
    x, y = 0.0, 30
    for label, colour in zip(panel.series, cycle(COLOURS), strict=False):
        width = 20 + LETTER * len(label)
        if x + width > WIDTH:
            x, y = 0.0, y + 14
        yield _rect(x, y - 8, 8, 8, colour)
        yield _text(x + 11, y, label)
        x += width


def _lines(panel: Panel) -> Iterator[str]:
    for points, colour in zip(panel.series.values(), cycle(COLOURS), strict=False):
        if points:
            path = " ".join(f"{_x(panel, x):.1f},{_y(panel, y):.1f}" for x, y in points)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _bars(panel: Panel) -> Iterator[str]:
    below: dict[float, float] = {}
    width = max(1.0, 0.8 * _narrowest(panel) / panel.span * (WIDTH - LEFT))
    for points, colour in zip(panel.series.values(), cycle(COLOURS), strict=False):
        for x, y in points:
            if y:
                base = below.get(x, 0)
                below[x] = base + y
                high, low = _y(panel, base + y), _y(panel, base)
                yield _rect(_x(panel, x), high, width, low - high, colour)


def _bands(panel: Panel) -> Iterator[str]:
    """Draw a line of text for each series, and where it is not 0 a band until the next point."""
    height = (HEIGHT - TOP - BOTTOM) / max(1, len(panel.series))
    for number, (label, points) in enumerate(panel.series.items()):
        y = TOP + number * height
        for (x, on), (behind, _) in zip(points, [*points[1:], (panel.span, 0)], strict=True):
            if on:
                start = _x(panel, x)
                yield _rect(start, y + 2, _x(panel, behind) - start, height - 4, COLOURS[3])
        yield _text(LEFT + 4, y + height / 2 + 4, label)


def _narrowest(panel: Panel) -> float:
    places = sorted({x for points in panel.series.values() for x, _ in points})
    return min((b - a for a, b in pairwise(places)), default=panel.span)


def _x(panel: Panel, x: float) -> float:
    return LEFT + x / panel.span * (WIDTH - LEFT)


def _y(panel: Panel, y: float) -> float:
    return HEIGHT - BOTTOM - y / panel.top * (HEIGHT - TOP - BOTTOM)


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {_TEXT} {more}>{escape(text)}</text>'
