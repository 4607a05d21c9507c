"""The section of the report's page."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from coremlops.verify.locate import Finding, Location, Step
from coremlops.verify.locate.chart import growth, section

STEPS = tuple(Step(f"op_{i}", "conv", 70.0 - 10 * i, 72.0, 1.5, None if i % 2 else 90.0) for i in range(8))
FINDING = Finding("numeric", "overflow", "op_4", "conv", "<script>", 12.0, "features.3", "net.py:41")
LOCATION = Location("typed", 40.0, 12.0, 88.0, (FINDING,), STEPS, ("<b>",), 2, 4)


def test_the_chart_is_well_formed_and_marks_the_first_op() -> None:
    root = ElementTree.fromstring(growth(LOCATION))  # noqa: S314  our own
    assert len([item for item in root.iter("circle") if "own" in item.get("class", "")]) == len(STEPS) + 1
    [flag] = [item for item in root.iter("text") if item.get("class") == "flag-name"]
    assert flag.text == "op_4: overflow"
    line = next(item for item in root.iter("polyline"))
    heights = [float(point.split(",")[1]) for point in (line.get("points") or "").split()]
    assert heights == sorted(heights)  # the error grows, so the line falls


def test_words_from_outside_are_escaped() -> None:
    text = section(LOCATION)
    assert "<script>" not in text
    assert "<b>" not in text
    assert re.search(r"features\.3<br>net\.py:41", text)


def test_values_beyond_the_scale_stay_inside() -> None:
    wild = tuple(replace(step, total_db=-200.0, own_db=200.0) for step in STEPS)
    root = ElementTree.fromstring(growth(replace(LOCATION, steps=wild)))  # noqa: S314  our own
    box = [float(part) for part in (root.get("viewBox") or "").split()]
    assert all(
        0 <= float(item.get("cy", "0")) <= box[3] for item in root.iter("circle") if item.get("cx") != "9"
    )


def test_nothing_inside_is_said() -> None:
    assert "no value inside" in growth(replace(LOCATION, steps=()))
