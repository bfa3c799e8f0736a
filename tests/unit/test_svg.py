"""Charts are SVG that says what they were given."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from local.svg import HEIGHT, LEFT, TOP, WIDTH, Panel, draw

NAMESPACE = "{http://www.w3.org/2000/svg}"


def elements(panel, kind):
    return list(ElementTree.fromstring(draw([panel])).iter(NAMESPACE + kind))


def bars(panel):
    """Height of each bar, in units of the y axis."""
    found = [each for each in elements(panel, "rect") if float(each.get("height", 0)) > 8]
    drawn = HEIGHT - TOP - 22
    return [round(float(each.get("height", 0)) / drawn * panel.top, 1) for each in found[1:]]


def test_title_labels_and_ticks_are_there():
    panel = Panel("A < B & C", {"rows": [(0, 1)]}, 10, {5: "noon"})
    texts = {each.text for each in elements(panel, "text")}
    assert {"A < B & C", "rows", "noon", "0", "0.5", "1"} <= texts


def test_lines_go_from_the_left_to_the_right_and_up():
    (line,) = elements(Panel("", {"a": [(0, 0), (10, 2)]}, 10), "polyline")
    first, last = (point.split(",") for point in line.get("points", "").split())
    assert [float(x) for x, _ in (first, last)] == [LEFT, WIDTH]
    assert float(last[1]) == TOP < float(first[1])


def test_bars_stand_one_on_the_other():
    panel = Panel("", {"a": [(0, 30), (5, 0)], "b": [(0, 50)]}, 10, kind="bar")
    assert panel.top == 100
    assert bars(panel) == [30, 50]


def test_bands_show_when_something_was_on():
    panel = Panel("", {"alarm": [(0, 0), (5, 1), (10, 0)], "other": [(15, 1)]}, 20, kind="band")
    first, second = elements(panel, "rect")[1:]
    quarter = (WIDTH - LEFT) / 4
    assert float(first.get("x", 0)) == pytest.approx(LEFT + quarter, abs=0.1)
    assert float(first.get("width", 0)) == pytest.approx(quarter, abs=0.1)
    assert float(second.get("x", 0)) == pytest.approx(LEFT + 3 * quarter, abs=0.1)


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (1, 1), (1.5, 2), (7, 10), (11, 20), (64, 100), (3_000, 5_000)]
)
def test_the_axis_ends_at_a_round_number(highest, top):
    assert Panel("", {"a": [(0, highest)]}, 1).top == top


def test_nothing_to_show_is_an_empty_chart():
    assert not elements(Panel("", {}, 1), "polyline")
    assert not elements(Panel("", {"a": []}, 1), "polyline")
