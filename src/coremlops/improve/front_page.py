"""A search as one HTML file: the front as inline SVG, and what each weight became; no script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from coremlops.improve.search import Measured, Search

WIDTH, HEIGHT = 980, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 20, 20, 66
ROWS = 40  # weights in the table, the largest ones
LOWEST_DB = -10.0

_CSS = """
.estimate { fill: none; stroke: var(--quiet); stroke-dasharray: 4 4; stroke-width: 1.5 }
.front { fill: none; stroke: var(--accent); stroke-width: 2.5; stroke-linejoin: round }
.measured { fill: var(--accent) }
.uniform { fill: var(--bad); opacity: .85 }
.chosen { fill: none; stroke: var(--good); stroke-width: 3 }
svg .name { font-size: 11px }
"""


def render_front(search: Search) -> str:
    """The page."""
    css = files("coremlops.verify").joinpath("report.css").read_text("utf-8") + _CSS
    made = search.compression
    share = made.bytes / made.bytes_before
    lead = (
        f"{made.bytes_before / 1e6:.2f} MB became {made.bytes / 1e6:.2f} MB ({share:.0%}), and the worst "
        f"output keeps {search.snr_db:.1f} dB."
    )
    chips = ["emulated", made.target, f"{len(search.weights)} weights", search.about["data"]["about"]]
    shown = "".join(f'<span class="chip">{escape(chip)}</span>' for chip in chips)
    body = (
        f'<header class="good"><div><p class="eyebrow">{escape(made.path.name)}</p>'
        "<h1>Size against quality</h1>"
        f'<p class="lead">{escape(lead)}</p><p>{shown}</p></div></header>'
        f'<section><div class="scroll strip">{chart(search)}</div></section>{_table(search)}'
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(made.path.name)}: size against quality</title><style>{css}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def chart(search: Search) -> str:
    """Up is better, left is smaller. The line is the front as measured, what was expected of it is dashed."""
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    chosen = search.compression.bytes, search.snr_db
    points = [*((entry.bytes, entry.snr_db) for entry in (*search.front, *search.uniform)), chosen]
    large, small = max(size for size, _ in points) * 1.04, min(size for size, _ in points) / 1.04
    high = 10 * math.ceil(max(min(value, 90.0) for _, value in points) / 10)

    def across(size: float) -> float:
        return _LEFT + math.log(size / small) / math.log(large / small) * (right - _LEFT)

    def up(value: float) -> float:
        share = (min(max(value, LOWEST_DB), high) - LOWEST_DB) / (high - LOWEST_DB)
        return bottom - share * (bottom - _TOP)

    marks = [
        f'<line class="grid" x1="{_LEFT}" y1="{up(tick):.1f}" x2="{right}" y2="{up(tick):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
        for tick in range(int(LOWEST_DB), high + 1, 10)
    ]
    marks += [
        f'<line class="grid" x1="{across(size):.1f}" y1="{_TOP}" x2="{across(size):.1f}" y2="{bottom}"/>'
        f'<text x="{across(size):.1f}" y="{bottom + 17}" text-anchor="middle">{size / 1e6:.3g}</text>'
        for size in _sizes(small, large)
    ]
    expected = [(entry.bytes, entry.expected_db) for entry in search.front if entry.expected_db is not None]
    for kind, line in (("estimate", expected), ("front", [(e.bytes, e.snr_db) for e in search.front])):
        path = " ".join(f"{across(size):.1f},{up(value):.1f}" for size, value in line)
        marks.append(f'<polyline class="{kind}" points="{path}"/>')
    for entry in search.front:
        marks.append(_dot("measured", across(entry.bytes), up(entry.snr_db), _about(entry, "a mixed recipe")))
    for entry in search.uniform:
        x, y = across(entry.bytes), up(entry.snr_db)
        marks.append(_dot("uniform", x, y, _about(entry, entry.setting)))
        marks.append(f'<text class="name" x="{x + 7:.1f}" y="{y + 4:.1f}">{_short(entry.setting)}</text>')
    x, y = across(chosen[0]), up(chosen[1])
    marks.append(f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="9"><title>chosen</title></circle>')
    middle, height = _LEFT + (right - _LEFT) / 2, _TOP + (bottom - _TOP) / 2
    marks.append(
        f'<text class="axis" x="{middle:.0f}" y="{bottom + 34}" text-anchor="middle">size, MB</text>'
        f'<text class="axis" transform="translate(15 {height:.0f}) rotate(-90)" text-anchor="middle">'
        f"signal to noise of the worst output, dB</text>{_legend()}"
    )
    label = "Size against quality of mixed and uniform recipes"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(marks)}</svg>'


def _dot(kind: str, x: float, y: float, title: str) -> str:
    about = f"<title>{escape(title)}</title>"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{about}</circle>'


def _about(entry: Measured, what: str) -> str:
    agreement = "" if entry.agreement is None else f", {entry.agreement:.1%} same label"
    return f"{what}: {entry.bytes / 1e6:.3f} MB, {entry.snr_db:.1f} dB{agreement}"


def _short(setting: str) -> str:
    """`p4 g16` for `palettize:4:group=16`."""
    method, _, rest = setting.partition(":")
    return escape(f"{method[:1]}{rest.replace(':group=', ' g').replace(':block=', ' b')}")


def _sizes(small: float, large: float) -> Sequence[float]:
    step = 10 ** math.floor(math.log10(small))
    found = [step * factor * 10**power for power in range(4) for factor in (1, 1.5, 2, 3, 4, 6, 8)]
    return [size for size in found if small <= size <= large]


def _legend() -> str:
    entries = (
        ('<line class="front" x1="0" y1="-4" x2="18" y2="-4"/>', "mixed, measured"),
        ('<line class="estimate" x1="0" y1="-4" x2="18" y2="-4"/>', "what single weights let expect"),
        ('<circle class="uniform" cx="9" cy="-4" r="4.5"/>', "uniform: p palettize, q quantize"),
        ('<circle class="chosen" cx="9" cy="-4" r="6"/>', "chosen, the file itself"),
    )
    x, marks = _LEFT, []
    for mark, text in entries:
        marks.append(f'<g transform="translate({x} {HEIGHT - 8})">{mark}<text x="24" y="0">{text}</text></g>')
        x += 50 + 7 * len(text)
    return "".join(marks)


def _table(search: Search) -> str:
    largest = sorted(search.compression.weights, key=lambda weight: -weight.bytes_before)
    counts = Counter(str(weight.setting) for weight in largest if str(weight.setting) != "none")
    said = ", ".join(f"{count} × {setting}" for setting, count in counts.most_common()) or "nothing"
    rows = "".join(
        f"<tr><td><code>{escape(weight.name)}</code></td>"
        f'<td class="quiet">{" × ".join(map(str, weight.shape))}</td><td>{escape(str(weight.setting))}</td>'
        f'<td class="number">{weight.bytes_before:,}</td><td class="number">{weight.bytes:,}</td></tr>'
        for weight in largest[:ROWS]
    )
    return (
        f'<section><h2>What each weight became</h2><p class="prose">{escape(said)}.</p>'
        '<div class="scroll"><table><thead><tr><th>Weight</th><th>Shape</th><th>Setting</th>'
        f'<th class="number">Bytes before</th><th class="number">after</th></tr></thead><tbody>{rows}</tbody>'
        "</table></div></section>"
    )
