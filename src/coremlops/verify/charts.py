"""The charts of a report, as inline SVG: no script, colours from the page's CSS variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from coremlops.verify.inner import Layer
from coremlops.verify.report import Example

WIDTH, HEIGHT = 460, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 14, 46
MAX_POINTS = 2000
MAX_BARS = 24


def scatter(examples: Sequence[Example]) -> str:
    """The true label's log-odds: the source's along, the model's up. On the diagonal they agree."""
    points = [
        (example.source.log_odds, example.model.log_odds, example)
        for example in examples
        if example.source is not None
        and example.model is not None
        and example.source.log_odds is not None
        and example.model.log_odds is not None
    ]
    marked = [
        (x, y, f"{example.name}: source {x:.3f}, Core ML {y:.3f}", example.agrees) for x, y, example in points
    ]
    return diagonal(
        marked, "source, nats", "Core ML, nats", "Log-odds of the true label: source against Core ML"
    )


def diagonal(points: Sequence[tuple[float, float, str, bool]], along: str, upward: str, title: str) -> str:
    """Dots that should lie on the diagonal: (x, y, what it is, whether it is right)."""
    points = points[:: max(1, math.ceil(len(points) / MAX_POINTS))]
    if not points:
        return _empty("no finite answers to draw")
    values = [value for x, y, *_ in points for value in (x, y)]
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def across(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    marks = []
    for tick in ticks:
        x, y, name = across(tick), up(tick), _number(tick)
        marks.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 17}" text-anchor="middle">{name}</text>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
        )
    marks.append(
        f'<line class="diagonal" x1="{across(low):.1f}" y1="{up(low):.1f}" '
        f'x2="{across(high):.1f}" y2="{up(high):.1f}"/>'
    )
    radius = 5 if len(points) <= 200 else 3
    for x_value, y_value, what, right in points:
        kind = "dot" if right else "dot bad"
        marks.append(
            f'<circle class="{kind}" cx="{across(x_value):.1f}" cy="{up(y_value):.1f}" r="{radius}">'
            f"<title>{escape(what)}</title></circle>"
        )
    middle = _LEFT + (WIDTH - _LEFT - _RIGHT) / 2
    height = _TOP + (HEIGHT - _TOP - _BOTTOM) / 2
    marks.append(
        f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(along)}</text>'
        f'<text class="axis" transform="translate(15 {height:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(upward)}</text>"
    )
    return _svg("".join(marks), HEIGHT, title)


def error_bars(examples: Sequence[Example]) -> str:
    """One bar an example, the largest errors in log-odds first."""
    rows = [
        (item.name, item.log_odds_max_abs, f"{item.log_odds_max_abs:.4g} nats", item.agrees)
        for item in examples
        if item.log_odds_max_abs is not None
    ]
    return bars(rows, "largest difference in log-odds, nats")


def bars(rows: Sequence[tuple[str, float, str, bool]], along: str) -> str:
    """A bar a row, the longest first: (name, value, what it is, whether it is right)."""
    ranked = sorted(rows, key=lambda row: row[1], reverse=True)[:MAX_BARS]
    if not ranked:
        return _empty("no finite answers to draw")
    ticks = _ticks(0.0, max(ranked[0][1], 1e-30), 4)
    left, right = 132, 18
    pitch = max(13.0, min(34.0, (HEIGHT - _TOP - _BOTTOM) / len(ranked)))
    bottom = _TOP + pitch * len(ranked)
    scale = (WIDTH - left - right) / ticks[-1]
    marks = []
    for tick in ticks:
        x = left + tick * scale
        marks.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{_number(tick)}</text>'
        )
    for i, (full, value, what, right) in enumerate(ranked):
        y = _TOP + pitch * i
        kind = "bar" if right else "bar bad"
        name = full if len(full) <= 19 else "…" + full[-18:]
        marks.append(
            f'<text x="{left - 8}" y="{y + pitch / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{kind}" x="{left}" y="{y + pitch * 0.16:.1f}" rx="2" '
            f'width="{max(value * scale, 1):.1f}" height="{pitch * 0.68:.1f}">'
            f"<title>{escape(f'{full}: {what}')}</title></rect>"
        )
    marks.append(
        f'<text class="axis" x="{left + (WIDTH - left - right) / 2:.0f}" y="{bottom + 38:.1f}" '
        f'text-anchor="middle">{escape(along)}</text>'
    )
    return _svg("".join(marks), bottom + _BOTTOM, "Error of each example")


def layer_strip(layers: Sequence[Layer], limit: float) -> str:
    """Each layer from first to last: its median channel and its worst, in dB, over the gate's line."""
    width, height, bottom = 2 * WIDTH + 60, 250, 250 - _BOTTOM
    ticks = _ticks(
        min(0.0, *(max(layer.worst_db, -20.0) for layer in layers)),
        max(limit, *(min(layer.median_db, 160.0) for layer in layers)),
    )
    low, high = ticks[0], ticks[-1]

    def up(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return bottom - share * (bottom - _TOP)

    pitch = (width - _LEFT - _RIGHT) / len(layers)
    marks = [
        f'<line class="grid" x1="{_LEFT}" y1="{up(tick):.1f}" x2="{width - _RIGHT}" y2="{up(tick):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        for tick in ticks
    ]
    marks.append(
        f'<line class="limit" x1="{_LEFT}" y1="{up(limit):.1f}" x2="{width - _RIGHT}" y2="{up(limit):.1f}"/>'
        f'<text class="limit-name" x="{width - _RIGHT}" y="{up(limit) - 6:.1f}" text-anchor="end">'
        f"gate {_number(limit)} dB</text>"
    )
    for i, layer in enumerate(layers):
        x = _LEFT + (i + 0.5) * pitch
        kind = "" if layer.worst_db >= limit else " bad"
        title = escape(
            f"{layer.name}: worst channel {layer.worst_channel} of {layer.channels} "
            f"at {layer.worst_db:.1f} dB, median {layer.median_db:.1f} dB"
        )
        marks.append(
            f'<g><title>{title}</title><line class="range{kind}" x1="{x:.1f}" y1="{up(layer.median_db):.1f}" '
            f'x2="{x:.1f}" y2="{up(layer.worst_db):.1f}"/>'
            f'<circle class="median" cx="{x:.1f}" cy="{up(layer.median_db):.1f}" r="3"/>'
            f'<circle class="dot{kind}" cx="{x:.1f}" cy="{up(layer.worst_db):.1f}" r="4.5"/></g>'
        )
    middle = _TOP + (bottom - _TOP) / 2
    marks.append(
        f'<text class="axis" x="{_LEFT + (width - _LEFT - _RIGHT) / 2:.0f}" y="{height - 16}" '
        'text-anchor="middle">layers, first to last</text>'
        f'<text class="axis" transform="translate(15 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        "SNR, dB</text>"
    )
    return _svg("".join(marks), height, "Signal to noise of each layer's channels", width)


def _svg(inside: str, height: float, title: str, width: float = WIDTH) -> str:
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def _empty(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose [low, high]."""
    span = max(high - low, 1e-30)
    step = 10 ** math.floor(math.log10(span / about))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= about)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [index * step for index in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.6g}"
