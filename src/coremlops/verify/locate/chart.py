"""How the error grows along the graph, as inline SVG, and what was found, as a section of the report."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from coremlops.verify.locate.location import ADVICE, CONVERSION, Finding, Location, Step, decibels

WIDTH, HEIGHT = 980, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 40, 62
HIGHEST_DB, LOWEST_DB = 120, -20  # what lies beyond is drawn at the edge


def growth(location: Location) -> str:
    """Each value from first to last: all error as a line, each op's own as a dot, the source's as a ring.

    Up is better. A finding is a line across with its op's name; in the page it has a tooltip, as points do.
    """
    steps = location.steps
    if not steps:
        return '<p class="quiet">no value inside to draw</p>'
    low, high, bottom = LOWEST_DB, HIGHEST_DB, HEIGHT - _BOTTOM
    pitch = (WIDTH - _LEFT - _RIGHT) / len(steps)

    def across(place: int) -> float:
        return _LEFT + (place + 0.5) * pitch

    def up(value: float) -> float:
        return bottom - (min(max(value, low), high) - low) / (high - low) * (bottom - _TOP)

    marks = [
        f'<line class="grid" x1="{_LEFT}" y1="{up(tick):.1f}" x2="{WIDTH - _RIGHT}" y2="{up(tick):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in range(LOWEST_DB, HIGHEST_DB + 1, 20)
    ]
    limit = up(location.limit_db)
    marks.append(
        f'<line class="limit" x1="{_LEFT}" y1="{limit:.1f}" x2="{WIDTH - _RIGHT}" y2="{limit:.1f}"/>'
        f'<text class="limit-name" x="{WIDTH - _RIGHT}" y="{limit - 6:.1f}" text-anchor="end">'
        f"limit {location.limit_db:g} dB</text>"
    )
    marks += _flags(location, across, bottom)
    line = " ".join(f"{across(place):.1f},{up(step.total_db):.1f}" for place, step in enumerate(steps))
    marks.append(f'<polyline class="total" points="{line}"/>')
    radius = max(2.0, min(4.5, pitch * 0.4))
    for place, step in enumerate(steps):
        kind = "own bad" if step.own_db < location.limit_db else "own"
        marks.append(
            f'<g><title>{_title(step)}</title><circle class="{kind}" cx="{across(place):.1f}" '
            f'cy="{up(step.own_db):.1f}" r="{radius:.1f}"/>'
        )
        if step.source_db is not None:
            bad = " bad" if step.source_db < location.limit_db else ""
            marks.append(
                f'<circle class="ring{bad}" cx="{across(place):.1f}" cy="{up(step.source_db):.1f}" '
                f'r="{radius + 1:.1f}"/>'
            )
        marks.append("</g>")
    middle = _TOP + (bottom - _TOP) / 2
    marks.append(
        f'<text class="axis" x="{_LEFT + (WIDTH - _LEFT - _RIGHT) / 2:.0f}" y="{bottom + 22}" '
        'text-anchor="middle">values, first to last</text>'
        f'<text class="axis" transform="translate(15 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        "signal to noise, dB</text>"
    )
    marks.append(_legend(location, HEIGHT - 12))
    label = "How the error grows along the graph"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(marks)}</svg>'


def _flags(location: Location, across: Callable[[int], float], bottom: float) -> list[str]:
    """A line down from the name of each question's first op."""
    firsts = [location.of(question)[:1] for question in ("numeric", CONVERSION)]
    marks = []
    for row, finding in enumerate(item for found in firsts for item in found):
        place = next((i for i, step in enumerate(location.steps) if step.name == finding.op), None)
        if place is None:
            continue
        x, y = across(place), 13 + 14 * row
        left = place < len(location.steps) / 2
        marks.append(
            f'<line class="flag" x1="{x:.1f}" y1="{y + 3}" x2="{x:.1f}" y2="{bottom}"/>'
            '<text class="flag-name" '
            f'x="{x + (5 if left else -5):.1f}" y="{y}" '
            f'text-anchor="{"start" if left else "end"}">'
            f"{escape(finding.op)}: {escape(finding.kind)}</text>"
        )
    return marks


def _legend(location: Location, y: float) -> str:
    entries = [
        ('<line class="total" x1="0" y1="-4" x2="18" y2="-4"/>', f"all error so far, {location.precision}"),
        ('<circle class="own" cx="9" cy="-4" r="4"/>', "an op's own"),
    ]
    if location.matched:
        entries.append(('<circle class="ring" cx="9" cy="-4" r="5"/>', "float32 against the source"))
    x = _LEFT
    marks = []
    for mark, text in entries:
        marks.append(f'<g transform="translate({x} {y})">{mark}<text x="24" y="0">{escape(text)}</text></g>')
        x += 50 + 7 * len(text)
    return "".join(marks)


def _title(step: Step) -> str:
    parts = [f"in all {decibels(step.total_db)}", f"its own {decibels(step.own_db)}"]
    if step.source_db is not None:
        parts.append(f"against the source {decibels(step.source_db)}")
    return escape(f"{step.name} ({step.type}): {', '.join(parts)}; largest value {step.peak:.4g}")


def section(location: Location) -> str:
    """The section of the report's page; every word from outside is escaped."""
    rows = "".join(_row(item) for item in location.findings)
    table = (
        '<div class="scroll"><table><thead><tr><th>Op</th><th>Where</th><th>What</th>'
        f'<th class="number">Alone, it leaves</th></tr></thead><tbody>{rows}</tbody></table></div>'
        if rows
        else ""
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in location.notes)
    return (
        '<section class="located"><h2>Where it parts</h2>'
        f'<p class="prose">{escape(_lead(location))}</p>'
        f'<div class="scroll strip">{growth(location)}</div>{table}{notes}</section>'
    )


def _lead(location: Location) -> str:
    said = [f"In the types that the file declares, against float32: {decibels(location.numeric_db)}."]
    if location.conversion_db is not None:
        said.append(f"In float32, against the source: {decibels(location.conversion_db)}.")
    first = location.first
    if first is not None:
        said.append(f"Look at {first.op} first: {ADVICE[first.kind]}.")
    return " ".join(said)


def _row(finding: Finding) -> str:
    place = "<br>".join(escape(part) for part in (finding.module, finding.source) if part)
    effect = "" if finding.effect_db is None else decibels(finding.effect_db)
    return (
        f"<tr><td><code>{escape(finding.op)}</code><br><span class='quiet'>{escape(finding.type)}</span></td>"
        f"<td class='quiet'>{place}</td><td><span class='mark bad'>{escape(finding.kind)}</span> "
        f"{escape(finding.words)}</td><td class='number'>{effect}</td></tr>"
    )
